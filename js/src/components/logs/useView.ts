/** What part of a long list of rows is in the page, and where it is scrolled to. */

import type { RefObject } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Place, Row, Rows } from "./rows";

/** Height of a row in CSS pixels: `--stc-log-row` of the style sheet. */
export const ROW_PX = 18;
/** Rows beyond what is seen, on either side. */
const MARGIN = 12;

export interface View {
  rows: Row[];
  total: number;
  /** Row that is the first of `rows`. */
  from: number;
  /** Number of the line after the last in sight. */
  bottom: number;
  scrolled: () => void;
  /** Scrolls so that a line is in the middle, unless it is in sight. */
  reveal: (number: number) => void;
}

interface Following {
  now: boolean;
  set: (following: boolean) => void;
}

export function useView(box: RefObject<HTMLDivElement | null>, rows: Rows, following: Following): View {
  const [, setTurn] = useState(0);
  const height = useHeight(box);
  /** The row at the top and pixels of it that are above; used while not following. */
  const top = useRef<{ place: Place; over: number }>({ place: { number: 0, part: 0 }, over: 0 });
  const set = useRef(0);
  const total = rows.total;
  const inSight = Math.ceil(height / ROW_PX);
  const highest = Math.max(0, total * ROW_PX - height);
  const held = rows.rowOf(top.current.place) * ROW_PX + top.current.over;
  const scroll = following.now ? highest : Math.min(held, highest);
  const from = Math.max(0, Math.floor(scroll / ROW_PX) - MARGIN);

  const keep = (pixels: number) => {
    const row = Math.floor(pixels / ROW_PX);
    top.current = { place: rows.placeOf(row), over: pixels - row * ROW_PX };
  };
  useLayoutEffect(() => {
    const element = box.current;
    if (following.now) keep(scroll);
    if (!element || Math.abs(element.scrollTop - scroll) < 1) return;
    element.scrollTop = scroll;
    set.current = element.scrollTop;
  });
  const scrolled = () => {
    const now = box.current?.scrollTop ?? 0;
    if (now === set.current) return;
    const up = now < set.current;
    set.current = now;
    keep(now);
    const bottom = now >= highest - ROW_PX;
    if (bottom !== following.now && (bottom || up)) following.set(bottom);
    setTurn((turn) => turn + 1);
  };
  const reveal = (number: number) => {
    const row = rows.rowOf({ number, part: 0 });
    following.set(false);
    const first = Math.ceil(scroll / ROW_PX);
    if (row < first || row >= first + inSight - 1) keep(Math.max(0, (row - Math.floor(inSight / 2)) * ROW_PX));
    else keep(scroll);
    setTurn((turn) => turn + 1);
  };
  const bottom = rows.placeOf(Math.floor(scroll / ROW_PX) + inSight).number;
  return { rows: rows.slice(from, inSight + MARGIN * 2), total, from, bottom, scrolled, reveal };
}

function useHeight(box: RefObject<HTMLDivElement | null>): number {
  const [height, setHeight] = useState(400);
  useEffect(() => {
    if (!box.current) return;
    const observer = new ResizeObserver(() => setHeight(box.current?.clientHeight || 400));
    observer.observe(box.current);
    return () => observer.disconnect();
  }, [box]);
  return height;
}

/** How many characters fit in a row. */
export function useColumns(box: RefObject<HTMLDivElement | null>, sample: RefObject<HTMLElement | null>): number {
  const [columns, setColumns] = useState(80);
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const observer = new ResizeObserver(() => {
      const wide = sample.current?.getBoundingClientRect().width ?? 0;
      if (wide > 0) setColumns(Math.max(20, Math.floor((element.clientWidth - 24) / (wide / SAMPLE.length))));
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [box, sample]);
  return columns;
}

/** Measured for the width of a character. */
export const SAMPLE = "0".repeat(50);
