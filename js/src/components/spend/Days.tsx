/** What each day has cost, as bars; the same as a table for who cannot see them. */

import type { SpendView } from "../../money";
import { money, useWords } from "../../words";

export function Days({ spend }: { spend: SpendView }) {
  const t = useWords();
  const most = Math.max(...spend.by_day.map((day) => day.cost_usd), 0);
  const cost = (usd: number) => money(t, usd, true);
  return (
    <figure class="stc-days">
      <figcaption class="stc-faint">{t("The dearest day: {cost}", { cost: cost(most) })}</figcaption>
      <div class="stc-days-bars" aria-hidden="true">
        {spend.by_day.map(({ day, cost_usd }) => (
          <div key={day} title={`${day}: ${cost(cost_usd)}`} style={{ "--stc-part": cost_usd / (most || 1) }} />
        ))}
      </div>
      <div class="stc-days-ends stc-faint stc-number" aria-hidden="true">
        <span>{spend.by_day[0]?.day}</span>
        <span>{spend.by_day.at(-1)?.day}</span>
      </div>
      <table class="stc-hidden">
        <caption>{t("Spent by day")}</caption>
        <tbody>
          {spend.by_day
            .filter((day) => day.runs > 0)
            .map(({ day, cost_usd }) => (
              <tr key={day}>
                <th scope="row">{day}</th>
                <td>{cost(cost_usd)}</td>
              </tr>
            ))}
        </tbody>
      </table>
    </figure>
  );
}
