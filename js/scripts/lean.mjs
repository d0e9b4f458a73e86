// uPlot without what our chart (src/components/loss/options.ts) never uses: 23 kB gzip become 9. Its npm package no longer has
// the flags by which its own build leaves parts out. Each part has to be found exactly once, so a release of uPlot that
// moved something fails the build, and the tests of the components run what is left.
import { readFile } from "node:fs/promises";

/** What uPlot works out from its options, settled: what only another setting reaches is dropped by the minifier. */
const SETTLED = [
  [
    "const FEAT_TIME          = true;",
    "const FEAT_TIME = false, mode = 1, showLegend = false, cursorFocus = false, cursorOnePt = false;",
  ],
  ["const mode = self.mode;", ""],
  ["const showLegend = legend.show;", ""],
  ["const cursorFocus = focus.prox >= 0;", ""],
  ["const cursorOnePt = cursorFocus && points.one;", ""],
];

/** Dates on an axis: ours has steps. */
const TIME = [
  ["uPlot.fmtDate = fmtDate;\n\tuPlot.tzDate  = tzDate;", ""],
  ["timeAxisSplitsMs ] = genTimeStuffs(1);", "timeAxisSplitsMs ] = [];"],
  ["timeAxisSplitsS  ] = genTimeStuffs(1e-3);", "timeAxisSplitsS ] = [];"],
  ["(ms == 1 ? timeAxisSplitsMs(_tzDate) : timeAxisSplitsS(_tzDate))", "null"],
  ["timeAxisVals(_tzDate, timeAxisStamps((ms == 1 ? _timeAxisStampsMs : _timeAxisStampsS), _fmtDate))", "null"],
  ["timeAxisVals(_tzDate, timeAxisStamps(av, _fmtDate))", "null"],
  ["timeAxisVal(_tzDate, av)", "null"],
  ["timeSeriesVal(_tzDate, timeSeriesStamp(_timeSeriesStamp, _fmtDate))", "null"],
  ["timeSeriesVal(_tzDate, timeSeriesStamp(sv, _fmtDate))", "null"],
  ["(opts.fmtDate || fmtDate)", "null"],
];

/** Lines, bars, bands and points: ours are drawn by its `draw` hook, and its one series is the steps. */
const SERIES = [
  ["series: drawSeries,", ""],
  ['opts.drawOrder || ["axes", "series"]', '["axes"]'],
  ["if (cursorOnePt || i > 0) {", "if (false) {"],
  ["const linearPath = linear() ;", ""],
  ["const pointsPath = points() ;", ""],
  ["let paths = uPlot.paths = {\n\t\tpoints,\n\t};", ""],
  ["(paths.linear  = linear);\n\t(paths.stepped = stepped);", ""],
  ["(paths.bars    = bars);\n\t(paths.spline  = monotoneCubic);", ""],
  ["uPlot.orient   = orient;", ""],
  ["uPlot.addGap = addGap;\n\tuPlot.clipGaps = clipGaps;", ""],
  ["uPlot.join = join;", ""],
  ["else if (s.show && s.auto)\n\t\t\t\t\t\taccScale(wsc, psc, s, data[i], s.sorted);", ""],
  ["self.addSeries = addSeries;", ""],
  ["self.delSeries = delSeries;", ""],
  ["self.setSeries = setSeries;", ""],
  ["self.addBand = addBand;\n\tself.setBand = setBand;\n\tself.delBand = delBand;", ""],
  ["function initCursorPt(s, si) {", "function initCursorPt(s, si) {\n\t\treturn null;"],
  ["show:   cursorPointShow,", ""],
  ["if (cursor.dataIdx == null) {\n\t\tlet hov", "if (false) {\n\t\tlet hov"],
  [
    "for (let i = mode == 2 ? 1 : 0; i < series.length; i++) {\n\t\t\t\tlet s =",
    "for (let i = 0; false; ) {\n\t\t\t\tlet s =",
  ],
  ["if (legend.show && legend.live && shouldSetLegend) {", "if (false) {"],
  ["self.setLegend = setLegend;", ""],
];

