"""Pushes that wait: who carries them without a server, how they are hastened and given up, and several of one job."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from simpletuner_lab.commands.answers import outputs_answer
from simpletuner_lab.core import errors
from simpletuner_lab.core.destination import HOME, DeliveryState, Destination, Push, Sender
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import Job
from simpletuner_lab.downloading import download
from simpletuner_lab.services import courier
from simpletuner_lab.services.front import InProcess
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.hub_emulator import Fault, HubEmulator
from simpletuner_lab.testing.storage_server import StorageServer
from tests.services.courier_kit import HUB, MODEL, Labs, events, objects, s3, submit


def ended(client: InProcess, images: Path, destination: Destination) -> Job:
    job = submit(client.lab, images, destination)
    eventually(lambda: client.job(job.id), lambda seen: seen.is_terminal, patience_s=40)
    eventually(lambda: client.job(job.id) and client.lab.store.jobs.get(job.id).settled_at)
    return client.lab.store.jobs.get(job.id)


def test_a_look_waits_for_no_destination(labs: Labs, images: Path, hub: HubEmulator) -> None:
    client = InProcess(labs.open(watching=False))
    job = ended(client, images, HUB)
    held = hub.fail("create", Fault(held=True))
    client.jobs(), client.detail(job.id), client.log(job.id), client.outputs(job.id), client.events(0)
    (waits,) = client.detail(job.id).deliveries
    assert (waits.state, held.reached.is_set()) == (DeliveryState.WAITING, False)
    held.release()
    (sent,) = client.settle(job.id)
    assert (sent.state, "ann/neon" in hub.repositories) == (DeliveryState.DELIVERED, True)


def test_given_up_hastened_and_asked_for_again(labs: Labs, images: Path, hub: HubEmulator, away: StorageServer) -> None:
    client = InProcess(labs.open(watching=False))
    job = ended(client, images, HOME)
    hub.fail("create", Fault(status=503, times=2, retry_after_s=600))  # so that no slow machine makes it due
    waits, sent = client.push(job.id, HUB), client.push(job.id, s3(away))
    assert (waits.state, f"stcloud push {job.id}" in waits.hint) == (DeliveryState.WAITING, True)
    assert client.detail(job.id).deliveries == (waits, sent), "each of them, the last at the end"
    assert client.settle(job.id) == (waits, sent)
    assert client.lab.store.pushes.get(waits.id).tries == 1, "it is not due yet"
    assert client.hasten(job.id)[0].state is DeliveryState.WAITING
    assert client.lab.store.pushes.get(waits.id).tries == 2

    (over,) = client.give_up(job.id, entry="cli")
    assert (over.id, over.state, over.problem, over.hint) == (waits.id, DeliveryState.GIVEN_UP, "", "")
    assert client.give_up(job.id) == (over,)
    told = events(client.lab, job, EventKind.PUSH_GIVEN_UP)
    assert [event["entry"] for event in told] == ["cli"], "once"
    assert client.lab.courier.due() == ()
    for refused in (lambda: client.give_up(job.id, sent.id), lambda: client.hasten(job.id)):
        with pytest.raises(errors.Conflict, match="nothing of job"):
            refused()
    with pytest.raises(errors.OutputNotFound):
        client.give_up(job.id, "another")
    with pytest.raises(errors.JobNotFound):
        client.give_up("nothing")
    assert client.push(job.id, HUB).state is DeliveryState.DELIVERED


def test_a_try_under_way_stops_at_its_next_part(
    labs: Labs, images: Path, away: StorageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = InProcess(labs.open(watching=False))
    job = ended(client, images, HOME)
    goes_on = courier.Courier._moved

    def giving_up(self: courier.Courier, push: Push) -> None:
        client.give_up(push.job_id)
        goes_on(self, push)

    monkeypatch.setattr(courier.Courier, "_moved", giving_up)
    assert client.push(job.id, s3(away)).state is DeliveryState.GIVEN_UP
    assert [key.rpartition("/")[2] for key in objects(away)] == [MODEL], "the first file, and nothing after it"
    assert events(client.lab, job, EventKind.PUSHED) == []


def test_what_is_said_where_the_trainer_delivers(labs: Labs, images: Path, hub: HubEmulator, tmp_path: Path) -> None:
    client = InProcess(labs.open(watching=False))
    by_trainer = dataclasses.replace(HUB, sender=Sender.TRAINER)
    job = submit(client.lab, images, by_trainer)
    with pytest.raises(errors.Conflict, match="training machine sends"):
        client.give_up(job.id)
    with pytest.raises(errors.OutputNotFound, match=r"brings nothing home.*ann/neon"):
        list(download(client, job.id, tmp_path))
    eventually(lambda: client.job(job.id), lambda seen: seen.is_terminal, patience_s=40)
    (sent,) = client.hasten(job.id)
    assert sent.state is DeliveryState.DELIVERED
    with pytest.raises(errors.OutputNotFound, match=f"its trainer delivered it to {hub.url}/ann/neon"):
        list(download(client, job.id, tmp_path))
    with pytest.raises(errors.Conflict, match=r"do not come home.*ann/neon") as told:
        client.push(job.id, HUB)
    assert "wait" not in told.value.hint
    shown = outputs_answer(client.outputs(job.id), client.detail(job.id).deliveries).text
    assert shown.startswith("nothing comes home: the trainer delivers by itself\ndelivered: Hugging Face Hub ann/neon")
