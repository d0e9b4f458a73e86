"""The lab: one object per process, built once, through which every front-end works (DESIGN §1)."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from simpletuner_lab.core.canonical import JsonObject
from simpletuner_lab.core.consent import Agreement, ConsentMode, require_consent, signed
from simpletuner_lab.core.destination import (
    HOME,
    Destination,
    HomeDestination,
    Push,
    Sender,
    label,
    sent_by_trainer,
)
from simpletuner_lab.core.doubt import Decision
from simpletuner_lab.core.errors import (
    Conflict,
    InvalidRequest,
    JobActive,
    StaleRecord,
    UploadsForbidden,
)
from simpletuner_lab.core.grant import MAX_JOB_BYTES
from simpletuner_lab.core.job import Job
from simpletuner_lab.core.ledger import Charge
from simpletuner_lab.core.manifest import Manifest
from simpletuner_lab.core.plan import Plan, SubmitRequest, asked_of
from simpletuner_lab.core.provider import ProviderContext
from simpletuner_lab.services.cancels import Cancels
from simpletuner_lab.services.codec import decode, dumps, encode
from simpletuner_lab.services.courier import Bag, Courier, new_push
from simpletuner_lab.services.desk import Desk
from simpletuner_lab.services.doubts import Doubts
from simpletuner_lab.services.grants import Grants, ServerKey
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.imports import Imports, Synced
from simpletuner_lab.services.job_history import import_history
from simpletuner_lab.services.job_queue import JobQueue
from simpletuner_lab.services.known import KnownSecrets
from simpletuner_lab.services.logs import Logs
from simpletuner_lab.services.money import Money, asked_by
from simpletuner_lab.services.new_jobs import first_events, first_of_key, new_job, once
from simpletuner_lab.services.one_home import open_store
from simpletuner_lab.services.outbox import Outbox
from simpletuner_lab.services.outputs import Outputs
from simpletuner_lab.services.planning import Planner, Setting, require_destination, require_plain_labels, with_ending
from simpletuner_lab.services.provider_settings import ProviderSettings
from simpletuner_lab.services.provider_setup import ProviderSetup
from simpletuner_lab.services.recorder import Recorder
from simpletuner_lab.services.registry import Registry, require_ready, usable_elsewhere
from simpletuner_lab.services.runner import Runner
from simpletuner_lab.services.snapshots import Snapshots
from simpletuner_lab.services.spool import Spool
from simpletuner_lab.services.starter import Rooms
from simpletuner_lab.services.steps import run_class
from simpletuner_lab.services.store import Store
from simpletuner_lab.services.tokens import Tokens
from simpletuner_lab.services.watcher import Watcher
from simpletuner_lab.services.webhook_proof import Prover
from simpletuner_lab.services.webhooks import Webhooks

_CONSENT: Final = "consent"
_DESTINATION: Final = "destination"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the process around the lab gives it; tests give their own clock and environment."""

    environment: Mapping[str, str] = dataclasses.field(default_factory=lambda: dict(os.environ))
    clock: Callable[[], float] = time.time
    endpoint: Callable[[], str | None] = lambda: None
    """URL of the object endpoint for runs on this machine, while one is up."""
    public_endpoint: Callable[[], str | None] = lambda: None
    """The same for runs elsewhere."""
    max_job_bytes: int | None = MAX_JOB_BYTES
    """What one attempt of a job may store at the object endpoint; None for no limit."""


