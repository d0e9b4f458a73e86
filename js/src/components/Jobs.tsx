/** The list of jobs, or the one that was chosen in it; where the model's view is a job, that one alone. */

import { useKey } from "../hooks";
import { JobPanel } from "./job/JobPanel";
import { JobList } from "./jobs/JobList";

export function Jobs() {
  const [view] = useKey("view");
  const [job_id, choose] = useKey("job_id");
  if (view === "job") return <JobPanel job_id={job_id} />;
  return job_id ? <JobPanel job_id={job_id} back={() => choose("")} /> : <JobList choose={choose} />;
}
