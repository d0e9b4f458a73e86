"""The courier: what came home goes on to an S3 bucket or the Hub, and is put on record there (SPEC D2 to D4).

A push is a row of the store. Each try begins from that row and from what the destination has already: content that is
there is not sent again, and a commit that changes nothing is not made. So a process may die at any point, and the next
one goes on. What a trainer sent by itself is only looked at here.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from simpletuner_lab.core.canonical import canonical_json
from simpletuner_lab.core.consent import ConsentMode
from simpletuner_lab.core.destination import (
    S3_ACCESS_KEY,
    S3_SECRET_KEY,
    S3_SESSION_TOKEN,
    AwayDestination,
    DeliveryState,
    HubDestination,
    Push,
    S3Destination,
    Sender,
    job_prefix,
    label,
)
from simpletuner_lab.core.errors import JobNotFound, LabError, ProviderUnavailable, StaleRecord, UploadsForbidden
from simpletuner_lab.core.event import EventDraft, EventKind, Scalar
from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.core.redact import mask
from simpletuner_lab.services.outbox import GivenUp, Outbox
from simpletuner_lab.services.outputs import Outputs
from simpletuner_lab.services.store import Store
from simpletuner_lab.services.tokens import HUB_ENDPOINT, Tokens
from simpletuner_trainer import spec
from simpletuner_trainer.errors import TrainerError
from simpletuner_trainer.files import Manifest
from simpletuner_trainer.stores import Receipt, Shipment, Unreachable, open_store
from simpletuner_trainer.stores import Store as Away

_FIRST_PAUSE_S: Final = 2.0
_LONGEST_PAUSE_S: Final = 15 * 60.0
_LOOKS: Final = 4
"""So often what a trainer sent is looked for before it is said that it could not be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bag:
    """What the courier works with. `folder` holds its locks and its notes of uploads that were begun."""

    store: Store
    outputs: Outputs
    tokens: Tokens
    folder: Path
    consent_mode: Callable[[], ConsentMode]


class _Closing(Exception):
    """This process ends; the push goes on in the next one."""


