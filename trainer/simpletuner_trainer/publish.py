"""Delivery: parcels of files go to the destination in the background, in order, each with its manifest last.

Training does not wait for an upload. A parcel stays at the head of the line until it is delivered; while the destination
cannot be reached it is tried again with growing pauses. The result of the run is simply the last parcel, and the only
one that the end of the run waits for.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

from simpletuner_trainer.errors import BadDestination, Refused, Undelivered
from simpletuner_trainer.files import Manifest
from simpletuner_trainer.report import Report
from simpletuner_trainer.spec import MANIFEST_NAME
from simpletuner_trainer.stores import Shipment, Store, Unreachable
from simpletuner_trainer.workdir import folder_name, step_of

if TYPE_CHECKING:
    from simpletuner_trainer.reporter import Reporter
    from simpletuner_trainer.stop import Stop

T = TypeVar("T")

PATIENCE_S: Final = 120.0
"""How long the end of a run waits for a destination that cannot be reached."""
PARTING_S: Final = 20.0
"""The same for a run that was stopped: what is on disk is safe, a spot machine has half a minute."""
_AWAY_S: Final = 3.0
"""The same where the destination is known to be away."""
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 15.0
_LONGEST_ASKED_PAUSE_S: Final = 900.0
"""A destination that says when to come again is believed up to this long."""
_SLOWEST_BYTES_PER_S: Final = 64 * 1024
"""A parcel under way at this pace is not given up: a whole commit may show no progress before its end."""
_MOST_WAITING: Final = 2
_CHECKPOINTS: Final = "checkpoints/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """Files of one folder that go to `prefix` in this order, and what is reported once all of them are there."""

    folder: Path
    names: tuple[str, ...]
    prefix: str = ""
    reports: tuple[Report, ...] = ()
    title: str = ""
    """What it is, for who looks at the destination's history."""
    replaceable: bool = False
    """A newer one may take its place while it waits (a checkpoint when uploads are slower than training)."""


