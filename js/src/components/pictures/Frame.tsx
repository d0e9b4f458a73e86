/** One picture in a box of fixed shape: asked for when it comes into sight, the old one kept until the new one is there. */

import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { useWords } from "../../words";
import { useSeen } from "../seen";
import type { Picture } from "./series";
import { keyOf, type Sources } from "./sources";

/** A report may come before its file has. */
const AGAIN_MS = 2000;
const TRIES = 5;
/** Enlarged more than this, a picture shows its own pixels rather than a blur. */
const ENLARGED = 1.9;

interface FrameProps {
  picture: Picture | null;
  sources: Sources;
  /** Said beside the prompt, so that two pictures of one prompt are told apart. */
  label: string;
}

interface Shown {
  key: string;
  src: string;
}

export function Frame({ picture, sources, label }: FrameProps) {
  const t = useWords();
  const box = useRef<HTMLDivElement>(null);
  const seen = useSeen(box, false);
  useSharp(box);
  const { src, failed, again } = useSource(seen ? picture : null, sources);
  const [loaded, setLoaded] = useState<Shown | null>(null);
  const key = picture ? keyOf(picture) : "";
  const coming = src?.key === key && loaded?.key !== key ? src : null;
  const images = [loaded, coming].filter((one) => one !== null);
  const alt = picture ? t("{prompt}, step {step}", { prompt: picture.prompt, step: picture.step }) : "";
  return (
    <div class="stc-picture-box" ref={box} aria-busy={picture !== null && loaded?.key !== key && !failed}>
      {images.map((one) => (
        <img
          key={one.key}
          src={one.src}
          alt={one.key === key ? alt : ""}
          loading="lazy"
          decoding="async"
          data-stale={one.key !== key || undefined}
          data-coming={one === coming || undefined}
          onLoad={(event) => {
            sharpen(event.currentTarget);
            if (one === coming) setLoaded(one);
          }}
          onError={again}
        />
      ))}
      {failed && (
        <button type="button" class="stc-picture-again" onClick={again}>
          {t("This picture is not there. Try again")}
        </button>
      )}
      <span class="stc-picture-label stc-number">{label}</span>
    </div>
  );
}

/** The source of a picture, tried some times. */
function useSource(picture: Picture | null, sources: Sources) {
  const [src, setSrc] = useState<Shown | null>(null);
  const [tries, setTries] = useState({ key: "", count: 0 });
  const key = picture ? keyOf(picture) : "";
  const count = tries.key === key ? tries.count : 0;
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key is the picture
  useEffect(() => {
    if (!picture || count > TRIES) return;
    let wanted = true;
    let timer: ReturnType<typeof setTimeout> | undefined;
    sources.of(picture).then(
      (found) => wanted && setSrc({ key, src: found }),
      () => {
        timer = setTimeout(() => wanted && setTries({ key, count: count + 1 }), AGAIN_MS);
      },
    );
    return () => {
      wanted = false;
      clearTimeout(timer);
    };
  }, [key, count, sources]);
  return { src, failed: count > TRIES, again: () => setTries({ key, count: count > TRIES ? 0 : TRIES + 1 }) };
}

/** Keeps what `sharpen` says right while the box changes its size. */
function useSharp(box: RefObject<HTMLDivElement | null>): void {
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const observer = new ResizeObserver(() => {
      for (const image of element.querySelectorAll("img")) sharpen(image);
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [box]);
}

/** Says whether a picture is shown much larger than it is. */
function sharpen(image: HTMLImageElement): void {
  image.dataset.pixels = String(image.clientWidth > image.naturalWidth * ENLARGED);
}
