/** A list that opens on request, with a filter, and of which only the rows in sight exist: 10,000 are as quick as ten. */

import type { ComponentChildren } from "preact";
import { useMemo, useState } from "preact/hooks";
import { useUniqueId } from "../../hooks";
import { count, useWords } from "../../words";

const ROW_PX = 24;
const BOX_PX = 12 * ROW_PX;
const SPARE = 6;
const FILTER_FROM = 10;

interface ListingProps<T> {
  title: string;
  rows: readonly T[];
  /** What the filter looks into. */
  text: (row: T) => string;
  draw: (row: T) => ComponentChildren;
}

export function Listing<T>({ title, rows, text, draw }: ListingProps<T>) {
  const id = useUniqueId();
  const [open, setOpen] = useState(false);
  return (
    <div class="stc-listing">
      <button type="button" class="stc-disclose" aria-expanded={open} aria-controls={id} onClick={() => setOpen(!open)}>
        {title}
      </button>
      <div id={id} hidden={!open}>
        {open && <Opened title={title} rows={rows} text={text} draw={draw} />}
      </div>
    </div>
  );
}

function Opened<T>({ title, rows, text, draw }: ListingProps<T>) {
  const t = useWords();
  const [sought, setSought] = useState("");
  const found = useMemo(() => {
    const word = sought.trim().toLowerCase();
    return word ? rows.filter((row) => text(row).toLowerCase().includes(word)) : rows;
  }, [rows, sought, text]);
  return (
    <div class="stc-listing-open">
      {rows.length > FILTER_FROM && (
        <div class="stc-filter">
          <input
            type="search"
            aria-label={t("Filter: {title}", { title })}
            placeholder={t("Filter")}
            value={sought}
            onInput={(event) => setSought(event.currentTarget.value)}
          />
          <span class="stc-number stc-faint" role="status">
            {t("{found} of {all}", { found: count(found.length), all: count(rows.length) })}
          </span>
        </div>
      )}
      <Rows rows={found} room={Math.min(rows.length * ROW_PX, BOX_PX)} label={title} draw={draw} />
    </div>
  );
}

interface RowsProps<T> {
  rows: readonly T[];
  room: number;
  label: string;
  draw: (row: T) => ComponentChildren;
}

function Rows<T>({ rows, room, label, draw }: RowsProps<T>) {
  const [top, setTop] = useState(0);
  const last = Math.min(rows.length, Math.ceil((top + room) / ROW_PX) + SPARE);
  const first = Math.max(0, Math.min(Math.floor(top / ROW_PX), last) - SPARE);
  return (
    <section
      class="stc-rows"
      aria-label={label}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: a box that scrolls is reached and scrolled by keyboard
      tabIndex={0}
      style={{ height: `${room}px` }}
      onScroll={(event) => setTop(event.currentTarget.scrollTop)}
    >
      <ul style={{ height: `${rows.length * ROW_PX}px`, paddingTop: `${first * ROW_PX}px` }}>
        {rows.slice(first, last).map((row, at) => (
          <li key={first + at} aria-setsize={rows.length} aria-posinset={first + at + 1}>
            {draw(row)}
          </li>
        ))}
      </ul>
    </section>
  );
}
