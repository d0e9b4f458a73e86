"""Everything that can go wrong at Replicate, at every call: one clear error, nothing twice, nothing lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from simpletuner_lab.core.errors import LabError, ProviderFailure, ProviderUnavailable, ProviderUncertain, TokenUnusable
from simpletuner_lab.core.provider import RunState, RunTag
from simpletuner_lab.providers import _replicate_files
from simpletuner_lab.providers.replicate import ReplicateProvider
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.provider_contract import uploaded
from simpletuner_lab.testing.replicate_emulator import Conduct, Fault, Shape
from tests.providers.replicate_kit import IMAGE, JOB, TOKEN, Scene, forged, scene

MANY = 9


@pytest.fixture
def replicate(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the provider, after what it needs, and the route that it asks first."""

    route: str
    prepare: Callable[[Scene, ReplicateProvider], object]
    make: Callable[[ReplicateProvider, object], object]


def _started(scene: Scene, provider: ReplicateProvider) -> str:
    return scene.begin(provider).ref


def _nothing(scene: Scene, provider: ReplicateProvider) -> None:
    return None


def _ready(scene: Scene, provider: ReplicateProvider) -> object:
    provider.options()
    return uploaded(provider, scene.order())


def _archive(scene: Scene, provider: ReplicateProvider) -> object:
    return scene.order().archive


def _lost(scene: Scene, provider: ReplicateProvider) -> None:
    order = uploaded(provider, scene.order())
    scene.emulator.fail("predictions.create", Fault(lost=True))
    with pytest.raises(ProviderUnavailable):
        provider.start(order)


CALLS = {
    "options": Call("models.get", _nothing, lambda provider, _: provider.options()),
    "upload": Call("files.create", _archive, lambda provider, archive: provider.upload(archive, RunTag(job_id=JOB, attempt=1), _silent)),
    "start": Call("predictions.create", _ready, lambda provider, order: provider.start(order)),
    "find": Call("predictions.list", _lost, lambda provider, _: provider.find(RunTag(job_id=JOB, attempt=1))),
    "list": Call("predictions.list", _nothing, lambda provider, _: provider.list()),
    "poll": Call("predictions.get", _started, lambda provider, ref: provider.poll(ref, "")),
    "cancel": Call("predictions.cancel", _started, lambda provider, ref: provider.cancel(ref)),
    "discard": Call("files.list", _ready, lambda provider, _: provider.discard(RunTag(job_id=JOB, attempt=1), "")),
    "webhook": Call("webhooks.secret", _nothing, lambda provider, _: provider.webhook(forged(), b"{}")),
}  # fmt: skip

FAULTS = {
    "401": (Fault(status=401), "token_unusable", "Invalid token"),
    "402": (Fault(status=402), "out_of_credit", "402"),
    "403": (Fault(status=403), "provider_failure", "403"),
    "422": (Fault(status=422), "provider_failure", "an injected fault"),
    "429": (Fault(status=429), "provider_unavailable", "asked too often"),
    "429 for long": (Fault(status=429, retry_after_s=30), "provider_unavailable", "asked too often"),
    "500": (Fault(status=500), "provider_unavailable", "500"),
    "503 in HTML": (Fault(status=503, html=True), "provider_unavailable", "503"),
    "HTML": (Fault(html=True), "provider_failure", "cannot be read"),
    "truncated": (Fault(truncated=True), "provider_failure", "cannot be read"),
    "reset": (Fault(lost=True), "provider_unavailable", "without an answer"),
}
UNSURE = {"503 in HTML", "500", "HTML", "truncated", "reset"}
"""After these nobody knows what became of a create."""
SOON_OVER = {"429", "500", "503 in HTML", "reset"}
REPEATED = {"options", "find", "list", "poll", "cancel", "discard", "webhook"}


def _silent(_done: int, _total: int) -> None:
    """Progress that nobody watches."""


def again(fault: Fault) -> Fault:
    """A fresh one that lasts."""
    return Fault(
        times=MANY, status=fault.status, html=fault.html, truncated=fault.truncated, lost=fault.lost,
        retry_after_s=fault.retry_after_s,
    )  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", CALLS)
