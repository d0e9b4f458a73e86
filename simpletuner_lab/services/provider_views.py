"""Providers as front-ends see them: whether and how they can be used, what they cost, what a sync brought."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

from simpletuner_lab.core.cost import Rate
from simpletuner_lab.core.errors import LabError
from simpletuner_lab.core.provider import Options, Provider, Target
from simpletuner_lab.services.setting_fields import SettingField
from simpletuner_lab.services.views import JobView


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareProfile:
    """One hardware of a provider in the names of the original; `hardware` has dates and sources too."""

    id: str
    model: str
    """The target that runs there."""
    label: str
    hardware_type: str
    cost_per_hour: float | None
    cost_per_second: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderView:
    """A provider as forms and badges show it; `problem` is set where it cannot be used."""

    id: str
    name: str
    remote: bool
    configured: bool
    coming_soon: bool
    account: str
    problem: str
    hint: str
    hardware: tuple[Rate, ...]
    targets: tuple[Target, ...]
    max_upload_bytes: int | None
    run_limit_s: float | None
    status_page: str
    """Where it says how things stand there; empty: nowhere."""
    cost_per_hour: float | None
    description: str = ""
    model: str = ""
    """The first target, which runs where none is named, and its version below."""
    version: str = ""
    hardware_profile: str = ""
    """The first hardware."""
    hardware_profiles: tuple[HardwareProfile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderConfig:
    """The settings of a provider, defaults included, and whether it has its token. Never a secret."""

    provider: str
    config: Mapping[str, object]
    fields: tuple[SettingField, ...]
    """What a form draws of them, in the order of the settings."""
    token_name: str
    """Under which its token is looked for; empty where it needs none."""
    token_set: bool
    token_problem: str
    """Why a token that is there cannot be used; empty where none is, or nothing is wrong with it."""
    warning: str
    """What these settings mean for jobs that are not done with; empty where nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStored:
    """A token is kept."""

    file_path: str
    """On the lab's machine."""
    warning: str
    """Which jobs it has to suit; empty where none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDeleted:
    """A token is not kept any more."""

    deleted: bool
    """False: there was none."""
    warning: str
    """Which jobs want one; empty where none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Whether a provider can be used now; `error` is empty where it can."""

    valid: bool
    user_info: str
    """Whose account it is."""
    error: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetVersion:
    """What a target would run."""

    id: str
    model_id: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """One for each target, the default first."""

    versions: tuple[TargetVersion, ...]
    current_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Billing:
    """What runs there have cost by our own ledger: a provider need not tell its balance."""

    balance: float | None
    balance_note: str
    spent_usd: float
    """The sum of what is known."""
    runs: int
    runs_without_price: int
    metered_s: float
    hardware: tuple[Rate, ...]
    default_hardware: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncView:
    """How many jobs are new, how many known ones were looked at, and the new ones."""

    synced: int
    updated: int
    jobs: tuple[JobView, ...]


def provider_view(provider: Provider) -> ProviderView:
    """A provider that is installed, as it is now."""
    check = provider.check()
    try:
        options, problem = provider.options(), check.message
    except LabError as error:
        options, problem = Options(targets=(), rates=(), endpoint=""), error.message
    rate: Rate | None = options.rates[0] if options.rates else None
    target: Target | None = options.targets[0] if options.targets else None
    model = "" if target is None else target.id
    return ProviderView(
        id=provider.id,
        name=provider.label,
        remote=provider.capabilities.remote,
        configured=check.ready,
        coming_soon=False,
        account=check.account,
        problem="" if check.ready else problem,
        hint="" if check.ready else check.hint,
        hardware=options.rates,
        targets=options.targets,
        max_upload_bytes=provider.capabilities.max_upload_bytes,
        run_limit_s=options.run_limit_s,
        status_page=provider.capabilities.status_page,
        cost_per_hour=None if rate is None else rate.usd_per_hour,
        description=inspect.cleandoc(type(provider).__doc__ or "").partition("\n")[0],
        model=model,
        version="" if target is None else target.version,
        hardware_profile="" if rate is None else rate.hardware,
        hardware_profiles=tuple(_profile(one, model) for one in options.rates),
    )


def _profile(rate: Rate, model: str) -> HardwareProfile:
    hourly = rate.usd_per_hour
    return HardwareProfile(
        id=rate.hardware, model=model, label=rate.label, hardware_type=rate.hardware,
        cost_per_hour=hourly, cost_per_second=None if hourly is None else hourly / 3600,
    )  # fmt: skip


def unusable_view(provider_id: str, label: str, *, reason: str, soon: bool = False) -> ProviderView:
    """One that cannot be chosen, and why."""
    return ProviderView(
        id=provider_id, name=label, remote=True, configured=False, coming_soon=soon, account="", problem=reason, hint="",
        hardware=(), targets=(), max_upload_bytes=None, run_limit_s=None, status_page="",
        cost_per_hour=None,
    )  # fmt: skip