class Lab:
    """Plans, submits, follows and cancels jobs, and hands out what came of them."""

    def __init__(self, home: Home, store: Store, registry: Registry, around: Surroundings) -> None:
        self.home = home
        self.store = store
        self.registry = registry
        self.owner = around.environment.get("JUPYTERHUB_USER", "me")
        self.logs = Logs(home.logs)
        self.outputs = Outputs(home.outputs)
        key = ServerKey.load_or_create(home.server_key)
        self.grants = Grants(store.grants, key, around.clock)
        self.known = KnownSecrets(home.secrets, around.environment, registry)
        self.recorder = Recorder(store, self.logs, self.known.redactor)
        self._clock = around.clock
        self.queue = JobQueue(store, self.recorder, around.clock)
        self.tokens = Tokens(home.secrets, around.environment, around.clock)
        self.desk = Desk(
            self.outputs,
            self.grants,
            self.tokens,
            endpoint=around.endpoint,
            public_endpoint=around.public_endpoint,
            max_job_bytes=around.max_job_bytes,
        )
        self.snapshots = Snapshots(store, home.snapshots, around.environment)
        self._spool = Spool(home.spool)
        self._spool.sweep(around.clock())
        self._planner = Planner(store, registry, self.tokens, self.known)
        rooms = Rooms(
            store=store,
            registry=registry,
            recorder=self.recorder,
            spool=self._spool,
            outputs=self.outputs,
            desk=self.desk,
            queue=self.queue,
            known=self.known,
        )
        self.runner = Runner(rooms, around.clock)
        mode = self.consent_mode
        bag = Bag(store=store, outputs=self.outputs, tokens=self.tokens, folder=home.pushes, consent_mode=mode)
        self._outbox = Outbox(store=store, recorder=self.recorder, clock=around.clock)
        self.courier = Courier(bag, self._outbox, around.clock)
        self.watcher = Watcher(
            store, registry, self.runner, self.courier, self.queue, holder=secrets.token_hex(8), clock=around.clock
        )
        settings = ProviderSettings(home.provider_settings)
        self._cancels = Cancels(store=store, recorder=self.recorder, runner=self.runner, clock=around.clock)
        self.doubts = Doubts(store=self.store, recorder=self.recorder, clock=around.clock)
        nudge, recorder = self.watcher.nudge_blocked, self.recorder
        recorder.listen(self.watcher.heard)
        self.imports = Imports(store=store, recorder=recorder, runner=self.runner, clock=around.clock, freed=nudge)
        self.setup = ProviderSetup(registry, settings, self.tokens, store, nudge)
        self.money = Money(store, registry, self._planner, self.plan, around.clock, recorder=recorder, changed=nudge)
        self.webhooks = Webhooks(store, registry, self.watcher.nudge, settings=settings, clock=around.clock)
        self.prover = Prover(key, around.clock)

    @classmethod
    def open(cls, root: Path | None = None, around: Surroundings | None = None) -> Lab:
        """Opens the lab kept under `root` (else `SIMPLETUNER_HOME`, else `~/.simpletuner`).

        Its store is there too, unless `SIMPLETUNER_DATABASE_URL` names a shared one.

        Raises:
            StoreUnusable: the database is newer, damaged, on a network file system, another home's, or not to be reached.
        """
        around = around or Surroundings()
        home = (Home(root) if root else Home.find(around.environment)).prepare()
        registry = Registry.load(
            lambda provider_id: ProviderContext(
                home=home.provider_state(provider_id), environment=around.environment, secrets=home.secrets
            ),
            ProviderSettings(home.provider_settings).read,
        )
        lab = cls(home, open_store(home, around.environment), registry, around)
        import_history(home.job_history, lab.store, owner=lab.owner, now=around.clock())
        return lab

    def close(self) -> None:
        """Stops watching and closes the database. Jobs go on."""
        self.watcher.stop()
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------ plan, then apply

    def plan(self, request: SubmitRequest) -> Plan:
        """What a submit of this request would send, to whom, for how much; changes nothing."""
        return dataclasses.replace(self._planner.plan(request, self._setting()), asked=asked_of(request))

    def preview(self, dataloader: Sequence[JsonObject]) -> Manifest:
        """What of these data sets would leave; changes nothing."""
        return self._planner.preview(dataloader)

    def submit(
        self, request: SubmitRequest, *, approve: str | None = None, key: str | None = None, entry: str = "python"
    ) -> Job:
        """Makes the job of a plan that was agreed to; packing and upload follow by themselves.

        Args:
            request: what to train, with what, where.
            approve: digest of the plan the user read; needed unless it was approved before or consent is `allow`.
            key: idempotency key; the same request under it within 24 hours returns the first job.
            entry: which front-end asked, for the record.

        Raises:
            ConsentRequired, PlanChanged, UploadsForbidden: consent is not given; nothing was stored or sent.
            SecretInConfig: a secret is in the request, the key or the entry; nothing was stored or sent.
            Conflict: the key stands for another plan.
            SpendLimitReached: a limit does not let it be paid for; nothing was stored or sent.
            ProviderUnavailable: the provider cannot be used now.
        """
        require_plain_labels(self.known.certain(), idempotency_key=key or "", entry=entry)
        return once(
            lambda: first_of_key(
                self.store.jobs.by_key(self.owner, key, now=self._clock()) if key is not None else None,
                request, approve, plan=lambda job: self.store.jobs.plan(job.id), digest=lambda: self.plan(request).digest,
            ),
            lambda: self._submitted(request, approve, key, entry),
        )  # fmt: skip

    def _submitted(self, request: SubmitRequest, approve: str | None, key: str | None, entry: str) -> Job:
        plan = self.plan(request)
        require_consent(state=plan.consent, digest=plan.digest, approve=approve)
        require_ready(self.registry.get(request.provider))
        now = self._clock()
        mode = ConsentMode.ASK if approve is not None else self.consent_mode()
        agreement = Agreement(owner=self.owner, digest=plan.digest, at=now, entry=signed(entry), mode=mode)
        new = dataclasses.replace(new_job(plan, self.owner, key, now), priority=request.priority)
        destination = plan.identity.destination
        push = None if isinstance(destination, HomeDestination) else new_push(new.id, destination, at=now)
        snapshot = self.snapshots.planned(request, plan, new.id, now=now)
        job = self.store.jobs.insert(
            new,
            dumps(plan),
            first_events(plan, agreement),
            run_class=run_class(plan.identity, plan.target),
            push=push,
            asks=with_ending(asked_by(plan), plan.target),
            snapshot=snapshot,
            agreement=agreement,
        )
        if job.id != new.id:  # another submit under this key was faster
            return job
        self.snapshots.make(new.id, plan)
        self.recorder.announce(job, self.store.events.after(0, job_id=job.id))
        self.watcher.nudge(job.id)
        return job

    def consent_mode(self) -> ConsentMode:
        """The setting; ask where none was made."""
        return ConsentMode.parse(self.store.settings.get(_CONSENT) or ConsentMode.ASK)

    def set_consent_mode(self, mode: ConsentMode) -> None:
        """Changes the setting, for plans from now on."""
        self.store.settings.put(_CONSENT, mode.value)

    # ------------------------------------------------------------ where models go

    def destination(self) -> Destination:
        """The default, for requests that name none; home where none was set."""
        found = self.store.settings.get(_DESTINATION)
        return HOME if found is None else decode(Destination, found, what="the default destination")  # type: ignore[arg-type]

    def set_destination(self, destination: Destination) -> None:
        """Changes the default, for plans from now on.

        Raises:
            InvalidRequest: it cannot be one.
        """
        require_destination(destination, self.known.certain())
        self.store.settings.put(_DESTINATION, encode(destination))

    def push(self, job_id: str, destination: Destination, *, entry: str = "python") -> Push:
        """Sends the verified outputs of a completed job on to a bucket or the Hub; the courier does it by itself.

        Raises:
            InvalidRequest: no such destination, or home.
            Conflict: there are no verified outputs at home.
            UploadsForbidden: consent is set to never.
            CredentialUnusable: what the destination needs is not there, or is refused.
        """
        require_destination(destination, self.known.certain())
        if isinstance(destination, HomeDestination):
            raise InvalidRequest("the model is at home already", hint="name a bucket or a repository on the Hub")
        if self.consent_mode() is ConsentMode.NEVER:
            raise UploadsForbidden(
                "consent is set to never: nothing is sent to another machine", hint="change the consent setting"
            )
        self._require_result(self.store.jobs.get(job_id))
        destination = dataclasses.replace(destination, sender=Sender.LAB)
        self.tokens.check(destination)
        push = self._outbox.ask(new_push(job_id, destination, at=self._clock()), entry)
        self.watcher.nudge(push.id)
        return push

    def hasten(self, job_id: str) -> tuple[Push, ...]:
        """Tries now what of a job waits to be sent (`Outbox.hasten`)."""
        return self._nudged(self._outbox.hasten(job_id))

    def give_up(self, job_id: str, push_id: str = "", *, entry: str = "python") -> tuple[Push, ...]:
        """Sends a job's model no further than it is: all that waits, or one push (`Outbox.give_up`)."""
        return self._outbox.give_up(job_id, push_id, entry=entry)

    def _nudged(self, pushes: tuple[Push, ...]) -> tuple[Push, ...]:
        for push in pushes:
            self.watcher.nudge(push.id)
        return pushes

    def _require_result(self, job: Job) -> None:
        """Whether there is something at home to push."""
        if job.result_sha256:
            return
        if sent_by_trainer(self.store.jobs.plan(job.id).identity.destination):
            place = label(self.store.jobs.plan(job.id).identity.destination)
            message = f"the results of job {job.id} do not come home, so this lab has nothing to push: {place}"
            raise Conflict(message, hint="copy the model from there to the other place")
        if job.terminal:
            raise Conflict(f"job {job.id} is {job.state}: it has no result to push", hint="run it again")
        raise Conflict(f"job {job.id} has no verified outputs here yet", hint="wait until it is completed")

    # ------------------------------------------------------------ jobs under way

    def cancel(self, job_id: str) -> Job:
        """Asks for the end of a job; at once on record, and at the provider with the next step. Asking again is harmless.

        Raises:
            IllegalTransition: it has ended by itself.
            DiskFull, StoreUnusable: it cannot be put on record; its run is told all the same, if it can be.
        """
        job = self._cancels.cancel(job_id)
        self.watcher.nudge(job_id)
        return job

    def resolve(self, job_id: str, decision: Decision, *, entry: str = "python") -> Job:
        """Decides about a start of which nobody can tell whether it arrived (`Doubts.resolve`)."""
        job = self.doubts.resolve(job_id, decision, entry=entry)
        self.watcher.nudge(job_id)
        return job

    def charges(self, job_id: str) -> tuple[Charge, ...]:
        """What each run of a job has cost; also after it was deleted."""
        return self.store.charges.of_job(job_id)

    def sync(self, provider_id: str = "") -> Synced:
        """Imports runs that were started elsewhere: of one provider, or of all others' machines that can be used.

        Raises:
            ProviderNotFound, ProviderUnavailable: the one that is named.
        """
        chosen = [self.registry.get(provider_id)] if provider_id else usable_elsewhere(self.registry)
        found = [self.imports.sync(provider, self.owner) for provider in chosen]
        synced = Synced(
            imported=tuple(job for one in found for job in one.imported),
            seen=tuple(job_id for one in found for job_id in one.seen),
        )
        for job_id in (*(job.id for job in synced.imported), *synced.seen):
            self.watcher.nudge(job_id)
        return synced

    def delete(self, job_id: str, *, outputs: bool = False) -> None:
        """Removes a finished job: record, log, and its received files if asked.

        Raises:
            JobActive: it has not ended, or its data at the provider are not seen to be gone yet.
        """
        job = self.store.jobs.get(job_id)
        if not job.terminal:
            raise JobActive(f"job {job_id} is {job.state}", hint="cancel it first")
        if job.settled_at is None:
            with contextlib.suppress(StaleRecord):  # the watcher is settling it
                self.runner.advance(job)
            job = self.store.jobs.get(job_id)
        if job.settled_at is None:
            raise JobActive(f"the data of job {job_id} are still with {job.provider}", hint="try again in a moment")
        now = self._clock()
        self.grants.revoke_job(job_id, at=now)
        self.recorder.delete(job, at=now)
        if outputs:
            self.outputs.delete(job_id)

    def _setting(self) -> Setting:
        return Setting(
            owner=self.owner,
            consent=self.consent_mode(),
            endpoint=self.desk.endpoint,
            now=self._clock(),
            destination=self.destination(),
        )
