/** How models come home: the address that trainers elsewhere upload to, and a test that says what is wrong with it. */

import { useState } from "preact/hooks";
import { useAct, useAnswer, useLab } from "../../hooks";
import type { ReceivingStep } from "../../setup";
import { useWords } from "../../words";
import { Button, ErrorBanner } from "../atoms";
import { Steps, verdict } from "./Steps";

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
          {busy ? t("Testing…") : steps && verdict(t, steps, t("Models would not come home this way."))}
        </span>
      </div>
      {error && <ErrorBanner error={error} />}
      {steps && <Steps steps={steps} />}
    </>
  );
}
