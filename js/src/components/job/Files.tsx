/** What has been delivered: each file with its size, and the folder they lie in. */

import { useState } from "preact/hooks";
import type { JobView, OutputsView, OutputView } from "../../contract";
import { useAct, useAnswer, useLab } from "../../hooks";
import { bytes, count, moment, type Translate, useWords } from "../../words";
import { Button, ErrorBanner } from "../atoms";
import { Copy } from "../Copy";

/** Files come seldom, and asking looks at a folder. */
const GAP_MS = 3_000;
const SHOWN = 200;

export function Files({ job }: { job: JobView }) {
  const t = useWords();
  const asked = { job_id: job.job_id };
  const { value, error, again } = useAnswer("outputs", asked, { about: job.job_id, gap_ms: GAP_MS });
  if (error && !value) return <ErrorBanner error={error} again={again} />;
  if (!value) return <p class="stc-job-wait stc-faint">{t("Looking for files…")}</p>;
  if (value.outputs.length === 0) {
    return <p class="stc-job-wait stc-faint">{nothing(t, job)}</p>;
  }
  return <Delivered files={value} />;
}

function nothing(t: Translate, job: JobView): string {
  return job.is_active ? t("No file has arrived yet.") : t("No file arrived.");
}

function Delivered({ files }: { files: OutputsView }) {
  const t = useWords();
  const [all, setAll] = useState(false);
  const rows = all ? files.outputs : files.outputs.slice(0, SHOWN);
  return (
    <div class="stc-stack">
      <p class="stc-job-verified" data-verified={files.verified}>
        {files.verified
          ? t("Verified: every file was compared with its checksum.")
          : t("Not verified yet: files are compared with their checksums when the result is complete.")}
      </p>
      <div class="stc-job-folder">
        <code>{files.folder}</code>
        <Copy text={files.folder} label={t("Copy the folder")} />
      </div>
      <ul class="stc-job-files" aria-label={t("Files")}>
        {rows.map((file) => (
          <Row key={file.path} job_id={files.job_id} file={file} />
        ))}
      </ul>
      {rows.length < files.outputs.length && (
        <div>
          <Button onClick={() => setAll(true)}>
            {t("Show all {count} files", { count: count(files.outputs.length) })}
          </Button>
        </div>
      )}
    </div>
  );
}

function Row({ job_id, file }: { job_id: string; file: OutputView }) {
  const t = useWords();
  const { desk } = useLab();
  const { act, busy, error } = useAct(async () => {
    const { src } = await desk.ask("picture", { job_id, path: file.path });
    save(src, file.path);
  });
  return (
    <li>
      <code>{file.path}</code>
      <span class="stc-number" title={moment(file.modified_at)}>
        {bytes(t, file.bytes)}
      </span>
      <Button kind="quiet" disabled={busy} aria-label={t("Download {path}", { path: file.path })} onClick={() => act()}>
        {t("Download")}
      </Button>
      {error && (
        <span class="stc-job-refused" role="alert">
          {error.message}
        </span>
      )}
    </li>
  );
}

const SAFE = ["http:", "https:", "data:", "blob:"];

/** Hands an address to the browser as a download; one of another kind, such as `javascript:`, is not followed. */
function save(src: string, path: string): void {
  const url = new URL(src, document.baseURI);
  if (!SAFE.includes(url.protocol)) throw new Error("the address of this file is not one that can be downloaded");
  const link = document.createElement("a");
  link.href = url.href;
  link.download = path.split("/").at(-1) ?? "";
  link.click();
}
