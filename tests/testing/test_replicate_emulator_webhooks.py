"""Webhooks of the emulated Replicate, as a server on a real socket gets them."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.replicate_emulator import (
    ManualClock,
    ReplicateEmulator,
    ScaledClock,
    Step,
    WebhookFault,
    Word,
    replicate_emulator,
    signature,
)
from tests.testing.replicate_kit import ACCOUNTS, NOW, TRAINER, TRAINER_VERSION, Receiver, client, receiving

ALL = [word.value for word in Word]
STEPS = (Step(after_s=10, log="a\n"), Step(after_s=10, output="o"), Step(after_s=10, log="b\n"))


@pytest.fixture
def emulator() -> Iterator[ReplicateEmulator]:
    with replicate_emulator(ACCOUNTS, clock=ManualClock(NOW), plays={TRAINER: STEPS}) as running:
        yield running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


def start(emulator: ReplicateEmulator, receiver: Receiver, words: list[str] | None = None):
    given = {} if words is None else {"webhook_events_filter": words}
    return client(emulator).predictions.create(version=TRAINER_VERSION, input={}, webhook=receiver.url, **given)


def secret(emulator: ReplicateEmulator) -> str:
    return client(emulator).webhooks.default.secret().key


# -------------------------------------------------------------------------------------------------------- signatures


@pytest.mark.parametrize("prefix", ["whsec_", ""])
def test_the_vector_of_standard_webhooks(prefix: str) -> None:
    key = "MfKQ9r8GKYqrTwjUPD8I" + "LPZIo2LaLaSw"  # published with the specification
    made = signature(prefix + key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_without_padding_signs_the_same() -> None:
    padded, bare = (signature(key, "msg_a", 1, b"{}") for key in ("whsec_c2VjcmV0LQ==", "whsec_c2VjcmV0LQ"))
    assert padded == bare


def test_every_webhook_is_signed(emulator: ReplicateEmulator, receiver: Receiver) -> None:
    run = start(emulator, receiver, ALL)
    emulator.advance(100)
    assert receiver.told == ["processing", "processing", "processing", "processing", "succeeded"]
    assert len({one.id for one in receiver.got}) == 5
    for one in receiver.got:
        one.verify(secret(emulator))
        assert one.headers["Content-Type"] == "application/json"
        with pytest.raises(ValueError, match="signature"):
            one.verify("whsec_" + "AAAA" * 8)
    assert [one.timestamp - NOW for one in receiver.got] == [0, 10, 20, 30, 30]
    run.reload()
    last = receiver.got[-1].told
    assert (last["id"], last["output"], last["logs"], last["metrics"]) == (run.id, "o", "a\nb\n", run.metrics)


# ------------------------------------------------------------------------------------------- filter, throttle, ends


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["start"], [(0, "", None)]),
        (["logs"], [(10, "a\n", None), (30, "a\nb\n", "o")]),
        (["output"], [(20, "a\n", "o")]),
        (["completed"], [(30, "a\nb\n", "o")]),
        (None, [(20, "a\n", "o"), (30, "a\nb\n", "o")]),
        ([], []),
    ],
)
def test_the_filter(emulator: ReplicateEmulator, receiver: Receiver, words: list[str] | None, told: list) -> None:
    start(emulator, receiver, words)
    emulator.advance(100)
    assert [(one.timestamp - NOW, one.told["logs"], one.told["output"]) for one in receiver.got] == told


def test_output_and_logs_are_throttled(emulator: ReplicateEmulator, receiver: Receiver) -> None:
    """Ten lines a second: two webhooks a second, each with all there is; the end does not wait."""
    emulator.play(TRAINER, [Step(after_s=0.1, log=f"{number}\n") for number in range(30)])
    start(emulator, receiver, ["logs", "completed"])
    emulator.advance(10)
    lengths = [one.told["logs"].count("\n") for one in receiver.got]
    assert lengths == [1, 6, 11, 16, 21, 26, 30]
    assert receiver.told[-1] == "succeeded"
    emulator.play(TRAINER, [Step(after_s=0.1, log="x\n", output=number) for number in range(3)])
    start(emulator, receiver, ["start", "output", "completed"])
    emulator.advance(10)
    assert [one.told["output"] for one in receiver.got[7:]] == [None, 0, 2]


def test_each_end_is_told_as_completed(emulator: ReplicateEmulator, receiver: Receiver) -> None:
    for step in (Step(), Step(error="boom"), Step(after_s=5000)):
        emulator.play(TRAINER, [step])
        start(emulator, receiver, ["completed"])
        emulator.advance(1)
    client(emulator).predictions.cancel(emulator.predictions[-1].id)
    early = start(emulator, receiver, ["completed"])
    emulator.abort(early.id)
    emulator.conduct.tells_aborted = False
    emulator.abort(start(emulator, receiver, ["completed"]).id)
    emulator.advance(0)
    assert receiver.told == ["succeeded", "failed", "canceled", "aborted"]
    assert {delivery.word for delivery in emulator.deliveries} == {Word.COMPLETED}


# ------------------------------------------------------------------------------------------------------------ tries


def test_the_last_webhook_is_tried_for_a_minute(emulator: ReplicateEmulator, receiver: Receiver) -> None:
    receiver.answers.extend([500] * 50)
    start(emulator, receiver, ALL)
    emulator.advance(400)
    tries = [(one.word, one.attempt, one.at - NOW) for one in emulator.deliveries]
    assert tries[:4] == [("start", 1, 0), ("logs", 1, 10), ("output", 1, 20), ("logs", 1, 30)]
    assert [at for word, _, at in tries if word == "completed"] == [30, 31, 33, 37, 45, 61, 90]
    last = receiver.got[4:]
    assert (len({one.id for one in last}), len({one.body for one in last})) == (1, 1)
    assert [one.timestamp - NOW for one in last] == [30, 31, 33, 37, 45, 61, 90]
    for one in last:
        one.verify(secret(emulator))


@pytest.mark.parametrize("status", [302, 401, 404, 500])
def test_a_try_that_succeeds_is_the_last(emulator: ReplicateEmulator, receiver: Receiver, status: int) -> None:
    """A redirect is not followed, and is no success."""
    receiver.answers.extend([status, status])
    start(emulator, receiver, ["completed"])
    emulator.advance(400)
    assert [one.status for one in emulator.deliveries] == [status, status, 200]
    assert len(receiver.got) == 3


def test_nobody_listens(emulator: ReplicateEmulator) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        run = start(emulator, Receiver(url=f"http://127.0.0.1:{taken.getsockname()[1]}/"), ["start", "completed"])
        emulator.advance(200)
    run.reload()
    assert (run.status, [one.status for one in emulator.deliveries]) == ("succeeded", [0] * 8)


def test_on_a_clock_that_runs_by_itself(receiver: Receiver) -> None:
    """An hour in two seconds: the last webhook comes although the first tries fail."""
    receiver.answers.extend([500, 500])
    with replicate_emulator(ACCOUNTS, clock=ScaledClock(1800.0), plays={TRAINER: STEPS}) as emulator:
        start(emulator, receiver, ["completed"])
        eventually(lambda: len(receiver.got) == 3)
        assert len({one.id for one in receiver.got}) == 1
        assert receiver.told == ["succeeded"] * 3


def test_a_receiver_that_does_not_answer_holds_nobody_up() -> None:
    """Neither the emulator's other work nor its end."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with replicate_emulator(ACCOUNTS, clock=ScaledClock(1800.0), plays={TRAINER: STEPS}) as emulator:
            run = start(emulator, Receiver(url=url), ALL)
            eventually(lambda: emulator.predictions[0].status.is_terminal)
            run.reload()
        assert (run.status, emulator.deliveries) == (
            "succeeded",
            (),
        )  # no try had come to an end, not even by its time-out