def test_every_fault_of_every_call_is_one_clear_error(
    replicate: Scene, call: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    what, (shown, code, words) = CALLS[call], FAULTS[fault]
    provider = replicate.provider()
    given = what.prepare(replicate, provider)
    replicate.emulator.fail(what.route, again(shown))
    if call == "cancel" and fault in {"HTML", "truncated"}:
        what.make(provider, given)  # it was asked for, and the next poll tells
        return
    with pytest.raises(LabError) as raised:
        what.make(provider, given)
    error = raised.value
    untold = call == "find" or (call == "start" and fault in UNSURE)
    assert (error.code, words in error.message) == ("provider_unavailable" if untold else code, True), error.message
    assert error.hint
    assert len(replicate.sleeps) == (2 if fault in SOON_OVER and call in REPEATED else 0)
    assert TOKEN not in f"{error.message} {error.hint} {error!r} {error.__cause__!r} {caplog.text}"


@pytest.mark.parametrize("fault", FAULTS)
def test_no_create_is_ever_paid_for_twice(replicate: Scene, fault: str) -> None:
    """Whatever happens to the answer: after it has been looked up, there is one prediction."""
    shown, _, _ = FAULTS[fault]
    provider = replicate.provider()
    order = uploaded(provider, replicate.order())
    replicate.emulator.fail(
        "predictions.create", Fault(status=shown.status, html=shown.html, truncated=shown.truncated, lost=shown.lost)
    )
    with pytest.raises(LabError):
        provider.start(order)
    try:
        found = provider.find(order.tag)
    except ProviderUnavailable:  # it may still arrive, so it is asked again, later
        replicate.emulator.advance(120)
        found = provider.find(order.tag)
    ref = found or provider.start(order)
    assert [one.id for one in replicate.emulator.predictions] == [ref]
    assert replicate.provider().find(order.tag) == ref  # also after a restart
    with pytest.raises(ProviderFailure, match="was started before"):
        provider.start(order)


def test_a_create_that_is_in_doubt_is_not_sent_again(replicate: Scene) -> None:
    """Not even by whoever forgets to ask `find`."""
    provider = replicate.provider()
    order = uploaded(provider, replicate.order())
    replicate.emulator.fail("predictions.create", Fault(status=502))
    with pytest.raises(ProviderUnavailable):
        provider.start(order)
    with pytest.raises(ProviderUnavailable, match="may still arrive"):
        provider.start(order)
    assert replicate.emulator.predictions == ()


def test_a_prediction_that_is_gone_is_lost(replicate: Scene) -> None:
    """To whom does not see it; but one that was just made may not be there yet."""
    ref = _started(replicate, replicate.provider())
    stranger = replicate.provider("r8_bob")
    with pytest.raises(ProviderUnavailable, match="not there yet"):
        stranger.poll(ref, "7")
    replicate.emulator.advance(61)
    snapshot = stranger.poll(ref, "7")
    assert (snapshot.state, snapshot.cursor) == (RunState.LOST, "7")
    assert ref in snapshot.error


def test_a_prediction_that_is_still_listed_is_not_lost(replicate: Scene) -> None:
    """Another would be paid for beside it."""
    provider = replicate.provider()
    ref = _started(replicate, provider)
    replicate.emulator.advance(61)
    state = provider.poll(ref, "").state
    replicate.emulator.fail("predictions.get", Fault(status=404))
    assert provider.poll(ref, "").state is state is not RunState.LOST


def test_an_answer_that_does_not_come_in_time(replicate: Scene) -> None:
    """The create went through; nothing but the list can say so."""
    provider = replicate.provider(timeout_s=0.2)
    order = uploaded(provider, replicate.order())
    held = replicate.emulator.fail("predictions.create", Fault(held=True))
    with pytest.raises(ProviderUnavailable, match=r"does not answer within 0\.2 s"):
        provider.start(order)
    with pytest.raises(ProviderUnavailable, match="may still arrive"):
        provider.find(order.tag)
    held.release()
    replicate.emulator.advance(30)
    (made,) = eventually(lambda: replicate.emulator.predictions)
    assert provider.find(order.tag) == made.id


def test_a_run_is_found_by_its_data_where_the_tag_is_stripped(replicate: Scene) -> None:
    provider = replicate.provider()
    first = replicate.begin(provider)
    order = uploaded(provider, replicate.order(attempt=2))
    replicate.emulator.fail("predictions.create", Fault(lost=True))
    with pytest.raises(ProviderUnavailable):
        provider.start(order)
    for one in replicate.emulator.predictions:
        del one.input["tag"]
    assert provider.find(order.tag) == replicate.emulator.predictions[1].id != first.ref


def test_a_lost_start_is_found_on_a_later_page(tmp_path: Path) -> None:
    with scene(tmp_path, conduct=Conduct(page_size=2)) as replicate:
        provider = replicate.provider()
        order = uploaded(provider, replicate.order())
        replicate.emulator.fail("predictions.create", Fault(lost=True))
        with pytest.raises(ProviderUnavailable):
            provider.start(order)
        for attempt in range(2, 8):
            replicate.begin(provider, replicate.order(attempt=attempt))
        assert provider.find(order.tag) == replicate.emulator.predictions[0].id
        assert replicate.asked("predictions.list") == 4


def test_what_was_removed_before_it_was_looked_at_cannot_be_told(replicate: Scene) -> None:
    """An hour after its end a prediction says no more what it was given."""
    provider = replicate.provider()
    order = uploaded(provider, replicate.order(config={"behaviour": "succeed"}))
    replicate.emulator.fail("predictions.create", Fault(lost=True))
    with pytest.raises(ProviderUnavailable):
        provider.start(order)
    replicate.emulator.advance(2 * 3600)
    with pytest.raises(ProviderUncertain, match="may be this run"):
        provider.find(order.tag)
    assert provider.discard(order.tag, order.upload_ref)


def test_a_lost_upload_leaves_nothing_behind(replicate: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nobody can tell whether it is there, so that it is sent again."""
    provider = replicate.provider()
    order = replicate.order()
    replicate.emulator.fail("files.create", Fault(lost=True))
    with pytest.raises(ProviderUnavailable):
        provider.upload(order.archive, order.tag, _silent)
    with monkeypatch.context() as patch:
        patch.setattr(_replicate_files, "_MOST_LISTED", 0)
        ref = provider.upload(order.archive, order.tag, _silent)
    assert len(replicate.emulator.files("ann")) == 2
    assert not provider.discard(order.tag, ref)  # the first may still be on its way
    replicate.emulator.advance(61)
    assert provider.discard(order.tag, ref)
    assert replicate.emulator.files("ann") == ()


def test_an_upload_whose_answer_was_lost_is_found_and_not_sent_again(replicate: Scene) -> None:
    provider = replicate.provider()
    order = replicate.order()
    replicate.emulator.fail("files.create", Fault(lost=True))
    with pytest.raises(ProviderUnavailable):
        provider.upload(order.archive, order.tag, _silent)
    told: list[tuple[int, int]] = []
    ref = replicate.provider().upload(order.archive, order.tag, lambda done, total: told.append((done, total)))
    (found,) = replicate.emulator.files("ann")
    assert ref.split()[0] == found.id
    assert told == [(0, order.archive.bytes)], "nothing left again"
    assert replicate.asked("files.create") == 1
    assert provider.upload(order.archive, order.tag, lambda done, total: told.append((done, total))) == ref
    assert told[1:] == told[:1]
    replicate.emulator.advance(61)
    assert provider.discard(order.tag, ref)
    assert replicate.emulator.files("ann") == ()


def test_what_was_refused_is_not_there_to_be_deleted(replicate: Scene) -> None:
    """So a job whose token was revoked comes to its end."""
    provider, order = replicate.provider(), replicate.order()
    replicate.emulator.revoke(TOKEN)
    with pytest.raises(TokenUnusable):
        provider.upload(order.archive, order.tag, _silent)
    assert provider.discard(order.tag, "")


def test_files_beyond_those_that_are_looked_through_cannot_be_told_gone(
    replicate: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known is deleted all the same, and the rest once it can be seen."""
    provider, order = replicate.provider(), replicate.order()
    replicate.emulator.fail("files.create", Fault(lost=True))
    with pytest.raises(ProviderUnavailable):
        provider.upload(order.archive, order.tag, _silent)
    with monkeypatch.context() as patch:
        patch.setattr(_replicate_files, "_MOST_LISTED", 0)
        ref = provider.upload(order.archive, order.tag, _silent)
        replicate.emulator.advance(61)
        with pytest.raises(ProviderUnavailable, match="cannot be told"):
            provider.discard(order.tag, ref)
    assert len(replicate.emulator.files("ann")) == 1
    assert provider.discard(order.tag, ref)
    assert replicate.emulator.files("ann") == ()


def test_data_that_seem_deleted_are_looked_at(replicate: Scene) -> None:
    """Only a file that is seen to be gone is gone."""
    provider = replicate.provider()
    order = uploaded(provider, replicate.order())
    replicate.emulator.fail("files.delete", Fault(times=MANY, status=500))
    with pytest.raises(ProviderUnavailable):
        provider.discard(order.tag, order.upload_ref)
    assert provider.upload(order.archive, order.tag, _silent) == order.upload_ref


@pytest.mark.parametrize(
    ("shown", "state"),
    [
        ("aborted", RunState.CANCELLED),
        ("pondering", RunState.UNKNOWN),
        ("canceled", RunState.CANCELLED),
        ("", RunState.UNKNOWN),
    ],
)
def test_no_status_is_too_strange(replicate: Scene, shown: str, state: RunState) -> None:
    provider = replicate.provider()
    run = replicate.begin(provider)
    replicate.emulator.fail("predictions.get", Fault(shown_status=shown))
    snapshot = run.poll()
    assert (snapshot.state, snapshot.raw_state) == (state, shown)
    replicate.emulator.fail("predictions.list", Fault(shown_status=shown))
    assert [one.state for one in provider.list()] == [state]


def test_sparse_answers_are_enough(tmp_path: Path) -> None:
    with scene(tmp_path, conduct=Conduct(shape=Shape.YEAR_2024)) as replicate:
        provider = replicate.provider()
        run = replicate.begin(provider)
        replicate.emulator.advance(5)
        assert run.poll().state is RunState.RUNNING
        provider.cancel(run.ref)
        assert run.poll().state is RunState.CANCELLED


def test_out_of_credit_starts_nothing(tmp_path: Path) -> None:
    with scene(tmp_path, conduct=Conduct(credit_usd=0.0)) as replicate:
        provider = replicate.provider()
        order = uploaded(provider, replicate.order())
        with pytest.raises(LabError) as raised:
            provider.start(order)
        assert (raised.value.code, raised.value.status) == ("out_of_credit", 402)
        assert provider.find(order.tag) is None


def test_a_logs_tail_takes_nothing_back(replicate: Scene) -> None:
    provider = replicate.provider()
    run = replicate.begin(provider)
    replicate.emulator.advance(65)
    first = run.poll()
    assert first.log.splitlines() == [b"it begins", b"still here", b"still here"]
    for left in (0, 4):
        replicate.emulator.fail("predictions.get", Fault(logs_tail=left))
        cut = run.poll(first.cursor)
        assert (cut.log, cut.cursor, cut.state) == (b"", first.cursor, RunState.RUNNING)
    replicate.emulator.advance(30)
    assert run.poll(first.cursor).log == b"still here\n"


def test_one_strange_prediction_does_not_hide_the_others(replicate: Scene) -> None:
    provider = replicate.provider()
    run = replicate.begin(provider)
    replicate.emulator.fail("predictions.list", Fault(shown_status="aborted"))
    assert [(one.ref, one.target, one.tag) for one in provider.list()] == [(run.ref, "cog", run.order.tag)]
    assert replicate.emulator.predictions[0].model == IMAGE
