/** Everything that a plan says, read-only: what leaves, where to, with what, for how much, and what its digest covers. */

import type { ComponentChildren } from "preact";
import type { PlanView } from "../../contract";
import { bytes, count, useWords } from "../../words";
import { Note } from "../atoms";
import { Copy } from "../Copy";
import { placeText, wayText } from "../destination/places";
import { useProviders } from "../providers";
import { DataSetFacts } from "./DataSetFacts";
import { option } from "./draft";
import { Listing } from "./Listing";
import { costText, mostText, rateText, timeText } from "./plan_words";

export function PlanDetails({ plan }: { plan: PlanView }) {
  const { nameOf } = useProviders();
  return <PlanFacts plan={plan} provider={nameOf(plan.provider)} />;
}

/** `provider`: what the plan's provider calls itself. */
export function PlanFacts({ plan, provider }: { plan: PlanView; provider: string }) {
  const t = useWords();
  return (
    <div class="stc-plan">
      {plan.warnings.length > 0 && (
        <Note tone="warn">
          <ul class="stc-warnings">
            {plan.warnings.map((warning) => (
              <li key={warning}>{warning}</li>
            ))}
          </ul>
        </Note>
      )}
      <Part title={plan.remote ? t("What leaves this machine") : t("What is read")}>
        <p>
          {plan.remote
            ? t("{files} files, {size}", { files: count(plan.total_files), size: bytes(t, plan.total_bytes) })
            : t("Nothing leaves this machine. {files} files, {size}, are read here.", {
                files: count(plan.total_files),
                size: bytes(t, plan.total_bytes),
              })}
        </p>
        {plan.datasets.map((dataset) => (
          <DataSetFacts key={dataset.id} dataset={dataset} remote={plan.remote} />
        ))}
      </Part>
      <Where plan={plan} name={provider} />
      <HowMuch plan={plan} />
      <Covered plan={plan} />
    </div>
  );
}

function Where({ plan, name }: { plan: PlanView; name: string }) {
  const t = useWords();
  const { target } = plan;
  return (
    <Facts title={plan.remote ? t("Where it goes") : t("Where it runs")}>
      <Fact name={t("Provider")}>{name}</Fact>
      {plan.account && <Fact name={t("Account")}>{plan.account}</Fact>}
      {plan.remote && <Fact name={t("Address")}>{plan.endpoint}</Fact>}
      <Fact name={t("What runs there")}>
        {target.label || target.id} <span class="stc-mono stc-faint">{target.version}</span>
      </Fact>
      <Fact name={t("Travels along")}>
        <Several
          none={t("No credential.")}
          items={plan.credentials.map((one) => t("{name}: {purpose}", { name: one.name, purpose: one.purpose }))}
        />
      </Fact>
      {plan.remote && (
        <Fact name={t("Stays there")}>
          <Several none={t("The provider names nothing that stays there.")} items={plan.stays} />
        </Fact>
      )}
      <Fact name={t("The model goes to")}>
        <strong>{target.delivers ? placeText(t, plan.destination) : target.label}</strong>
        {plan.destination.kind !== "home" && (
          <div>
            {wayText(t, plan.destination)} {plan.destination.checkpoints && t("Checkpoints are sent too.")}
          </div>
        )}
      </Fact>
    </Facts>
  );
}

function HowMuch({ plan }: { plan: PlanView }) {
  const t = useWords();
  const { rate, estimate, spend } = plan;
  const most = spend && mostText(t, spend);
  const base = option(plan.config, "pretrained_model_name_or_path");
  return (
    <Facts title={t("How long, how much")}>
      {base !== undefined && <Fact name={t("Base model")}>{String(base)}</Fact>}
      <Fact name={t("Steps")}>
        <span class="stc-number">{plan.steps > 0 ? count(plan.steps) : t("Not known")}</span>
      </Fact>
      <Fact name={t("Hardware")}>
        {t("{hardware}: {price}", { hardware: rate.label || rate.hardware, price: rateText(t, rate) })}
        {rate.source && <span class="stc-faint"> {t("(source: {source})", { source: rate.source })}</span>}
      </Fact>
      <Fact name={t("Price")}>
        <strong class="stc-number">{costText(t, estimate)}</strong>
      </Fact>
      {most && <Fact name={t("At most")}>{most}</Fact>}
      <Fact name={t("Time")}>
        <strong class="stc-number">{timeText(t, estimate)}</strong>
      </Fact>
      <Fact name={t("Estimated from")}>{estimate.basis}</Fact>
    </Facts>
  );
}

function Covered({ plan }: { plan: PlanView }) {
  const t = useWords();
  const sent = JSON.stringify({ config: plan.config, dataloader: plan.dataloader }, null, 2).split("\n");
  return (
    <Part title={t("Digest")}>
      <div class="stc-digest">
        <code>{plan.digest}</code>
        <Copy text={plan.digest} label={t("Copy the digest")} />
      </div>
      <p class="stc-faint">
        {t(
          "It covers provider, account, address, version, hardware, destination, configuration, the names of credentials, and the name, size and content of every file.",
        )}
      </p>
      <Listing title={t("Configuration as it is sent")} rows={sent} text={line} draw={drawLine} />
    </Part>
  );
}

const line = (text: string) => text;
const drawLine = (text: string) => <code class="stc-config">{text}</code>;

interface PartProps {
  title: string;
  children: ComponentChildren;
}

/** A part of a plan under its heading. */
export function Part({ title, children }: PartProps) {
  return (
    <section class="stc-part" aria-label={title}>
      <h3>{title}</h3>
      {children}
    </section>
  );
}

function Facts({ title, children }: PartProps) {
  return (
    <Part title={title}>
      <dl class="stc-facts">{children}</dl>
    </Part>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Several({ items, none }: { items: string[]; none: string }) {
  if (items.length === 0) return <>{none}</>;
  if (items.length === 1) return <>{items[0]}</>;
  return (
    <ul>
      {items.map((item) => (
        <li key={item}>{item}</li>
      ))}
    </ul>
  );
}
