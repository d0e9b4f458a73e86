/**
 * What a person decides once: whether data may leave, where models go, what each provider still needs, and whether models
 * find their way home. A token is taken, and never shown.
 */

import { useAnswer } from "../../hooks";
import { useWords } from "../../words";
import { ErrorBanner } from "../atoms";
import { ConsentMode } from "./ConsentMode";
import { DefaultDestination } from "./DefaultDestination";
import { Providers } from "./Providers";
import { Receiving } from "./Receiving";

/** News of jobs change nothing here. */
const NO_JOB = "";

export function Settings() {
  const t = useWords();
  const consent = useAnswer("consent", {}, { about: NO_JOB });
  const providers = useAnswer("providers", {}, { about: NO_JOB });
  return (
    <div class="stc-settings">
      <section class="stc-stack">
        <h2>{t("Consent")}</h2>
        {consent.error && <ErrorBanner error={consent.error} again={consent.again} />}
        <ConsentMode mode={consent.value?.consent ?? null} changed={consent.again} />
      </section>
      <section class="stc-stack">
        <h2>{t("Providers")}</h2>
        {providers.error && <ErrorBanner error={providers.error} again={providers.again} />}
        <Providers providers={providers.value} changed={providers.again} />
      </section>
      <DefaultDestination />
      <Receiving />
    </div>
  );
}