/** Ranges found from data, and scales other than linear and log 10: ours are told their ranges. */
const SCALES = [
  ["if (rangeIsArr && (rn[0] == null", "if (false && (rn[0] == null"],
  ["if (!rangeIsArr && isObj(rn)) {", "if (false) {"],
  ["sc.distr == 3 ? snapLogX : sc.distr == 4 ? snapAsinhX : snapNumX", "null"],
  ["sc.distr == 3 ? snapLogY : sc.distr == 4 ? snapAsinhY : snapNumY", "null"],
  ["else if (_min == _max) {\n\t\t\t\t\tif (xScaleDistr == 3)", "else if (false) {\n\t\t\t\t\tif (xScaleDistr == 3)"],
  ["uPlot.rangeNum = rangeNum;\nuPlot.rangeLog = rangeLog;\nuPlot.rangeAsinh = rangeAsinh;", ""],
  ["sc.distr == 4 ? asinhAxisSplits : numAxisSplits", "numAxisSplits"],
  ["sc.distr == 3 && sc.log == 2 ? log2AxisValsFilt : retArg1", "retArg1"],
];

/** Cursors of several charts that move together: ours is alone. */
const SYNC = [
  ["uPlot.sync = _sync;", ""],
  ["const sync = _sync(syncKey);", ""],
  ["sync.sub(self);", ""],
  ["sync.unsub(self);", ""],
  ["self.pub = pub;", ""],
  ["if (syncOpts.filters.pub(type, src, x, y, w, h, i))\n\t\t\tsync.pub(type, src, x, y, w, h, i);", ""],
  ["if (_pub) {\n\t\t\t\tif (syncKey", "if (false) {\n\t\t\t\tif (syncKey"],
  ["if (select.show && dragging) {\n\t\t\tif (src != null) {", "if (select.show && dragging) {\n\t\t\tif (false) {"],
  ["let [xKey, yKey] = syncOpts.scales;\n\n\t\t\tlet syncOptsSrc", "return;\n\n\t\t\tlet xKey, yKey, syncOptsSrc"],
];

/** Titles, labels, legends, plugins, borders, words that are turned or have several lines: ours has none. */
const WORDS = [
  ["const days3 = days.map(slice3);", "const days3 = days;"],
  ["const months3 = months.map(slice3);", "const months3 = months;"],
  ["const localTz = new Intl.DateTimeFormat().resolvedOptions().timeZone;", "const localTz = '';"],
  ["genIncrs(2, -53, 53, [1]);", ""],
  ["const rectH = rect(0);\nconst rectV = rect(1);", "const rectH = null, rectV = null;"],
  ["if (opts.id != null)\n\t\troot.id = opts.id;", ""],
  ["if (opts.title) {", "if (false) {"],
  ["(opts.plugins || []).forEach(p => {\n\t\tif (p.opts)\n\t\t\topts = p.opts(self, opts) || opts;\n\t});", ""],
  ["\tmarkers: {\n\t\tshow: true,\n\t\twidth: 2,\n\t\tstroke: legendStroke,\n\t\tfill: legendFill,", "\tmarkers: {"],
  ["markers.stroke = fnOrSelf(markers.stroke);\n\t\tmarkers.fill   = fnOrSelf(markers.fill);", ""],
  ["if (legend.live) {\n\t\tconst getMultiVals", "if (false) {\n\t\tconst getMultiVals"],
  ["size:   cursorPointSize,\n\t\twidth:  0,\n\t\tstroke: cursorPointStroke,\n\t\tfill:   cursorPointFill,", ""],
  ["\t\tshow: seriesPointsShow,\n", ""],
  ['let _parts = val.indexOf("\\n") == -1 ? [val] : val.split(/\\n/gm);', "let _parts = [val];"],
  ["if (angle) {\n\t\t\t\t\t\t\tctx.save();", "if (false) {\n\t\t\t\t\t\t\tctx.save();"],
  ["if (border.show) {", "if (false) {"],
  ["if (ticks.show) {", "if (false) {"],
  ["if (drag.setScale && hasSelect && chgSelect) {", "if (false) {"],
  ["self.valToPosH = getHPos;\n\tself.valToPosV = getVPos;", ""],
  ["self.valToIdx = val => closestIdx(val, data[0]);", ""],
  ["if (uni != null) {", "if (false) {"],
  ['events["setSeries"] = (e, src, idx, opts) => {', "const unheard = (e, src, idx, opts) => {"],
];

