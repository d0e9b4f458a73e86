/** The end of a form of settings: its button, and that what was saved is in force. */

import { useWords } from "../../words";
import { Button } from "../atoms";

export function Saving({ label, disabled, said }: { label: string; disabled: boolean; said: boolean }) {
  const t = useWords();
  return (
    <div class="stc-row">
      <Button type="submit" disabled={disabled}>
        {label}
      </Button>
      <span class="stc-faint" role="status">
        {said ? t("Saved. They are in force now.") : ""}
      </span>
    </div>
  );
}
