"""From plan to delivered: home, S3 and the Hub, by the lab and by the trainer; and every way in which it can go wrong."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simpletuner_lab.core import errors
from simpletuner_lab.core.consent import ConsentMode
from simpletuner_lab.core.destination import (
    HOME,
    DeliveryState,
    HubDestination,
    Sender,
)
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import JobState
from simpletuner_lab.services.front import InProcess
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.hub_emulator import Fault, HubEmulator
from simpletuner_lab.testing.hub_repositories import Stored
from simpletuner_lab.testing.storage_server import StorageServer
from tests.hub_kit import READ_TOKEN, TOKEN
from tests.lab_kit import request, settled
from tests.services.courier_kit import HUB, MODEL, Labs, assert_nowhere, events, objects, pushed, s3, submit

# ------------------------------------------------------------ every destination


def test_home_needs_no_push(labs: Labs, images: Path) -> None:
    lab = labs.open()
    job = settled(lab, submit(lab, images, HOME))
    assert job.state is JobState.COMPLETED
    assert lab.store.pushes.of_job(job.id) == ()


def test_the_hub_by_the_lab(labs: Labs, images: Path, hub: HubEmulator) -> None:
    lab = labs.open()
    plan = lab.plan(dataclasses.replace(request(images), destination=HUB))
    assert plan.identity.credentials == (), "home first: nothing of the user's travels"
    job = settled(lab, submit(lab, images, HUB))
    push = pushed(lab, job)
    repository = hub.repositories["ann/neon"]
    assert (push.url, push.revision, push.verified) == (f"{hub.url}/ann/neon", repository.head, True)
    assert repository.files[MODEL].content == b"lora"
    assert (repository.private, len(repository.commits)) == (True, 2)
    (told,) = events(lab, job, EventKind.PUSHED)
    assert (told["what"], told["url"], told["revision"]) == ("result", push.url, push.revision)
    assert [sent.what for sent in lab.store.transfers.of_job(job.id)] == ["model"]
    assert lab.store.jobs.get(job.id).state is JobState.COMPLETED
    assert_nowhere(TOKEN, labs.home.root)


def test_s3_by_the_lab(labs: Labs, images: Path, away: StorageServer) -> None:
    lab = labs.open()
    job = settled(lab, submit(lab, images, s3(away)))
    push = pushed(lab, job)
    assert push.url == f"s3://outputs/loras/{job.id}/"
    assert objects(away)[f"loras/{job.id}/{MODEL}"] == b"lora"
    assert [key for _, key, _ in away.stored] == [f"loras/{job.id}/{MODEL}", f"loras/{job.id}/manifest.json"]
    assert_nowhere(away.owner.secret_key.reveal(), labs.home.root)


@pytest.mark.parametrize("kind", ["hub", "s3"])
def test_by_the_trainer(labs: Labs, images: Path, hub: HubEmulator, away: StorageServer, kind: str) -> None:
    """The credentials are named on the plan; nothing comes home; the lab looks at the manifest that is there."""
    destination = dataclasses.replace(HUB, sender=Sender.TRAINER) if kind == "hub" else s3(away, Sender.TRAINER)
    lab = labs.open()
    plan = lab.plan(dataclasses.replace(request(images), destination=destination))
    names = [credential.name for credential in plan.identity.credentials]
    assert names == (["HF_TOKEN"] if kind == "hub" else ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
    job = settled(lab, submit(lab, images, destination))
    assert job.state is JobState.COMPLETED, job.failure
    push = pushed(lab, job)
    assert (push.verified, push.problem) == (True, "")
    assert lab.outputs.list(job.id) == ()
    assert job.result_sha256 == "", "nobody compared every file"
    arrived = hub.repositories["ann/neon"].files[MODEL].content if kind == "hub" else objects(away)[
        f"loras/{job.id}/{MODEL}"
    ]  # fmt: skip
    assert arrived == b"lora"
    for secret in (TOKEN, away.owner.secret_key.reveal()):
        assert_nowhere(secret, labs.home.root)


def test_what_a_trainer_sent_and_somebody_wrote_over_is_not_verified(
    labs: Labs, images: Path, hub: HubEmulator
) -> None:
    lab = labs.open(watching=False)
    job = submit(lab, images, dataclasses.replace(HUB, sender=Sender.TRAINER))
    eventually(lambda: lab.runner.advance(lab.store.jobs.get(job.id)), lambda seen: seen.terminal, patience_s=40)
    (push,) = lab.courier.due()
    hub.repositories["ann/neon"].files["manifest.json"] = Stored(content=b"{}", lfs=False)
    after = lab.courier.carry(push)
    assert (after.state, after.verified) == (DeliveryState.DELIVERED, False)
    assert "not the one" in after.problem


def test_checkpoints_as_they_arrive(labs: Labs, images: Path, hub: HubEmulator, tmp_path: Path) -> None:
    lab = labs.open()
    job = submit(lab, images, dataclasses.replace(HUB, checkpoints=True), "checkpoint",
                 validation_prompt=str(tmp_path / "go-on"))  # fmt: skip
    eventually(lambda: events(lab, job, EventKind.PUSHED), patience_s=60)
    assert not lab.store.jobs.get(job.id).terminal
    commits = hub.repositories["ann/neon"].commits
    assert set(commits[1].changed) == {f"checkpoints/step-00000005/{name}" for name in (MODEL, "manifest.json")}
    (tmp_path / "go-on").touch()
    push = pushed(lab, settled(lab, job))
    assert [told["what"] for told in events(lab, job, EventKind.PUSHED)] == ["checkpoint", "result"]
    assert push.checkpoints == ("checkpoints/step-00000005/",)
    assert len(commits) == 3


def test_simpletuners_own_keys(labs: Labs, images: Path, hub: HubEmulator) -> None:
    lab = labs.open()
    asked = request(images, push_to_hub=True, hub_model_id="ann/neon", **{"--push_checkpoints_to_hub": "false"})
    plan = lab.plan(asked)
    assert plan.identity.destination == HUB
    assert not {key for key in plan.identity.config if "hub" in key}
    job = settled(lab, lab.submit(asked, approve=plan.digest))
    pushed(lab, job)
    assert "ann/neon" in hub.repositories
    assert lab.plan(dataclasses.replace(asked, destination=HOME)).identity.destination == HOME, "the request wins"


def test_the_default_is_used_where_nothing_is_named(labs: Labs, images: Path, away: StorageServer) -> None:
    lab = labs.open(watching=False)
    assert lab.destination() == HOME
    lab.set_destination(s3(away))
    assert lab.plan(request(images)).identity.destination == s3(away) == lab.destination()
    with pytest.raises(errors.InvalidRequest):
        lab.set_destination(HubDestination(repo_id="no-owner"))


# ------------------------------------------------------------ what a plan refuses


def test_a_plan_says_what_is_missing(labs: Labs, images: Path, away: StorageServer) -> None:
    asked = dataclasses.replace(request(images), destination=HUB)
    for token, says in (("", "no token"), ("hf_wrong", "does not accept"), (READ_TOKEN, "only read")):
        labs.environment["HF_TOKEN"] = token
        with pytest.raises(errors.CredentialUnusable, match=says) as told:
            labs.open(watching=False).plan(asked)
        assert told.value.hint
        assert not token or token not in told.value.message + told.value.hint
    del labs.environment["AWS_SECRET_ACCESS_KEY"]
    lab = labs.open(watching=False)
    with pytest.raises(errors.CredentialUnusable, match="no keys"):
        lab.plan(dataclasses.replace(request(images), destination=s3(away)))
    assert list(lab.store.jobs.active()) == []


def test_tokens_in_files_and_logins(labs: Labs, images: Path, tmp_path: Path) -> None:
    del labs.environment["HF_TOKEN"]
    asked = dataclasses.replace(request(images), destination=HUB)
    lab = labs.open(watching=False)
    login = tmp_path / ".cache" / "huggingface" / "token"
    login.parent.mkdir(parents=True)
    login.write_text(f"{TOKEN}\n")
    assert lab.plan(asked).digest
    login.unlink()
    path = lab.home.secrets / "HF_TOKEN"
    path.write_text(TOKEN)
    path.chmod(0o644)
    with pytest.raises(errors.CredentialUnusable, match="read by others"):
        lab.plan(asked)
    path.chmod(0o600)
    assert lab.plan(asked).digest
    assert TOKEN not in repr(lab.tokens.hub())


def test_a_hub_that_does_not_answer_is_a_doubt(labs: Labs, images: Path) -> None:
    labs.environment["HF_ENDPOINT"] = "http://127.0.0.1:9"
    plan = labs.open(watching=False).plan(dataclasses.replace(request(images), destination=HUB))
    assert any("does not answer" in warning for warning in plan.warnings)


def test_never_means_never(labs: Labs, images: Path) -> None:
    lab = labs.open(watching=False)
    lab.set_consent_mode(ConsentMode.NEVER)
    with pytest.raises(errors.UploadsForbidden):
        submit(lab, images, HUB)
    assert lab.plan(dataclasses.replace(request(images), destination=HOME)).consent != "forbidden"


# ------------------------------------------------------------ what goes wrong on the way


def test_an_endpoint_that_is_away_for_a_while(labs: Labs, images: Path, hub: HubEmulator) -> None:
    lab = labs.open()
    fault = hub.fail("create", Fault(status=503, times=2))
    job = settled(lab, submit(lab, images, HUB))
    push = pushed(lab, job)
    assert fault.times == 0
    assert push.tries == 0
    assert [told["code"] for told in events(lab, job, EventKind.PROBLEM)] == ["destination_unreachable"]
    assert len(hub.repositories["ann/neon"].commits) == 2


def test_a_token_that_is_revoked_midway_and_another_push(labs: Labs, images: Path, hub: HubEmulator) -> None:
    lab = labs.open()
    held = hub.fail("lfs_put", Fault(held=True))
    job = submit(lab, images, HUB)
    assert eventually(held.reached.is_set, patience_s=60)
    account = hub.holds.accounts[TOKEN]
    hub.revoke(TOKEN)
    held.release()
    push = pushed(lab, job, DeliveryState.FAILED)
    assert "401" in push.problem
    assert "push it again" in push.hint
    assert lab.store.jobs.get(job.id).state is JobState.COMPLETED, "a terminal job never changes"
    hub.holds.accounts[TOKEN] = account
    again = lab.push(job.id, HUB)
    assert again.id == push.id
    assert pushed(lab, job).revision == hub.repositories["ann/neon"].head
    assert len(hub.repositories["ann/neon"].commits) == 2


def test_a_name_that_is_taken(labs: Labs, images: Path) -> None:
    lab = labs.open()
    taken = HubDestination(repo_id="bob/taken")
    plan = lab.plan(dataclasses.replace(request(images), destination=taken))
    assert any("in the name of bob" in warning for warning in plan.warnings)
    push = pushed(lab, settled(lab, submit(lab, images, taken)), DeliveryState.FAILED)
    assert "refused" in push.problem


def test_a_job_without_a_result(labs: Labs, images: Path) -> None:
    lab = labs.open()
    job = settled(lab, submit(lab, images, HUB, "crash"))
    assert pushed(lab, job, DeliveryState.FAILED).problem == "the job is failed: it has no result to push"
    with pytest.raises(errors.Conflict):
        lab.push(job.id, HUB)


def test_outputs_that_changed_are_not_pushed(labs: Labs, images: Path, away: StorageServer) -> None:
    lab = labs.open()
    job = settled(lab, submit(lab, images, HOME))
    (lab.outputs.folder(job.id) / MODEL).write_bytes(b"mine")
    lab.push(job.id, s3(away))
    assert "have changed" in pushed(lab, job, DeliveryState.FAILED).problem
    assert objects(away) == {}


def test_a_push_in_this_process(labs: Labs, images: Path, away: StorageServer) -> None:
    """Without a server nobody else would do it: the verb stays for the first try."""
    client = InProcess(labs.open(watching=False))
    asked = request(images)
    job = client.submit(asked, approve=client.plan(asked).digest)
    eventually(lambda: client.job(job.job_id), lambda seen: seen.is_terminal, patience_s=40)
    eventually(lambda: client.lab.store.jobs.get(job.job_id).result_sha256)
    sent = client.push(job.job_id, s3(away))
    assert (sent.state, sent.problem) == (DeliveryState.DELIVERED, "")
    assert client.detail(job.job_id).deliveries == (sent,)
    with pytest.raises(errors.InvalidRequest):
        client.push(job.job_id, HOME)


PUSHING = """
import os, sys
from pathlib import Path
from simpletuner_lab.services.lab import Lab
with Lab.open(Path(sys.argv[1])) as lab:
    (push,) = lab.courier.due()
    lab.courier.carry(push)
