/** Routes of what the side panel alone asks: how providers are set up, how models come home. */

import { type Call, get, LONG_MS, type OfThePanel, type Routes } from "./routes";

export const SETUP: Routes<OfThePanel> = {
  receiving: () => get("/local-upload/config"),
  test_receiving: () => ({ method: "POST", path: "/local-upload/test", part: "steps", patience_ms: LONG_MS }),
  provider: ({ provider }) => get(at(provider)),
  set_provider: ({ provider, config }) => ({ method: "PUT", path: at(provider), body: config }),
  set_token: ({ provider, token }) => ({ method: "PUT", path: `${at(provider)}/token`, body: { api_token: token } }),
  delete_token: ({ provider }) => ({ method: "DELETE", path: `${at(provider)}/token` }),
  validate: ({ provider }) => asked(`${at(provider)}/validate`),
  billing: ({ provider }) => asked(`${at(provider)}/billing`),
  test_webhook: ({ provider, mode }) => ({
    method: "POST",
    path: `${at(provider)}/test-webhook`,
    body: { mode },
    patience_ms: LONG_MS,
  }),
};

/** The provider is asked in its turn, which may take as long as its timeout. */
function asked(path: string): Call {
  return { ...get(path), patience_ms: LONG_MS };
}

function at(provider: string): string {
  return `/providers/${encodeURIComponent(provider)}`;
}
