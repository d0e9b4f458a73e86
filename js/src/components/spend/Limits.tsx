/** Where each limit stands: what is spent, what jobs under way may still cost, and how much is left of it. */

import type { JobLimit, LimitState } from "../../money";
import { count, money, type Translate, useWords } from "../../words";
import { Note } from "../atoms";

/** From here on there is a warning. */
const WARN_SHARE = 0.8;

export function Limits({ states, job }: { states: LimitState[]; job: JobLimit }) {
  const t = useWords();
  if (states.length === 0 && job.amount_usd === null)
    return <p class="stc-faint">{t("No limit is set: jobs may cost what they cost.")}</p>;
  return (
    <ul class="stc-stack">
      {states.map((state) => (
        <li key={state.scope}>
          <Limit state={state} />
        </li>
      ))}
      {job.amount_usd !== null && (
        <li class="stc-limit">
          <div class="stc-row stc-limit-words">
            <strong>{t("One job")}</strong>
            <span class="stc-number">{t("up to {high}", { high: money(t, job.amount_usd, true) })}</span>
          </div>
          <div class="stc-faint">
            {job.action === "block"
              ? t("A job that reaches it is ended at a checkpoint.")
              : t("It only warns: a job that reaches it goes on.")}
          </div>
        </li>
      )}
    </ul>
  );
}

function Limit({ state }: { state: LimitState }) {
  const t = useWords();
  const { amount_usd, spent_usd, committed_usd } = state;
  const name = state.scope === "all" ? t("All providers") : state.scope;
  const share = shareOf(state);
  const standing = share === null ? "unknown" : share > 1 ? "over" : share >= WARN_SHARE ? "near" : "well";
  const part = (usd: number | null) => (amount_usd > 0 ? Math.min(1, (usd ?? 0) / amount_usd) : 1);
  return (
    <div class="stc-limit" data-standing={standing}>
      <div class="stc-row stc-limit-words">
        <span>
          <strong>{name}</strong> <span class="stc-faint">{periodWord(t, state.period)}</span>
        </span>
        <span class="stc-number">
          {t("{spent} of {amount}", { spent: known(t, spent_usd), amount: money(t, amount_usd, true) })}
        </span>
      </div>
      <div
        class="stc-limit-bar"
        role="progressbar"
        aria-label={t("Limit of {name}", { name })}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={share === null ? undefined : Math.round(Math.min(1, share) * 100)}
      >
        <div style={{ "--stc-part": part(spent_usd) }} />
        <div data-committed style={{ "--stc-part": part(committed_usd) }} />
      </div>
      <div class="stc-faint">
        {t("{amount} more may go to jobs under way; begins again on {day}", {
          amount: known(t, committed_usd),
          day: state.until,
        })}
      </div>
      {state.assumed_runs > 0 && (
        <div class="stc-faint">
          {t("{amount} of what is spent is assumed. Runs whose cost nobody told: {count}", {
            amount: money(t, state.assumed_usd, true),
            count: count(state.assumed_runs),
          })}
        </div>
      )}
      {standing === "over" && <Note tone="warn">{over(t, state)}</Note>}
      {standing === "near" && <Note tone="warn">{t("More than 80 % of this limit is spent or promised.")}</Note>}
      {standing === "unknown" && (
        <Note tone="warn">
          {t("Of a run it is not known what it costs, so a limit that blocks lets no job begin.")}
        </Note>
      )}
    </div>
  );
}

/** Of the amount, spent and promised together; null where a part is not known. */
function shareOf({ amount_usd, spent_usd, committed_usd }: LimitState): number | null {
  if (spent_usd === null || committed_usd === null) return null;
  const both = spent_usd + committed_usd;
  if (amount_usd > 0) return both / amount_usd;
  return both > 0 ? 2 : 1;
}

function over(t: Translate, state: LimitState): string {
  return state.action === "block"
    ? t("This limit is used up: no job that costs money begins before {day}, or until it is raised.", {
        day: state.until,
      })
    : t("This limit is passed. It only warns: jobs go on.");
}

export function periodWord(t: Translate, period: LimitState["period"]): string {
  return { daily: t("each day"), weekly: t("each week"), monthly: t("each month") }[period];
}

function known(t: Translate, usd: number | null): string {
  return usd === null ? t("Not known") : money(t, usd, true);
}
