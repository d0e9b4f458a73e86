/** What a bundle exports: a view in a cell, over anywidget's model. Each bundle has only what its widgets show: `more` are its routes. */

import type { ComponentType } from "preact";
import { mount } from "../app";
import { cellModel, type Widget } from "../hosts/cell";
import { pageServer } from "../hosts/page";

export function widgetOf(
  View: ComponentType,
  more?: object,
): { render: (cell: { model: Widget; el: HTMLElement }) => () => void } {
  return {
    render({ model, el }) {
      const page = pageServer();
      const cell = cellModel(model, page && { ...page, more });
      const unmount = mount(cell, el, View);
      return () => {
        unmount();
        cell.dispose();
      };
    },
  };
}
