/** What training costs: where the limits stand, what was spent by day, provider and job, and what may be spent. */

import { useState } from "preact/hooks";
import { useAnswer, useLab } from "../../hooks";
import type { JobSpend, NamedSpend, SpendView } from "../../money";
import { openJob } from "../../panel";
import { count, duration, money, useWords } from "../../words";
import { ErrorBanner } from "../atoms";
import { Days } from "./Days";
import { LimitForm } from "./LimitForm";
import { Limits } from "./Limits";

const SPANS = [7, 30, 90, 365];
/** News of a job may be of what it costs, but nobody watches cents. */
const GAP_MS = 2000;

export function Spend() {
  const t = useWords();
  const [days, setDays] = useState(30);
  const spend = useAnswer("spend", { days }, { gap_ms: GAP_MS });
  const limits = useAnswer("limits", {}, { gap_ms: GAP_MS });
  return (
    <div class="stc-spend">
      <section class="stc-stack">
        <h2>{t("Limits")}</h2>
        {limits.error && <ErrorBanner error={limits.error} again={limits.again} />}
        {limits.value && <Limits states={limits.value.states} job={limits.value.limits.job} />}
        {limits.value && <LimitForm limits={limits.value.limits} saved={limits.again} />}
      </section>
      <section class="stc-stack">
        <div class="stc-row stc-spend-head">
          <h2>{t("Spent")}</h2>
          <select
            aria-label={t("Of which days")}
            value={String(days)}
            onChange={(event) => setDays(Number(event.currentTarget.value))}
          >
            {SPANS.map((span) => (
              <option key={span} value={String(span)}>
                {t("last {days} days", { days: span })}
              </option>
            ))}
          </select>
        </div>
        {spend.error && <ErrorBanner error={spend.error} again={spend.again} />}
        {spend.value && <Spent spend={spend.value} />}
      </section>
    </div>
  );
}

function Spent({ spend }: { spend: SpendView }) {
  const t = useWords();
  const { model } = useLab();
  return (
    <>
      <p class="stc-spend-total">
        <strong class="stc-number">{money(t, spend.total_usd, true)}</strong>{" "}
        <span class="stc-faint">
          {t("for {runs} runs since {day}", { runs: count(spend.runs), day: spend.since })} ({spend.time_zone})
        </span>
      </p>
      {spend.unpriced > 0 && (
        <p class="stc-faint">{t("Runs of which the cost is not known: {count}", { count: count(spend.unpriced) })}</p>
      )}
      {spend.runs === 0 ? <p class="stc-faint">{t("Nothing was paid for in these days.")}</p> : <Days spend={spend} />}
      {spend.by_provider.length > 1 && (
        <table class="stc-table">
          <thead>
            <tr>
              <th scope="col">{t("Provider")}</th>
              <th scope="col">{t("Runs")}</th>
              <th scope="col">{t("Cost")}</th>
            </tr>
          </thead>
          <tbody>
            {spend.by_provider.map((one) => (
              <tr key={one.name}>
                <th scope="row">
                  {one.name}
                  <Unpriced of={one} />
                </th>
                <td class="stc-number">{count(one.runs)}</td>
                <Cost of={one} />
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {spend.by_job.length > 0 && (
        <table class="stc-table stc-spend-jobs">
          <thead>
            <tr>
              <th scope="col">{t("Job")}</th>
              <th scope="col">{t("Time")}</th>
              <th scope="col">{t("Cost")}</th>
            </tr>
          </thead>
          <tbody>
            {spend.by_job.map((one) => (
              <tr key={one.job_id}>
                <th scope="row">
                  {one.config_name ? (
                    <button type="button" class="stc-link" onClick={() => openJob(model, one.job_id)}>
                      {one.config_name}
                    </button>
                  ) : (
                    <span class="stc-faint">{t("{id}, deleted", { id: one.job_id })}</span>
                  )}
                  <Unpriced of={one} />
                </th>
                <td class="stc-number">{duration(t, one.metered_s)}</td>
                <Cost of={one} />
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}

/** What a sum leaves out: not known is not nothing. */
function Unpriced({ of: { runs, unpriced } }: { of: NamedSpend | JobSpend }) {
  const t = useWords();
  if (unpriced === 0 || unpriced === runs) return null;
  return <div class="stc-faint">{t("Cost not known: {count}", { count: count(unpriced) })}</div>;
}

function Cost({ of: { runs, unpriced, cost_usd } }: { of: NamedSpend | JobSpend }) {
  const t = useWords();
  return <td class="stc-number">{unpriced === runs ? t("Not known") : money(t, cost_usd, true)}</td>;
}
