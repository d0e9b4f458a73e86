/** The lab behind a notebook server: questions by REST, news by its event bus. No kernel takes part. */

import { NO_ANSWER } from "../ask";
import type { Connection, News, Question, State } from "../model";
import type { Takes } from "../verbs";
import { type Events, Follower, type Seen } from "./follower";
import { Line, type Reply, type Request } from "./line";
import { OwnModel } from "./own";
import { ADDRESSES, type Addressed, type Call, type Entry, part, ROUTES, type Routed } from "./routes";

export interface Place {
  /** Fetches a path below `api/cloud`. */
  request: Request;
  /** The address of such a path, for an `<img>`. */
  urlOf: (path: string) => string;
  events: Events;
  entry: Entry;
  /** Routes beside those that every host has. */
  more?: object;
}

export interface Heard {
  connection: (connection: Connection) => void;
  news: (news: News) => void;
  /** A job has ended for good. May be told twice. */
  ended?: (job_id: string) => void;
}

type Asked = Record<string, (args: unknown, entry: Entry) => Call>;

const RESENDS = 2;
/** Less than an asker waits: a submit is never sent after its asker was told that there was no answer. */
const RESEND_WITHIN_MS = 50_000;
const AT_A_LOOK = 200;
const FINAL = new Set<unknown>(["completed", "failed", "cancelled"]);

/** One server: who asks and who listens share it. */
export class Server {
  #place: Place;
  #line: Line;
  #follower: Follower;
  #routes: Asked;

  constructor(place: Place, heard: Heard) {
    this.#place = place;
    this.#routes = { ...ROUTES, ...place.more } as Asked;
    this.#line = new Line(place.request, (connection) => {
      heard.connection(connection);
      if (connection === "live") this.#follower.catchUp();
    });
    this.#follower = new Follower({
      events: place.events,
      look: (after) => this.#look(after),
      tell: heard.news,
      ended: (job_id) => heard.ended?.(job_id),
    });
  }

  async answer(verb: string, args: unknown): Promise<Reply> {
    if (verb in ADDRESSES) {
      const path = ADDRESSES[verb as Addressed] as (args: unknown) => string;
      return { value: { src: this.#place.urlOf(path(args)) } };
    }
    if (!(verb in this.#routes))
      return { error: { ...NO_ANSWER, code: "not_found", detail: `there is no verb ${verb}` } };
    return verb === "submit" ? this.#submit(args as Takes<"submit">) : this.#ask(verb as Routed, args);
  }

  dispose(): void {
    this.#follower.dispose();
    this.#line.dispose();
  }

  async #ask(verb: Routed, args: unknown): Promise<Reply> {
    const call = this.#routes[verb](args, this.#place.entry);
    const reply = await this.#line.call(call);
    return "value" in reply ? { value: part(call, reply.value) } : reply;
  }

  /** A submit whose answer was lost is sent again under the same key, which makes it the same job. */
  async #submit(args: Takes<"submit">): Promise<Reply> {
    const until = Date.now() + RESEND_WITHIN_MS;
    for (let sent = 0; ; sent++) {
      const reply = await this.#ask("submit", args);
      if ("value" in reply || reply.error !== NO_ANSWER || sent === RESENDS || !args.key) return reply;
      if (!(await this.#line.back(until - Date.now()))) return reply;
    }
  }

  async #look(after: number | null): Promise<Seen | null> {
    const path = after === null ? "/events?after=0&limit=1" : `/events?after=${after}&limit=${AT_A_LOOK}`;
    const reply = await this.#line.call({ method: "GET", path, patience_ms: 8_000 });
    if ("error" in reply) return null;
    const { seq, events } = reply.value as { seq: number; events: { job_id: string; data: { to?: unknown } }[] };
    const ended = after === null ? [] : events.filter((event) => FINAL.has(event.data.to));
    return { seq, ended: ended.map((event) => event.job_id) };
  }
}

export interface ServerModelOptions extends Place {
  state?: Partial<State>;
  /** Called with the state that is worth keeping, whenever it was saved. */
  save?: (state: State) => void;
  ended?: (job_id: string) => void;
}

/** A page's model of its own: the side panel's. */
export class ServerModel extends OwnModel {
  #server: Server;
  #save: (state: State) => void;
  #resting = false;
  #missed = false;

  constructor({ state = {}, save = () => undefined, ended, ...place }: ServerModelOptions) {
    super(state);
    this.#save = save;
    this.#server = new Server(place, {
      connection: (connection) => this.set("connection", connection),
      news: (news) => this.#tell(news),
      ...(ended && { ended }),
    });
  }

  save_changes(): void {
    this.#save(this.state);
  }

  send({ id, verb, args }: Question): void {
    void this.#server.answer(verb, args).then((reply) => this.listeners.tell("msg:custom", { id, ...reply }));
  }

  /** While nobody looks, news are not passed on; afterwards all that came are one. */
  rest(resting: boolean): void {
    this.#resting = resting;
    if (resting || !this.#missed) return;
    this.#missed = false;
    this.#tell({ job_id: null, version: 0 });
  }

  dispose(): void {
    this.#server.dispose();
    this.listeners.off();
  }

  #tell(news: News): void {
    if (this.#resting) this.#missed = true;
    else this.listeners.tell("msg:custom", { news });
  }
}
