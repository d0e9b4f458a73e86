/** One job: how it stands, why it waits or failed, its curve, images, log, timeline, files and plan (SPEC J3, J9). */

import { useEffect, useRef, useState } from "preact/hooks";
import type { JobView } from "../../contract";
import { useWords } from "../../words";
import { Button, ErrorBanner, Note, stateWord, type Tab, Tabs } from "../atoms";
import { Clock } from "../clock";
import { Logs } from "../logs/Logs";
import { Loss } from "../loss/Loss";
import { Pictures } from "../pictures/Pictures";
import { useProviders } from "../providers";
import { Files } from "./Files";
import { Head } from "./Head";
import { PlanTab } from "./PlanTab";
import { Standing } from "./Standing";
import { Timeline } from "./Timeline";
import { Trouble } from "./Trouble";
import { useJob } from "./useJob";

interface JobPanelProps {
  job_id: string;
  back?: () => void;
}

export function JobPanel({ job_id, back }: JobPanelProps) {
  const t = useWords();
  if (!job_id) return <p class="stc-job-none">{t("No job is chosen.")}</p>;
  return (
    <Clock>
      <One key={job_id} job_id={job_id} back={back} />
    </Clock>
  );
}

function One({ job_id, back }: JobPanelProps) {
  const t = useWords();
  const { job, missing, error, again } = useJob(job_id);
  const { providers } = useProviders();
  const provider = providers.find((one) => one.id === job?.provider);
  const [deleted, setDeleted] = useState(false);
  const [tab, setTab] = useState("loss");
  const gone = deleted || missing;
  const afterDelete = () => {
    setDeleted(true);
    back?.();
  };
  return (
    <article class="stc-job" aria-label={job?.config_name ?? t("Training job")} aria-busy={!job && !error && !gone}>
      {back && (
        <div>
          <Button kind="quiet" class="stc-button stc-job-back" onClick={back}>
            {t("All jobs")}
          </Button>
        </div>
      )}
      {gone && (
        <Note tone="warn">
          <span role="status">
            {job
              ? t("This job was deleted. Below is how it was last seen.")
              : t("There is no job {id}. It may have been deleted.", { id: job_id })}
          </span>
        </Note>
      )}
      {error && <ErrorBanner error={error} again={again} />}
      {job && <Head job={job} provider={provider} gone={gone} again={again} deleted={afterDelete} />}
      {job && <Standing job={job} page={provider?.status_page ?? ""} />}
      {job && <Trouble job={job} openLog={gone ? null : () => setTab("logs")} again={again} />}
      {job && !gone && <Views job={job} tab={tab} choose={setTab} />}
      {!job && !error && !gone && <div class="stc-job-ghost" />}
      <Ending job={job} />
    </article>
  );
}

function Views({ job, tab, choose }: { job: JobView; tab: string; choose: (tab: string) => void }) {
  const t = useWords();
  const tabs: Tab[] = [
    { id: "loss", label: t("Loss"), panel: () => <Course job={job} /> },
    { id: "images", label: t("Images"), panel: () => <Pictures job={job} /> },
    { id: "logs", label: t("Logs"), panel: () => <Logs job={job} /> },
    { id: "timeline", label: t("Timeline"), panel: () => <Timeline job={job} /> },
    { id: "files", label: t("Files"), panel: () => <Files job={job} /> },
    { id: "plan", label: t("Plan and cost"), panel: () => <PlanTab job={job} /> },
  ];
  return <Tabs tabs={tabs} chosen={tab} choose={choose} label={t("Views of the job")} />;
}

const WIDE_PX = 960;

/** The curve, and beside it the images where there is room for both. */
function Course({ job }: { job: JobView }) {
  const box = useRef<HTMLDivElement>(null);
  const [wide, setWide] = useState(false);
  useEffect(() => {
    if (!box.current) return;
    const watch = new ResizeObserver(([entry]) => setWide(entry.contentRect.width >= WIDE_PX));
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  return (
    <div class="stc-job-course" ref={box} data-wide={wide || undefined}>
      <Loss job={job} />
      {wide && <Pictures job={job} />}
    </div>
  );
}

/** Says once that the run has ended, if it ended while somebody was here. */
function Ending({ job }: { job: JobView | null }) {
  const t = useWords();
  const was = useRef<boolean | null>(null);
  const [said, setSaid] = useState("");
  const ended = job?.is_terminal ?? null;
  useEffect(() => {
    if (was.current === false && ended && job) {
      setSaid(t("{name} has ended: {state}", { name: job.config_name, state: stateWord(t, job.status) }));
    }
    was.current = ended;
  }, [ended, job, t]);
  return (
    <span class="stc-hidden" role="status">
      {said}
    </span>
  );
}
