/** What may be spent in a period, what one job may cost, and by which calendar. A provider's own limit is with its settings. */

import { useState } from "preact/hooks";
import { useAct, useLab } from "../../hooks";
import type { LimitChanges, SpendLimits } from "../../money";
import { useWords } from "../../words";
import { ErrorBanner } from "../atoms";
import { Saving } from "../settings/Saving";
import { Check, Choice, Input, Problems } from "../submit/fields";
import { periodWord } from "./Limits";

interface LimitFormProps {
  limits: SpendLimits;
  saved: () => void;
}

export function LimitForm({ limits: told, saved }: LimitFormProps) {
  const t = useWords();
  const { desk } = useLab();
  const [answer, keep] = useState({ to: told, limits: told });
  /** What is in force: by the last answer, until it is asked again. */
  const limits = answer.to === told ? answer.limits : told;
  const [edited, edit] = useState<LimitChanges>({});
  const [said, say] = useState(false);
  const [mended, mend] = useState(false);
  const total = { ...limits.total, ...edited.total };
  const job = { ...limits.job, ...edited.job };
  const save = useAct(async () => {
    mend(false);
    keep({ to: told, limits: (await desk.ask("set_limits", { changes: edited })).limits });
    edit({});
    say(true);
    saved();
  });
  const problems = (save.error?.problems ?? []).map((problem) => ({ ...problem, place: problem.path }));
  const change = (next: LimitChanges) => {
    say(false);
    edit((old) => ({ ...old, ...next }));
  };
  const setTotal = (next: LimitChanges["total"]) => change({ total: { ...edited.total, ...next } });
  const setJob = (next: LimitChanges["job"]) => change({ job: { ...edited.job, ...next } });
  const actions: [string, string][] = [
    ["warn", t("warn")],
    ["block", t("let no job begin")],
  ];
  const jobActions: [string, string][] = [
    ["warn", t("warn")],
    ["block", t("end it at a checkpoint")],
  ];
  return (
    <details class="stc-limit-form">
      <summary>{t("Change the limits")}</summary>
      <form
        class="stc-stack"
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          save.act();
        }}
      >
        <Problems.Provider value={{ problems: mended ? [] : problems, mend: () => mend(true) }}>
          <Check label={t("Limit what is spent")} value={total.enabled} change={(enabled) => setTotal({ enabled })} />
          <div class="stc-grid">
            <Input
              label={t("US dollars")}
              place="total.amount_usd"
              kind="number"
              value={total.amount_usd}
              change={(amount_usd) => setTotal({ amount_usd: amount_usd as number })}
            />
            <Choice
              label={t("Period")}
              place="total.period"
              value={total.period}
              change={(period) => setTotal({ period: period as typeof total.period })}
              options={(["daily", "weekly", "monthly"] as const).map((one) => [one, periodWord(t, one)])}
            />
            <Choice
              label={t("When it is used up")}
              place="total.action"
              value={total.action}
              change={(action) => setTotal({ action: action as typeof total.action })}
              options={actions}
            />
            <Input
              label={t("Time zone")}
              place="time_zone"
              value={edited.time_zone ?? limits.time_zone}
              change={(zone) => change({ time_zone: String(zone).trim() })}
              hint={t("Whose midnight begins a day, for example {zone}", { zone: "Europe/Berlin" })}
            />
            <Input
              label={t("US dollars for one job")}
              place="job.amount_usd"
              kind="number"
              value={job.amount_usd ?? undefined}
              change={(amount_usd) => setJob({ amount_usd: (amount_usd as number | undefined) ?? null })}
              hint={t("Empty: no limit")}
            />
            <Choice
              label={t("When a job reaches it")}
              place="job.action"
              value={job.action}
              change={(action) => setJob({ action: action as typeof job.action })}
              options={jobActions}
            />
          </div>
        </Problems.Provider>
        {save.error && <ErrorBanner error={save.error} />}
        <Saving label={t("Save the limits")} disabled={save.busy || Object.keys(edited).length === 0} said={said} />
      </form>
    </details>
  );
}
