/** Where models go unless a request says otherwise. */

import { useState } from "preact/hooks";
import type { LabError } from "../../ask";
import type { Destination } from "../../contract";
import { useAnswer } from "../../hooks";
import { useWords } from "../../words";
import { ErrorBanner } from "../atoms";
import { Remember } from "../destination/Default";
import { DestinationFields } from "../destination/DestinationFields";
import { Problems } from "../submit/fields";
import { placed } from "../submit/problems";

export function DefaultDestination() {
  const t = useWords();
  const { value: stored, error, again } = useAnswer("destination", {}, { about: "" });
  const publishing = useAnswer("publishing", {}, { about: "" });
  const [edited, edit] = useState<Destination | null>(null);
  const [refused, refuse] = useState<LabError | null>(null);
  const value = edited ?? stored;
  return (
    <section class="stc-stack">
      <h2>{t("Where models go")}</h2>
      {error && <ErrorBanner error={error} again={again} />}
      {value && (
        <Problems.Provider value={{ problems: placed(refused?.problems ?? [], []), mend: () => refuse(null) }}>
          <DestinationFields value={value} change={edit} />
          <Remember value={value} disabled={JSON.stringify(value) === JSON.stringify(stored)} said={refuse} />
        </Problems.Provider>
      )}
      {publishing.value?.message && <p class="stc-faint">{publishing.value.message}</p>}
    </section>
  );
}
