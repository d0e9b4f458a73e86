/** Puts a text on the clipboard, and says so on itself for a moment. */

import { useEffect, useState } from "preact/hooks";
import { useWords } from "../words";
import { Button } from "./atoms";

const SAID_MS = 1500;

export function Copy({ text, label }: { text: string; label: string }) {
  const t = useWords();
  const [said, setSaid] = useState(false);
  useEffect(() => {
    if (!said) return;
    const timer = setTimeout(() => setSaid(false), SAID_MS);
    return () => clearTimeout(timer);
  }, [said]);
  return (
    <Button kind="quiet" class="stc-button stc-copy" aria-label={label} onClick={() => void copy(text).then(setSaid)}>
      <span role="status">{said ? t("Copied") : t("Copy")}</span>
    </Button>
  );
}

/** Pages that came over plain HTTP have no clipboard of their own; the old way is by a selection. */
async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.style.position = "fixed";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
