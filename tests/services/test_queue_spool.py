"""A job that waits for a slot is packed first: whatever becomes of its data, it trains what was agreed to (SPEC C2)."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import stat
import zipfile
from pathlib import Path

import pytest

from simpletuner_lab.core import errors
from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.core.job_queue import Limits
from simpletuner_lab.services import archive, spool
from simpletuner_lab.services.front import InProcess
from simpletuner_lab.services.lab import Lab
from simpletuner_lab.testing import eventually
from tests.lab_kit import request, settled, submitted, trainers
from tests.services.remote_kit import Away, away_lab
from tests.services.test_queue_table import forked


@pytest.fixture
def away(tmp_path: Path):
    with away_lab(tmp_path) as opened:
        opened.lab.queue.set_limits(Limits(total=1))
        yield opened


def changed(folder: Path) -> None:
    (folder / "2.txt").write_text("changed while it waited")


BECAME = {"changed": changed, "deleted": shutil.rmtree}


def spooled(lab: Lab, job: Job) -> list[str]:
    """What lies in the spool for a job, half written files too."""
    return sorted(path.name for path in lab.home.spool.iterdir() if job.id in path.name)


def whole(job: Job) -> list[str]:
    return [f"{job.id}.json", f"{job.id}.zip"]


@pytest.mark.parametrize("what", BECAME)
def test_what_was_agreed_to_is_sent_whatever_became_of_the_data(away: Away, images: Path, what: str) -> None:
    first, second = away.started(images), away.submit(images)
    assert away.on(second) == second, "nothing of it goes on record"
    packed = away.lab.home.spool / f"{second.id}.zip"
    assert (spooled(away.lab, second), stat.S_IMODE(packed.stat().st_mode)) == (whole(second), 0o600)
    with zipfile.ZipFile(packed) as opened:
        found = {name: hashlib.sha256(opened.read(name)).hexdigest() for name in opened.namelist()}
    manifest = away.lab.store.jobs.plan(second.id).identity.manifest
    assert found == {file.name: file.sha256 for file in manifest.files}
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()
    BECAME[what](images)
    away.lab.cancel(first.id)
    away.place.change(first.run.ref, state="cancelled")
    away.on(first, 2)
    while not second.run.ref:
        second = away.on(second)
    assert [sent.digest for sent in away.lab.store.transfers.of_job(second.id)] == [digest]


def test_an_archive_is_not_written_twice(away: Away, images: Path) -> None:
    away.started(images)
    second = away.submit(images)
    away.on(second)
    packed = away.lab.home.spool / f"{second.id}.zip"
    before = packed.stat().st_ino, packed.stat().st_mtime_ns
    away.on(second, 3)
    InProcess(away.lab).jobs()
    assert (packed.stat().st_ino, packed.stat().st_mtime_ns) == before


def test_a_change_before_it_was_packed_fails_it_without_a_slot(away: Away, images: Path) -> None:
    away.started(images)
    second = away.submit(images)
    changed(images)
    second = away.on(second)
    assert (second.state, second.failure.code, second.claimed_at) == (JobState.FAILED, "plan_changed", None)
    assert spooled(away.lab, second) == []


def test_a_full_disk_fails_it_without_a_slot(away: Away, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away.started(images)
    second = away.submit(images)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(archive, "_write", full)
    second = away.on(second)
    assert (second.state, second.failure.code, second.claimed_at) == (JobState.FAILED, "disk_full", None)
    assert spooled(away.lab, second) == []


def test_the_spool_of_a_job_that_is_cancelled_goes(away: Away, images: Path) -> None:
    first, second = away.started(images), away.submit(images)
    away.on(second)
    assert spooled(away.lab, second) == whole(second)
    assert InProcess(away.lab).cancel(second.id).status is JobState.CANCELLED
    assert (spooled(away.lab, second), spooled(away.lab, first)) == ([], whole(first))


@pytest.mark.parametrize("deleted", [False, True], ids=["settled", "deleted"])
def test_a_job_that_ends_while_it_is_packed_leaves_nothing(
    away: Away, images: Path, monkeypatch: pytest.MonkeyPatch, deleted: bool
) -> None:
    away.started(images)
    second, pack = away.submit(images), archive.pack

    def cancelled_meanwhile(*args: object, **more: object) -> object:
        with monkeypatch.context() as real:
            real.setattr(spool, "pack", pack)
            InProcess(away.lab).cancel(second.id)
            if deleted:
                away.lab.delete(second.id)
        return pack(*args, **more)

    monkeypatch.setattr(spool, "pack", cancelled_meanwhile)
    with pytest.raises(errors.StaleRecord):
        away.lab.runner.advance(second)
    assert spooled(away.lab, second) == []
    if not deleted:
        assert away.lab.store.jobs.get(second.id).state is JobState.CANCELLED


def test_a_process_killed_while_it_packs_leaves_nothing_for_good(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        away.lab.queue.set_limits(Limits(total=1))
        away.started(images)
        second = away.submit(images)

    def pack_and_die() -> None:
        archive.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        with away_lab(tmp_path) as dying:
            dying.on(second)

    _, status = os.waitpid(forked(pack_and_die), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    with away_lab(tmp_path) as away:
        assert [name for name in spooled(away.lab, second) if not name.startswith(".")] == []
        assert away.on(second).waits_for_slot
        assert set(whole(second)) < set(spooled(away.lab, second))
        away.lab.cancel(second.id)
        assert away.on(second).settled_at is not None
        assert spooled(away.lab, second) == [], "nor what was half written"


# ------------------------------------------------------------ this machine


def test_the_watcher_packs_what_waits(watched: Lab, images: Path) -> None:
    first, second, third = (submitted(watched, images, how) for how in ("wait", "quick", "quick"))
    eventually(lambda: spooled(watched, second) + spooled(watched, third), (whole(second) + whole(third)).__eq__)
    assert watched.store.queue.slots().total == 1
    shutil.rmtree(images)
    watched.cancel(third.id)
    assert settled(watched, third).state is JobState.CANCELLED
    assert spooled(watched, third) == []
    watched.cancel(first.id)
    second = settled(watched, second)
    assert (second.state, second.progress.step) == (JobState.COMPLETED, 12)
    assert b"unpacked 6 files" in watched.logs.read(second.id)
    assert list(watched.home.spool.iterdir()) == []


def test_without_a_server_a_submit_packs(lab: Lab, images: Path) -> None:
    client, asked = InProcess(lab), request(images)
    digest = lab.plan(asked).digest
    _, second = (client.submit(asked, approve=digest) for _ in range(2))
    assert second.queue_position == 1
    assert spooled(lab, lab.store.jobs.get(second.job_id)) == whole(lab.store.jobs.get(second.job_id))
    shutil.rmtree(images)
    seen = eventually(lambda: client.job(second.job_id), lambda job: job.is_terminal, patience_s=40)
    assert seen.status is JobState.COMPLETED
    assert trainers(lab) == []


def test_without_a_server_a_look_packs_what_a_killed_process_left(lab: Lab, images: Path) -> None:
    client, first = InProcess(lab), submitted(lab, images, "wait")
    second = submitted(lab, images)
    client.jobs()
    assert spooled(lab, second) == whole(second)
    client.cancel(first.id)
    client.cancel(second.id)
    eventually(lambda: client.job(first.id), lambda job: job.is_terminal)
    assert trainers(lab) == []
