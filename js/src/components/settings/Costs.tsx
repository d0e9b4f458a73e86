/** What a provider asks for its machines, what runs there have cost, and that its balance is not told. */

import { useAnswer } from "../../hooks";
import { count, duration, money, useWords } from "../../words";
import { ErrorBanner } from "../atoms";
import { rateText } from "../submit/plan_words";

export function Costs({ provider }: { provider: string }) {
  const t = useWords();
  const { value, error, again } = useAnswer("billing", { provider }, { about: "" });
  if (error && !value) return <ErrorBanner error={error} again={again} />;
  if (!value) return <p class="stc-faint">{t("Asking…")}</p>;
  const runs = { runs: count(value.runs), time: duration(t, value.metered_s), cost: money(t, value.spent_usd, true) };
  return (
    <div class="stc-stack">
      <dl class="stc-facts">
        <div>
          <dt>{t("Balance")}</dt>
          <dd>
            {value.balance === null ? t("Not known") : money(t, value.balance, true)}
            <div class="stc-faint">{value.balance_note}</div>
          </dd>
        </div>
        <div>
          <dt>{t("Spent")}</dt>
          <dd class="stc-number">
            {value.runs === 1 ? t("{cost} for 1 run, {time}", runs) : t("{cost} for {runs} runs, {time}", runs)}
            {value.runs_without_price > 0 && (
              <div class="stc-faint">
                {t("Runs of which the cost is not known: {count}", { count: count(value.runs_without_price) })}
              </div>
            )}
          </dd>
        </div>
      </dl>
      {value.hardware.length > 0 && (
        <table class="stc-table">
          <caption class="stc-hidden">{t("Prices")}</caption>
          <thead>
            <tr>
              <th scope="col">{t("Hardware")}</th>
              <th scope="col">{t("Price")}</th>
              <th scope="col">{t("As of")}</th>
            </tr>
          </thead>
          <tbody>
            {value.hardware.map((rate) => (
              <tr key={rate.hardware} title={rate.source}>
                <th scope="row">{rate.label || rate.hardware}</th>
                <td class="stc-number">{rateText(t, { ...rate, as_of: "" })}</td>
                <td class="stc-number">{rate.as_of || "—"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </div>
  );
}