"""


@pytest.mark.parametrize("route", ["create", "lfs_put", "commit", "info"])
def test_a_pushing_process_that_is_killed(labs: Labs, images: Path, hub: HubEmulator, route: str) -> None:
    """Killed at any request: the next process goes on, and the model is committed exactly once."""
    lab = labs.open(watching=False)
    job = submit(lab, images, HUB)
    eventually(lambda: lab.runner.advance(lab.store.jobs.get(job.id)), lambda seen: seen.settled_at is not None,
               patience_s=40)  # fmt: skip
    lost = route == "commit"  # it is done, and nobody hears of it
    fault = hub.fail("info" if lost else route, Fault(held=True))
    if lost:
        hub.faults["info"].appendleft(Fault())  # the first look, before the commit
    process = subprocess.Popen([sys.executable, "-c", PUSHING, str(labs.home.root)], env=labs.environment)
    try:
        assert fault.reached.wait(60)
        (other,) = lab.courier.due()
        assert lab.courier.carry(other) == other, "in one pair of hands at a time"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    fault.release()
    lab.watcher.start()
    push = pushed(lab, job)
    commits = hub.repositories["ann/neon"].commits
    assert [commit.title for commit in commits[1:]] == ["The trained model, step 12"]
    assert push.revision == commits[-1].oid
    assert len(events(lab, job, EventKind.PUSHED)) == 1
