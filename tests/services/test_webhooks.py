"""What the lab makes of webhooks: a nudge each, once; and from where they may come, as the settings have it now."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from simpletuner_lab.core.errors import Forbidden, NotFound
from simpletuner_lab.core.job import RunRef
from simpletuner_lab.core.provider import ProviderContext
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.providers import _standard_webhooks
from simpletuner_lab.providers.local import LocalProvider, LocalSettings
from simpletuner_lab.services.provider_settings import ProviderSettings
from simpletuner_lab.services.registry import Registry
from simpletuner_lab.services.store import Store
from simpletuner_lab.services.webhooks import REMEMBERED_S, Taken, Webhooks
from simpletuner_lab.testing.replicate_emulator import signature
from tests.services.store_kit import T0, new_job

SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSB0ZXN0cyBvZiB3ZWJob29rcw=="


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ListedSettings(LocalSettings):
    webhook_allowed_ips: tuple[str, ...] = ()


class Signed(LocalProvider):
    id: ClassVar[str] = "signed"
    Settings: ClassVar[type] = ListedSettings

    def webhook(self, headers: Mapping[str, str], body: bytes) -> str | None:
        _standard_webhooks.verify(headers, body, [Secret(SECRET)], now=clock.now)
        return str(json.loads(body)["id"])


class Clock:
    now = T0

    def __call__(self) -> float:
        return self.now


clock = Clock()


class Desk:
    """The lab's part, and what it nudged."""

    def __init__(self, folder: Path, store: Store) -> None:
        clock.now = T0
        self.settings = folder / "signed.json"
        self.nudged: list[str] = []
        context = ProviderContext(home=folder / "state", environment={})
        registry = Registry([Signed(ListedSettings(), context), LocalProvider(LocalSettings(), context)])
        self.webhooks = Webhooks(store, registry, self.nudged.append, settings=ProviderSettings(folder), clock=clock)

    def take(self, message_id: str, ref: str = "run-1", *, at: float | None = None) -> bool:
        body = json.dumps({"id": ref}).encode()
        signed_at = int(clock.now if at is None else at)
        headers = {
            "webhook-id": message_id,
            "webhook-timestamp": str(signed_at),
            "webhook-signature": signature(SECRET, message_id, signed_at, body),
        }
        return self.webhooks.receive("signed", headers, body)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    store = Store.open(tmp_path / "lab.db")
    store.jobs.insert(new_job(provider="signed", run=RunRef(ref="run-1")), "{}", ())
    yield Desk(tmp_path, store)
    store.close()


def test_one_nudge_for_each_webhook(desk: Desk) -> None:
    """Retries keep the id and get a new time; a replay keeps both. Neither is an error, and neither nudges."""
    assert desk.take("msg_1")
    assert not desk.take("msg_1")
    clock.now += 60
    assert not desk.take("msg_1")  # a retry
    assert not desk.take("msg_1", at=T0)  # a replay
    assert desk.take("msg_2")
    assert desk.nudged == ["job-1", "job-1"]


def test_a_replay_is_too_old_before_it_is_forgotten(desk: Desk) -> None:
    """Even of a webhook whose sender's clock is ahead as far as may be."""
    ahead = T0 + 300
    assert desk.take("msg_1", at=ahead)
    clock.now = ahead + 300
    assert not desk.take("msg_1", at=ahead)
    clock.now += 1
    with pytest.raises(Forbidden):
        desk.take("msg_1", at=ahead)
    assert desk.nudged == ["job-1"]


def test_what_is_refused_is_not_remembered(desk: Desk) -> None:
    with pytest.raises(Forbidden):
        desk.take("msg_1", at=T0 - 301)
    assert desk.take("msg_1")


def test_a_run_of_nobody_and_a_provider_without_webhooks(desk: Desk) -> None:
    assert not desk.take("msg_1", "run-2")
    for provider in ("local", "nobody"):
        with pytest.raises(NotFound):
            desk.webhooks.receive(provider, {}, b"{}")
    assert desk.nudged == []


def test_a_flood_of_ids_takes_so_much_room() -> None:
    now = [T0]
    taken = Taken(lambda: now[0], most=3)
    assert [taken.add(name) for name in "abcda"] == [True, True, True, True, True]  # a was pushed out by d
    assert (len(taken), "a" in taken, "b" in taken, "d" in taken) == (3, True, False, True)
    assert not taken.add("a")
    now[0] += REMEMBERED_S
    assert "a" not in taken
    assert (taken.add("a"), len(taken)) == (True, 3)


def test_the_list_is_that_of_the_settings_now(desk: Desk) -> None:
    allowed = desk.webhooks.allowed_ips
    assert (allowed.of("signed"), allowed.of("local"), allowed.of("nobody")) == ((), (), ())
    desk.settings.write_text('{"webhook_allowed_ips": ["203.0.113.0/24"]}')
    clock.now += 2
    assert allowed.of("signed") == ("203.0.113.0/24",)
    desk.settings.write_text("{")
    assert allowed.of("signed") == ("203.0.113.0/24",)
    clock.now += 2
    with pytest.raises(Forbidden, match="settings cannot be read"):
        allowed.of("signed")
