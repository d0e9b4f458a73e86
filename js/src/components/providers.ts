/** The providers that are installed, as the lab names them. */

import { useCallback } from "preact/hooks";
import type { ProviderView } from "../contract";
import { useAnswer } from "../hooks";

/** Asked once: news of jobs (`about` none of them) do not change providers, a connection that is back may. */
export function useProviders(): { providers: ProviderView[]; nameOf: (id: string) => string } {
  const { value } = useAnswer("providers", {}, { about: "" });
  const nameOf = useCallback((id: string) => value?.find((provider) => provider.id === id)?.name ?? id, [value]);
  return { providers: value ?? [], nameOf };
}
