/**
 * News of a server: from Jupyter's event bus, and by a look at what was written. Events are not replayed, so there is
 * a look after each (re)connection, every 15 s beside an open socket, and every 2 s where there is none.
 */

import type { News } from "../model";

export const JOB_EVENT = "https://events.simpletuner.example/lab/job";

/** Jupyter's event bus, however one is connected to it. Returns what disconnects. */
export interface Events {
  connect(heard: (event: unknown) => void, state: (open: boolean) => void): () => void;
}

/** What a look finds: the number of the last write on any job, and jobs that have ended since the number given. */
export interface Seen {
  seq: number;
  ended: string[];
}

export interface FollowerRooms {
  events: Events;
  /** Null: no answer. */
  look: (after: number | null) => Promise<Seen | null>;
  tell: (news: News) => void;
  ended: (job_id: string) => void;
}

const MERGE_MS = 100;
const BESIDE_SOCKET_MS = 15_000;
const WITHOUT_SOCKET_MS = 2_000;
const HIDDEN_MS = 10_000;

export class Follower {
  #rooms: FollowerRooms;
  #disconnect: () => void;
  #open = false;
  /** The socket is open, but let a write pass by: until it is heard again it counts as closed. */
  #deaf = false;
  /** Since the last look. */
  #heard = false;
  #seq: number | null = null;
  #looking = false;
  #disposed = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #merging: ReturnType<typeof setTimeout> | undefined;
  #merged = new Map<string | null, News>();

  constructor(rooms: FollowerRooms) {
    this.#rooms = rooms;
    this.#disconnect = rooms.events.connect(this.#hear, this.#turn);
    document.addEventListener("visibilitychange", this.#shown);
    if (!this.#open) this.catchUp();
  }

  /** Everything may have changed: says so, and looks how far the lab is. */
  catchUp(): void {
    this.#pass({ job_id: null, version: 0 });
    void this.#look();
  }

  dispose(): void {
    this.#disposed = true;
    this.#disconnect();
    document.removeEventListener("visibilitychange", this.#shown);
    clearTimeout(this.#timer);
    clearTimeout(this.#merging);
  }

  #hear = (event: unknown): void => {
    const news = jobNews(event);
    if (!news || this.#disposed) return;
    this.#heard = true;
    this.#deaf = false;
    this.#pass({ job_id: news.job_id, version: news.version });
    if (news.ended) this.#rooms.ended(news.job_id);
  };

  #turn = (open: boolean): void => {
    if (this.#disposed) return;
    this.#open = open;
    this.#deaf = false;
    this.#heard = true; // what was written before it opened says nothing about it
    if (open) this.catchUp();
    else this.#lookLater();
  };

  #shown = (): void => {
    if (!document.hidden) void this.#look();
  };

  async #look(): Promise<void> {
    if (this.#looking || this.#disposed) return;
    clearTimeout(this.#timer);
    this.#looking = true;
    const seen = await this.#rooms.look(this.#seq);
    this.#looking = false;
    if (this.#disposed) return;
    if (seen) this.#found(seen);
    this.#lookLater();
  }

  #found({ seq, ended }: Seen): void {
    const known = this.#seq;
    const heard = this.#heard;
    this.#seq = seq;
    this.#heard = false;
    if (known === null || known === seq) return;
    this.#deaf = this.#open && !heard;
    this.#pass({ job_id: null, version: 0 });
    for (const job_id of ended) this.#rooms.ended(job_id);
  }

  #lookLater(): void {
    if (this.#looking) return;
    clearTimeout(this.#timer);
    const hears = this.#open && !this.#deaf;
    const wait = hears ? BESIDE_SOCKET_MS : document.hidden ? HIDDEN_MS : WITHOUT_SOCKET_MS;
    this.#timer = setTimeout(() => void this.#look(), wait);
  }

  /** The first at once, then what comes meanwhile together. */
  #pass(news: News): void {
    this.#merged.set(news.job_id, news);
    if (this.#merging === undefined) this.#flush();
  }

  #flush(): void {
    const merged = [...this.#merged.values()];
    this.#merged.clear();
    this.#merging = merged.length
      ? setTimeout(() => {
          this.#merging = undefined;
          if (this.#merged.size) this.#flush();
        }, MERGE_MS)
      : undefined;
    for (const news of merged) this.#rooms.tell(news);
  }
}

/** What an event says about a job; null for an event of somebody else's, or one that says nothing. */
function jobNews(event: unknown): { job_id: string; version: number; ended: boolean } | null {
  if (typeof event !== "object" || event === null) return null;
  const { schema_id, job_id, version, status, is_terminal } = event as Record<string, unknown>;
  if (schema_id !== JOB_EVENT || typeof job_id !== "string" || typeof version !== "number") return null;
  return { job_id, version, ended: is_terminal === true && status !== "deleted" };
}
