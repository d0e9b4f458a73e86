/** How models come home: the address that trainers elsewhere upload to, and a test that says what is wrong with it. */

import { useState } from "preact/hooks";
import type { ReceivingStep } from "../../contract";
import { useAct, useAnswer, useLab } from "../../hooks";
import { type Translate, useWords } from "../../words";
import { Button, ErrorBanner } from "../atoms";

const TEST_PATIENCE_MS = 300_000;

export function Receiving() {
  const t = useWords();
  const { value, error, again } = useAnswer("receiving", {}, { about: "" });
  return (
    <section class="stc-stack">
      <h2>{t("Receiving")}</h2>
      {error && <ErrorBanner error={error} again={again} />}
      {value && (
        <>
          <p>
            {value.enabled
              ? t("Trainers elsewhere can bring models home to this address.")
              : t("Trainers elsewhere cannot bring models home: no public address is set. Those on this machine can.")}
          </p>
          <dl class="stc-facts">
            <Fact name={t("Address")} value={value.endpoint_url} />
            <Fact name={t("Bucket")} value={value.bucket} />
            <Fact name={t("Folder")} value={value.outputs_dir} />
          </dl>
          <Test />
        </>
      )}
    </section>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd class="stc-mono">{value || "—"}</dd>
    </div>
  );
}

function Test() {
  const t = useWords();
  const { desk } = useLab();
  const [steps, setSteps] = useState<ReceivingStep[] | null>(null);
  const { act, busy, error } = useAct(async () => {
    setSteps(null);
    setSteps(await desk.ask("test_receiving", {}, TEST_PATIENCE_MS));
  });
  return (
    <>
      <div class="stc-row">
        <Button disabled={busy} aria-busy={busy} onClick={act}>
          {t("Test the address")}
        </Button>
        <span class="stc-faint" role="status">
          {busy ? t("Testing…") : steps && verdict(t, steps)}
        </span>
      </div>
      {error && <ErrorBanner error={error} />}
      {steps && (
        <ul class="stc-steps" aria-label={t("What the test found")}>
          {steps.map((step) => (
            <li key={step.name} data-status={step.status}>
              <span class="stc-steps-word">{statusWord(t, step.status)}</span>
              <span>
                <strong>{step.name}</strong> {step.message}
                {step.hint && <span class="stc-faint"> {step.hint}</span>}
              </span>
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

function verdict(t: Translate, steps: ReceivingStep[]): string {
  if (steps.some((step) => step.status === "failed")) return t("Models would not come home this way.");
  return steps.some((step) => step.status === "warning") ? t("It works, with a remark.") : t("It works.");
}

function statusWord(t: Translate, status: ReceivingStep["status"]): string {
  return { ok: t("OK"), failed: t("Failed"), warning: t("Remark"), skipped: t("Left out") }[status] ?? status;
}
