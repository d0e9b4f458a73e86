"""How a provider is set up: its settings, its token, and whether it can be used (contract §2.3; SPEC P5, P7).

What is changed here counts at once: the provider is made anew, and whoever works with the old one goes on with it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from simpletuner_lab.core.cost import Rate
from simpletuner_lab.core.errors import (
    Conflict,
    CredentialUnusable,
    InvalidRequest,
    LabError,
    Problem,
    SecretInConfig,
    TokenUnusable,
)
from simpletuner_lab.core.plan import Identity
from simpletuner_lab.core.provider import HoldsToken, JudgesSettings, Located, Provider, ServiceStatus, TellsStatus
from simpletuner_lab.core.redact import find_secrets
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.services.codec import decode, encode
from simpletuner_lab.services.limit_keys import LIMIT_FIELDS, LIMIT_KEYS, LimitSettings
from simpletuner_lab.services.provider_settings import ProviderSettings
from simpletuner_lab.services.provider_views import (
    Billing,
    ProviderConfig,
    TargetVersion,
    TokenDeleted,
    TokenStored,
    Validation,
    Versions,
)
from simpletuner_lab.services.registry import Registry
from simpletuner_lab.services.setting_fields import fields_of, in_lists
from simpletuner_lab.services.store import Store
from simpletuner_lab.services.tokens import Tokens
from simpletuner_lab.services.totals import total


class ProviderSetup:
    """Reads and changes it. Safe to use from several threads."""

    def __init__(
        self, registry: Registry, settings: ProviderSettings, tokens: Tokens, store: Store,
        limits_changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self._registry = registry
        self._settings = settings
        self._tokens = tokens
        self._store = store
        self._limits = LimitSettings(store, limits_changed)
        self._lock = threading.Lock()

    def config(self, provider_id: str) -> ProviderConfig:
        """The settings.

        Raises:
            ProviderNotFound, ProviderUnavailable: there is no such provider, or it is coming soon.
            InvalidRequest: the file that keeps them cannot be read; a change replaces it.
        """
        cls = self._registry.class_of(provider_id)
        name = _token_name(cls)
        token_set, token_problem = self._token_state(provider_id, name)
        return ProviderConfig(
            provider=provider_id,
            config=encode(self._settings.read(provider_id, cls.Settings)) | self._limits.read(provider_id),
            fields=(*fields_of(cls.Settings), *LIMIT_FIELDS),
            token_name=name,
            token_set=token_set,
            token_problem=token_problem,
            warning="; ".join(filter(None, (*self._doubts(provider_id), self._misplaced(provider_id)))),
        )

    def change(self, provider_id: str, given: Mapping[str, object]) -> ProviderConfig:
        """Sets some settings; those that are not given stay. Refused as a whole, or in force as a whole.

        The keys of its spend limit are among them. Jobs under way do not hinder it: those of another endpoint stand still, and the answer's `warning` says so.

        Raises:
            InvalidRequest: keys that are not known, wrong types, values that the provider refuses: all at once.
            SecretInConfig: one of them looks like a secret.
        """
        cls = self._registry.class_of(provider_id)
        if found := find_secrets({"settings": dict(given)}):
            hint = f"its token has a place of its own: {_token_name(cls)}" if _token_name(cls) else "leave it out"
            raise SecretInConfig(f"{found[0].path} holds what looks like a secret", problems=found, hint=hint)
        given = in_lists(cls.Settings, given)
        with self._lock:
            limit = self._limits.prepare(provider_id, given)
            own = {key: value for key, value in given.items() if key not in LIMIT_KEYS}
            if limit is not None and not own:
                self._limits.write(provider_id, limit)
                return self.config(provider_id)
            wanted = self._now(provider_id, cls) | own
            try:
                settings: Any = decode(cls.Settings, wanted, what="settings")
            except InvalidRequest as error:
                raise _refused(error, given) from error
            made = self._registry.build(provider_id, settings)
            _require_workable(made, own, given)
            self._settings.write(provider_id, settings)
            self._registry.replace(made)
            if limit is not None:
                self._limits.write(provider_id, limit)
        return self.config(provider_id)

    def set_token(self, provider_id: str, token: Secret) -> TokenStored:
        """Keeps the provider's token. Jobs under way of another account stand still until that one's is back.

        Raises:
            Conflict: this provider has no token.
            InvalidRequest: it is none.
        """
        cls = self._registry.class_of(provider_id)
        name, prefix = _required_name(provider_id, cls), str(getattr(cls, "token_prefix", ""))
        if not token.reveal().strip().startswith(prefix):
            raise InvalidRequest(f"a token of {cls.label} begins with {prefix}", hint="copy the whole of it")
        with self._lock:
            path = self._tokens.store(name, token)
            self._remake(provider_id, cls)
        return TokenStored(file_path=str(path), warning=self._of_accounts(provider_id))

    def delete_token(self, provider_id: str) -> TokenDeleted:
        """Deletes the file of the token. The environment is not ours to change.

        Raises:
            Conflict: this provider has no token.
        """
        cls = self._registry.class_of(provider_id)
        name = _required_name(provider_id, cls)
        with self._lock:
            gone = self._tokens.forget(name)
            self._remake(provider_id, cls)
        return TokenDeleted(deleted=gone, warning=self._of_accounts(provider_id))

    def validate(self, provider_id: str) -> Validation:
        """Asks the provider whether it can be used, and by whom."""
        try:
            check = self._registry.get(provider_id).check()
        except LabError as error:
            if provider_id not in self._registry:
                raise
            return Validation(valid=False, user_info="", error=error.message, hint=error.hint)
        error_text = "" if check.ready else check.message
        return Validation(valid=check.ready, user_info=check.account, error=error_text, hint=check.hint)

    def versions(self, provider_id: str) -> Versions:
        """What its targets would run now."""
        targets = self._registry.get(provider_id).options().targets
        found = tuple(TargetVersion(id=one.version, model_id=one.id, label=one.label) for one in targets)
        return Versions(versions=found, current_version=found[0].id if found else "")

    def billing(self, provider_id: str) -> Billing:
        """What is known of its costs. The books are ours: only its prices are asked for, and their absence is told."""
        provider = self._registry.get(provider_id)
        rates, untold = _rates(provider)
        charges = self._store.charges.of_provider(provider_id)
        spent, runs, unpriced = total(charges)
        return Billing(
            balance=None,
            balance_note=f"{provider.label} does not tell its balance; this is what runs of this lab have cost{untold}",
            spent_usd=spent,
            runs=runs,
            runs_without_price=unpriced,
            metered_s=sum(charge.metered_s or 0.0 for charge in charges),
            hardware=rates,
            default_hardware=rates[0].hardware if rates else "",
        )

    def status(self, provider_id: str) -> ServiceStatus:
        """How its service stands by its own status page."""
        provider = self._registry.get(provider_id)
        if not isinstance(provider, TellsStatus):
            return ServiceStatus(error=f"{provider.label} has no status page")
        return provider.service_status()

    def system_status(self) -> ServiceStatus:
        """The same of all that have a status page, each entry behind the provider's name."""
        told = [(one.label, one.service_status()) for one in self._registry if isinstance(one, TellsStatus)]
        known = [status.operational for _, status in told if status.operational is not None]

        def of_all(kind: Callable[[ServiceStatus], tuple[str, ...]]) -> tuple[str, ...]:
            return tuple(f"{label}: {name}" for label, status in told for name in kind(status))

        return ServiceStatus(
            operational=all(known) if known else None,
            ongoing_incidents=of_all(lambda status: status.ongoing_incidents),
            in_progress_maintenances=of_all(lambda status: status.in_progress_maintenances),
            scheduled_maintenances=of_all(lambda status: status.scheduled_maintenances),
            status_page_url=next((status.status_page_url for _, status in told if status.status_page_url), ""),
            error="; ".join(f"{label}: {status.error}" for label, status in told if status.error),
        )

    def _doubts(self, provider_id: str) -> Sequence[str]:
        """What is unsafe about the settings."""
        provider = self._registry.get(provider_id) if provider_id in self._registry else None
        return provider.setting_doubts() if isinstance(provider, JudgesSettings) else ()

    def _misplaced(self, provider_id: str) -> str:
        """About jobs that belong to another endpoint than the one that is set; nothing is asked for it."""
        provider = self._registry.get(provider_id) if provider_id in self._registry else None
        if not isinstance(provider, Located):
            return ""
        others = [one.endpoint for one in self._unsettled(provider_id) if one.endpoint != provider.endpoint]
        if not others:
            return ""
        return (
            f"{_jobs(len(others))} at {' and '.join(sorted(set(others)))}: nothing of them is asked, sent, ended or deleted"
            " there until base_url is set back"
        )

    def _of_accounts(self, provider_id: str) -> str:
        """About jobs that want a token of their account; whose the present one is would have to be asked."""
        bound = [one.account for one in self._unsettled(provider_id) if one.account]
        if not bound:
            return ""
        return (
            f"{_jobs(len(bound))} of account {' and '.join(sorted(set(bound)))}: without a token of that account nothing of"
            " them is asked, sent, ended or deleted there"
        )

    def _unsettled(self, provider_id: str) -> list[Identity]:
        """Where each job belongs that is not done with."""
        jobs = (job for job in self._store.jobs.unsettled() if job.provider == provider_id and job.remote)
        return [self._store.jobs.plan(job.id).identity for job in jobs]

    def _token_state(self, provider_id: str, name: str) -> tuple[bool, str]:
        """Whether there is a token that can be used, and what is wrong with one that cannot."""
        if not name:
            return False, ""
        provider = self._registry.get(provider_id) if provider_id in self._registry else None
        try:
            return provider.holds_token() if isinstance(provider, HoldsToken) else self._tokens.holds(name), ""
        except (CredentialUnusable, TokenUnusable) as error:
            return False, f"{error.message}: {error.hint}" if error.hint else error.message

    def _now(self, provider_id: str, cls: type[Any]) -> dict[str, object]:
        """What is set.

        Raises:
            InvalidRequest: the file cannot be read. It is not replaced: an address in it would give way to the default, and
                the token would go there.
        """
        try:
            found: dict[str, object] = encode(self._settings.read(provider_id, cls.Settings))
        except InvalidRequest as error:
            hint = "mend the file, or move it away and set all anew; nothing was changed"
            raise InvalidRequest(error.message, hint=hint, problems=error.problems) from None
        return found

    def _remake(self, provider_id: str, cls: type[Any]) -> None:
        """With the token as it is now. One whose settings cannot be read stays broken for that reason."""
        with contextlib.suppress(InvalidRequest):
            settings = self._settings.read(provider_id, cls.Settings)
            self._registry.replace(self._registry.build(provider_id, settings))


