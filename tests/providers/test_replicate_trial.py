"""A prediction that is made for its webhook alone: created once, paid for, and nobody's run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from simpletuner_lab.core.errors import InvalidRequest, OutOfCredit, ProviderUnavailable, SettingUnusable
from simpletuner_lab.core.provider import RunTag
from simpletuner_lab.providers._replicate_settings import ReplicateSettings
from simpletuner_lab.testing.replicate_emulator import Fault
from tests.providers.replicate_kit import IMAGE, JOB, Scene, scene
from tests.testing.replicate_kit import receiving


@pytest.fixture
def replicate(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


def test_it_calls_once_when_it_has_ended_and_is_nobodys_run(replicate: Scene) -> None:
    provider = replicate.provider()
    with receiving() as receiver:
        caused = provider.test_webhook(f"{receiver.url}?test=nonce")
        (made,) = replicate.emulator.predictions
        assert caused.ref == made.id
        assert caused.said.startswith(f"prediction {made.id} of replicate/hello-world was created; it costs")
        assert made.deadline == replicate.emulator.now() + 45
        replicate.emulator.advance(60)
    (called,) = receiver.got
    assert called.status == "succeeded"
    assert len(replicate.emulator.predictions) == len(replicate.emulator.charges) == 1
    assert provider.webhook(called.headers, called.body) == made.id
    assert list(provider.list()) == []


def test_a_lost_answer_is_told_and_nothing_is_created_twice(replicate: Scene) -> None:
    replicate.emulator.fail("predictions.create", Fault(lost=True))
    caused = replicate.provider().test_webhook("http://127.0.0.1:9/x")
    assert "was created is not known, and it is not tried again" in caused.said
    assert caused.ref == ""
    assert len(replicate.emulator.predictions) == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [(Fault(status=402), OutOfCredit), (Fault(status=429), ProviderUnavailable)],
)
def test_what_was_refused_is_an_error(replicate: Scene, fault: Fault, error: type[Exception]) -> None:
    replicate.emulator.fail("predictions.create", fault)
    with pytest.raises(error):
        replicate.provider().test_webhook("http://127.0.0.1:9/x")
    assert replicate.emulator.predictions == ()


def test_a_start_whose_answer_was_lost_never_finds_one(replicate: Scene) -> None:
    """Nor is it put in doubt by one that Replicate tells no model of."""
    provider = replicate.provider()
    order = replicate.order(archive=None)
    replicate.emulator.fail("predictions.create", Fault(status=500))
    with pytest.raises(ProviderUnavailable):
        provider.start(order)
    provider.test_webhook("http://127.0.0.1:9/x")
    replicate.emulator.advance(61)
    replicate.emulator.predictions[0].model = ""
    assert provider.find(RunTag(job_id=JOB, attempt=1)) is None


@pytest.mark.parametrize("name", ["hello", IMAGE, "simpletuner/advanced-trainer"])
def test_what_its_model_cannot_be(name: str) -> None:
    with pytest.raises(InvalidRequest, match="webhook_test_model"):
        ReplicateSettings(image=IMAGE, webhook_test_model=name)


def test_a_model_that_is_not_there(replicate: Scene) -> None:
    with pytest.raises(SettingUnusable, match="no model ann/gone"):
        replicate.provider(webhook_test_model="ann/gone").test_webhook("http://127.0.0.1:9/x")
    assert replicate.asked("predictions.create") == 0
