/** Each provider as a card: its state and what it needs, and on request how it is set up, its costs, its webhooks. */

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { ProviderView } from "../../contract";
import { useAct, useAnswer, useLab, useUniqueId } from "../../hooks";
import type { Validation } from "../../setup";
import { type Translate, useWords } from "../../words";
import { Button, ErrorBanner, Note } from "../atoms";
import { Costs } from "./Costs";
import { SettingsForm } from "./SettingsForm";
import { Token } from "./Token";
import { Webhooks } from "./Webhooks";

interface ProvidersProps {
  providers: ProviderView[] | null;
  /** How one is set up was changed: it may be usable now, or not any more. */
  changed: () => void;
}

export function Providers({ providers, changed }: ProvidersProps) {
  return (
    <ul class="stc-providers">
      {(providers ?? []).map((provider) => (
        <Provider key={provider.id} provider={provider} changed={changed} />
      ))}
    </ul>
  );
}

function Provider({ provider, changed }: { provider: ProviderView; changed: () => void }) {
  const t = useWords();
  const { id, name, remote, account, coming_soon, problem, hint } = provider;
  return (
    <li>
      <div class="stc-provider-head">
        <strong>{name}</strong>
        <span class="stc-provider-state" data-state={stateOf(provider)}>
          {stateWord(t, provider)}
        </span>
      </div>
      <div class="stc-faint">{remote ? t("On a machine elsewhere") : t("Right here: nothing leaves this machine")}</div>
      {account && <div class="stc-faint">{t("Account {account}", { account })}</div>}
      {!coming_soon && problem && <div>{problem}</div>}
      {!coming_soon && hint && <div class="stc-faint">{hint}</div>}
      {!coming_soon && (
        <div class="stc-provider-more">
          {remote && <Checked provider={provider} changed={changed} />}
          <Part title={t("Set up {provider}", { provider: name })}>
            <SetUp provider={id} changed={changed} />
          </Part>
          {remote && (
            <Part title={t("Prices and costs of {provider}", { provider: name })}>
              <Costs provider={id} />
            </Part>
          )}
          {remote && (
            <Part title={t("Webhooks of {provider}", { provider: name })}>
              <Webhooks provider={id} name={name} />
            </Part>
          )}
        </div>
      )}
    </li>
  );
}

/** Opens on request; once opened it keeps what was typed. */
function Part({ title, children }: { title: string; children: ComponentChildren }) {
  const id = useUniqueId();
  const [open, setOpen] = useState(false);
  const [opened, setOpened] = useState(false);
  const turn = () => {
    setOpen(!open);
    setOpened(true);
  };
  return (
    <div>
      <button type="button" class="stc-disclose" aria-expanded={open} aria-controls={id} onClick={turn}>
        {title}
      </button>
      <div id={id} class="stc-provider-part" hidden={!open}>
        {opened && children}
      </div>
    </div>
  );
}

/** Asks the provider itself whether it can be used, and by whom. */
function Checked({ provider, changed }: { provider: ProviderView; changed: () => void }) {
  const t = useWords();
  const { desk } = useLab();
  const [found, setFound] = useState<Validation | null>(null);
  const { act, busy, error } = useAct(async () => {
    setFound(null);
    setFound(await desk.ask("validate", { provider: provider.id }));
    changed();
  });
  return (
    <>
      <div class="stc-row">
        <Button
          disabled={busy}
          aria-busy={busy}
          onClick={act}
          aria-label={t("Check {provider}", { provider: provider.name })}
        >
          {t("Check")}
        </Button>
        {provider.status_page && (
          <a class="stc-link" href={provider.status_page} target="_blank" rel="noreferrer">
            {t("Status page")}
          </a>
        )}
        <span class="stc-faint" role="status">
          {busy ? t("Asking…") : found?.valid && t("It can be used by {account}.", { account: found.user_info || "—" })}
        </span>
      </div>
      {error && <ErrorBanner error={error} />}
      {found && !found.valid && (
        <div class="stc-banner" role="alert">
          <div>
            <strong>{found.error}</strong>
            {found.hint && <div>{found.hint}</div>}
          </div>
        </div>
      )}
    </>
  );
}

function SetUp({ provider, changed }: { provider: string; changed: () => void }) {
  const t = useWords();
  const { value, error, again } = useAnswer("provider", { provider }, { about: "" });
  const both = () => {
    again();
    changed();
  };
  if (error && !value) return <ErrorBanner error={error} again={again} />;
  if (!value) return <p class="stc-faint">{t("Asking…")}</p>;
  return (
    <div class="stc-stack">
      {value.warning && <Note tone="warn">{value.warning}</Note>}
      {value.token_name && <Token config={value} changed={both} />}
      {value.fields.length > 0 && <SettingsForm config={value} saved={both} />}
    </div>
  );
}

type State = "ready" | "soon" | "problem";

function stateOf(provider: ProviderView): State {
  if (provider.coming_soon) return "soon";
  return provider.configured && !provider.problem ? "ready" : "problem";
}

function stateWord(t: Translate, provider: ProviderView): string {
  const words: Record<State, string> = { ready: t("Ready"), soon: t("Coming soon"), problem: t("Needs attention") };
  return words[stateOf(provider)];
}
