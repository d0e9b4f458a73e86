/** The side panel: a Lumino widget around the same components that a cell has. */

import type { Message } from "@lumino/messaging";
import { Widget } from "@lumino/widgets";
import { mount } from "../app";
import { Panel } from "../components/Panel";
import type { ServerModel } from "../hosts/server";
import { labIcon } from "./icon";

export const PANEL_ID = "simpletuner-lab-panel";

export interface PanelWords {
  title: string;
}

/** Draws when it is first shown, and hears no news while nobody sees it. */
export class CloudPanel extends Widget {
  readonly model: ServerModel;
  #unmount: (() => void) | null = null;

  constructor(model: ServerModel, { title }: PanelWords) {
    super();
    this.model = model;
    this.id = PANEL_ID;
    this.title.icon = labIcon;
    this.title.caption = title;
    this.addClass("stc-panel");
    this.node.setAttribute("role", "region");
    this.node.setAttribute("aria-label", title);
    model.rest(true);
  }

  override dispose(): void {
    if (this.isDisposed) return;
    this.#unmount?.();
    this.model.dispose();
    super.dispose();
  }

  protected override onAfterAttach(_: Message): void {
    this.#shown();
  }

  protected override onAfterShow(_: Message): void {
    this.#shown();
  }

  protected override onAfterHide(_: Message): void {
    this.model.rest(true);
  }

  /** Focus goes into the panel, so that the keyboard can go on from there. */
  protected override onActivateRequest(_: Message): void {
    const first = this.node.querySelector<HTMLElement>('[role="tab"][aria-selected="true"]');
    (first ?? this.node).focus();
  }

  #shown(): void {
    if (!this.isVisible) return;
    this.model.rest(false);
    if (this.#unmount) return;
    const ground = this.node.appendChild(document.createElement("div"));
    this.#unmount = mount(this.model, ground, Panel);
  }
}
