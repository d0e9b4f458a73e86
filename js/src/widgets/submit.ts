/** `simpletuner_lab/static/submit.js`: form, plan, and the job it becomes. */

import { Submit } from "../components/submit/Submit";
import { widgetOf } from "./anywidget";

export default widgetOf(Submit);
