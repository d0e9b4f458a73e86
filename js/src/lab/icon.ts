import { LabIcon } from "@jupyterlab/ui-components";

/** A loss that falls, on its two axes. */
const FALLING_LOSS = `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 16 16">
  <g fill="none" stroke-linecap="round" stroke-linejoin="round">
    <path class="jp-icon3" stroke="#616161" stroke-width="1.3" d="M2 1.8v12.4h12.2"/>
    <path class="jp-icon3" stroke="#616161" stroke-width="1.6" d="M4.6 3.4C5.4 8.6 7 10.9 13.4 11.3"/>
  </g>
</svg>`;

export const labIcon = new LabIcon({ name: "simpletuner-lab:icon", svgstr: FALLING_LOSS });
