/** A provider's token: set, or deleted, and never shown. It goes to the lab's server alone. */

import { useState } from "preact/hooks";
import { useAct, useLab } from "../../hooks";
import type { ProviderConfig } from "../../setup";
import { useWords } from "../../words";
import { Button, ErrorBanner, Field, Note } from "../atoms";
import { Confirm } from "../Confirm";

interface TokenProps {
  config: ProviderConfig;
  changed: () => void;
}

export function Token({ config, changed }: TokenProps) {
  const t = useWords();
  const { desk } = useLab();
  const { provider, token_name, token_set, token_problem } = config;
  const [typed, type] = useState("");
  const [said, say] = useState("");
  const [warning, warn] = useState("");
  const { act, busy, error } = useAct(async () => {
    say("");
    warn("");
    const kept = await desk.ask("set_token", { provider, token: typed.trim() });
    type("");
    warn(kept.warning);
    say(t("The token is kept on the lab's machine, in a file for you alone."));
    changed();
  });
  const remove = async () => {
    const { deleted, warning: remark } = await desk.ask("delete_token", { provider });
    warn(remark);
    say(
      deleted
        ? t("The token was deleted.")
        : t("{name} is set where the lab runs: unset it there.", { name: token_name }),
    );
    changed();
  };
  return (
    <form
      class="stc-stack"
      onSubmit={(event) => {
        event.preventDefault();
        if (typed.trim()) act();
      }}
    >
      <Field
        label={t("Token ({name})", { name: token_name })}
        hint={
          token_set
            ? t("One is set. It is never shown again; a new one takes its place.")
            : token_problem || t("None is set.")
        }
      >
        {(ids) => (
          <input
            {...ids}
            type="password"
            value={typed}
            autocomplete="new-password"
            spellcheck={false}
            onInput={(event) => type(event.currentTarget.value)}
          />
        )}
      </Field>
      {error && <ErrorBanner error={error} />}
      {warning && <Note tone="warn">{warning}</Note>}
      <div class="stc-row">
        <Button type="submit" disabled={busy || !typed.trim()}>
          {t("Set the token")}
        </Button>
        {token_set && (
          <Confirm
            label={t("Delete the token")}
            question={t("Delete it? Runs that are under way are not followed without it.")}
            no={t("Keep it")}
            yes={t("Delete it")}
            act={remove}
          />
        )}
      </div>
      <p class="stc-faint stc-said" role="status">
        {said}
      </p>
    </form>
  );
}
