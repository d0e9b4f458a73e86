/** A button for what cannot be undone: it asks once more where it stands, and moves nothing else. */

import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { useAct } from "../hooks";
import { Button } from "./atoms";

interface ConfirmProps {
  label: string;
  /** What a screen reader says for the button, where `label` does not say of what. */
  name?: string;
  kind?: "plain" | "quiet";
  /** Set while it is being done already: the button says this, and does nothing. */
  under_way?: string;
  question: string;
  yes: string;
  /** How the answer that does it looks. */
  tone?: "danger" | "primary";
  no: string;
  act: () => Promise<void>;
  children?: ComponentChildren;
}

/** The focus goes to the harmless answer, and back to the button; Escape is that answer too. */
export function Confirm({ label, name, kind = "plain", under_way, ...asked }: ConfirmProps) {
  const [asking, setAsking] = useState(false);
  const place = useRef<HTMLSpanElement>(null);
  const close = () => {
    setAsking(false);
    place.current?.querySelector("button")?.focus();
  };
  return (
    <span class="stc-confirm" ref={place}>
      <Button
        kind={kind}
        aria-label={under_way ? undefined : name}
        aria-expanded={under_way ? undefined : asking}
        aria-disabled={under_way ? true : undefined}
        onClick={() => !under_way && setAsking(true)}
      >
        {under_way ?? label}
      </Button>
      {asking && !under_way && <Question {...asked} close={close} />}
    </span>
  );
}

type QuestionProps = Pick<ConfirmProps, "question" | "yes" | "tone" | "no" | "act" | "children"> & {
  close: () => void;
};

function Question({ question, yes, tone = "danger", no, act, children, close }: QuestionProps) {
  const group = useRef<HTMLFieldSetElement>(null);
  useLayoutEffect(() => group.current?.querySelector<HTMLButtonElement>("button")?.focus(), []);
  const doing = useAct(async () => {
    await act();
    close();
  });
  const leave = (event: KeyboardEvent) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    close();
  };
  return (
    <fieldset class="stc-confirm-ask" ref={group} onKeyDown={leave}>
      <legend class="stc-hidden">{question}</legend>
      <span class="stc-confirm-question" aria-hidden="true">
        {question}
      </span>
      {children}
      {doing.error && (
        <span class="stc-confirm-error" role="alert">
          {doing.error.message} {doing.error.hint}
        </span>
      )}
      <Button onClick={close}>{no}</Button>
      <Button kind={tone} disabled={doing.busy} onClick={() => doing.act()}>
        {yes}
      </Button>
    </fieldset>
  );
}
