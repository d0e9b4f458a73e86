/** JupyterLab's own server connection, as the model's place of questions and news. */

import { URLExt } from "@jupyterlab/coreutils";
import { ServerConnection, type ServiceManager } from "@jupyterlab/services";
import type { Events } from "../hosts/follower";
import type { Place } from "../hosts/server";
import { SETUP } from "../hosts/setup";
import { SPENDING } from "../hosts/spending";

export function labPlace(services: ServiceManager.IManager): Place {
  const settings = services.serverSettings;
  const urlOf = (path: string) => URLExt.join(settings.baseUrl, "api/cloud") + path;
  return {
    urlOf,
    request: (path, init) => ServerConnection.makeRequest(urlOf(path), init, settings),
    events: streamEvents(services.events.stream),
    entry: "panel",
    more: { ...SETUP, ...SPENDING },
  };
}

interface Stream {
  connect(slot: (sender: unknown, event: unknown) => void): boolean;
  disconnect(slot: (sender: unknown, event: unknown) => void): boolean;
}

/** The one socket that JupyterLab holds. It does not tell when it drops: the follower notices by its own looks. */
function streamEvents(stream: Stream): Events {
  return {
    connect(heard, state) {
      const slot = (_: unknown, event: unknown) => heard(event);
      stream.connect(slot);
      state(true);
      return () => stream.disconnect(slot);
    },
  };
}
