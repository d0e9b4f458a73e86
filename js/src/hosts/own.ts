/** State and listeners: what every model of our own is built on. */

import { EMPTY, type Key, type Listener, type Model, type Question, type State } from "../model";

export class Listeners {
  #of = new Map<string, Set<Listener>>();

  on(name: string, listener: Listener): void {
    const listeners = this.#of.get(name) ?? new Set();
    this.#of.set(name, listeners.add(listener));
  }

  off(name?: string | null, listener?: Listener | null): void {
    if (!name) this.#of.clear();
    else if (!listener) this.#of.delete(name);
    else this.#of.get(name)?.delete(listener);
  }

  tell(name: string, ...args: unknown[]): void {
    for (const listener of [...(this.#of.get(name) ?? [])]) listener(...args);
  }

  /** How many are left. */
  get count(): number {
    return [...this.#of.values()].reduce((sum, set) => sum + set.size, 0);
  }
}

/** A model that keeps its state here. Who answers is up to the class. */
export abstract class OwnModel implements Model {
  protected readonly listeners = new Listeners();
  #state: State;

  constructor(state: Partial<State>) {
    this.#state = { ...EMPTY, ...state };
  }

  get<K extends Key>(key: K): State[K] {
    return this.#state[key];
  }

  set<K extends Key>(key: K, value: State[K]): void {
    if (this.#state[key] === value) return;
    this.#state = { ...this.#state, [key]: value };
    this.listeners.tell(`change:${key}`);
    this.listeners.tell("change");
  }

  on(name: string, listener: Listener): void {
    this.listeners.on(name, listener);
  }

  off(name?: string | null, listener?: Listener | null): void {
    this.listeners.off(name, listener);
  }

  /** Everything at once. */
  protected get state(): State {
    return this.#state;
  }

  abstract save_changes(): void;

  abstract send(question: Question): void;
}
