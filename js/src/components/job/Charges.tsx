/** What each run of a job has cost, and all of them together: a run for every attempt. */

import type { ChargeView } from "../../contract";
import { duration, money, useWords } from "../../words";
import { Part } from "../submit/PlanDetails";

export function Charges({ charges, total }: { charges: ChargeView[]; total: number | null }) {
  const t = useWords();
  if (charges.length === 0) return null;
  return (
    <Part title={t("What it has cost")}>
      <table class="stc-table">
        <thead>
          <tr>
            <th scope="col">{t("Attempt")}</th>
            <th scope="col">{t("Hardware")}</th>
            <th scope="col">{t("Time")}</th>
            <th scope="col">{t("Cost")}</th>
          </tr>
        </thead>
        <tbody>
          {charges.map(({ attempt, hardware, metered_s, cost_usd, final }) => (
            <tr key={attempt}>
              <th scope="row">{attempt}</th>
              <td>{hardware}</td>
              <td class="stc-number">{duration(t, metered_s)}</td>
              <td class="stc-number">
                {money(t, cost_usd, true)} {!final && t("so far")}
              </td>
            </tr>
          ))}
        </tbody>
        {charges.length > 1 && (
          <tfoot>
            <tr>
              <th scope="row" colSpan={3}>
                {t("All")}
              </th>
              <td class="stc-number">{money(t, total, true)}</td>
            </tr>
          </tfoot>
        )}
      </table>
    </Part>
  );
}
