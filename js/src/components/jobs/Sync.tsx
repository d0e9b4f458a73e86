/** Brings runs that were started elsewhere into the list. */

import { useState } from "preact/hooks";
import { useAct, useLab } from "../../hooks";
import { count, useWords } from "../../words";
import { Button, ErrorBanner } from "../atoms";

const PATIENCE_MS = 120_000;

export function Sync({ done }: { done: () => void }) {
  const t = useWords();
  const { desk } = useLab();
  const [said, say] = useState("");
  const { act, busy, error } = useAct(async () => {
    say(t("Asking the providers…"));
    try {
      const { synced, updated } = await desk.ask("sync", { provider: "" }, PATIENCE_MS);
      say(t("New here: {new}. Known already: {known}.", { new: count(synced), known: count(updated) }));
      done();
    } catch (caught) {
      say("");
      throw caught;
    }
  });
  return (
    <>
      <div class="stc-jobs-sync">
        <Button kind="quiet" class="stc-button stc-flush" disabled={busy} aria-busy={busy} onClick={act}>
          {t("Import runs started elsewhere")}
        </Button>
        <span class="stc-faint" role="status">
          {said}
        </span>
      </div>
      {error && <ErrorBanner error={error} />}
    </>
  );
}
