/** Draws a view of a model into an element; the same for every host. */

import { type ComponentType, render } from "preact";
import { Desk } from "./ask";
import { Connected } from "./components/Connected";
import { Lab } from "./hooks";
import type { Model } from "./model";

/** Returns what takes everything down again. */
export function mount(model: Model, element: HTMLElement, View: ComponentType): () => void {
  const desk = new Desk(model);
  element.classList.add("stc");
  element.addEventListener("focusin", keepKeys);
  render(
    <Lab.Provider value={{ model, desk }}>
      <Connected>
        <View />
      </Connected>
    </Lab.Provider>,
    element,
  );
  return () => {
    element.removeEventListener("focusin", keepKeys);
    render(null, element);
    desk.close();
  };
}

/**
 * JupyterLab takes keys before they come here (it listens on the document, capturing): an arrow would move to another
 * cell rather than to the next tab, and two of the letter d delete the cell. This attribute, on the element with the
 * focus itself, tells it not to. Text fields need none, it knows them; buttons use no key that it takes.
 */
function keepKeys({ target }: FocusEvent): void {
  const element = target as HTMLElement;
  if (element.matches(USES_KEYS)) element.setAttribute("data-lm-suppress-shortcuts", "true");
}

const USES_KEYS = ":is(input, select, [tabindex]):not(:read-write)";
