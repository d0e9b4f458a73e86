/** What a plan says, in words: prices, ranges and the act itself. Not known is never free. */

import type { Estimate, PlanView, Rate } from "../../contract";
import type { SpendVerdict } from "../../money";
import { bytes, count, duration, money, type Translate } from "../../words";

/** The act that the button does, by its name. */
export function actText(t: Translate, plan: PlanView, provider: string): string {
  if (!plan.remote) return t("Train here");
  if (plan.total_files === 0) return t("Start at {provider}", { provider });
  const size = bytes(t, plan.total_bytes);
  if (plan.total_files === 1) return t("Send 1 file ({size}) to {provider}", { size, provider });
  return t("Send {files} files ({size}) to {provider}", { files: count(plan.total_files), size, provider });
}

export function rateText(t: Translate, rate: Rate): string {
  if (rate.usd_per_hour === null) return t("price not known");
  if (rate.usd_per_hour === 0) return t("free");
  const price = money(t, rate.usd_per_hour);
  if (rate.as_of) return t("{price} per hour, as of {date}", { price, date: rate.as_of });
  return t("{price} per hour", { price });
}

export function costText(t: Translate, { usd_low, usd_high }: Estimate): string {
  if (usd_low === null || usd_high === null) return t("Not known");
  if (usd_high === 0) return t("Free");
  if (usd_low === 0) return t("up to {high}", { high: money(t, usd_high) });
  return range(t, money(t, usd_low), money(t, usd_high));
}

/** The most that it may cost, which limits count from its submit on; empty where it costs nothing. */
export function mostText(t: Translate, { claim, reserved_usd }: SpendVerdict): string {
  if (claim.usd_per_hour === 0) return "";
  return reserved_usd === null
    ? t("Not known")
    : t("{price}, set aside for it", { price: money(t, reserved_usd, true) });
}

export function timeText(t: Translate, { seconds_low, seconds_high }: Estimate): string {
  if (seconds_low === null || seconds_high === null) return t("Not known");
  return range(t, duration(t, seconds_low), duration(t, seconds_high));
}

function range(t: Translate, low: string, high: string): string {
  return low === high ? low : t("{low} to {high}", { low, high });
}
