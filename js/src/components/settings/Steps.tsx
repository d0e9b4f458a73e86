/** What a test of a way found, step by step: what was seen, and what to do. */

import type { ReceivingStep } from "../../setup";
import { type Translate, useWords } from "../../words";

export function Steps({ steps }: { steps: ReceivingStep[] }) {
  const t = useWords();
  return (
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
  );
}

/** All steps in a sentence; `bad` is what a failed one comes to. */
export function verdict(t: Translate, steps: ReceivingStep[], bad: string): string {
  if (steps.some((step) => step.status === "failed")) return bad;
  return steps.some((step) => step.status === "warning") ? t("It works, with a remark.") : t("It works.");
}

function statusWord(t: Translate, status: ReceivingStep["status"]): string {
  return { ok: t("OK"), failed: t("Failed"), warning: t("Remark"), skipped: t("Left out") }[status] ?? status;
}