def _rates(provider: Provider) -> tuple[tuple[Rate, ...], str]:
    """Its prices, and why there are none."""
    try:
        return provider.options().rates, ""
    except LabError as error:
        return (), f"; its prices cannot be told now: {error.message}"


def _refused(error: InvalidRequest, given: Mapping[str, object]) -> InvalidRequest:
    """With each value that was given beside what is wrong with it."""
    problems = [replace(one, message=_beside(one, given)) for one in error.problems]
    told = "; ".join(f"{one.path}: {one.message}" for one in problems) or error.message
    hint = next((one.hint for one in problems if one.hint), "")
    return InvalidRequest(f"nothing was changed, for a new setting cannot be: {told}", problems=problems, hint=hint)


def _require_workable(made: Provider, changed: Mapping[str, object], given: Mapping[str, object]) -> None:
    """Whether what is changed can work on this machine; what was set before and is gone since does not hinder it.

    Raises:
        InvalidRequest: what cannot.
    """
    told = made.setting_problems() if isinstance(made, JudgesSettings) else ()
    if found := [replace(one, path=f"settings.{one.path}") for one in told if one.path in changed]:
        raise _refused(InvalidRequest("a setting cannot work here", problems=found), given)


def _beside(problem: Problem, given: Mapping[str, object]) -> str:
    name = problem.path.removeprefix("settings.").partition("[")[0]
    text = repr(given.get(name))[:100]
    return f"{text}: {problem.message}" if name in given and text not in problem.message else problem.message


def _jobs(count: int) -> str:
    return "1 job that is not done with is" if count == 1 else f"{count} jobs that are not done with are"


def _token_name(cls: type[Any]) -> str:
    return str(getattr(cls, "token_name", ""))


def _required_name(provider_id: str, cls: type[Any]) -> str:
    if name := _token_name(cls):
        return name
    raise Conflict(f"{provider_id} has no token", hint="nothing is to be set")