class Publisher:
    """The line of parcels and the thread that carries them. Without a store they stay on disk and are only reported."""

    def __init__(self, store: Store | None, say: Reporter, stop: Stop, *, checkpoints: bool = True) -> None:
        self._store, self._say, self._stop = store, say, stop
        self._checkpoints = checkpoints
        self._line: deque[Parcel] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._progress_s = time.monotonic()
        self._trouble = ""
        self._refused: Refused | None = None
        self._thread = threading.Thread(target=self._carry, name="publisher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """After a fault too, what was written gets a moment to arrive."""
        if error is not None:
            self._wait_until_empty(min(PARTING_S, _AWAY_S) if self._trouble else PARTING_S)
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def delivers(self) -> bool:
        """Whether there is a destination."""
        return self._store is not None

    @property
    def takes_checkpoints(self) -> bool:
        """Whether there is a destination, and checkpoints are wanted there."""
        return self._store is not None and self._checkpoints

    def send(self, parcel: Parcel) -> None:
        """Put a parcel at the end of the line; never waits."""
        if self._store is None:
            self._announce(parcel)
            return
        with self._changed:
            waiting = [old for old in list(self._line)[1:] if old.replaceable]
            if parcel.replaceable and len(waiting) >= _MOST_WAITING:
                self._line.remove(waiting[0])
                self._say.text(f"warning: uploads are behind; {waiting[0].prefix} is left out for a newer one")
            self._line.append(parcel)
            self._changed.notify_all()

    def in_use(self) -> set[Path]:
        """Folders that are waiting to be delivered."""
        with self._changed:
            return {parcel.folder for parcel in self._line}

    def check(self) -> None:
        """Raise `Refused` once the destination has said no: nothing that is trained from here on would arrive."""
        if self._refused is not None:
            raise self._refused

    def finish(self) -> None:
        """Wait until everything is delivered: `Undelivered` when nothing moves for `PATIENCE_S`, `Stopped` when asked."""
        self._wait_until_empty(PATIENCE_S, interruptible=True)
        self.check()
        if self.in_use():
            message = f"the destination could not be reached: {self._trouble or 'no answer'}"
            raise Undelivered(message, "everything is on disk: start again with the same work_dir and it only delivers")

    def ask(self, question: Callable[[Store], T]) -> T | None:
        """Ask the store in this thread, with the same patience; None without a store."""
        if self._store is None:
            return None
        until_s, pause_s = time.monotonic() + PATIENCE_S, _FIRST_PAUSE_S
        while True:
            try:
                return question(self._store)
            except Refused as error:
                raise BadDestination(error.message, error.hint) from error
            except Unreachable as error:
                if time.monotonic() + pause_s > until_s:
                    hint = "check that the destination runs and can be reached from here, then start again"
                    raise Undelivered(f"the destination could not be reached: {error}", hint) from error
                self._say.text(f"warning: {error}; trying again in {pause_s:.0f} s")
            self._stop.check()
            self._stop.pause(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _wait_until_empty(self, patience_s: float, *, interruptible: bool = False) -> None:
        begun_s = time.monotonic()
        with self._changed:
            while self._line and self._refused is None:
                if interruptible:
                    self._stop.check()
                if time.monotonic() - max(begun_s, self._progress_s) >= patience_s:
                    return
                self._changed.wait(0.1)

    def _carry(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while (parcel := self._next()) is not None:
            try:
                self._deliver(parcel)
            except Unreachable as error:
                self._trouble = str(error)
                asked_s = min(error.retry_after_s or 0.0, _LONGEST_ASKED_PAUSE_S)
                if asked_s > pause_s:  # to wait as long as it says is no lack of patience
                    self._progress_s = time.monotonic() + asked_s
                self._say.text(f"warning: {error}; trying again in {max(pause_s, asked_s):.0f} s")
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, max(pause_s, asked_s))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            except FileNotFoundError as error:
                self._say.text(f"warning: {parcel.prefix or parcel.folder.name} is gone before it was sent: {error}")
            except Refused as error:
                with self._changed:
                    self._refused = error
                    self._changed.notify_all()
                return
            pause_s, self._trouble = _FIRST_PAUSE_S, ""
            with self._changed:
                self._line.remove(parcel)
                self._changed.notify_all()

    def _next(self) -> Parcel | None:
        with self._changed:
            self._changed.wait_for(lambda: self._line or self._closed)
            return None if self._closed or not self._line else self._line[0]

    def _deliver(self, parcel: Parcel) -> None:
        assert self._store is not None
        shipment = Shipment(folder=parcel.folder, names=parcel.names, prefix=parcel.prefix, title=parcel.title)
        allowed_s = sum((parcel.folder / name).stat().st_size for name in parcel.names) / _SLOWEST_BYTES_PER_S
        last_s = self._progress_s

        def moved() -> None:
            nonlocal last_s
            last_s = time.monotonic()
            self._progress_s = last_s + allowed_s

        self._progress_s = time.monotonic() + allowed_s
        try:
            self._store.ship(shipment, moved)
            last_s = time.monotonic()
        finally:
            self._progress_s = last_s
        self._announce(parcel)

    def _announce(self, parcel: Parcel) -> None:
        for report in parcel.reports:
            self._say.report(report)


def fetch_checkpoint(store: Store, checkpoints: Path) -> int | None:
    """Bring the newest whole checkpoint of an earlier attempt back to the disk; its step, None where there is none."""
    names = store.names(_CHECKPOINTS)
    folders = {name.split("/")[1] for name in names if name.count("/") >= 2 and name.endswith(f"/{MANIFEST_NAME}")}
    steps = sorted((step for name in folders if (step := step_of(name)) is not None), reverse=True)
    for step in steps:
        prefix, target = f"{_CHECKPOINTS}{folder_name(step)}/", checkpoints / folder_name(step)
        partial = checkpoints / f".{target.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        store.get(prefix + MANIFEST_NAME, partial / MANIFEST_NAME)
        try:
            for entry in Manifest.decode((partial / MANIFEST_NAME).read_bytes()).files:
                path = partial / entry.path
                path.parent.mkdir(parents=True, exist_ok=True)
                store.get(prefix + entry.path, path)
            Manifest.verified(partial)
        except (ValueError, Refused):
            shutil.rmtree(partial)
            continue
        partial.rename(target)
        return step
    return None
