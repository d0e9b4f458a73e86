/** What the way to a job holds: the draft, its plan, and which of the two is on show. */

import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { PlanView, ProviderView, SubmitRequest } from "../../contract";
import { useKey } from "../../hooks";
import { chosenProvider, EMPTY_REQUEST, isImages, newEntry } from "./draft";
import { type Planning, usePlan } from "./usePlan";

export interface Way {
  draft: SubmitRequest;
  planning: Planning & { reading: boolean };
  chosen: ProviderView | undefined;
  /** The form is on show, or would be but for a plan. */
  open: boolean;
  /** To be put on the heading of a plan. */
  heading: RefObject<HTMLHeadingElement | null>;
  change: (part: Partial<SubmitRequest>) => void;
  /** Asks for the plan of the draft. */
  review: () => void;
  /** Asks once more for the plan on show. */
  reread: (before: PlanView | null) => void;
  /** Back to the form. */
  edit: () => void;
}

/** `again`: the draft begins as the last request, and no plan is asked for until someone wants it. */
export function useWay(again: boolean, providers: ProviderView[]): Way {
  const [request, setRequest] = useKey("request");
  const [draft, setDraft] = useState(() => draftOf(request));
  const [open, setOpen] = useState(again || request === null);
  const { planning, ask, drop } = usePlan();
  const seen = useRef(again ? JSON.stringify(request) : "null");
  const heading = useRef<HTMLHeadingElement>(null);
  const chosen = chosenProvider(providers, draft.provider);

  // a request that comes from outside, from Python, is planned at once
  useEffect(() => {
    if (request === null || JSON.stringify(request) === seen.current) return;
    seen.current = JSON.stringify(request);
    setDraft(draftOf(request));
    setOpen(false);
    ask(request, { asked: false });
  }, [request, ask]);
  useShownDigest(planning.plan);
  useEffect(() => {
    if (planning.plan && planning.asked) heading.current?.focus();
  }, [planning.plan, planning.asked]);

  return {
    draft,
    planning,
    chosen,
    open,
    heading,
    change: (part) => {
      setDraft((old) => ({ ...old, ...part }));
      if (planning.reading) drop();
    },
    review: () => {
      const asked = { ...draft, provider: draft.provider || chosen?.id || "" };
      seen.current = JSON.stringify(asked);
      setRequest(asked);
      setOpen(true);
      ask(asked, { asked: true });
    },
    reread: (before) => {
      setOpen(false);
      if (planning.request) ask(planning.request, { asked: true, before });
    },
    edit: () => {
      drop();
      setOpen(true);
    },
  };
}

/** The model's digest is that of the plan on show. */
function useShownDigest(plan: PlanView | null): void {
  const [digest, setDigest] = useKey("digest");
  const shown = plan?.digest ?? "";
  // biome-ignore lint/correctness/useExhaustiveDependencies: written when the plan changes, not when others write
  useEffect(() => {
    if (digest !== shown) setDigest(shown);
  }, [shown]);
}

/** A form always has a folder to fill in. */
function draftOf(request: SubmitRequest | null): SubmitRequest {
  const draft = { ...EMPTY_REQUEST, ...request };
  if (draft.dataloader_config.some(isImages)) return draft;
  return { ...draft, dataloader_config: [...draft.dataloader_config, newEntry()] };
}
