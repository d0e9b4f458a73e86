"""Takes in what the original remembers of its jobs: once, as jobs that have ended (SPEC §3).

Each record is a transaction of its own under an id that is the same every time, so after a kill the rest follows. That
the file was read to its end is on record, so what a user deletes here does not come back. The file is never written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import stat
from pathlib import Path
from typing import Final

from simpletuner_lab.core.cost import Rate
from simpletuner_lab.core.destination import HOME
from simpletuner_lab.core.errors import Conflict
from simpletuner_lab.core.event import EventDraft, EventKind
from simpletuner_lab.core.history import UNFINISHED, HistoricJob, historic_job, records_of
from simpletuner_lab.core.job import Failure, Job, JobState
from simpletuner_lab.core.ledger import Charge
from simpletuner_lab.core.manifest import Manifest
from simpletuner_lab.core.plan import DEFAULT_PROVIDER, Identity, Plan
from simpletuner_lab.core.provider import Target
from simpletuner_lab.services.codec import dumps
from simpletuner_lab.services.imports import unplanned
from simpletuner_lab.services.store import Store

MAX_BYTES: Final = 64 << 20

_DONE: Final = "job_history"
_NOWHERE: Final = "not known"
_NOTE: Final = "imported from job_history.json: what it was given and where its results went is not known here"
_LEFT: Final = Failure(
    code=UNFINISHED,
    message="it had not ended when the original wrote its history, and what became of it is not known here",
    hint="look at its provider; a sync follows the run if it is still shown there",
)

_log = logging.getLogger(__name__)


def import_history(path: Path, store: Store, *, owner: str, now: float) -> int:
    """Takes in every job that the file has, unless that was done before; returns how many are new.

    A file that cannot be read is left alone and told of once in the log, until it is another one.
    """
    try:
        status = path.stat()
    except OSError:  # most homes have none
        return 0
    known = store.settings.get(_DONE)
    done = known if isinstance(known, dict) else {}
    if done.get("problem") == "":
        return 0
    stamp = f"{status.st_size} {status.st_mtime_ns}"
    if done.get("stamp") == stamp:
        return 0
    try:
        found, strange = _read(path)
    except (OSError, ValueError, RecursionError) as error:
        _log.warning("%s is not imported, and left as it is: %s", path, error)
        store.settings.put(_DONE, {"stamp": stamp, "problem": str(error)[:500]})
        return 0
    added = sum(_take(one, store, owner=owner, now=now, fallback=status.st_mtime) for one in found)
    if strange:
        _log.warning("%s: %d of %d entries are no jobs, and are left out", path, strange, strange + len(found))
    store.settings.put(_DONE, {"stamp": stamp, "problem": "", "jobs": len(found), "left_out": strange})
    return added


def _read(path: Path) -> tuple[list[HistoricJob], int]:
    """Its jobs, and how many of its entries are none.

    Raises:
        OSError, ValueError, RecursionError: it cannot be read.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no file")
    if status.st_size > MAX_BYTES:
        raise ValueError(f"it is over {MAX_BYTES >> 20} MiB")
    records = list(records_of(json.loads(path.read_bytes())))
    found = [job for record in records if (job := historic_job(record)) is not None]
    return found, len(records) - len(found)


def _take(one: HistoricJob, store: Store, *, owner: str, now: float, fallback: float) -> int:
    """1 where it is new."""
    provider = one.provider or (DEFAULT_PROVIDER if not one.remote else _NOWHERE)
    plan = _plan(one, provider)
    job = _job(one, plan, owner=owner, now=now, fallback=fallback)
    told = {"ref": one.run_ref, "state": one.status} | ({"url": one.output_url} if one.output_url else {})
    event = EventDraft(kind=EventKind.IMPORTED, at=now, data=told)
    charge = _charge(one, job)
    if charge is not None and store.charges.of_run(charge.provider, charge.ref) is not None:
        return 0  # a sync has imported it
    with contextlib.suppress(Conflict):  # before the kill, or by another process just now
        store.jobs.insert(job, dumps(plan), (event,), charge=charge)
        return 1
    return 0


def _job(one: HistoricJob, plan: Plan, *, owner: str, now: float, fallback: float) -> Job:
    ended = one.completed_at or one.started_at or one.created_at or fallback
    failure = None if one.ended else _LEFT
    if one.ended and one.state is JobState.FAILED:
        failure = Failure(code="run_failed", message=one.error or "the original does not say why")
    return Job(
        id=one.id,
        owner=owner,
        name=one.name,
        provider=plan.identity.provider,
        target=one.target,
        hardware=one.hardware,
        remote=one.remote,
        state=one.state,
        created_at=one.created_at or one.started_at or ended,
        updated_at=now,
        started_at=None if one.started_at is None else min(one.started_at, ended),
        completed_at=ended,
        digest=plan.digest,
        nonce="",
        cost_usd=one.cost_usd,
        failure=failure,
        settled_at=now,
    )


def _charge(one: HistoricJob, job: Job) -> Charge | None:
    """What it cost, and that its run is known: a sync does not import it again. One without an end may still be synced.

    It counts on the day on which it began. One that ran elsewhere at a cost that is not told is not one that was free.
    """
    began = one.started_at is not None or one.state is JobState.COMPLETED
    nothing = one.cost_usd is None and not (one.remote and began)
    if not one.ended or (not one.run_ref and nothing):
        return None
    ref = one.run_ref or f"history-{hashlib.sha256(job.id.encode()).hexdigest()[:16]}"
    at = job.completed_at or job.created_at
    return Charge(
        provider=job.provider, ref=ref, job_id=job.id, attempt=1, account="", hardware=job.hardware,
        metered_s=0.0 if nothing else None, cost_usd=one.cost_usd, updated_at=at, final=True, owner=job.owner,
        opened_at=job.started_at or job.created_at,
    )  # fmt: skip


def _plan(one: HistoricJob, provider: str) -> Plan:
    """Nothing of it is known but its names."""
    identity = Identity(
        provider=provider,
        account="",
        endpoint="",
        target=one.target,
        version="",
        hardware=one.hardware,
        destination=HOME,
        config={},
        dataloader=(),
        manifest=Manifest(datasets=()),
        credentials=(),
    )
    target = Target(id=one.target, label=one.target, version="", live_metrics=False, resume=False)
    rate = Rate(hardware=one.hardware, label=one.hardware, usd_per_hour=None)
    return unplanned(identity, target, rate, name=one.name, remote=one.remote, note=_NOTE)
