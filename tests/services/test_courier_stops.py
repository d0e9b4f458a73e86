"""What stops a push: a token that is none, consent that was set to never, a job that is deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from simpletuner_lab.core import errors
from simpletuner_lab.core.consent import ConsentMode
from simpletuner_lab.core.destination import HOME, DeliveryState, Push
from simpletuner_lab.services import courier
from simpletuner_lab.services.front import InProcess
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.hub_emulator import Fault, HubEmulator
from simpletuner_lab.testing.storage_server import StorageServer
from simpletuner_trainer.stores import Unreachable
from tests.lab_kit import settled
from tests.services.courier_kit import HUB, MODEL, Labs, assert_nowhere, objects, pushed, s3, submit


@pytest.mark.parametrize("name", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY"])
def test_a_token_with_a_note_behind_it_is_refused_and_told_nowhere(
    labs: Labs, images: Path, away: StorageServer, name: str
) -> None:
    secret, where = labs.environment[name], HUB if name == "HF_TOKEN" else s3(away)
    labs.environment[name] = f"{secret}\n# my note"
    lab = labs.open()
    with pytest.raises(errors.CredentialUnusable, match=name):
        submit(lab, images, where)
    job = settled(lab, submit(lab, images, HOME))
    with pytest.raises(errors.CredentialUnusable):
        lab.push(job.id, where)
    assert_nowhere(secret, labs.home.root)


def test_what_a_client_repeats_of_a_token_is_masked(
    labs: Labs, images: Path, away: StorageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = labs.environment["AWS_SECRET_ACCESS_KEY"]

    def failing(*_: object, **__: object) -> None:
        raise Unreachable(f"could not sign with {secret}")

    lab = labs.open()
    job = settled(lab, submit(lab, images, HOME))
    monkeypatch.setattr(courier, "open_store", failing)
    lab.push(job.id, s3(away))
    push = eventually(lambda: lab.store.pushes.of_job(job.id)[-1], lambda seen: seen.tries > 0, patience_s=20)
    assert push.problem.startswith("could not sign with ")
    assert_nowhere(secret, labs.home.root)


def test_never_holds_for_a_push_that_waits(labs: Labs, images: Path, hub: HubEmulator) -> None:
    lab = labs.open()
    hub.fail("create", Fault(status=503, times=1))
    job = settled(lab, submit(lab, images, HUB))
    eventually(lambda: lab.store.pushes.of_job(job.id)[-1].tries == 1, patience_s=20)
    lab.set_consent_mode(ConsentMode.NEVER)
    push = pushed(lab, job, DeliveryState.FAILED)
    assert "consent is set to never" in push.problem
    assert "ann/neon" not in hub.repositories


def test_a_job_that_is_deleted_takes_its_push_along(
    labs: Labs, images: Path, away: StorageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = labs.open(watching=False)
    client, job = InProcess(lab), submit(lab, images, HOME)
    eventually(lambda: client.job(job.id), lambda seen: seen.is_terminal, patience_s=40)
    eventually(lambda: lab.store.jobs.get(job.id).result_sha256)
    goes_on = courier.Courier._moved

    def deleting(self: courier.Courier, push: Push) -> None:
        lab.delete(push.job_id, outputs=True)
        goes_on(self, push)

    monkeypatch.setattr(courier.Courier, "_moved", deleting)
    push = lab.push(job.id, s3(away))
    with pytest.raises(errors.JobNotFound):
        lab.courier.carry(push)
    assert [key.rpartition("/")[2] for key in objects(away)] == [MODEL], "the first file, and nothing after it"
    assert lab.courier.due() == ()
