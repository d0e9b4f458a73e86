/** Words and numbers for people: one catalogue of translations, and one way to write bytes, money, time and numbers. */

import { useMemo } from "preact/hooks";
import { useKey } from "./hooks";

export type Values = Record<string, string | number>;

/** `t("Cancel {name}", { name })`: the catalogue's words for the English ones, with the values filled in. */
export type Translate = (english: string, values?: Values) => string;

export function translator(catalogue: Record<string, string>): Translate {
  return (english, values = {}) =>
    (catalogue[english] || english).replace(/\{(\w+)\}/g, (whole, name: string) =>
      name in values ? String(values[name]) : whole,
    );
}

/** The words of the model's catalogue. */
export function useWords(): Translate {
  const [catalogue] = useKey("catalogue");
  return useMemo(() => translator(catalogue ?? {}), [catalogue]);
}

/** `0.5 MB`: units of 1,000, as the plan's text has them. */
export function bytes(t: Translate, count: number): string {
  const units = ["", "kB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return unit === 0 ? t("{count} bytes", { count }) : `${value.toFixed(1)} ${units[unit]}`;
}

/** `$0.42`, `under $0.01`, `free`; null is not known, which is not free. What was `paid` elsewhere is `$0.00` at first. */
export function money(t: Translate, usd: number | null, paid = false): string {
  if (usd === null) return "—";
  if (usd === 0) return paid ? "$0.00" : t("free");
  return usd < 0.01 ? t("under {price}", { price: "$0.01" }) : `$${usd.toFixed(2)}`;
}

/** `42 s`, `3 min 20 s`, `2 h 5 min`. */
export function duration(t: Translate, seconds: number | null): string {
  if (seconds === null || !Number.isFinite(seconds)) return "—";
  const whole = Math.max(0, Math.round(seconds));
  const [h, min, s] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  if (h) return min ? t("{h} h {min} min", { h, min }) : t("{h} h", { h });
  if (min) return s ? t("{min} min {s} s", { min, s }) : t("{min} min", { min });
  return t("{s} s", { s });
}

/** Four significant digits, small numbers as powers: what a loss or a learning rate needs. */
export function figure(value: number | null): string {
  if (value === null || !Number.isFinite(value)) return "—";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size < 1e-3 || size >= 1e6 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

/** `1,234` in the reader's own way. */
export function count(value: number): string {
  return NUMBER.format(value);
}

/** Date and time in the reader's zone. */
export function moment(iso: string): string {
  const at = new Date(iso);
  return Number.isNaN(at.getTime()) ? iso : MOMENT.format(at);
}

/** `just now`, `12 s ago`, `3 h ago`, `yesterday`; a date after a week. */
export function ago(t: Translate, iso: string, now: number): string {
  const seconds = Math.max(0, Math.floor((now - Date.parse(iso)) / 1000));
  if (seconds < 5) return t("just now");
  if (seconds < 60) return t("{s} s ago", { s: seconds });
  if (seconds < 3600) return t("{min} min ago", { min: Math.floor(seconds / 60) });
  if (seconds < DAY_S) return t("{h} h ago", { h: Math.floor(seconds / 3600) });
  if (seconds < 2 * DAY_S) return t("yesterday");
  if (seconds < 7 * DAY_S) return t("{d} d ago", { d: Math.floor(seconds / DAY_S) });
  return new Date(iso).toLocaleDateString();
}

const DAY_S = 86_400;
/** Made once: they cost more to make than a hundred uses. */
const NUMBER = new Intl.NumberFormat();
const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
