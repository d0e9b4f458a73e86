"""`js/src/contract.ts` and `verbs.ts` say what Python answers: the same fields, the same nulls, the same words."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import pytest

from simpletuner_lab.client import Client
from simpletuner_lab.core.book import Claim
from simpletuner_lab.core.consent import ConsentMode, ConsentState
from simpletuner_lab.core.cost import Estimate, Rate
from simpletuner_lab.core.destination import (
    AwayDestination,
    DeliveryState,
    Destination,
    HomeDestination,
    HubDestination,
    S3Destination,
    Sender,
)
from simpletuner_lab.core.doubt import Decision
from simpletuner_lab.core.errors import Problem
from simpletuner_lab.core.job import Failure, JobState, Progress
from simpletuner_lab.core.manifest import DatasetManifest, FileEntry, Withheld
from simpletuner_lab.core.plan import Credential
from simpletuner_lab.core.provider import Target
from simpletuner_lab.core.spend import JobLimit, LimitAction, Period, SpendLimit, SpendLimits
from simpletuner_lab.core.verdict import LimitState, SpendVerdict
from simpletuner_lab.rest_money import MoneyDesk
from simpletuner_lab.server.handlers import SubmitBody
from simpletuner_lab.services import views
from simpletuner_lab.services.money_views import DaySpend, JobSpend, LimitsView, NamedSpend, SpendView
from simpletuner_lab.services.provider_views import (
    Billing,
    HardwareProfile,
    ProviderConfig,
    ProviderView,
    SyncView,
    Validation,
)
from simpletuner_lab.services.reach.report import Mode, WebhookReport
from simpletuner_lab.services.setting_fields import SettingField
from simpletuner_lab.services.snapshot_views import JobMetadata, SnapshotView

SOURCE = Path(__file__).resolve().parent.parent / "js" / "src"
CONTRACT = "\n".join((SOURCE / name).read_text("utf-8") for name in ("contract.ts", "money.ts", "setup.ts", "verbs.ts"))

INTERFACES = {
    name: re.sub(r"/\*\*.*?\*/", "", body, flags=re.DOTALL)
    for name, body in re.findall(r"^export interface (\w+) \{\n(.*?)^\}", CONTRACT, re.MULTILINE | re.DOTALL)
}

VIEWS = [
    cls
    for cls in vars(views).values()
    if dataclasses.is_dataclass(cls)
    and cls.__module__ == views.__name__
    and cls not in {views.PreviewDataset, views.PreviewView}  # for scripts that know the original: no front-end asks
]
VALUES = [
    *(Progress, Failure, Rate, Estimate, Target, FileEntry, Withheld, DatasetManifest, Credential, Problem),
    *(Claim, LimitState, SpendVerdict, SpendLimit, SpendLimits, JobLimit),
    *(LimitsView, SpendView, DaySpend, NamedSpend, JobSpend),
    *(HomeDestination, S3Destination, HubDestination),
    *(ProviderView, HardwareProfile, ProviderConfig, SettingField, Validation, Billing, SyncView, WebhookReport),
    *(JobMetadata, SnapshotView),
]

SCALARS = {str: {"string"}, int: {"number"}, float: {"number"}, bool: {"boolean"}}


def fields(interface: str) -> dict[str, str]:
    """Name and type of each member."""
    return dict(re.findall(r"^  (\w+)\??: (.+);$", INTERFACES[interface], re.MULTILINE))


@pytest.mark.parametrize("cls", [*VIEWS, *VALUES], ids=lambda cls: cls.__name__)
def test_a_value_has_the_same_members_there(cls: type) -> None:
    told = fields(cls.__name__)
    assert sorted(told) == sorted(field.name for field in dataclasses.fields(cls))
    hints = typing.get_type_hints(cls)
    differences = {name: (told[name], hints[name]) for name in told if not _same(told[name], hints[name])}
    assert differences == {}


def _same(told: str, hint: object) -> bool:
    """Whether a TypeScript type can be this Python type: its nulls, scalars and lists."""
    if hint in (Destination, AwayDestination):
        return told == "Destination"
    if hint is object:
        return told == "unknown"
    if typing.get_origin(hint) is typing.Literal:
        return told == " | ".join(f'"{word}"' for word in typing.get_args(hint))
    parts = set(typing.get_args(hint)) if isinstance(hint, types.UnionType) else {hint}
    if ("| null" in told and not told.endswith(")[]")) != (type(None) in parts):
        return told.startswith("Record<")  # nulls of its values
    (only,) = parts - {type(None)} if len(parts - {type(None)}) == 1 else (hint,)
    words = {word.strip() for word in told.split("|")} - {"null"}
    origin = typing.get_origin(only)
    if only in SCALARS:
        return words == SCALARS[only] or (only is str and all(word[0] == '"' for word in words))
    if origin in {tuple, frozenset}:
        return told.endswith("[]")
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return told.startswith("Record<")
    if isinstance(only, type) and issubclass(only, StrEnum):
        return words in ({only.__name__}, {"string"}, {f'"{member.value}"' for member in only})
    return words == {getattr(only, "__name__", "")}


@pytest.mark.parametrize(
    "enum",
    [JobState, ConsentMode, Decision, DeliveryState, Sender, Mode, Period, LimitAction],
    ids=lambda enum: enum.__name__,
)
def test_words_of_a_choice(enum: type[StrEnum]) -> None:
    found = re.search(rf"^export type {enum.__name__} = (.+);", CONTRACT, re.MULTILINE)
    assert found
    assert re.findall(r'"(\w+)"', found[1]) == [member.value for member in enum]


def test_consent_of_a_plan() -> None:
    assert set(re.findall(r'"(\w+)"', fields("PlanView")["consent"])) == {state.value for state in ConsentState}


def test_what_is_submitted_is_what_the_route_reads() -> None:
    beside = {"approve", "idempotency_key", "entry"}
    assert set(fields("SubmitRequest")) == {field.name for field in dataclasses.fields(SubmitBody)} - beside
    assert fields("SubmitRequest")["destination"].removesuffix(" | null") == "Destination"
    (kinds,) = re.findall(r"^export type Destination = (.+);", CONTRACT, re.MULTILINE)
    assert kinds.split(" | ") == [cls.__name__ for cls in typing.get_args(Destination)]


def test_verbs_are_the_clients() -> None:
    """Beside them those that give a page an address, and those of the server alone. Bytes are fetched, not asked for.

    A browser neither waits for a job's end in the place of a server, nor for the next try; and it imports nothing.
    """
    verbs = set(re.findall(r"^  (\w+): \{ takes", INTERFACES["Verbs"], re.MULTILINE))
    own = {name for name in vars(Client) if not name.startswith("_") and callable(getattr(Client, name))}
    assert own - verbs == {"read_output", "hasten", "settle"}
    panel = {"provider", "set_provider", "set_token", "delete_token", "validate", "billing", "test_webhook"}
    money = {"spend", "limits", "set_limits"}  # `Client.money`
    assert money <= {name for name in vars(MoneyDesk) if not name.startswith("_")}
    assert verbs - own == {"picture", "archive", "receiving", "test_receiving"} | panel | money


def test_every_interface_is_held_to_something() -> None:
    held = {cls.__name__ for cls in (*VIEWS, *VALUES)}
    assert set(INTERFACES) - held == {
        *("SubmitRequest", "ErrorView", "JobsQuery", "LimitChanges", "Verbs"),
        *("ReceivingView", "ReceivingStep"),  # of the server alone
    }
