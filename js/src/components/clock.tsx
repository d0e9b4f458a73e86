/** Ages that stay true: one timer for all of them. */

import { type ComponentChildren, createContext } from "preact";
import { useCallback, useContext, useEffect, useState } from "preact/hooks";
import { ago, moment, useWords } from "../words";

const Told = createContext<(iso: string) => string>(() => "");

/** The time, every so often; null stops it. */
export function useNow(every_ms: number | null): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (every_ms === null) return;
    const timer = setInterval(() => setNow(Date.now()), every_ms);
    return () => clearInterval(timer);
  }, [every_ms]);
  return now;
}

/** Every `Age` below shows its age by this clock, in its words: there may be a thousand of them. */
export function Clock({ every_ms = 10_000, children }: { every_ms?: number; children: ComponentChildren }) {
  const t = useWords();
  const now = useNow(every_ms);
  const tell = useCallback((iso: string) => ago(t, iso, now), [t, now]);
  return <Told.Provider value={tell}>{children}</Told.Provider>;
}

/** How long ago something was, `say` in a sentence; the full time on hover. */
export function Age({ at, say }: { at: string; say?: (age: string) => string }) {
  const age = useContext(Told)(at);
  return (
    <time class="stc-number" dateTime={at} title={moment(at)}>
      {say ? say(age) : age}
    </time>
  );
}
