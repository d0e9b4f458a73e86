"""This machine: each attempt is a trainer process under a supervisor that outlives the lab (SPEC P1, DESIGN §2.7).

Everything about a run lies in its folder (`_run_folder`), so any process of the same user can poll, cancel and
discard it. A run is reported as ended only once its whole log has been read: while a poll still leaves text behind,
the state stays `running` and the caller polls again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar, Final

from simpletuner_lab.core.canonical import canonical_json
from simpletuner_lab.core.cost import Rate
from simpletuner_lab.core.errors import (
    DiskFull,
    InvalidRequest,
    Problem,
    ProviderFailure,
    ProviderUnavailable,
    lacks_room,
)
from simpletuner_lab.core.provider import (
    Archive,
    Capabilities,
    Check,
    ListedRun,
    Options,
    ProgressCallback,
    ProviderContext,
    RunState,
    RunTag,
    Snapshot,
    StartOrder,
    Target,
)
from simpletuner_lab.providers._child import child_environment, spec_document
from simpletuner_lab.providers._interpreter import Python
from simpletuner_lab.providers._run_end import Ending, explain, run_state
from simpletuner_lab.providers._run_folder import Attempt, Runs, private

_SUPERVISOR: Final = Path(__file__).with_name("_supervisor.py")
_BLOCK_BYTES: Final = 1 << 20

TARGET: Final = "trainer"
_LONGEST_GRACE_S: Final = 86400
_NICEST: Final = 19


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """Settings of this machine."""

    python: str = ""
    """Interpreter that has the trainer and torch: a path, or a name on PATH. Empty: the one the lab runs in."""
    grace_s: float = 30.0
    """How long a cancelled trainer has to write its checkpoint before it is killed."""
    nice: int = 0
    """Added to the trainer's niceness, 0 to 19: a higher one leaves more of the machine to you."""

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            InvalidRequest: those that are out of bounds.
        """
        bounds = {"grace_s": (self.grace_s, _LONGEST_GRACE_S), "nice": (self.nice, _NICEST)}
        found = [
            Problem(path=name, message=f"{value} is not 0 to {most}")
            for name, (value, most) in bounds.items()
            if not 0 <= value <= most
        ]
        if found:
            raise InvalidRequest("; ".join(f"{one.path} {one.message}" for one in found), problems=found)


class LocalProvider:
    """Runs trainers on this machine."""

    id: ClassVar[str] = "local"
    label: ClassVar[str] = "This machine"
    capabilities: ClassVar[Capabilities] = Capabilities(remote=False, poll_s=0.5)
    Settings: ClassVar[type] = LocalSettings

    def __init__(self, settings: LocalSettings, context: ProviderContext) -> None:
        self._settings = settings
        self._context = context
        self._runs = Runs(context.home / "runs")
        self._python = Python(settings.python, child_environment(context.environment, {}))

    def setting_problems(self) -> Iterator[Problem]:
        """An interpreter that is none."""
        if not self._python.is_there:
            hint = "an absolute path, or a name on PATH; empty: the one that the lab runs in"
            yield Problem(path="python", message=f"{self._settings.python!r} is no program here", hint=hint)

    def setting_doubts(self) -> Sequence[str]:
        """None."""
        return ()

    def check(self) -> Check:
        """Whether the interpreter is there and has all that training needs."""
        try:
            found = self._python.ask()
        except ProviderUnavailable as error:
            return Check(ready=False, message=error.message, hint=error.hint)
        if found.problem:
            return Check(ready=False, message=f"{self._python.path} {found.problem}", hint=self._python.install_hint)
        return Check(ready=True, message=f"{found.device_label}; simpletuner-trainer {found.trainer_version}")

    def options(self) -> Options:
        """The trainer that is installed, on the one device it would use, for nothing.

        Raises:
            ProviderUnavailable: there is no trainer to offer; `check` says the same.
        """
        found = self._python.ask()
        version = found.trainer_version
        if not version:
            raise ProviderUnavailable(f"{self._python.path} {found.problem}", hint=self._python.install_hint)
        target = Target(id=TARGET, label="Trainer on this machine", version=version, live_metrics=True, resume=True)
        rate = Rate(hardware=found.device, label=found.device_label, usd_per_hour=0.0, source="your own machine")
        return Options(targets=(target,), rates=(rate,), endpoint="this machine")

    def upload(self, archive: Archive, tag: RunTag, progress: ProgressCallback) -> str:
        """Links (across file systems: copies) the archive into the job's folder and checks it; nothing leaves.

        Raises:
            ProviderFailure: its bytes are not those that were planned.
        """
        job = self._runs.job(tag.job_id)
        with _disk(f"the data of job {tag.job_id} cannot be kept"):
            for folder in (self._context.home, self._runs.root, job):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            data = job / "data.zip"
            if not _is_whole(data, archive, progress):
                draft = Path(tempfile.mkdtemp(prefix=".data.", dir=job))
                try:
                    _take(archive, draft / "data.zip", progress)
                    (draft / "data.zip").replace(data)
                finally:
                    shutil.rmtree(draft, ignore_errors=True)
        return _upload_ref(tag)

    def start(self, order: StartOrder) -> str:
        """Spawns a supervisor that already holds the attempt's lock, and through it the trainer.

        Raises:
            ProviderFailure: the data are not here, an attempt of this job lives, or this one was started before.
            ProviderUnavailable: no process could be started; there is then no trace of one.
        """
        attempt = self._runs.attempt(order.tag)
        if order.upload_ref != _upload_ref(order.tag) or not (attempt.job / "data.zip").is_file():
            raise ProviderFailure(f"the data of job {order.tag.job_id} are not here", hint="upload them again")
        environment = child_environment(self._context.environment, order.secrets)
        with _disk("the run cannot be started"):
            if any(other.ending() is None for other in self._runs.of(attempt.job)):
                raise ProviderFailure(f"job {order.tag.job_id} still runs here", hint="wait for its end, or cancel it")
            (attempt.job / "work").mkdir(mode=0o700, exist_ok=True)
            lock = attempt.create(
                {
                    "spec.json": canonical_json(spec_document(order, attempt.job)),
                    "order.json": self._supervisors_order(attempt),
                }
            )
            try:
                _spawn(attempt, lock, environment)
            finally:
                os.close(lock)
        return attempt.ref

    def find(self, tag: RunTag) -> str | None:
        """The run with this tag, by its folder."""
        attempt = self._runs.attempt(tag)
        with _disk("the runs cannot be read"):
            try:
                attempt.folder.stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return attempt.ref

    def list(self) -> Sequence[ListedRun]:
        """Every attempt whose folder is here."""
        with _disk("the runs cannot be read"):
            found = [_listed(attempt) for attempt in self._runs.all()]
        return sorted(found, key=lambda run: run.created_at, reverse=True)

    def poll(self, ref: str, cursor: str) -> Snapshot:
        """The state from the run's locks and files, and its log from the byte that the cursor names."""
        attempt = self._runs.by_ref(ref)
        offset = _offset(cursor)
        if not attempt.folder.is_dir():
            return Snapshot(state=RunState.LOST, cursor=cursor, error=f"the folder of run {ref} is gone", cost_usd=0.0)
        with _disk(f"run {ref} cannot be read"):
            ending = attempt.ending()  # before the log: the log of a run that is seen to be over is whole
            piece = attempt.read_log(offset, ended=ending is not None)
            over = ending is not None and not piece.more
            error = explain(ending, attempt.log_tail()) if ending is not None and over else ""
        return Snapshot(
            state=run_state(ending) if ending is not None and over else RunState.RUNNING,
            cursor=str(piece.offset),
            log=piece.text,
            raw_state=_raw_state(ending),
            exit_code=ending.status if ending is not None and over else None,
            error=error,
            cost_usd=0.0,
        )

    def cancel(self, ref: str) -> None:
        """Leaves a note that the supervisor finds; nothing on a run that has ended."""
        attempt = self._runs.by_ref(ref)
        with _disk(f"run {ref} cannot be cancelled"), suppress(FileNotFoundError):
            if attempt.folder.is_dir() and attempt.ending() is None:
                (attempt.folder / "cancel").touch(mode=0o600)

    def discard(self, tag: RunTag, upload_ref: str) -> bool:  # noqa: ARG002 - the tag says where the data are
        """Removes the job's folder: data, caches, checkpoints, logs. False while an attempt of it lives."""
        job = self._runs.job(tag.job_id)
        with _disk(f"the files of job {tag.job_id} cannot be removed"):
            if any(attempt.ending() is None for attempt in self._runs.of(job)):
                return False
            with suppress(FileNotFoundError):
                shutil.rmtree(job)
            return not job.exists()

    def webhook(self, headers: Mapping[str, str], body: bytes) -> str | None:  # noqa: ARG002 - the protocol's
        """None: this machine sends no webhooks."""
        return None

    def _supervisors_order(self, attempt: Attempt) -> bytes:
        """`order.json`, as `_supervisor` reads it."""
        return canonical_json(
            {
                "attempt": attempt.number,
                "command": [self._python.path, "-m", "simpletuner_trainer", str(attempt.folder / "spec.json")],
                "grace_s": self._settings.grace_s,
                "nice": self._settings.nice,
            }
        )


