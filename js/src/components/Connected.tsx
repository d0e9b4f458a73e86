/** A view under a word on the connection, where that is not well. */

import type { ComponentChildren } from "preact";
import { useKey } from "../hooks";
import { useWords } from "../words";

export function Connected({ children }: { children: ComponentChildren }) {
  const t = useWords();
  const [connection] = useKey("connection");
  return (
    <div class="stc-stack">
      {connection === "lost" && (
        <div class="stc-banner" data-tone="warn" role="status">
          <div>{t("The server does not answer. Trying again; running jobs go on.")}</div>
        </div>
      )}
      {connection === "denied" && (
        <div class="stc-banner" role="alert">
          <div>{t("Your login has expired. Reload the page and log in; running jobs go on.")}</div>
        </div>
      )}
      {children}
    </div>
  );
}
