/** `simpletuner_lab/static/jobs.js`: a job, and the list of jobs. */

import { Jobs } from "../components/Jobs";
import { widgetOf } from "./anywidget";

export default widgetOf(Jobs);
