/** The plan, and the one button that agrees to it. Nothing is sent before that button is pressed, and only this plan. */

import type { Ref } from "preact";
import type { JobPage, JobView, PlanView, ProviderView, SubmitRequest } from "../../contract";
import { asLabError, useAct, useLab, useUniqueId } from "../../hooks";
import { bytes, count, useWords } from "../../words";
import { Button, ErrorBanner, Note } from "../atoms";
import { newKey } from "./draft";
import { PlanFacts } from "./PlanDetails";
import { actText } from "./plan_words";

const SUBMIT_PATIENCE_MS = 600_000;

export interface ConsentProps {
  plan: PlanView;
  /** What the plan was made of. */
  request: SubmitRequest;
  providers: ProviderView[] | null;
  /** The plan that was read before this one, where the lab refused it because it had changed. */
  before: PlanView | null;
  /** Active jobs: one of the same digest is this very training. */
  active: JobPage | null;
  heading: Ref<HTMLHeadingElement>;
  submitted: (job: JobView) => void;
  open: (job_id: string) => void;
  /** Asks for the plan again. */
  again: (before: PlanView | null) => void;
  /** Back to the form. */
  edit: () => void;
}

export function Consent(props: ConsentProps) {
  const t = useWords();
  const { plan, providers, before, heading } = props;
  const provider = providers?.find((one) => one.id === plan.provider)?.name ?? plan.provider;
  return (
    <section class="stc-consent" aria-label={t("Plan")}>
      <header class="stc-head">
        <h2 tabIndex={-1} ref={heading}>
          {t("Plan: {name}", { name: plan.name })}
        </h2>
        <Button kind="quiet" onClick={props.edit}>
          {t("Change")}
        </Button>
      </header>
      <p>
        {plan.remote
          ? t("Read what would be sent to {provider}. Nothing is sent until you agree.", { provider })
          : t("Read what would be done. Nothing leaves this machine, and nothing starts until you agree.")}
      </p>
      {before && <Changed before={before} now={plan} />}
      <PlanFacts plan={plan} provider={provider} />
      <Agree {...props} provider={provider} />
    </section>
  );
}

function Changed({ before, now }: { before: PlanView; now: PlanView }) {
  const t = useWords();
  const rows: [string, string, string][] = [
    [t("Files"), count(before.total_files), count(now.total_files)],
    [t("Size"), bytes(t, before.total_bytes), bytes(t, now.total_bytes)],
    [t("Digest"), before.digest.slice(0, 12), now.digest.slice(0, 12)],
  ];
  return (
    <Note tone="warn">
      <strong>{t("The plan has changed since you read it. Nothing was sent; please read it again.")}</strong>
      <table class="stc-table stc-changed">
        <thead>
          <tr>
            <td />
            <th scope="col">{t("Before")}</th>
            <th scope="col">{t("Now")}</th>
          </tr>
        </thead>
        <tbody>
          {rows.map(([name, old, next]) => (
            <tr key={name} data-same={old === next || undefined}>
              <th scope="row">{name}</th>
              <td class="stc-number">{old}</td>
              <td class="stc-number">{next}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Note>
  );
}

function Agree({ plan, request, provider, active, submitted, open, again }: ConsentProps & { provider: string }) {
  const t = useWords();
  const { act, busy, error } = useSubmit(plan, request, submitted, again);
  const twin = busy ? undefined : active?.jobs.find((job) => job.digest === plan.digest);
  const forbidden = plan.consent === "forbidden";
  const refused = plan.spend && !plan.spend.allowed ? plan.spend : null;
  const why = useUniqueId();
  return (
    <div class="stc-agree">
      {forbidden && <Forbidden again={() => again(null)} />}
      {refused && (
        <Note tone="warn">
          <p id={why}>{refused.refusal}</p>
          <p>{refused.hint}</p>
          <Button onClick={() => again(null)}>{t("Check again")}</Button>
        </Note>
      )}
      {twin && (
        <Note tone="warn">
          {t("A job of this very plan is active already. Submitting starts another one.")}{" "}
          <button type="button" class="stc-link" onClick={() => open(twin.job_id)}>
            {t("Open {name}", { name: twin.config_name || twin.job_id })}
          </button>
        </Note>
      )}
      {error && <ErrorBanner error={error} />}
      {error?.code === "no_answer" && (
        <p>{t("The job may exist all the same. Pressing the button again cannot start a second one.")}</p>
      )}
      <div class="stc-row">
        <Button
          kind="primary"
          disabled={busy || forbidden || !!refused}
          aria-busy={busy}
          aria-describedby={refused ? why : undefined}
          onClick={(event) => {
            // the second half of a double click must not agree to a plan that came in between
            if (event.detail < 2) act();
          }}
        >
          {actText(t, plan, provider)}
        </Button>
        <span class="stc-faint" role="status">
          {busy ? t("Submitting…") : plan.consent === "given" ? t("This plan needs no further consent.") : ""}
        </span>
      </div>
    </div>
  );
}

/** One submit at a time, always under the model's key: however often it is pressed or repeated, it is one job. */
function useSubmit(
  plan: PlanView,
  request: SubmitRequest,
  submitted: ConsentProps["submitted"],
  again: ConsentProps["again"],
) {
  const { model, desk } = useLab();
  const renew = () => {
    model.set("key", newKey());
    model.save_changes();
  };
  return useAct(async () => {
    if (!model.get("key")) renew();
    const asked = { request, approve: plan.digest, key: model.get("key") };
    try {
      submitted(await desk.ask("submit", asked, SUBMIT_PATIENCE_MS));
    } catch (caught) {
      const error = asLabError(caught);
      if (error.code === "plan_changed") return again(plan);
      if (error.code === "conflict") renew(); // the key has become another plan's job: the next press is a new one
      throw error;
    }
  });
}

function Forbidden({ again }: { again: () => void }) {
  const t = useWords();
  const { desk } = useLab();
  const { act, busy, error } = useAct(async () => {
    await desk.ask("set_consent", { mode: "ask" });
    again();
  });
  return (
    <Note tone="warn">
      <p>
        {t(
          "The consent setting is “never”: nothing may be sent to another machine. Train here, or let the lab ask you before each upload.",
        )}
      </p>
      <Button disabled={busy} onClick={act}>
        {t("Ask before each upload")}
      </Button>
      {error && <ErrorBanner error={error} />}
    </Note>
  );
}
