import { useState } from "preact/hooks";
import type { ConsentMode as Mode } from "../../contract";
import { useAct, useLab, useUniqueId } from "../../hooks";
import { type Translate, useWords } from "../../words";
import { ErrorBanner } from "../atoms";

const MODES: Mode[] = ["ask", "allow", "never"];

/** Radio buttons; the change is in force when the lab has confirmed it, and says so. */
export function ConsentMode({ mode, changed }: { mode: Mode | null; changed: () => void }) {
  const t = useWords();
  const name = useUniqueId();
  const { desk } = useLab();
  const [wanted, want] = useState<Mode | null>(null);
  const [saved, setSaved] = useState(false);
  const { act, busy, error } = useAct(async (next: Mode) => {
    want(next);
    setSaved(false);
    try {
      await desk.ask("set_consent", { mode: next });
      setSaved(true);
      changed();
    } finally {
      want(null);
    }
  });
  const chosen = wanted ?? mode;
  return (
    <fieldset class="stc-choices" disabled={mode === null || busy}>
      <legend>{t("May images and captions be sent to another machine?")}</legend>
      {MODES.map((each) => (
        <label key={each} class="stc-choice">
          <input
            type="radio"
            name={name}
            checked={chosen === each}
            aria-describedby={`${name}-${each}`}
            onChange={() => act(each)}
          />
          <span>
            <strong>{words(t)[each].label}</strong>
            <span class="stc-faint" id={`${name}-${each}`}>
              {words(t)[each].meaning}
            </span>
          </span>
        </label>
      ))}
      <p class="stc-faint stc-said" role="status">
        {saved ? t("Saved. It holds for everything on this server from now on.") : ""}
      </p>
      {error && <ErrorBanner error={error} />}
    </fieldset>
  );
}

function words(t: Translate): Record<Mode, { label: string; meaning: string }> {
  return {
    ask: {
      label: t("Ask"),
      meaning: t("You see what would leave and agree to exactly that. Anything else needs a new yes."),
    },
    allow: {
      label: t("Allow"),
      meaning: t("Jobs start without a question. What was sent, where and when stays on record."),
    },
    never: {
      label: t("Never"),
      meaning: t("Nothing is sent to another machine, by any way in. Training on this machine goes on as before."),
    },
  };
}