/** What is made ready and never used: defaults of parts that are gone, a pub/sub that nobody hears, room for no axis. */
const READY = [
  ["const domEnv = typeof window != 'undefined';", "const domEnv = true;"],
  [
    'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, "Noto Sans", sans-serif, "Apple Color Emoji", "Segoe UI Emoji", "Segoe UI Symbol", "Noto Color Emoji"',
    "sans-serif",
  ],
  ["const nonNullIdxs = makeIndexOfs(notNullish);", "const nonNullIdxs = null;"],
  ["const positiveIdxs = makeIndexOfs(isPositive);", "const positiveIdxs = null;"],
  ["const drawAccH = _drawAcc(lineToH);", "const drawAccH = null;"],
  ["const drawAccV = _drawAcc(lineToV);", "const drawAccV = null;"],
  ["const wholeIncrs = oneIncrs.filter(onlyWhole);", "const wholeIncrs = null;"],
  ['const labelFont = "bold " + font;', "const labelFont = font;"],
  ["axis.labelFont = pxRatioFont(axis.labelFont);", ""],
  ["[axis.font, axis.labelFont].forEach(f => {", "[axis.font].forEach(f => {"],
  [
    "Object.defineProperty(self, 'rect', {\n\t\tget() {\n\t\t\tif (rect == null)\n\t\t\t\tsyncRect(false);\n\n\t\t\treturn rect;\n\t\t},\n\t});",
    "",
  ],
  ["uPlot.assign = assign;\nuPlot.fmtNum = fmtNum;", ""],
  ["\tbands.forEach(b => {\n\t\tb.fill = fnOrSelf(b.fill || null);\n\t\tb.dir = ifNull(b.dir, -1);\n\t});", ""],
  ["\t\tassign({}, facet, {scale: 'x'}),\n\t\tassign({}, facet, {scale: 'y'}),\n", ""],
  ["let isTime = mode == 1 && scales[s.scale].time;", "let isTime = false;"],
  ["s.value = isTime ? (isStr(sv) ? null : sv || _timeSeriesVal) : sv || numSeriesVal;", ""],
  ["s.label = s.label || (isTime ? timeSeriesLabel : numSeriesLabel);", ""],
  ["let [hasTopAxis, hasRgtAxis, hasBtmAxis, hasLftAxis] = sidesWithAxes;", ""],
  ["if (ori == 0 && (hasLftAxis || hasRgtAxis))", "if (false)"],
  ["if (ori == 1 && (hasTopAxis || hasBtmAxis))", "if (false)"],
  ["dragY = drag.y && rawDY >= drag.dist;", "dragY = false;"],
  ["else if (drag.x && drag.y && (dragX || dragY))", "else if (false)"],
  ["markers.width  = fnOrSelf(markers.width);\n\t\tmarkers.dash   = fnOrSelf(markers.dash);", ""],
  [
    "events.mousedown = mouseDown;\n\tevents.mousemove = mouseMove;\n\tevents.mouseup = mouseUp;\n\tevents.dblclick = dblClick;",
    "",
  ],
  [
    "(opts.plugins || []).forEach(p => {\n\t\tfor (let evName in p.hooks)\n\t\t\thooks[evName] = (hooks[evName] || []).concat(p.hooks[evName]);\n\t});",
    "",
  ],
  [
    "const syncOpts = assign({\n\t\tkey: null,\n\t\tsetSeries: false,\n\t\tfilters: {\n\t\t\tpub: retTrue,\n\t\t\tsub: retTrue,\n\t\t},\n\t\tscales: [xScaleKey, series[1] ? series[1].scale : null],\n\t\tmatch: [retEq, retEq, seriesIdxMatcher],\n\t\tvalues: [null, null],\n\t}, cursor.sync);\n\n\tif (syncOpts.match.length == 2)\n\t\tsyncOpts.match.push(seriesIdxMatcher);\n\n\tcursor.sync = syncOpts;",
    "const syncOpts = {};",
  ],
];

