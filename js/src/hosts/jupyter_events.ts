/**
 * Jupyter's event bus by a WebSocket of our own, for cells: a widget cannot reach JupyterLab's. All widgets of a page
 * share one socket, also those of other copies of this bundle, through a registry on the page.
 */

import type { Events } from "./follower";

const REGISTRY = Symbol.for("simpletuner-lab.events/1");
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;

interface Listener {
  heard: (event: unknown) => void;
  state: (open: boolean) => void;
}

/** Events of a server; `url` is that of `api/events/subscribe`. The login is the page's cookie. */
export function jupyterEvents(url: string): Events {
  return {
    connect(heard, state) {
      const sockets = registry();
      const shared = sockets.get(url) ?? new SharedSocket(url);
      sockets.set(url, shared);
      const listener = { heard, state };
      shared.add(listener);
      return () => {
        if (shared.remove(listener) === 0 && sockets.get(url) === shared) sockets.delete(url);
      };
    },
  };
}

function registry(): Map<string, SharedSocket> {
  const page = globalThis as { [REGISTRY]?: Map<string, SharedSocket> };
  page[REGISTRY] ??= new Map();
  return page[REGISTRY];
}

class SharedSocket {
  #url: string;
  #listeners = new Set<Listener>();
  #socket: WebSocket | null = null;
  #open = false;
  #wait_ms = FIRST_WAIT_MS;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(url: string) {
    this.#url = url;
  }

  add(listener: Listener): void {
    this.#listeners.add(listener);
    if (!this.#socket && this.#timer === undefined) this.#connect();
    if (this.#open) listener.state(true);
  }

  /** Closes with the last listener; returns how many are left. */
  remove(listener: Listener): number {
    this.#listeners.delete(listener);
    if (!this.#listeners.size) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      const socket = this.#socket;
      this.#socket = null;
      socket?.close();
    }
    return this.#listeners.size;
  }

  #connect(): void {
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.onopen = () => {
      if (socket !== this.#socket) return;
      this.#wait_ms = FIRST_WAIT_MS;
      this.#tell(true);
    };
    socket.onmessage = ({ data }) => {
      const event = parsed(data);
      for (const listener of [...this.#listeners]) listener.heard(event);
    };
    socket.onclose = () => {
      if (socket !== this.#socket) return;
      this.#socket = null;
      if (this.#open) this.#tell(false);
      this.#timer = setTimeout(() => {
        this.#timer = undefined;
        this.#connect();
      }, this.#wait_ms);
      this.#wait_ms = Math.min(LONGEST_WAIT_MS, this.#wait_ms * 2);
    };
  }

  #tell(open: boolean): void {
    this.#open = open;
    for (const listener of [...this.#listeners]) listener.state(open);
  }
}

function parsed(data: unknown): unknown {
  try {
    return JSON.parse(String(data));
  } catch {
    return null;
  }
}
