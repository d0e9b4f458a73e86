/** A draft that outlives a reload of its page, in this tab alone: nothing that was typed is written to a server. */

import type { SubmitRequest } from "../../contract";

const PREFIX = "simpletuner-lab.draft/1:";

/** `form` names one among the forms of a page. */
export function keepDraft(form: string, draft: SubmitRequest | null): void {
  try {
    if (draft) sessionStorage.setItem(PREFIX + form, JSON.stringify(draft));
    else sessionStorage.removeItem(PREFIX + form);
  } catch {
    // a page without storage, or with a full one, keeps none
  }
}

export function keptDraft(form: string): SubmitRequest | null {
  try {
    const draft = JSON.parse(sessionStorage.getItem(PREFIX + form) ?? "null");
    const whole = draft && Array.isArray(draft.dataloader_config) && draft.config;
    return whole ? draft : null;
  } catch {
    return null;
  }
}
