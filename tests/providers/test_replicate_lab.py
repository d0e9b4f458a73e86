"""A job at Replicate through the whole lab: planned, agreed to, sent once, gone on, ended, paid for, and gone from there."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from simpletuner_lab.core.destination import S3Destination, Sender
from simpletuner_lab.core.errors import TokenUnusable, TooLarge
from simpletuner_lab.core.job import JobState
from simpletuner_lab.core.manifest import DatasetManifest, FileEntry, Manifest
from simpletuner_lab.services.archive import least_bytes
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.lab import Lab, Surroundings
from simpletuner_lab.services.registry import Registry
from simpletuner_lab.services.store import Store
from simpletuner_lab.testing.replicate_emulator import Fault, Step
from simpletuner_trainer.report import Exit
from tests.lab_kit import dataset, request
from tests.providers.replicate_kit import IMAGE, Scene, ended, scene

EMPTY = DatasetManifest(
    id="set", root="/nowhere", files=(), withheld=(), images=0, captions_found=0, captions_missing=()
)  # fmt: skip


def taken_on(replicate: Scene, lab: Lab, job_id: str, steps: int) -> JobState:
    """The job's state after so many steps of the runner, some seconds apart."""
    for _ in range(steps):
        lab.runner.advance(lab.store.jobs.get(job_id))
        replicate.emulator.advance(6)
    return lab.store.jobs.get(job_id).state


def test_two_runs_of_one_job_and_an_answer_that_is_lost(tmp_path: Path) -> None:
    with scene(tmp_path) as replicate:
        emulator = replicate.emulator
        emulator.play(IMAGE, [Step(after_s=1, log="hello\n"), ended(Exit.DEADLINE)])
        emulator.fail("predictions.create", Fault(lost=True))
        home = Home(tmp_path / "lab").prepare()
        keys = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK", "HOME": str(tmp_path)}
        around = Surroundings(environment=keys, clock=emulator.now)
        with Lab(home, Store.open(home.database), Registry([replicate.provider()]), around) as lab:
            to = S3Destination(bucket="mine", sender=Sender.TRAINER, checkpoints=True)
            asked = dataclasses.replace(request(dataset(tmp_path / "images")), provider="replicate", destination=to)
            plan = lab.plan(asked)
            assert (plan.target.id, plan.rate.hardware, plan.identity.account) == ("cog", "gpu-l40s", "ann")
            job = lab.submit(asked, approve=plan.digest)
            assert taken_on(replicate, lab, job.id, 8) in {JobState.QUEUED, JobState.RUNNING}
            assert len(emulator.predictions) >= 2, "the first was found, and the next one went on"
            assert lab.store.jobs.get(job.id).attempt >= 2
            lab.cancel(job.id)
            assert taken_on(replicate, lab, job.id, 6) is JobState.CANCELLED
            job = lab.store.jobs.get(job.id)
            assert job.settled_at is not None
            tags = [one.input["tag"] for one in emulator.predictions]
            assert len(set(tags)) == len(tags), "no attempt was started twice"
            assert job.cost_usd == pytest.approx(sum(charge.usd for charge in emulator.charges))
            assert emulator.files("ann") == ()


def test_an_upload_that_is_cut_off_goes_on_from_the_spool_and_one_that_arrived_is_not_sent_twice(
    tmp_path: Path,
) -> None:
    """Also in another process, and with the images gone: nothing is packed again."""
    with scene(tmp_path) as replicate:
        emulator, home = replicate.emulator, Home(tmp_path / "lab").prepare()
        emulator.play(IMAGE, [Step(after_s=1, log="hello\n"), Step(after_s=600)])
        emulator.fail("files.create", Fault(status=503))
        keys = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK", "HOME": str(tmp_path)}
        around = Surroundings(environment=keys, clock=emulator.now)
        images = dataset(tmp_path / "images")
        to = S3Destination(bucket="mine", sender=Sender.TRAINER, checkpoints=True)
        asked = dataclasses.replace(request(images), provider="replicate", destination=to)
        with Lab(home, Store.open(home.database), Registry([replicate.provider()]), around) as lab:
            job = lab.submit(asked, approve=lab.plan(asked).digest)
            assert taken_on(replicate, lab, job.id, 2) is JobState.UPLOADING
        packed = {path.name: path.stat().st_mtime_ns for path in home.spool.iterdir()}
        assert set(packed) == {f"{job.id}.zip", f"{job.id}.json"}
        assert emulator.files("ann") == ()
        shutil.rmtree(images)
        with Lab(home, Store.open(home.database), Registry([replicate.provider()]), around) as lab:
            assert taken_on(replicate, lab, job.id, 4) in {JobState.QUEUED, JobState.RUNNING}
            assert {path.name: path.stat().st_mtime_ns for path in home.spool.iterdir()} == packed
            assert len(emulator.files("ann")) == 1
            assert replicate.asked("files.create") == 2


def test_the_books_are_there_without_a_token(tmp_path: Path) -> None:
    """They are ours: prices alone are missing, and that is told."""
    with scene(tmp_path) as replicate:
        home = Home(tmp_path / "lab").prepare()
        around = Surroundings(environment={"HOME": str(tmp_path)}, clock=replicate.emulator.now)
        with Lab(home, Store.open(home.database), Registry([replicate.provider(token="")]), around) as lab:
            bill = lab.setup.billing("replicate")
            assert (bill.spent_usd, bill.runs, bill.hardware, bill.default_hardware) == (0, 0, (), "")
            assert "prices cannot be told now: REPLICATE_API_TOKEN" in bill.balance_note
            with pytest.raises(TokenUnusable):
                lab.setup.versions("replicate")


def test_what_certainly_does_not_fit_is_refused_by_the_plan(tmp_path: Path) -> None:
    """A zip of nothing but names may be too large; the warning before that names the limit."""
    with scene(tmp_path) as replicate:
        provider = replicate.provider()
        files = tuple(FileEntry(name=f"set/{number:0100}.txt", bytes=1, sha256="0" * 64) for number in range(3))
        manifest = Manifest(datasets=(dataclasses.replace(EMPTY, files=files),))
        assert least_bytes(manifest) == 3 * (30 + 46 + 16 + 2 + 2 * 108) + 22
        provider.capabilities = dataclasses.replace(provider.capabilities, max_upload_bytes=900, warn_upload_bytes=1)
        home = Home(tmp_path / "lab").prepare()
        keys = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK", "HOME": str(tmp_path)}
        around = Surroundings(environment=keys, clock=replicate.emulator.now)
        with Lab(home, Store.open(home.database), Registry([provider]), around) as lab:
            to = S3Destination(bucket="mine", sender=Sender.TRAINER, checkpoints=True)
            asked = dataclasses.replace(request(dataset(tmp_path / "images")), provider="replicate", destination=to)
            with pytest.raises(TooLarge, match="nothing was sent"):
                lab.plan(asked)
            provider.capabilities = dataclasses.replace(provider.capabilities, max_upload_bytes=1 << 20)
            (warning,) = [text for text in lab.plan(asked).warnings if "long upload" in text]
            assert "1,048,576" in warning
            assert "data hosted on S3 or the Hub" in warning
