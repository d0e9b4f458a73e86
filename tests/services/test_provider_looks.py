"""A list of providers does not wait for one that hangs, and asks it once until it has answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from simpletuner_lab.core.provider import Check, ProviderContext
from simpletuner_lab.services.front import Front
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.lab import Lab, Surroundings
from simpletuner_lab.services.provider_looks import ProviderLooks
from simpletuner_lab.services.registry import Registry
from simpletuner_lab.services.store import Store
from simpletuner_lab.testing import eventually
from tests.services.remote_kit import Elsewhere, ElsewhereSettings

LIMIT_S = 0.4


class Hanging(Elsewhere):
    id: ClassVar[str] = "hanging"
    label: ClassVar[str] = "Hanging"

    def __init__(self, settings: ElsewhereSettings, context: ProviderContext) -> None:
        super().__init__(settings, context)
        self.answers = threading.Event()
        self.asked = 0

    def check(self) -> Check:
        self.asked += 1
        self.answers.wait()
        return super().check()


class Odd(Elsewhere):
    id: ClassVar[str] = "odd"
    label: ClassVar[str] = "Odd"

    def check(self) -> Check:
        raise ZeroDivisionError("a fault of its own")


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Hanging]:
    made = Hanging(ElsewhereSettings(), ProviderContext(home=tmp_path / "hanging", environment={}))
    yield made
    made.answers.set()


@pytest.fixture
def front(hanging: Hanging, tmp_path: Path) -> Iterator[Front]:
    others = (
        one(ElsewhereSettings(), ProviderContext(home=tmp_path / one.id, environment={})) for one in (Elsewhere, Odd)
    )
    home = Home(tmp_path / "home").prepare()
    with Lab(home, Store.open(home.database), Registry([hanging, *others]), Surroundings(environment={})) as lab:
        yield Front(lab, ProviderLooks(LIMIT_S))


def problems(front: Front) -> dict[str, str]:
    return {view.id: view.problem for view in front.providers()}


def test_the_others_are_shown_and_it_is_asked_once(front: Front, hanging: Hanging) -> None:
    since, threads = time.monotonic(), threading.active_count()
    told = {"elsewhere": "", "hanging": "Hanging does not answer within 0.4 s", "odd": "a fault of its own"}
    for _ in range(3):
        assert problems(front) == told
    assert time.monotonic() - since < 3 * LIMIT_S + 2
    assert (hanging.asked, threading.active_count() - threads) == (1, 1)
    hanging.answers.set()
    assert eventually(lambda: problems(front), lambda found: not found["hanging"])["elsewhere"] == ""
    before = hanging.asked
    front.providers()
    assert hanging.asked == before + 1, "what it said before is not taken for what it says now"


def test_one_with_other_settings_is_another(front: Front, hanging: Hanging, tmp_path: Path) -> None:
    assert problems(front)["hanging"]
    again = Hanging(ElsewhereSettings(), ProviderContext(home=tmp_path / "again", environment={}))
    again.answers.set()
    front.lab.registry.replace(again)
    assert problems(front)["hanging"] == ""