def _spawn(attempt: Attempt, lock: int, environment: Mapping[str, str]) -> None:
    """Starts the supervisor; the process that is waited for forks and ends at once."""
    command = [sys.executable, "-I", "-S", str(_SUPERVISOR), str(lock)]
    try:
        with open(attempt.folder / "supervisor.log", "xb", opener=private) as log:
            subprocess.run(
                command, cwd=attempt.folder, env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=(lock,), start_new_session=True, check=True,
            )  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(attempt.folder, ignore_errors=True)
        raise ProviderUnavailable(f"no process could be started: {error}", hint="try again in a minute") from error


def _upload_ref(tag: RunTag) -> str:
    return f"{tag.job_id}/data.zip"


def _offset(cursor: str) -> int:
    if cursor and not (cursor.isascii() and cursor.isdigit()):
        raise ProviderFailure(f"{cursor!r} is not a place in a log", hint="an empty one reads from the start")
    return int(cursor or 0)


def _raw_state(ending: Ending | None) -> str:
    if ending is None:
        return "running"
    if ending.status is not None:
        return f"exit {ending.status}"
    return f"signal {ending.signal}" if ending.signal is not None else "gone"


def _is_whole(data: Path, archive: Archive, progress: ProgressCallback) -> bool:
    """Whether an earlier upload left exactly this archive."""
    try:
        with data.open("rb") as source:
            return _digest(source, None, archive.bytes, progress) == archive.sha256
    except FileNotFoundError:
        return False


