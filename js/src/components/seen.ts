/** Work only for what can be seen: nothing is asked or drawn for a part that is scrolled away or in a hidden tab. */

import type { RefObject } from "preact";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";

/** Whether an element is on screen, or nearly, in a tab that is in front; `first` until that is known. */
export function useSeen(element: RefObject<Element | null>, first = true): boolean {
  const [near, setNear] = useState(first);
  const [front, setFront] = useState(!document.hidden);
  useEffect(() => {
    if (!element.current) return;
    const observer = new IntersectionObserver((entries) => setNear(entries[entries.length - 1].isIntersecting), {
      rootMargin: "200px",
    });
    observer.observe(element.current);
    return () => observer.disconnect();
  }, [element]);
  useEffect(() => {
    const look = () => setFront(!document.hidden);
    document.addEventListener("visibilitychange", look);
    return () => document.removeEventListener("visibilitychange", look);
  }, []);
  return near && front;
}

/** What asks for `draw`: once in the next frame, however often it is asked for; while unseen, as soon as it is seen. */
export function useFrame(draw: () => void, seen: boolean): () => void {
  const frame = useRef(0);
  const due = useRef(false);
  const now = useRef({ draw, seen });
  now.current = { draw, seen };
  const ask = useCallback(() => {
    due.current = true;
    if (!now.current.seen || frame.current) return;
    frame.current = requestAnimationFrame(() => {
      frame.current = 0;
      if (!now.current.seen) return;
      due.current = false;
      now.current.draw();
    });
  }, []);
  useEffect(() => {
    if (seen && due.current) ask();
  }, [seen, ask]);
  useEffect(() => () => cancelAnimationFrame(frame.current), []);
  return ask;
}
