/** What has been delivered: the model, checkpoints and pictures, each file to take; and where the model went besides. */

import { useState } from "preact/hooks";
import type { JobView, OutputsView, OutputView } from "../../contract";
import { useAct, useAnswer, useLab, useUniqueId } from "../../hooks";
import { bytes, count, moment, type Translate, useWords } from "../../words";
import { Button, ErrorBanner } from "../atoms";
import { Copy } from "../Copy";
import { byTrainer, Push, Standing, useDeliveries } from "./Delivery";
import { type Group, grouped } from "./groups";

/** Files come seldom, and asking looks at a folder. */
const GAP_MS = 3_000;
/** Of a group, before all of it is asked for. */
const SHOWN = 50;

export function Files({ job }: { job: JobView }) {
  const t = useWords();
  const asked = { job_id: job.job_id };
  const { value, error, again } = useAnswer("outputs", asked, { about: job.job_id, gap_ms: GAP_MS });
  const { deliveries, known, again: lookAgain } = useDeliveries(job);
  if (error && !value) return <ErrorBanner error={error} again={again} />;
  if (!value) return <p class="stc-job-wait stc-faint">{t("Looking for files…")}</p>;
  const away = deliveries.some(byTrainer);
  return (
    <div class="stc-stack stc-files">
      {value.outputs.length > 0 ? <Verified files={value} /> : <p class="stc-faint">{nothing(t, job, away)}</p>}
      <div class="stc-files-act">
        {value.outputs.length > 0 && (
          <Take verb="archive" args={asked} kind="primary" name="outputs.zip">
            {t("Download all ({size})", { size: bytes(t, total(value.outputs)) })}
          </Take>
        )}
        {job.status === "completed" && known && !away && (
          <Push job={job} before={deliveries.at(-1)?.destination} done={lookAgain} />
        )}
      </div>
      {deliveries.map((delivery) => (
        <Standing key={delivery.id} job={job} delivery={delivery} done={lookAgain} />
      ))}
      {value.outputs.length > 0 && <Lists files={value} />}
    </div>
  );
}

function nothing(t: Translate, job: JobView, away: boolean): string {
  if (away) return t("Nothing comes home: the trainer delivers by itself.");
  return job.is_active ? t("No file has arrived yet.") : t("No file arrived.");
}

function Verified({ files }: { files: OutputsView }) {
  const t = useWords();
  return (
    <p class="stc-job-verified" data-verified={files.verified}>
      {files.verified
        ? t("Verified: the model is whole. A ✓ marks each file that was compared with its checksum.")
        : t("Not verified yet: files are compared with their checksums when the result is complete.")}
    </p>
  );
}

function Lists({ files }: { files: OutputsView }) {
  const t = useWords();
  return (
    <>
      {grouped(files.outputs).map((group) => (
        <FileGroup key={group.folder} files={files} group={group} />
      ))}
      <dl class="stc-facts">
        <Place name={t("Folder")} text={files.folder} label={t("Copy the folder")} />
        <Place
          name={t("S3 address")}
          text={`s3://outputs/${files.job_id}/`}
          label={t("Copy the S3 address, for the lab's own endpoint")}
        />
      </dl>
    </>
  );
}

function Place({ name, text, label }: { name: string; text: string; label: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd class="stc-job-folder">
        <code>{text}</code>
        <Copy text={text} label={label} />
      </dd>
    </div>
  );
}

function FileGroup({ files, group }: { files: OutputsView; group: Group }) {
  const t = useWords();
  const id = useUniqueId();
  const [all, setAll] = useState(false);
  const rows = all ? group.files : group.files.slice(0, SHOWN);
  return (
    <section class="stc-files-group" aria-labelledby={id}>
      <h3 id={id}>
        {groupName(t, group)}{" "}
        <span class="stc-faint stc-number">
          {group.files.length === 1
            ? bytes(t, total(group.files))
            : t("{count} files, {size}", { count: count(group.files.length), size: bytes(t, total(group.files)) })}
        </span>
      </h3>
      <ul class="stc-job-files">
        {rows.map((file) => (
          <Row key={file.path} files={files} file={file} name={file.path.slice(group.folder.length)} />
        ))}
      </ul>
      {rows.length < group.files.length && (
        <div>
          <Button kind="quiet" class="stc-button stc-flush" onClick={() => setAll(true)}>
            {t("Show all {count} files", { count: count(group.files.length) })}
          </Button>
        </div>
      )}
    </section>
  );
}

function groupName(t: Translate, { kind, step, folder }: Group): string {
  if (kind === "result") return t("Model");
  if (kind === "samples") return t("Validation images");
  return step === null ? folder : t("Checkpoint at step {step}", { step: count(step) });
}

function Row({ files, file, name }: { files: OutputsView; file: OutputView; name: string }) {
  const t = useWords();
  return (
    <li>
      <span class="stc-files-name">
        <bdi>{name}</bdi>
        {file.sha256 && (
          <span class="stc-files-mark" role="img" title={file.sha256} aria-label={t("verified")}>
            ✓
          </span>
        )}
      </span>
      <span class="stc-number stc-faint" title={moment(file.modified_at)}>
        {bytes(t, file.bytes)}
      </span>
      <Copy text={`${files.folder}/${file.path}`} label={t("Copy the path of {path}", { path: file.path })} />
      <Take
        verb="picture"
        args={{ job_id: files.job_id, path: file.path }}
        kind="quiet"
        name={name}
        label={t("Download {path}", { path: file.path })}
      >
        {t("Download")}
      </Take>
    </li>
  );
}

type TakeProps = (
  | { verb: "picture"; args: { job_id: string; path: string } }
  | { verb: "archive"; args: { job_id: string } }
) & { kind: "primary" | "quiet"; name: string; label?: string; children: string };

/** Hands a file to the browser; where it cannot, says why and where the file lies. */
function Take({ verb, args, kind, name, label, children }: TakeProps) {
  const { desk } = useLab();
  const { act, busy, error } = useAct(async () => {
    const { src } = await desk.ask<typeof verb>(verb, args);
    save(src, name);
  });
  return (
    <>
      <Button kind={kind} disabled={busy} aria-label={label} onClick={() => act()}>
        {children}
      </Button>
      {error && (
        <span class="stc-job-refused" role="alert">
          {error.message} {error.hint}
        </span>
      )}
    </>
  );
}

function total(files: OutputView[]): number {
  return files.reduce((sum, file) => sum + file.bytes, 0);
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