def _take(archive: Archive, target: Path, progress: ProgressCallback) -> None:
    """The archive under a second name, checked while it is read once."""
    with archive.path.open("rb") as source, _second_name(archive.path, target) as copy:
        found = _digest(source, copy, archive.bytes, progress)
    if found != archive.sha256:
        raise ProviderFailure("the archive is not the one that was planned; nothing was started", hint="submit again")


def _second_name(source: Path, target: Path) -> AbstractContextManager[BinaryIO | None]:
    """None once `target` is another name of `source`; an empty file to fill where it cannot be."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        return open(target, "xb", opener=private)
    return nullcontext(None)


def _digest(source: BinaryIO, copy: BinaryIO | None, total: int, progress: ProgressCallback) -> str:
    digest = hashlib.sha256()
    done = 0
    while block := source.read(_BLOCK_BYTES):
        digest.update(block)
        if copy is not None:
            copy.write(block)
        done += len(block)
        progress(done, total)
    return digest.hexdigest()


@contextmanager
def _disk(what: str) -> Iterator[None]:
    """Turns what the file system says into the lab's errors."""
    try:
        yield
    except OSError as error:
        if lacks_room(error):
            raise DiskFull(f"{what}: {error.strerror}", hint="free some space") from error
        raise ProviderUnavailable(f"{what}: {error}", hint="see whether its folder can be read and written") from error


def _listed(attempt: Attempt) -> ListedRun:
    ending = attempt.ending()
    return ListedRun(
        ref=attempt.ref,
        tag=RunTag(job_id=attempt.job.name, attempt=attempt.number),
        target=TARGET,
        state=RunState.RUNNING if ending is None else run_state(ending),
        created_at=attempt.folder.stat().st_mtime,
        cost_usd=0.0,
    )