/** Points under the cursor, values of a legend, fading of series: nothing of ours has them. */
const POINTS = [
  [
    "points.show   = fnOrSelf(points.show);\n\tpoints.size   = fnOrSelf(points.size);\n\tpoints.stroke = fnOrSelf(points.stroke);\n\tpoints.width  = fnOrSelf(points.width);\n\tpoints.fill   = fnOrSelf(points.fill);\n\n\tconst focus = self.focus = assign({}, opts.focus || {alpha: 0.3}, cursor.focus);",
    "const focus = {};",
  ],
  ["for (let i = 0; i < cursorPts.length; i++) {", "for (let i = 0; false; ) {"],
  [
    "for (let i = 0; i < series.length; i++) {\n\t\t\t\tlet pt = cursorPts[i];",
    "for (let i = 0; false; ) {\n\t\t\t\tlet pt;",
  ],
  ["if (legend.live) {\n\t\t\t\tactiveIdxs.fill(idx);", "if (false) {\n\t\t\t\tactiveIdxs.fill(idx);"],
  ["if (shouldSetLegend) {\n\t\t\tlegend.idx = idx;", "if (false) {\n\t\t\tlegend.idx = idx;"],
];

/** Hooks that are never given. */
const UNHEARD = [
  ...['"init", opts, data', '"ready"', '"destroy"', '"setData"', '"setSize"', '"setScale", k', '"setLegend"'],
  ...['"addSeries", i', '"drawAxes"', '"drawClear"', '"syncRect", rect'],
].map((told) => [`fire(${told})`, "0"]);

const CUTS = [...SETTLED, ...TIME, ...SERIES, ...SCALES, ...SYNC, ...WORDS, ...READY, ...POINTS, ...UNHEARD];

/** Questions that have one answer in our chart, and how often uPlot asks them: steps run from left to right. */
const ANSWERED = [
  [/\bscaleX\.ori == 0\b/g, "true", 24],
  [/\bscaleX\.ori == 1\b/g, "false", 9],
  [/\b(?:\w+\.)?distr == (?:2|4|100)\b/g, "false", 16],
  [/\bxScaleDistr == 2\b/g, "false", 4],
  [/\baxis\.label != null/g, "false", 3],
  [/\b(?:sc|wsc|scaleOpts)\.from != null/g, "false", 3],
  [/\b(?:sc|wsc)\.from == null/g, "true", 4],
  [/\bif \(cursor\._lock\)/g, "if (false)", 6],
  [/\bisTime = sc\.time;/g, "isTime = false;", 2],
  [/\bif \(dragY\) \{/g, "if (false) {", 2],
  [/\bif \(!dragX && !dragY\) \{/g, "if (!dragX) {", 2],
];

/** Whether a module is uPlot. */
export const UPLOT = /uPlot\.esm\.js(\?|$)/;

/** uPlot's source without these parts. */
export function leaned(source) {
  const cut = CUTS.reduce((rest, [part, instead]) => {
    const found = rest.split(part).length - 1;
    if (found !== 1) throw new Error(`uPlot has this ${found} times, not once: ${part}`);
    return rest.replace(part, () => instead);
  }, source);
  return ANSWERED.reduce((rest, [question, answer, times]) => {
    const found = rest.match(question)?.length ?? 0;
    if (found !== times) throw new Error(`uPlot has this ${found} times, not ${times}: ${question}`);
    return rest.replace(question, answer);
  }, cut);
}

/** For esbuild. */
export const leanUplot = {
  name: "lean-uplot",
  setup(build) {
    build.onLoad({ filter: UPLOT }, async ({ path }) => ({ contents: leaned(await readFile(path, "utf8")) }));
  },
};
