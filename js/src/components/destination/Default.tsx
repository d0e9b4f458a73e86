/** Makes a destination the one that later jobs begin with. */

import { useState } from "preact/hooks";
import type { LabError } from "../../ask";
import type { Destination } from "../../contract";
import { asLabError, useAct, useLab } from "../../hooks";
import { useWords } from "../../words";
import { Button } from "../atoms";

interface RememberProps {
  value: Destination;
  disabled?: boolean;
  /** Told what the lab says: null is well. */
  said?: (error: LabError | null) => void;
}

export function Remember({ value, disabled, said }: RememberProps) {
  const t = useWords();
  const { desk } = useLab();
  const [saved, setSaved] = useState("");
  const text = JSON.stringify(value);
  const { act, busy, error } = useAct(async () => {
    try {
      await desk.ask("set_destination", { destination: value });
      said?.(null);
      setSaved(text);
    } catch (caught) {
      said?.(asLabError(caught));
      throw caught;
    }
  });
  return (
    <div class="stc-row">
      <Button
        kind={said ? "plain" : "quiet"}
        class={said ? "stc-button" : "stc-button stc-flush"}
        disabled={busy || disabled}
        onClick={act}
      >
        {t("Remember as default")}
      </Button>
      <span class="stc-faint" role="status">
        {saved === text && t("Saved: later jobs begin with it.")}
      </span>
      {error && (
        <span class="stc-wrong" role="alert">
          {error.message}
        </span>
      )}
    </div>
  );
}
