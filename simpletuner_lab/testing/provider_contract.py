"""What every provider promises, as a pytest suite that its author subclasses.

    class TestMyProvider(ProviderContract):
        @pytest.fixture
        def provider(self, home, my_emulator):
            return MyProvider(MyProvider.Settings(url=my_emulator.url), ProviderContext(home=home, environment={}))

The provider talks to a real place or to an emulator on a real socket; the suite never looks behind its methods. What
runs there reads `config["behaviour"]` of its order and does what `Behaviour` says; where that is not possible, override
`make_order`. The suite needs pytest and nothing else.
"""
# ruff: noqa: D102 - a promise is the name of its test

from __future__ import annotations

import dataclasses
import enum
import hashlib
import re
import secrets
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, TypeAlias

import pytest

from simpletuner_lab.core.destination import FolderDelivery
from simpletuner_lab.core.errors import LabError
from simpletuner_lab.core.provider import Archive, Check, Provider, RunState, RunTag, Snapshot, StartOrder
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.testing import eventually

SECRET_NAME: Final = "CONTRACT_TOKEN"
"""Every order of the suite carries a secret of this name."""

RUNNING: Final = frozenset({RunState.QUEUED, RunState.RUNNING})


class Behaviour(enum.StrEnum):
    """What a run of the suite does. Each prints at least one line first."""

    SUCCEED = "succeed"
    """Ends well by itself, at once."""
    FAIL = "fail"
    """Ends badly by itself, at once; the last thing it says is `FAILURE`."""
    WAIT = "wait"
    """Runs until it is cancelled."""
    CHATTER = "chatter"
    """Prints `CHATTER_LINES` lines `line 0`, `line 1`, … and a last text without a newline, then ends well."""


FAILURE: Final = "ValueError: the stand-in was told to fail"
CHATTER_LINES: Final = 2000

