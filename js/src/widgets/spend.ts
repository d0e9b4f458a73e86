/** `simpletuner_lab/static/spend.js`: what was spent, and the limits of it. */

import { Spend } from "../components/spend/Spend";
import { SPENDING } from "../hosts/spending";
import { widgetOf } from "./anywidget";

export default widgetOf(Spend, SPENDING);