# ----------------------------------------------------------------------------------------------------------- faults


def test_dropped_duplicate_late(emulator: ReplicateEmulator, receiver: Receiver) -> None:
    emulator.fail("webhook", WebhookFault(dropped=True, words=("start",)))
    emulator.fail("webhook", WebhookFault(duplicate=True, words=("output",)))
    emulator.fail("webhook", WebhookFault(late_s=120, words=("logs",)))
    start(emulator, receiver, ALL)
    emulator.advance(1000)
    ids = [one.id for one in receiver.got]
    assert [(one.word, one.at - NOW) for one in emulator.deliveries] == [
        ("output", 20), ("output", 20), ("logs", 30), ("completed", 30), ("logs", 130)
    ]  # fmt: skip
    assert (ids[0], len(set(ids))) == (ids[1], 4)
    assert (receiver.got[-1].status, receiver.got[-1].told["logs"]) == ("processing", "a\n")


def test_reordered(emulator: ReplicateEmulator, receiver: Receiver) -> None:
    """The end comes before the last output, as it was seen to; without a next one it comes five seconds late."""
    emulator.play(TRAINER, [Step(after_s=10, output="o")])
    emulator.fail("webhook", WebhookFault(reordered=True, words=("output",)))
    start(emulator, receiver, ["output", "completed"])
    emulator.advance(10)
    assert receiver.told == ["succeeded", "processing"]
    emulator.fail("webhook", WebhookFault(reordered=True, words=("completed",)))
    start(emulator, receiver, ["completed"])
    emulator.advance(14)
    assert len(receiver.got) == 2
    emulator.advance(1)
    assert receiver.told[2:] == ["succeeded"]


def test_signatures_that_are_wrong(emulator: ReplicateEmulator, receiver: Receiver) -> None:
    before = secret(emulator)
    emulator.fail("webhook", WebhookFault(bad_signature=True))
    emulator.fail("webhook", WebhookFault(old_timestamp=True))
    emulator.fail("webhook", WebhookFault(rotated=True))
    start(emulator, receiver, ALL)
    emulator.advance(100)
    bad, old, rotated, after, last = receiver.got
    with pytest.raises(ValueError, match="signature"):
        bad.verify(before)
    old.verify(before)
    assert old.timestamp == NOW + 10 - 600
    for one in (rotated, after, last):
        with pytest.raises(ValueError, match="signature"):
            one.verify(before)
        one.verify(secret(emulator))
    assert emulator.rotate_secret() == secret(emulator)
