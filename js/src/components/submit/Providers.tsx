/** Where it runs: cards drawn from what the providers say of themselves. */

import { useContext } from "preact/hooks";
import type { ProviderView, Rate, SubmitRequest, Target } from "../../contract";
import { useUniqueId } from "../../hooks";
import { bytes, duration, type Translate, useWords } from "../../words";
import { selectable } from "./draft";
import { Card, Choice, Problems, Section } from "./fields";
import { rateText } from "./plan_words";
import { wrongAt } from "./problems";

interface ProvidersProps {
  draft: SubmitRequest;
  providers: ProviderView[] | null;
  chosen: ProviderView | undefined;
  change: (part: Partial<SubmitRequest>) => void;
}

export function Providers({ draft, providers, chosen, change }: ProvidersProps) {
  const t = useWords();
  const { problems, mend } = useContext(Problems);
  const group = useUniqueId();
  const choose = (provider: string) => {
    mend("provider");
    change({ provider, target: "", hardware_profile: "" });
  };
  const missing = providers && draft.provider && !chosen;
  const wrong = missing
    ? t("No provider {name} is installed.", { name: draft.provider })
    : wrongAt(problems, "provider");
  return (
    <Section title={t("Where it runs")}>
      <div class="stc-cards" aria-busy={providers === null}>
        {providers?.map((provider) => (
          <Card
            key={provider.id}
            group={group}
            name={provider.name}
            tag={provider.coming_soon && t("Coming soon")}
            place="provider"
            checked={provider.id === chosen?.id}
            disabled={!selectable(provider)}
            choose={() => choose(provider.id)}
          >
            {provider.coming_soon ? t("Announced, not open yet.") : <Facts provider={provider} />}
          </Card>
        ))}
      </div>
      {wrong && <p class="stc-wrong">{wrong}</p>}
      {chosen && <Machine draft={draft} provider={chosen} change={change} />}
    </Section>
  );
}

function Facts({ provider }: { provider: ProviderView }) {
  const t = useWords();
  const [rate] = provider.hardware;
  if (!provider.configured) {
    return (
      <>
        <span class="stc-wrong">{provider.problem || t("This provider is not set up.")}</span>
        {provider.hint && <span>{provider.hint}</span>}
      </>
    );
  }
  return (
    <>
      <span>
        {provider.remote ? t("Elsewhere: your files are sent there") : t("Here: nothing leaves this machine")}
      </span>
      <span class="stc-number">{priceText(t, rate)}</span>
      {provider.account && <span>{t("Account {account}", { account: provider.account })}</span>}
      {provider.max_upload_bytes !== null && (
        <span>{t("Takes up to {size}", { size: bytes(t, provider.max_upload_bytes) })}</span>
      )}
    </>
  );
}

function priceText(t: Translate, rate: Rate | undefined): string {
  if (!rate || rate.usd_per_hour === null) return t("Price not known");
  return rate.usd_per_hour === 0 ? t("Costs nothing") : rateText(t, rate);
}

/** What to choose at the provider, where there is a choice or a price to see. */
function Machine({
  draft,
  provider,
  change,
}: { draft: SubmitRequest; provider: ProviderView } & Pick<ProvidersProps, "change">) {
  const t = useWords();
  const { targets, hardware } = provider;
  const rate = hardware.find((one) => one.hardware === draft.hardware_profile) ?? hardware[0];
  const target = targets.find((one) => one.id === draft.target) ?? targets[0];
  const priced = hardware.some((rate) => rate.usd_per_hour);
  if (targets.length < 2 && hardware.length < 2 && !priced) return null;
  return (
    <>
      <div class="stc-grid">
        {targets.length > 1 && (
          <Choice
            label={t("What runs there")}
            place="target"
            value={draft.target || targets[0].id}
            change={(target) => change({ target })}
            options={targets.map((target) => [target.id, `${target.label} ${target.version.slice(0, 12)}`.trim()])}
          />
        )}
        {(hardware.length > 1 || priced) && (
          <Choice
            label={t("Hardware")}
            place="hardware"
            value={draft.hardware_profile || hardware[0].hardware}
            hint={rate?.as_of && t("Price as of {date}", { date: rate.as_of })}
            change={(hardware_profile) => change({ hardware_profile })}
            options={hardware.map((rate) => [
              rate.hardware,
              t("{hardware}: {price}", {
                hardware: rate.label || rate.hardware,
                price: rateText(t, { ...rate, as_of: "" }),
              }),
            ])}
          />
        )}
      </div>
      {target && <Limits target={target} limit_s={provider.run_limit_s} />}
    </>
  );
}

/** What the chosen target does otherwise, and what becomes of a job that one run cannot finish. */
function Limits({ target, limit_s }: { target: Target; limit_s: number | null }) {
  const t = useWords();
  const time = duration(t, limit_s);
  return (
    <ul class="stc-lacking">
      {limit_s !== null && (
        <li>
          {target.resume
            ? t("A run ends after {time}: a longer job goes on in the next one.", { time })
            : t("A run ends after {time}: a longer job is not taken.", { time })}
        </li>
      )}
      {target.lacks.map((lack) => (
        <li key={lack}>{lack}</li>
      ))}
    </ul>
  );
}
