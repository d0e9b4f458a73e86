/** The way to the other pages, and how long a page is. */

import { count, useWords } from "../../words";
import { Button } from "../atoms";
import { type Query, SIZES } from "./query";

interface PagerProps {
  query: Query;
  total: number;
  change: (part: Partial<Query>) => void;
}

export function Pager({ query, total, change }: PagerProps) {
  const t = useWords();
  const pages = Math.max(1, Math.ceil(total / query.size));
  return (
    <nav class="stc-jobs-pager" aria-label={t("Pages")}>
      <Button disabled={query.page === 0} onClick={() => change({ page: query.page - 1 })}>
        {t("Previous")}
      </Button>
      <span class="stc-number">{t("{page} of {pages}", { page: count(query.page + 1), pages: count(pages) })}</span>
      <Button disabled={query.page + 1 >= pages} onClick={() => change({ page: query.page + 1 })}>
        {t("Next")}
      </Button>
      <label class="stc-jobs-size">
        <span>{t("Rows")}</span>
        <select
          aria-label={t("Rows")}
          value={String(query.size)}
          onChange={(event) => change({ size: Number(event.currentTarget.value), page: 0 })}
        >
          {SIZES.map((size) => (
            <option key={size} value={String(size)}>
              {size}
            </option>
          ))}
        </select>
      </label>
    </nav>
  );
}
