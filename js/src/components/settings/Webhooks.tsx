/** Whether a provider's webhooks arrive: one that the lab sends to itself, or one that the provider is made to send. */

import { useState } from "preact/hooks";
import { useAct, useLab } from "../../hooks";
import type { Mode, WebhookReport } from "../../setup";
import { useWords } from "../../words";
import { Button, ErrorBanner } from "../atoms";
import { Confirm } from "../Confirm";
import { Steps, verdict } from "./Steps";

const PATIENCE_MS = 120_000;

export function Webhooks({ provider, name }: { provider: string; name: string }) {
  const t = useWords();
  const { desk } = useLab();
  const [report, setReport] = useState<WebhookReport | null>(null);
  const ask = async (mode: Mode) => {
    setReport(null);
    setReport(await desk.ask("test_webhook", { provider, mode }, PATIENCE_MS));
  };
  const { act, busy, error } = useAct(() => ask("direct"));
  return (
    <div class="stc-stack">
      <p class="stc-faint">
        {t("A webhook saves waiting: without them the lab looks at its runs every few seconds, and misses nothing.")}
      </p>
      <div class="stc-row">
        <Button disabled={busy} aria-busy={busy} onClick={act}>
          {t("Test from here")}
        </Button>
        <Confirm
          label={t("Test through {provider}", { provider: name })}
          question={t("Have {provider} send one? That may cost a little.", { provider: name })}
          no={t("Not now")}
          yes={t("Send one")}
          tone="primary"
          act={() => ask("provider")}
        />
        <span class="stc-faint" role="status">
          {busy ? t("Testing…") : report && verdict(t, report.steps, t("Webhooks would not arrive this way."))}
        </span>
      </div>
      {error && <ErrorBanner error={error} />}
      {report?.url && <code>{report.url}</code>}
      {report && <Steps steps={report.steps} />}
    </div>
  );
}
