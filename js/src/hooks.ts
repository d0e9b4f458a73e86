/** From a model to what a component shows: state, and questions that are asked again at every news. */

import { createContext } from "preact";
import { useCallback, useContext, useEffect, useId, useMemo, useRef, useState } from "preact/hooks";
import { type Desk, isOfTheWay, LabError } from "./ask";
import type { Key, Message, Model, News, State } from "./model";
import type { Gives, Takes, Verb } from "./verbs";

/** The model and the desk of a tree of components. */
export const Lab = createContext<{ model: Model; desk: Desk } | null>(null);

export function useLab(): { model: Model; desk: Desk } {
  const lab = useContext(Lab);
  if (!lab) throw new Error("components stand inside <Lab.Provider>");
  return lab;
}

/** An id that no other element of the page has: Preact's own begin anew in every cell of a notebook. */
export function useUniqueId(): string {
  const { desk } = useLab();
  return `stc-${desk.name}-${useId()}`;
}

/** A key of the model, and how to set it: Python, where there is one, sees the change. */
export function useKey<K extends Key>(key: K): [State[K], (value: State[K]) => void] {
  const { model } = useLab();
  const [value, setValue] = useState<State[K]>(() => model.get(key));
  useEffect(() => {
    const read = () => setValue(() => model.get(key));
    read();
    model.on(`change:${key}`, read);
    return () => model.off(`change:${key}`, read);
  }, [model, key]);
  const write = useCallback(
    (next: State[K]) => {
      model.set(key, next);
      model.save_changes();
    },
    [model, key],
  );
  return [value, write];
}

/** Calls back at news of a job (`null`: of any), merged to at most one call each `gap_ms`, the last never lost. */
export function useNews(job_id: string | null, heard: (news: News) => void, gap_ms = 150): void {
  const { model } = useLab();
  const latest = useRef(heard);
  latest.current = heard;
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let last = 0;
    const listen = (message: Message) => {
      if (!message || !("news" in message)) return;
      const { news } = message;
      if (job_id !== null && news.job_id !== null && news.job_id !== job_id) return;
      clearTimeout(timer);
      const tell = () => {
        last = Date.now();
        latest.current(news);
      };
      timer = setTimeout(tell, Math.max(0, last + gap_ms - Date.now()));
    };
    model.on("msg:custom", listen);
    return () => {
      clearTimeout(timer);
      model.off("msg:custom", listen);
    };
  }, [model, job_id, gap_ms]);
}

export interface Answer<T> {
  value: T | null;
  error: LabError | null;
  /** A first answer, or one to a changed question, is under way. */
  loading: boolean;
  again: () => void;
}

/**
 * The answer to a question, asked again at news of `about` (null: of any job). One question at a time is under way;
 * news that come meanwhile cause one more. An answer to an older question is dropped, and so is a failure that a later
 * answer has mended. `args` null asks nothing. `gap_ms`: news ask again at most this often.
 */
export function useAnswer<V extends Verb>(
  verb: V,
  args: Takes<V> | null,
  { about = null, initial = null, gap_ms }: { about?: string | null; initial?: Gives<V> | null; gap_ms?: number } = {},
): Answer<Gives<V>> {
  const { desk } = useLab();
  const asked = useMemo(() => (args === null ? null : JSON.stringify(args)), [args]);
  const [state, setState] = useState<{ value: Gives<V> | null; error: LabError | null; of: string | null }>({
    value: initial,
    error: null,
    of: null,
  });
  const busy = useRef<{ of: string | null; more: boolean }>({ of: null, more: false });

  const again = useCallback(() => {
    if (asked === null) return;
    if (busy.current.of === asked) {
      busy.current.more = true;
      return;
    }
    const mine = { of: asked as string | null, more: false };
    busy.current = mine;
    const ended = (next: Partial<{ value: Gives<V>; error: LabError | null }>) => {
      if (busy.current !== mine) return;
      busy.current = { of: null, more: false };
      setState((old) => ({ ...old, ...next, of: asked }));
      if (mine.more) again();
    };
    desk.ask(verb, JSON.parse(asked) as Takes<V>).then(
      (value) => ended({ value, error: null }),
      (error: unknown) => ended({ error: asLabError(error) }),
    );
  }, [desk, verb, asked]);

  useEffect(() => {
    again();
    return () => {
      busy.current = { of: null, more: false };
    };
  }, [again]);
  useNews(about, again, gap_ms);
  return { value: state.value, error: state.error, loading: asked !== null && state.of !== asked, again };
}

/**
 * Something a person does: one at a time, with its error until the next try. An error of the way is silent while the
 * login is gone, which a banner says, and forgotten when the connection is well again.
 */
export function useAct<A extends unknown[]>(
  act: (...args: A) => Promise<void>,
): {
  act: (...args: A) => void;
  busy: boolean;
  error: LabError | null;
  clear: () => void;
} {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<LabError | null>(null);
  const [connection] = useKey("connection");
  const running = useRef(false);
  const alive = useRef(true);
  useEffect(() => {
    alive.current = true;
    return () => {
      alive.current = false;
    };
  }, []);
  useEffect(() => {
    if (connection === "live") setError((old) => (isOfTheWay(old) ? null : old));
  }, [connection]);
  const told = connection === "denied" && isOfTheWay(error);
  const start = (...args: A) => {
    if (running.current) return;
    running.current = true;
    setBusy(true);
    setError(null);
    act(...args)
      .catch((caught: unknown) => {
        if (alive.current) setError(asLabError(caught));
      })
      .finally(() => {
        running.current = false;
        if (alive.current) setBusy(false);
      });
  };
  return { act: start, busy, error: told ? null : error, clear: () => setError(null) };
}

export function asLabError(error: unknown): LabError {
  if (error instanceof LabError) return error;
  return new LabError({ code: "internal", detail: String(error), hint: "", problems: [] });
}
