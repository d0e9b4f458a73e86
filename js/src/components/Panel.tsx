/** The side panel: jobs, a new job, what it costs, settings. What it shows is in the model, so that a host can keep it over a reload. */

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { useKey, useLab } from "../hooks";
import type { PanelTab } from "../model";
import { openTab, submitted } from "../panel";
import { useWords } from "../words";
import { type Tab, Tabs } from "./atoms";
import { Jobs } from "./Jobs";
import { Settings } from "./settings/Settings";
import { Spend } from "./spend/Spend";
import { Way } from "./submit/Submit";

export function Panel() {
  const t = useWords();
  const { model } = useLab();
  const [tab] = useKey("tab");
  const [, setJob] = useKey("job_id");
  const { ground, forms } = useShownAfterSubmit();
  const tabs: Tab[] = [
    { id: "jobs", label: t("Jobs"), panel: () => <Jobs /> },
    { id: "new", label: t("New job"), panel: () => <Way key={forms} again={false} submitted={setJob} />, keep: true },
    { id: "spend", label: t("Spend"), panel: () => <Spend /> },
    { id: "settings", label: t("Settings"), panel: () => <Settings /> },
  ];
  return (
    <div ref={ground}>
      <Tabs label={t("Cloud training")} tabs={tabs} chosen={tab} choose={(id) => openTab(model, id as PanelTab)} />
    </div>
  );
}

/** A form that became a job gives way to that job; the keyboard goes on from the tab that is then chosen. */
function useShownAfterSubmit() {
  const { model } = useLab();
  const [job_id] = useKey("job_id");
  const [tab] = useKey("tab");
  const ground = useRef<HTMLDivElement>(null);
  const moved = useRef(false);
  const [forms, setForms] = useState(0);
  useLayoutEffect(() => {
    if (tab !== "new" || !job_id) return;
    moved.current = true;
    submitted(model);
    setForms((old) => old + 1);
  }, [model, tab, job_id]);
  useEffect(() => {
    if (!moved.current || tab !== "jobs") return;
    moved.current = false;
    ground.current?.querySelector<HTMLElement>('[role="tab"][aria-selected="true"]')?.focus();
  }, [tab]);
  return { ground, forms };
}
