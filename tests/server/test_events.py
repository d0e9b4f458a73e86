"""News of jobs on Jupyter's event bus: a real server under `/user/ann/`, a real websocket, several writers."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from simpletuner_lab.client import LabClient
from simpletuner_lab.core.errors import JobActive
from simpletuner_lab.core.event import Event, EventDraft, EventKind
from simpletuner_lab.core.job import TRANSITIONS, Failure, Job, JobState, Progress
from simpletuner_lab.server.announcer import JOB_EVENT, JOB_SCHEMA, QUIET_S, JobNews
from simpletuner_lab.services.lab import Lab
from simpletuner_lab.services.store import Store
from simpletuner_lab.services.views import JobView
from simpletuner_lab.testing import eventually
from tests.lab_kit import quick_home, request
from tests.server.events_kit import Subscriber
from tests.server.server_kit import Server
from tests.services.store_kit import T0, new_job

FIELDS = {field.name for field in dataclasses.fields(JobNews)}


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    running = Server(folder, quick_home(folder).root, "/user/ann/").start()
    yield running
    assert "Traceback" not in running.log()
    running.stop()


@pytest.fixture
def ear(server: Server) -> Iterator[Subscriber]:
    with Subscriber(server) as listening:
        yield listening


def submitted(client: LabClient, images: Path, how: str = "quick") -> JobView:
    asked = request(images, how)
    return client.submit(asked, approve=client.plan(asked).digest, key=None, entry="test")


def rise(ear: Subscriber, job_id: str) -> bool:
    versions = [data["version"] for data in ear.of(job_id)]
    return versions == sorted(set(versions)) and len(versions) > 0


def test_a_job_is_told_from_its_first_state_to_its_last(client: LabClient, images: Path, ear: Subscriber) -> None:
    job = submitted(client, images)
    told = eventually(lambda: ear.of(job.job_id), lambda seen: seen and seen[-1]["is_terminal"], patience_s=40)
    assert rise(ear, job.job_id)
    assert (told[0]["status"], told[0]["version"]) == ("pending", 1)
    assert told[0]["seq"] == client.events(0, job_id=job.job_id)[1].seq, "created and consented to"
    assert told[-1]["status"] == "completed"
    assert (told[-1]["step"], told[-1]["total_steps"]) == (12, 12)
    assert all(set(data) == FIELDS for data in told)
    order = [*JobState]
    states = [order.index(JobState(data["status"])) for data in told]
    assert states == sorted(states)


def test_what_is_told_is_ids_states_and_numbers(client: LabClient, images: Path, ear: Subscriber) -> None:
    """Nothing that a person wrote, no path, no text of the log, no key."""
    job = submitted(client, images)
    told = eventually(lambda: ear.of(job.job_id), lambda seen: seen and seen[-1]["is_terminal"], patience_s=40)
    for data in told:
        texts = {name: value for name, value in data.items() if isinstance(value, str)}
        assert texts.pop("job_id") == job.job_id
        assert texts.pop("status") in {*JobState}
        assert texts == {}


def test_news_are_paced_and_the_end_is_not_late(client: LabClient, images: Path, ear: Subscriber) -> None:
    jobs = [submitted(client, images) for _ in range(3)]
    for job in jobs:
        eventually(lambda job=job: client.job(job.job_id).is_terminal, patience_s=40)
        told = eventually(lambda job=job: ear.heard(job.job_id), lambda seen: seen[-1].data["is_terminal"])
        pauses = [
            after.at - before.at
            for before, after in itertools.pairwise(told)
            if not (after.data["is_terminal"] and not before.data["is_terminal"])
        ]
        assert min(pauses) > QUIET_S / 4, "a busy machine hands over one event late and the next in time"
    for job in jobs:  # the news of the record that settles it come as well
        last = client.job(job.job_id).version
        eventually(lambda job=job, last=last: ear.of(job.job_id)[-1]["version"] >= last)


def test_cursors_of_the_timeline_lead_to_every_entry(client: LabClient, images: Path, ear: Subscriber) -> None:
    """Whoever asks for events after its cursor whenever `seq` is news has the whole timeline in the end."""
    job = submitted(client, images, "wait")
    eventually(lambda: "waiting" in client.log(job.job_id).logs)
    client.cancel(job.job_id)
    eventually(lambda: ear.of(job.job_id), lambda seen: seen[-1]["status"] == "cancelled", patience_s=40)
    last = eventually(lambda: client.events(0, job_id=job.job_id)[-1], lambda event: event.kind is EventKind.DISCARDED)
    eventually(lambda: max(data["seq"] for data in ear.of(job.job_id)), lambda seq: seq == last.seq)


def test_a_deletion_is_told(client: LabClient, images: Path, ear: Subscriber) -> None:
    job = submitted(client, images)
    eventually(lambda: client.job(job.job_id).is_terminal, patience_s=40)
    eventually(lambda: _deleted(client, job.job_id))
    told = eventually(lambda: ear.of(job.job_id), lambda seen: seen[-1]["status"] == "deleted")
    assert rise(ear, job.job_id)
    assert told[-1]["is_terminal"]
    feed = [event for event in client.events(0) if event.job_id == job.job_id]
    assert [(event.kind, event.seq) for event in feed] == [(EventKind.DELETED, told[-1]["seq"])]


def _deleted(client: LabClient, job_id: str) -> bool:
    try:
        client.delete(job_id)
    except JobActive:
        return False
    return True


def test_what_another_process_writes_is_told_too(server: Server, images: Path, ear: Subscriber) -> None:
    with Lab.open(server.home) as other:
        asked = request(images, "wait")
        job = other.submit(asked, approve=other.plan(asked).digest)
        eventually(lambda: ear.of(job.id))
        eventually(lambda: ear.of(job.id)[-1]["status"], lambda status: status == "running", patience_s=40)
        other.cancel(job.id)  # the server's watcher sees to it
        eventually(lambda: ear.of(job.id)[-1]["is_terminal"], patience_s=40)
        eventually(lambda: other.store.jobs.get(job.id).settled_at is not None)
        other.delete(job.id)
        eventually(lambda: ear.of(job.id)[-1]["status"] == "deleted")
        assert rise(ear, job.id)


# ------------------------------------------------------------ no record that the schema refuses


WAYS = {
    JobState.COMPLETED: (JobState.UPLOADING, JobState.QUEUED, JobState.RUNNING, JobState.QUEUED, JobState.RUNNING),
    JobState.FAILED: (JobState.UPLOADING,),
    JobState.CANCELLED: (),
}


@pytest.mark.parametrize("end", WAYS)
def test_every_state_passes_the_schema(server: Server, ear: Subscriber, end: JobState) -> None:
    """Each state on its way and each kind of event with it, written by this process and told by the server."""
    store = Store.open(server.home / "cloud/lab.db")
    try:
        job = store.jobs.insert(new_job(f"way-to-{end}", settled_at=T0, claimed_at=T0), "{}")  # nobody else's
        events: tuple[Event, ...] = ()
        for state in (*WAYS[end], end):
            _heard_of(ear, job)
            drafts = [EventDraft(kind=kind, at=T0, data={"note": "<b>secret</b>"}) for kind in EventKind]
            job, events = store.jobs.record(job, _changed(job.moved(state, now=T0)), drafts)
        told = _heard_of(ear, job)
        assert [data["status"] for data in told] == ["pending", *WAYS[end], end]
        assert (told[-1]["seq"], told[-1]["attempt"]) == (events[-1].seq, job.attempt)
        store.jobs.delete(job.id, at=T0)
        eventually(lambda: ear.of(job.id)[-1]["status"] == "deleted")
    finally:
        store.close()


def _heard_of(ear: Subscriber, job: Job) -> list[dict[str, object]]:
    """The job's events, once this version of it was told."""
    return eventually(lambda: ear.of(job.id), lambda seen: seen and seen[-1]["version"] == job.version)


def _changed(job: Job) -> Job:
    """The same with everything on it that a schema of numbers might stumble over."""
    progress = Progress(step=2**40, total_steps=2**41, loss=float("nan"), lr=float("inf"), eta_s=1e308)
    failure = Failure(code="x", message="it failed", hint="") if job.state is JobState.FAILED else None
    return dataclasses.replace(job, progress=progress, failure=failure, log_bytes=2**50, name="<script>", cost_usd=None)


def test_the_schema_knows_every_state_and_every_field() -> None:
    schema = yaml.safe_load(JOB_SCHEMA.read_text("utf-8"))
    assert schema["$id"] == JOB_EVENT
    assert (schema["version"], schema["personal-data"], schema["additionalProperties"]) == ("1", True, False)
    assert set(schema["properties"]) == set(schema["required"]) == FIELDS
    assert set(schema["properties"]["status"]["enum"]) == {*TRANSITIONS, EventKind.DELETED}
    assert not re.search(r"log text|token", schema["description"])
