/** The words of every language as JupyterLab hands them to the page. */

import es from "../../simpletuner_lab/locale/es_ES/LC_MESSAGES/simpletuner_lab.json";
import ja from "../../simpletuner_lab/locale/ja_JP/LC_MESSAGES/simpletuner_lab.json";
import pt from "../../simpletuner_lab/locale/pt_BR/LC_MESSAGES/simpletuner_lab.json";
import zh from "../../simpletuner_lab/locale/zh_CN/LC_MESSAGES/simpletuner_lab.json";

export const CATALOGUES = [es, ja, pt, zh].map(({ "": _about, ...words }) =>
  Object.fromEntries(Object.entries(words).map(([english, forms]) => [english, forms[0]])),
);
