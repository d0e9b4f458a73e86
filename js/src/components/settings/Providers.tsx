import type { ProviderView } from "../../contract";
import { type Translate, useWords } from "../../words";

/** Each provider with its state, and what to do where it cannot be used. */
export function Providers({ providers }: { providers: ProviderView[] | null }) {
  return (
    <ul class="stc-providers">
      {(providers ?? []).map((provider) => (
        <Provider key={provider.id} provider={provider} />
      ))}
    </ul>
  );
}

function Provider({ provider }: { provider: ProviderView }) {
  const t = useWords();
  const { name, remote, account, coming_soon, problem, hint } = provider;
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
    </li>
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
