/** How the curve is to be drawn. */

import { useUniqueId } from "../../hooks";
import { useWords } from "../../words";
import { Button } from "../atoms";

/** How a person wants it drawn. */
export interface Options {
  log: boolean;
  rate: boolean;
  /** Weight of the past in the smoothed loss. */
  weight: number;
  /** The list of other runs is open. */
  comparing: boolean;
}

interface ControlsProps {
  options: Options;
  change: (change: (old: Options) => Options) => void;
}

export function Controls({ options, change }: ControlsProps) {
  const t = useWords();
  const id = useUniqueId();
  const flip = (name: "log" | "rate" | "comparing") => change((old) => ({ ...old, [name]: !old[name] }));
  const weigh = (event: { currentTarget: HTMLInputElement }) => {
    const weight = Number(event.currentTarget.value);
    change((old) => ({ ...old, weight }));
  };
  return (
    <div class="stc-loss-controls">
      <div class="stc-loss-smoothing">
        <label for={id}>{t("Smoothing")}</label>
        <input
          id={id}
          type="range"
          min={0}
          max={0.99}
          step={0.01}
          value={options.weight}
          onInput={weigh}
          onKeyDown={(event) => event.stopPropagation()}
        />
        <output for={id} class="stc-number">
          {options.weight.toFixed(2)}
        </output>
      </div>
      <Button kind="quiet" aria-pressed={options.log} onClick={() => flip("log")}>
        {t("Log scale")}
      </Button>
      <Button kind="quiet" aria-pressed={options.rate} onClick={() => flip("rate")}>
        {t("Learning rate")}
      </Button>
      <Button kind="quiet" aria-expanded={options.comparing} onClick={() => flip("comparing")}>
        {t("Compare")}
      </Button>
    </div>
  );
}
