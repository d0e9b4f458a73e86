/** Routes of what is spent: for the side panel and the widget that show it. */

import { get, type OfSpending, type Routes } from "./routes";

export const SPENDING: Routes<OfSpending> = {
  spend: ({ days }) => get(`/spend?days=${days}`),
  limits: () => get("/cost-limit"),
  set_limits: ({ changes }) => ({ method: "PUT", path: "/cost-limit", body: changes }),
};
