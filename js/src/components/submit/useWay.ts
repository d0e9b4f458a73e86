/** What the way to a job holds: the draft, its plan, and which of the two is on show. */

import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { PlanView, ProviderView, SubmitRequest } from "../../contract";
import { useKey, useLab } from "../../hooks";
import { chosenProvider, EMPTY_REQUEST, isImages, newEntry } from "./draft";
import { keepDraft, keptDraft } from "./kept";
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
  /** The draft has become a job: it is not kept any longer. */
  forget: () => void;
}

/**
 * `again`: the draft begins as the last request, and no plan is asked for until someone wants it. What is typed survives
 * a reload of the page.
 */
export function useWay(again: boolean, providers: ProviderView[]): Way {
  const [request, setRequest] = useKey("request");
  const { draft, setDraft, change, kept, forget } = useDraft(request);
  const [open, setOpen] = useState(again || request === null || kept);
  const { planning, ask, drop } = usePlan();
  const seen = useRef(again || kept ? JSON.stringify(request) : "null");
  const heading = useRef<HTMLHeadingElement>(null);
  const chosen = chosenProvider(providers, draft.provider);

  // a request that comes from outside, from Python, is planned at once
  useEffect(() => {
    if (request === null || JSON.stringify(request) === seen.current) return;
    seen.current = JSON.stringify(request);
    setDraft(draftOf(request));
    setOpen(false);
    ask(request, { asked: false });
  }, [request, ask, setDraft]);
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
      change(part);
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
      if (planning.plan && !draft.destination) change({ destination: planning.plan.destination });
      drop();
      setOpen(true);
    },
    forget,
  };
}

/** The draft, as it was left before a reload, else as the request has it. */
function useDraft(request: SubmitRequest | null) {
  const { model } = useLab();
  const [form] = useState(() => model.get("key"));
  const [begun] = useState(() => {
    const kept = keptDraft(form);
    return kept && JSON.stringify(kept) !== JSON.stringify(request) ? kept : null;
  });
  const [draft, setDraft] = useState(() => begun ?? draftOf(request));
  const change = (part: Partial<SubmitRequest>) => {
    setDraft((old) => {
      const next = { ...old, ...part };
      keepDraft(form, next);
      return next;
    });
  };
  return { draft, setDraft, change, kept: begun !== null, forget: () => keepDraft(form, null) };
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
