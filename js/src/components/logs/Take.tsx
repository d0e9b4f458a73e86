/** Taking away what is held of a log. */

import { useState } from "preact/hooks";
import { useWords } from "../../words";
import { Button } from "../atoms";
import type { LogBook } from "./book";
import { isReport } from "./rows";

interface TakeProps {
  book: LogBook;
  reports: boolean;
  /** Name of the file, without its ending. */
  name: string;
}

export function Take({ book, reports, name }: TakeProps) {
  const t = useWords();
  const [copied, setCopied] = useState<"" | "done" | "refused">("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(textOf(book, reports));
      setCopied("done");
    } catch {
      setCopied("refused");
    }
    setTimeout(() => setCopied(""), 2000);
  };
  const save = () => {
    const url = URL.createObjectURL(new Blob([textOf(book, reports)], { type: "text/plain" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = `${name}.log`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  };
  const words = { "": t("Copy"), done: t("Copied"), refused: t("Copying is not allowed here") };
  return (
    <>
      <Button kind="quiet" onClick={copy}>
        {words[copied]}
      </Button>
      <Button kind="quiet" onClick={save}>
        {t("Download")}
      </Button>
    </>
  );
}

export function textOf(book: LogBook, reports: boolean): string {
  const texts = book.blocks.map(({ lines }) =>
    (reports ? lines : lines.filter((line) => !isReport(line))).map((line) => `${line}\n`).join(""),
  );
  return texts.join("");
}
