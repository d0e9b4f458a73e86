/** Curves on a canvas: uPlot has axes, cursor and the drag that zooms; the lines are ours, thinned to its pixels. */

import uPlot from "uplot";
import { type Column, type Curve, gapsBetween, type Line, thin } from "./curve";
import { type Kind, optionsOf } from "./options";
import { rangeOf, type Span, wholeSpan } from "./ranges";

export interface Trace {
  curve: Curve;
  column: Column;
  colour: string;
  /** In CSS pixels. */
  width: number;
  alpha?: number;
  dash?: number[];
}

/** What is drawn, all of it. */
export interface Scene {
  /** Whose gaps are marked. */
  main: Curve;
  /** A trace of the learning rate has a scale of its own, on the right. */
  traces: Trace[];
  /** Steps on show; null: all. */
  zoom: Span | null;
  log: boolean;
  ink: { text: string; grid: string; gap: string };
}

export interface Heard {
  zoom: (to: Span | null) => void;
  /** The step under the pointer; null: the pointer has left. */
  cursor: (step: number | null) => void;
}

/** Steps, losses and learning rates on show, by the names of uPlot's scales. */
export type Ranges = Record<"x" | "y" | "rate", Span>;

const MOST_GAPS = 2000;

export class Chart {
  readonly #host: HTMLElement;
  readonly #heard: Heard;
  readonly #font: string;
  readonly #dot = document.createElement("div");
  #plot: uPlot | null = null;
  #kind: Kind = { log: false, rated: false };
  #scene: Scene | null = null;
  #lines: Line[] = [];
  #ranges: Ranges = { x: [0, 1], y: [0.1, 1], rate: [0, 1] };
  /** The cursor stands where keys put it, wherever the pointer is. */
  #byKeys = false;
  #drawing = false;

  constructor(host: HTMLElement, heard: Heard) {
    this.#host = host;
    this.#heard = heard;
    this.#font = getComputedStyle(host).fontFamily;
    this.#dot.className = "stc-loss-dot";
    this.#dot.hidden = true;
  }

  show(scene: Scene): void {
    const { clientWidth: width, clientHeight: height } = this.#host;
    if (!width || !height) return;
    this.#scene = scene;
    const plot = this.#plotFor({ log: scene.log, rated: scene.traces.some(isRate) }, width, height);
    this.#drawing = true;
    plot.batch(() => {
      plot.setSize({ width, height });
      this.#fit(scene, Math.max(1, Math.round(plot.bbox.width)));
      plot.setData([this.#ranges.x]);
    });
    this.#drawing = false;
  }

  /** The steps on show. */
  get span(): Span {
    return this.#ranges.x;
  }

  /** Marks a point; null marks none. The cursor's line follows where keys moved it; the pointer's it has already. */
  point(at: { step: number; value: number } | null, byKeys: boolean): void {
    const plot = this.#plot;
    if (!plot) return;
    this.#byKeys = byKeys;
    const left = at ? plot.valToPos(at.step, "x") : -1;
    const top = at ? plot.valToPos(at.value, "y") : -1;
    const inside = left >= 0 && left <= plot.over.clientWidth && top >= 0 && top <= plot.over.clientHeight;
    this.#dot.hidden = !inside;
    this.#dot.style.transform = `translate(${left}px, ${top}px)`;
    if (byKeys) plot.setCursor({ left, top: 0 }, false);
  }

  destroy(): void {
    this.#plot?.destroy();
  }

  /** uPlot settles scales and axes once: for others it is made anew. */
  #plotFor(kind: Kind, width: number, height: number): uPlot {
    if (this.#plot && this.#kind.log === kind.log && this.#kind.rated === kind.rated) return this.#plot;
    this.#plot?.destroy();
    this.#kind = kind;
    const options = optionsOf(kind, {
      font: this.#font,
      range: (scale) => this.#ranges[scale],
      ink: () => this.#scene?.ink,
      draw: () => this.#draw(),
      cursor: (step) => {
        if (!(this.#drawing && this.#byKeys)) this.#heard.cursor(step);
      },
      zoom: this.#heard.zoom,
    });
    this.#plot = new uPlot({ ...options, width, height }, [this.#ranges.x], this.#host);
    this.#plot.over.append(this.#dot);
    return this.#plot;
  }

  /** Finds what is on show: lines of so many columns, and how far they reach. */
  #fit({ traces, zoom, log }: Scene, columns: number): void {
    const x = zoom ?? wholeSpan(traces);
    this.#lines = traces.map((trace) => thin(trace.curve, trace.column, x[0], x[1], columns));
    const linesOf = (rate: boolean) => this.#lines.filter((_, index) => isRate(traces[index]) === rate);
    this.#ranges = { x, y: rangeOf(linesOf(false), x, log), rate: rangeOf(linesOf(true), x, false) };
  }

  #draw(): void {
    const scene = this.#scene;
    const plot = this.#plot;
    if (!scene || !plot) return;
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top - uPlot.pxRatio, bbox.width, bbox.height + 2 * uPlot.pxRatio);
    ctx.clip();
    drawGaps(plot, scene, this.#ranges.x);
    ctx.lineJoin = "round";
    ctx.lineCap = "round";
    for (const [index, trace] of scene.traces.entries()) drawLine(plot, this.#lines[index], trace);
    ctx.restore();
  }
}

function drawGaps(plot: uPlot, { main, ink }: Scene, span: Span): void {
  const size = uPlot.pxRatio;
  const bottom = plot.bbox.top + plot.bbox.height;
  plot.ctx.fillStyle = ink.gap;
  for (const step of gapsBetween(main, ...span, MOST_GAPS)) {
    plot.ctx.fillRect(Math.round(plot.valToPos(step, "x", true)) - size, bottom - 6 * size, 2 * size, 6 * size);
  }
}

/** A point with no neighbour is drawn as a dot. */
function drawLine(plot: uPlot, line: Line, { column, colour, width, alpha = 1, dash = [] }: Trace): void {
  const { ctx } = plot;
  const scale = column === "lr" ? "rate" : "y";
  let down = false;
  ctx.beginPath();
  for (let index = 0; index < line.length; index += 1) {
    const top = plot.valToPos(line.y[index], scale, true);
    if (!Number.isFinite(top)) {
      down = false;
      continue;
    }
    const left = plot.valToPos(line.x[index], "x", true);
    if (!down) ctx.moveTo(left - 0.1, top);
    ctx.lineTo(left, top);
    down = true;
  }
  ctx.strokeStyle = colour;
  ctx.globalAlpha = alpha;
  ctx.lineWidth = width * uPlot.pxRatio;
  ctx.setLineDash(dash.map((length) => length * uPlot.pxRatio));
  ctx.stroke();
}

function isRate(trace: Trace): boolean {
  return trace.column === "lr";
}