MakeOrder: TypeAlias = Callable[..., StartOrder]
Launch: TypeAlias = Callable[..., "Run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that the suite started."""

    provider: Provider
    order: StartOrder
    ref: str
    patience_s: float

    def poll(self, cursor: str = "") -> Snapshot:
        """What the provider says of it now."""
        return self.provider.poll(self.ref, cursor)

    def follow(self) -> list[tuple[str, Snapshot]]:
        """Follows the run as the lab does, to its end: every cursor that was asked with, and what came."""
        seen = [("", self.poll())]

        def step() -> Snapshot:
            cursor = seen[-1][1].cursor
            seen.append((cursor, self.poll(cursor)))
            return seen[-1][1]

        if seen[0][1].state in RUNNING:
            eventually(step, lambda snapshot: snapshot.state not in RUNNING, patience_s=self.patience_s)
        return seen

    def ended(self) -> tuple[Snapshot, bytes]:
        """The last snapshot, once the run has ended, and the whole log."""
        seen = self.follow()
        return seen[-1][1], b"".join(snapshot.log for _cursor, snapshot in seen)


class ContractFixtures:
    """What the promises are tried with. Override `provider`, and whatever else does not fit."""

    patience_s: ClassVar[float] = 15.0
    """How long a run may take to start, to answer a cancel, to end."""
    unknown_ref: ClassVar[str] = "no-such-job/1"
    """A reference in this provider's form that names no run."""

    @pytest.fixture
    def home(self, tmp_path: Path) -> Path:
        """The folder that the provider gets as its own: `ProviderContext.home`."""
        return tmp_path / "provider-home"

    @pytest.fixture
    def provider(self) -> Provider:
        """The provider, ready to run."""
        raise NotImplementedError("a contract suite needs a `provider` fixture")

    @pytest.fixture
    def archive(self, tmp_path: Path) -> Archive:
        """A small zip with one file, as the lab's spool would hold it."""
        path = tmp_path / "spool.zip"
        content = b"a caption\n" * 1000
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr("set/one.txt", content)
        path.chmod(0o600)
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        return Archive(path=path, bytes=len(data), sha256=digest, files=1, content_bytes=len(content))

    @pytest.fixture
    def make_order(self, provider: Provider, archive: Archive, tmp_path: Path) -> MakeOrder:
        """Called with a behaviour, and by choice a job id and an attempt; the order's data are not uploaded yet."""

        def make(behaviour: Behaviour, job_id: str = "", attempt: int = 1) -> StartOrder:
            options = provider.options()
            job_id = job_id or f"j-{secrets.token_hex(6)}"
            return StartOrder(
                tag=RunTag(job_id=job_id, attempt=attempt),
                target=options.targets[0].id,
                hardware=options.rates[0].hardware,
                nonce=secrets.token_hex(8),
                config={"behaviour": behaviour.value},
                dataloader=[{"id": "set", "type": "local", "instance_data_dir": "set"}],
                plan_digest="0" * 64,
                archive=archive,
                upload_ref="",
                delivery=FolderDelivery(path=str(tmp_path / "delivered" / job_id)),
                deadline_s=None,
                secrets={SECRET_NAME: Secret(f"contract-{secrets.token_hex(16)}")},
            )

        return make

    @pytest.fixture
    def launch(self, provider: Provider, make_order: MakeOrder) -> Iterator[Launch]:
        """Uploads for and starts a run like `make_order`'s; whatever still runs after the test is cancelled."""
        started: list[Run] = []

        def launch(behaviour: Behaviour, job_id: str = "", attempt: int = 1) -> Run:
            order = uploaded(provider, make_order(behaviour, job_id, attempt))
            run = Run(provider=provider, order=order, ref=provider.start(order), patience_s=self.patience_s)
            started.append(run)
            return run

        yield launch
        for run in started:
            with suppress(LabError):
                provider.cancel(run.ref)


class DescriptionContract(ContractFixtures):
    """Front-ends draw a provider from its data alone."""

    def test_names_itself(self, provider: Provider) -> None:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", provider.id)
        assert provider.label.strip() == provider.label != ""

    def test_settings_are_a_frozen_dataclass_with_defaults(self, provider: Provider) -> None:
        settings = provider.Settings()
        assert dataclasses.is_dataclass(settings)
        for field in dataclasses.fields(settings):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(settings, field.name, getattr(settings, field.name))

    def test_check_says_what_to_do_when_it_is_not_ready(self, provider: Provider) -> None:
        check = provider.check()
        assert isinstance(check, Check)
        assert check.ready or (check.message and check.hint)

    def test_options_offer_a_target_and_a_rate(self, provider: Provider) -> None:
        options = provider.options()
        assert options.endpoint
        for names in ([target.id for target in options.targets], [rate.hardware for rate in options.rates]):
            assert names
            assert len(set(names)) == len(names)
        assert all(target.version for target in options.targets)

    def test_an_unsigned_webhook_speaks_of_no_run(self, provider: Provider) -> None:
        with suppress(LabError):
            assert provider.webhook({}, b"{}") is None


class UploadContract(ContractFixtures):
    """Data are handed over once or more, with the same result."""

    def test_upload_may_be_repeated(self, provider: Provider, make_order: MakeOrder) -> None:
        first = uploaded(provider, make_order(Behaviour.SUCCEED))
        again = uploaded(provider, first)
        ref = provider.start(again)
        assert Run(provider=provider, order=again, ref=ref, patience_s=self.patience_s).ended()[0].state == "succeeded"

    def test_progress_grows_to_the_whole(self, provider: Provider, make_order: MakeOrder, archive: Archive) -> None:
        order = make_order(Behaviour.SUCCEED)
        seen: list[tuple[int, int]] = []
        provider.upload(archive, order.tag, lambda done, total: seen.append((done, total)))
        assert seen == sorted(seen)
        assert seen[-1] == (archive.bytes, archive.bytes)

    def test_progress_may_stop_it(self, provider: Provider, make_order: MakeOrder, archive: Archive) -> None:
        order = make_order(Behaviour.SUCCEED)

        def stop(_done: int, _total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            provider.upload(archive, order.tag, stop)
        assert provider.find(order.tag) is None
        uploaded(provider, order)


class RunContract(ContractFixtures):
    """A run is started once, found by its tag, and comes to one true end."""

    def test_a_run_that_ends_well(self, launch: Launch) -> None:
        snapshot, log = launch(Behaviour.SUCCEED).ended()
        assert snapshot.state is RunState.SUCCEEDED
        assert snapshot.exit_code in (0, None)
        assert log.endswith(b"\n")

    def test_a_run_that_fails_says_why(self, launch: Launch) -> None:
        snapshot, _log = launch(Behaviour.FAIL).ended()
        assert snapshot.state is RunState.FAILED
        assert FAILURE in snapshot.error

    def test_an_end_is_final(self, launch: Launch) -> None:
        run = launch(Behaviour.SUCCEED)
        last, _log = run.ended()
        assert run.poll(last.cursor) == dataclasses.replace(last, log=b"")

    def test_find_knows_each_attempt(self, provider: Provider, launch: Launch) -> None:
        first = launch(Behaviour.SUCCEED)
        first.ended()
        second = launch(Behaviour.SUCCEED, first.order.tag.job_id, attempt=2)
        assert first.ref != second.ref
        assert provider.find(first.order.tag) == first.ref
        assert provider.find(second.order.tag) == second.ref
        assert {first.order.tag, second.order.tag} <= {run.tag for run in provider.list()}
        second.ended()

    def test_find_is_sure_of_what_was_never_started(self, provider: Provider, make_order: MakeOrder) -> None:
        order = make_order(Behaviour.SUCCEED)
        assert provider.find(order.tag) is None
        uploaded(provider, order)
        assert provider.find(order.tag) is None
        assert order.tag not in {run.tag for run in provider.list()}

    def test_an_unknown_run_is_lost(self, provider: Provider) -> None:
        snapshot = provider.poll(self.unknown_ref, "")
        assert snapshot.state is RunState.LOST
        assert snapshot.error

    def test_a_secret_is_kept_nowhere(self, provider: Provider, launch: Launch, home: Path) -> None:
        run = launch(Behaviour.SUCCEED)
        snapshot, log = run.ended()
        secret = run.order.secrets[SECRET_NAME].reveal().encode()
        texts = [log, repr(snapshot).encode(), run.ref.encode(), repr(provider).encode()]
        texts += [path.read_bytes() for path in home.rglob("*") if path.is_file()]
        assert not any(secret in text for text in texts)


class LogContract(ContractFixtures):
    """A log is read in whole lines, from any cursor, as often as one likes."""

    def test_only_whole_lines_and_all_of_them(self, launch: Launch) -> None:
        pieces = [snapshot.log for _cursor, snapshot in launch(Behaviour.CHATTER).follow()]
        assert all(piece.endswith(b"\n") for piece in pieces if piece)
        lines = b"".join(pieces).splitlines()
        expected = [b"line %d" % number for number in range(CHATTER_LINES)]
        assert [line for line in lines if line.startswith(b"line ")] == expected
        assert lines[-1] != expected[-1]  # the text without a newline came too, as a line

    def test_a_cursor_may_be_read_again(self, launch: Launch) -> None:
        run = launch(Behaviour.CHATTER)
        seen = run.follow()
        assert all(run.poll(cursor).log.startswith(snapshot.log) for cursor, snapshot in seen)
        assert run.poll(seen[-1][1].cursor).log == b""


class EndContract(ContractFixtures):
    """Cancelling and discarding, in any order and at any time."""

    def test_cancel_ends_a_run(self, provider: Provider, launch: Launch) -> None:
        run = launch(Behaviour.WAIT)
        provider.cancel(run.ref)
        snapshot, _log = run.ended()
        assert snapshot.state is RunState.CANCELLED

    def test_cancel_may_be_repeated(self, provider: Provider, launch: Launch) -> None:
        run = launch(Behaviour.WAIT)
        eventually(lambda: run.poll().log)
        provider.cancel(run.ref)
        provider.cancel(run.ref)
        last, _log = run.ended()
        provider.cancel(run.ref)
        assert last.state is RunState.CANCELLED
        assert run.poll(last.cursor).state is RunState.CANCELLED

    def test_cancel_changes_no_end(self, provider: Provider, launch: Launch) -> None:
        run = launch(Behaviour.SUCCEED)
        last, _log = run.ended()
        provider.cancel(run.ref)
        assert run.poll(last.cursor).state is RunState.SUCCEEDED

    def test_cancel_that_races_with_the_end(self, provider: Provider, launch: Launch) -> None:
        run = launch(Behaviour.SUCCEED)
        eventually(lambda: run.poll().log)
        provider.cancel(run.ref)
        last, _log = run.ended()
        assert last.state in {RunState.SUCCEEDED, RunState.CANCELLED}
        provider.cancel(run.ref)
        assert run.poll(last.cursor).state is last.state

    def test_discard_after_the_end(self, provider: Provider, launch: Launch) -> None:
        run = launch(Behaviour.SUCCEED)
        run.ended()
        assert provider.discard(run.order.tag, run.order.upload_ref)
        assert provider.discard(run.order.tag, run.order.upload_ref)

    def test_discard_before_the_end_takes_nothing(self, provider: Provider, launch: Launch) -> None:
        run = launch(Behaviour.WAIT)
        eventually(lambda: run.poll().log)
        with suppress(LabError):
            assert not provider.discard(run.order.tag, run.order.upload_ref)
        assert run.poll().state is RunState.RUNNING
        provider.cancel(run.ref)
        run.ended()
        assert provider.discard(run.order.tag, run.order.upload_ref)

    def test_discard_of_data_that_never_ran(self, provider: Provider, make_order: MakeOrder) -> None:
        order = uploaded(provider, make_order(Behaviour.SUCCEED))
        assert provider.discard(order.tag, order.upload_ref)


class ProviderContract(DescriptionContract, UploadContract, RunContract, LogContract, EndContract):
    """Every promise at once: the one class to subclass."""


def uploaded(provider: Provider, order: StartOrder) -> StartOrder:
    """The order, with its data handed over if it has any."""
    if order.archive is None:
        return order
    ref = provider.upload(order.archive, order.tag, lambda _done, _total: None)
    return dataclasses.replace(order, upload_ref=ref)