class Courier:
    """Carries pushes. Safe in several threads and processes: a push is in one pair of hands at a time."""

    def __init__(self, bag: Bag, outbox: Outbox, clock: Callable[[], float]) -> None:
        self._bag = bag
        self._outbox = outbox
        self._clock = clock
        self._closing = threading.Event()

    def close(self) -> None:
        """Lets tries under way end at the next part or commit; they go on from there another time."""
        self._closing.set()

    def due(self, job_id: str | None = None) -> tuple[Push, ...]:
        """Pushes that a try may bring further now: all of them, or one job's."""
        now = self._clock()
        found = (push for push in self._bag.store.pushes.open(job_id) if push.retry_at is None or push.retry_at <= now)
        return tuple(push for push in found if self._has_work(push))

    def carry(self, push: Push) -> Push:
        """One try; returns the push as stored afterwards, or as it was where another process has it in hand.

        Raises:
            JobNotFound: the job is gone.
        """
        with self._in_hand(push.id) as mine:
            if not mine:
                return push
            push = self._bag.store.pushes.get(push.id)
            if not push.open:
                return push
            try:
                return self._try(push)
            except GivenUp:
                return self._bag.store.pushes.get(push.id)

    def _try(self, push: Push) -> Push:
        try:
            return self._step(push)
        except _Closing:
            return self._outbox.record(replace(self._bag.store.pushes.get(push.id), state=DeliveryState.WAITING))
        except Unreachable as error:
            return self._later(push, str(error), retry_after_s=error.retry_after_s)
        except TrainerError as error:
            return self._failed(push, error.code, error.message, error.hint)
        except (JobNotFound, StaleRecord):
            raise
        except OSError as error:
            message = f"{error.filename or 'a file'} cannot be read: {error.strerror or error}"
            return self._failed(push, "result_changed", message, "bring the file back, or run the job again")
        except ProviderUnavailable as error:
            return self._later(push, error.message, retry_after_s=None)
        except LabError as error:
            return self._failed(push, error.code, error.message, error.hint)

    def _has_work(self, push: Push) -> bool:
        if self._bag.store.jobs.get(push.job_id).terminal:
            return True
        if push.destination.sender is Sender.TRAINER or not push.destination.checkpoints:
            return False
        return bool(set(self._bag.outputs.checkpoints(push.job_id)) - set(push.checkpoints))

    def _step(self, push: Push) -> Push:
        job = self._bag.store.jobs.get(push.job_id)
        if push.destination.sender is Sender.TRAINER:
            return self._look(push, job)
        self._require_consent()
        away = self._open(push)
        if push.destination.checkpoints:
            push = self._send_checkpoints(push, away)
        if job.state is JobState.COMPLETED:
            return self._send_result(push, job, away)
        return self._without_result(push, job) if job.terminal else push

    def _send_checkpoints(self, push: Push, away: Away) -> Push:
        for key in self._bag.outputs.checkpoints(push.job_id):
            if key in push.checkpoints or self._bag.outputs.verify(push.job_id, key).problem:
                continue  # it is there, or still on its way home
            push, receipt, about = self._ship(push, away, key)
            push = replace(
                push, checkpoints=(*push.checkpoints, key), state=DeliveryState.WAITING, tries=0, problem="", hint="",
                url=receipt.url, revision=receipt.revision,
            )  # fmt: skip
            push = self._outbox.record(push, self._pushed(push, "checkpoint", about))
        return push

    def _send_result(self, push: Push, job: Job, away: Away) -> Push:
        found = self._bag.outputs.verify(job.id)
        if found.problem or found.sha256 != job.result_sha256:
            why = found.problem or "its manifest is another"
            message = f"the outputs have changed since they were verified: {why}"
            return self._failed(push, "result_changed", message, "run the job again, or bring the files back")
        push, receipt, about = self._ship(push, away, "")
        push = replace(
            push, state=DeliveryState.DELIVERED, delivered_at=self._clock(), retry_at=None, tries=0, problem="",
            hint="", url=receipt.url, revision=receipt.revision, verified=True,
        )  # fmt: skip
        return self._outbox.record(push, self._pushed(push, "result", about))

    def _ship(self, push: Push, away: Away, key: str) -> tuple[Push, Receipt, Mapping[str, Scalar]]:
        """Sends one folder with a manifest; on record before the first byte leaves (SPEC C3)."""
        folder = self._bag.outputs.folder(push.job_id) / key
        text = (folder / spec.MANIFEST_NAME).read_bytes()
        manifest = Manifest.decode(text)
        digest, size = hashlib.sha256(text).hexdigest(), len(text) + sum(entry.bytes for entry in manifest.files)
        names = (*(entry.path for entry in manifest.files), spec.MANIFEST_NAME)
        push = self._outbox.record(replace(push, state=DeliveryState.SENDING))
        self._bag.store.transfers.sent(
            push.job_id, what="checkpoint" if key else "model", where_to=label(push.destination), digest=digest,
            bytes=size, files=len(names), at=self._clock(),
        )  # fmt: skip
        title = f"Checkpoint of step {manifest.step}" if key else f"The trained model, step {manifest.step}"
        digests = {entry.path: entry.sha256 for entry in manifest.files} | {spec.MANIFEST_NAME: digest}
        shipment = Shipment(folder=folder, names=names, prefix=key, title=title, digests=digests)
        receipt = away.ship(shipment, lambda: self._moved(push))
        about: Mapping[str, Scalar] = {"step": manifest.step, "files": len(names), "bytes": size, "sha256": digest}
        return push, receipt, about

    def _moved(self, push: Push) -> None:
        """Between two parts: whether it may go on. A job deleted meanwhile ends it, and a push that was given up."""
        if self._closing.is_set():
            raise _Closing
        self._bag.store.jobs.get(push.job_id)
        if not self._bag.store.pushes.get(push.id).open:
            raise GivenUp
        self._require_consent()

    def _require_consent(self) -> None:
        if self._bag.consent_mode() is ConsentMode.NEVER:
            raise UploadsForbidden(
                "consent is set to never: nothing is sent to another machine", hint="change the consent setting"
            )

    def _look(self, push: Push, job: Job) -> Push:
        """Whether what the trainer says it delivered is there: the manifest is fetched with the lab's own credentials."""
        if job.state is not JobState.COMPLETED or not push.reported_sha256:
            return self._without_result(push, job) if job.terminal else push
        problem, hint = "", ""
        try:
            found = self._manifest_there(push)
            if found != push.reported_sha256:
                problem = "the manifest there is not the one that the trainer delivered"
                hint = "somebody wrote there since, or another run did"
        except (Unreachable, ProviderUnavailable) as error:
            if push.tries + 1 < _LOOKS:
                raise
            problem = f"delivered by the trainer, and not looked at from here: {error}"
        except (TrainerError, LabError) as error:
            problem, hint = f"delivered by the trainer, and not looked at from here: {error.message}", error.hint
        push = replace(
            push, state=DeliveryState.DELIVERED, delivered_at=self._clock(), retry_at=None, problem=problem, hint=hint,
            verified=not problem, url=self._url(push),
        )  # fmt: skip
        about = {"sha256": push.reported_sha256, "by": "trainer", **({"problem": problem} if problem else {})}
        return self._outbox.record(push, self._pushed(push, "result", about))

    def _manifest_there(self, push: Push) -> str:
        away = self._open(push)
        with tempfile.TemporaryDirectory(dir=self._bag.folder) as beside:
            away.get(spec.MANIFEST_NAME, Path(beside, "manifest"))
            return hashlib.sha256(Path(beside, "manifest").read_bytes()).hexdigest()

    def _url(self, push: Push) -> str:
        match push.destination:
            case S3Destination():
                return f"s3://{push.destination.bucket}/{push.destination.prefix}{job_prefix(push.job_id)}"
            case HubDestination():
                return f"{self._bag.tokens.hub_endpoint or 'https://huggingface.co'}/{push.destination.repo_id}"

    def _open(self, push: Push) -> Away:
        """The destination, with the user's credentials in hand and nowhere else."""
        secrets = self._bag.tokens.of(push.destination)
        environment = {name: secret.reveal() for name, secret in secrets.items()}
        environment[HUB_ENDPOINT] = self._bag.tokens.hub_endpoint
        return open_store(
            address_of(push.destination, push.job_id), notes=self._bag.folder / "uploads", environment=environment
        )

    def _without_result(self, push: Push, job: Job) -> Push:
        return self._failed(push, "no_result", f"the job is {job.state}: it has no result to push", "")

    def _masked(self, push: Push, message: str) -> str:
        """Without the credentials of the destination, whatever a client's error repeats of them."""
        try:
            secrets = tuple(self._bag.tokens.of(push.destination).values())
        except LabError:
            secrets = ()
        return mask(message, secrets)

    def _later(self, push: Push, message: str, *, retry_after_s: float | None) -> Push:
        message = self._masked(push, message)
        push = self._bag.store.pushes.get(push.id)
        pause_s = min(_LONGEST_PAUSE_S, max(_FIRST_PAUSE_S * 2 ** min(push.tries, 16), retry_after_s or 0.0))
        told = push.problem == message  # the same fault again is not news
        push = replace(
            push, state=DeliveryState.WAITING, tries=push.tries + 1, retry_at=self._clock() + pause_s, problem=message,
            hint=f"it is tried again while a notebook server runs, else with: stcloud push {push.job_id}",
        )  # fmt: skip
        return self._outbox.record(push, *([] if told else [self._problem(push, "destination_unreachable")]))

    def _failed(self, push: Push, code: str, message: str, hint: str) -> Push:
        message = self._masked(push, message)
        push = self._bag.store.pushes.get(push.id)
        push = replace(
            push, state=DeliveryState.FAILED, retry_at=None, problem=message,
            hint=f"{hint}; then push it again".removeprefix("; "),
        )  # fmt: skip
        return self._outbox.record(push, self._problem(push, code))

    def _pushed(self, push: Push, what: str, about: Mapping[str, Scalar]) -> EventDraft:
        data = {"what": what, "to": label(push.destination), "url": push.url, "revision": push.revision, **about}
        return EventDraft(kind=EventKind.PUSHED, at=self._clock(), data={k: v for k, v in data.items() if v != ""})

    def _problem(self, push: Push, code: str) -> EventDraft:
        data = {"code": code, "message": push.problem, "hint": push.hint, "to": label(push.destination)}
        return EventDraft(kind=EventKind.PROBLEM, at=self._clock(), data=data)

    @contextlib.contextmanager
    def _in_hand(self, push_id: str) -> Iterator[bool]:
        """Whether this push is ours now; a lock that a dying process drops."""
        self._bag.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._bag.folder / f"{push_id}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)


def new_push(job_id: str, destination: AwayDestination, *, at: float) -> Push:
    """A push that was asked for; of the same job to the same place it is the same one."""
    place = canonical_json({"job": job_id, "destination": asdict(destination)})
    return Push(id=hashlib.sha256(place).hexdigest()[:24], job_id=job_id, destination=destination, asked_at=at)


def address_of(destination: AwayDestination, job_id: str) -> spec.Destination:
    """The destination with the job's id filled in, as stores take it."""
    match destination:
        case S3Destination():
            return spec.S3Destination(
                endpoint_url=destination.endpoint_url or None,
                region=destination.region,
                bucket=destination.bucket,
                prefix=destination.prefix + job_prefix(job_id),
                access_key_env=S3_ACCESS_KEY,
                secret_key_env=S3_SECRET_KEY,
                session_token_env=S3_SESSION_TOKEN,
            )
        case HubDestination():
            return spec.HubDestination(repo_id=destination.repo_id, private=destination.private)
