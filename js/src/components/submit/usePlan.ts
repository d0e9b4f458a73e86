/** The plan that is asked for: the newest question wins, and dropping it forgets its answer. */

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import type { LabError } from "../../ask";
import type { PlanView, SubmitRequest } from "../../contract";
import { asLabError, useLab } from "../../hooks";

/** Planning reads every file of a large data set, the first time. */
const PATIENCE_MS = 3_600_000;

export interface Planning {
  /** What was asked about; null: nothing is. */
  request: SubmitRequest | null;
  plan: PlanView | null;
  /** The plan that this one replaces because it had changed. */
  before: PlanView | null;
  error: LabError | null;
  /** The one who looks asked for it: the focus may move to the answer. */
  asked: boolean;
}

const NONE: Planning = { request: null, plan: null, before: null, error: null, asked: false };

export function usePlan() {
  const { desk } = useLab();
  const [state, setState] = useState(NONE);
  const newest = useRef(0);
  const ask = useCallback(
    (request: SubmitRequest, { asked, before = null }: { asked: boolean; before?: PlanView | null }) => {
      newest.current += 1;
      const mine = newest.current;
      const question = { ...NONE, request, before, asked };
      setState(question);
      desk.ask("plan", { request }, PATIENCE_MS).then(
        (plan) => mine === newest.current && setState({ ...question, plan }),
        (error) => mine === newest.current && setState({ ...question, error: asLabError(error) }),
      );
    },
    [desk],
  );
  /** Forgets the plan, and an answer that is still to come; an error stays until the next question. */
  const drop = useCallback(() => {
    newest.current += 1;
    setState((old) => ({ ...NONE, error: old.error }));
  }, []);
  useEffect(
    () => () => {
      newest.current += 1;
    },
    [],
  );
  const reading = state.request !== null && state.plan === null && state.error === null;
  return { planning: { ...state, reading }, ask, drop };
}

/** Whole seconds since `on` became true; null while it is not. */
export function useSeconds(on: boolean): number | null {
  const [seconds, setSeconds] = useState(0);
  useEffect(() => {
    if (!on) return;
    setSeconds(0);
    const timer = setInterval(() => setSeconds((old) => old + 1), 1000);
    return () => clearInterval(timer);
  }, [on]);
  return on ? seconds : null;
}
