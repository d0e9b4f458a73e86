"""The lab in this process, with real supervisors and a quick trainer: from plan to settled, and every way aside."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from simpletuner_lab.core import errors
from simpletuner_lab.core.diff import diff
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import JobState, RunRef
from simpletuner_lab.core.provider import RunState, Snapshot
from simpletuner_lab.services.front import InProcess, _whole_characters
from simpletuner_lab.services.lab import Lab
from simpletuner_lab.testing import eventually
from tests.lab_kit import quick_home, request, settled, submitted, trainers


def test_the_whole_way(watched: Lab, images: Path) -> None:
    job = settled(watched, submitted(watched, images))
    assert job.state is JobState.COMPLETED
    assert (job.progress.step, job.cost_usd, len(job.result_sha256)) == (12, 0.0, 64)
    assert watched.store.points.read(job.id).step == tuple(range(1, 13))
    assert [file.path for file in watched.outputs.list(job.id)] == ["manifest.json", "pytorch_lora_weights.safetensors"]
    assert b"unpacked 6 files" in watched.logs.read(job.id)
    kinds = [event.kind for event in watched.store.events.after(0, job_id=job.id)]
    assert kinds[:2] == [EventKind.CREATED, EventKind.CONSENTED]
    assert kinds[-1] is EventKind.DISCARDED
    assert list(watched.home.spool.iterdir()) == []
    assert list((watched.home.provider_state("local") / "runs").iterdir()) == []
    assert watched.store.transfers.of_job(job.id) == ()  # nothing left this machine


def test_a_run_that_somebody_else_started_is_adopted(lab: Lab, images: Path) -> None:
    """Two drivers race to start: the slower one is refused by the provider, and finds the run."""
    job = submitted(lab, images, "wait")
    while job.state is not JobState.QUEUED:
        job = lab.runner.advance(job)
    started = lab.runner.advance(job)
    slower = lab.recorder.note(started, dataclasses.replace(started, run=RunRef()), at=0.0)
    assert lab.runner.advance(slower).run.ref == started.run.ref
    lab.cancel(job.id)
    lab.watcher.start()
    assert settled(lab, job).state is JobState.CANCELLED


def test_a_file_changed_between_submit_and_packing_fails_the_job_with_nothing_sent(lab: Lab, images: Path) -> None:
    job = submitted(lab, images)
    (images / "2.txt").write_text("changed while it waited")
    after = lab.runner.advance(job)
    assert (after.state, after.failure.code) == (JobState.FAILED, "plan_changed")
    assert list(lab.home.spool.iterdir()) == []
    assert trainers(lab) == []


def test_cancel_before_it_runs(lab: Lab, images: Path) -> None:
    job = submitted(lab, images)
    assert lab.cancel(job.id).cancel_requested_at is not None
    assert lab.runner.advance(lab.store.jobs.get(job.id)).state is JobState.CANCELLED
    assert lab.cancel(job.id).state is JobState.CANCELLED, "asking twice is harmless"


def test_cancel_while_it_runs(watched: Lab, images: Path) -> None:
    job = submitted(watched, images, "wait")
    eventually(lambda: b"waiting" in watched.logs.read(job.id))
    watched.cancel(job.id)
    job = settled(watched, job)
    assert (job.state, job.failure) == (JobState.CANCELLED, None)
    assert trainers(watched) == []


def test_a_crash_is_told_in_the_trainers_words(watched: Lab, images: Path) -> None:
    job = settled(watched, submitted(watched, images, "crash"))
    assert (job.state, job.failure.code) == (JobState.FAILED, "nan_loss")
    assert job.failure.hint == "lower the learning rate"


def test_a_killed_trainer_goes_on_from_its_checkpoint(watched: Lab, images: Path) -> None:
    job = settled(watched, submitted(watched, images, "die-once"))
    assert (job.state, job.attempt) == (JobState.COMPLETED, 2)
    assert watched.store.points.read(job.id).step == tuple(range(1, 13))
    log = watched.logs.read(job.id)
    assert log.count(b"unpacked 6 files") == 2
    assert len(log) == job.log_bytes


def test_a_torn_result_is_not_a_success(watched: Lab, images: Path) -> None:
    job = settled(watched, submitted(watched, images, "torn"))
    assert (job.state, job.failure.code) == (JobState.FAILED, "result_missing")
    assert "checksum" in job.failure.message


def test_another_process_takes_over(tmp_path: Path, images: Path) -> None:
    """The lab that started a run goes away; the next one finds the run and finishes the job."""
    home = quick_home(tmp_path)
    with Lab.open(home.root) as first:
        client = InProcess(first)
        asked = request(images, "wait")
        job = client.submit(asked, approve=first.plan(asked).digest, key=None, entry="test")
    with Lab.open(home.root) as second:
        second.watcher.start()
        running = eventually(lambda: second.store.jobs.get(job.job_id), lambda seen: seen.progress.step == 5)
        assert running.state is JobState.RUNNING
        second.cancel(job.job_id)
        assert settled(second, running).state is JobState.CANCELLED


def test_a_lost_answer_to_start_is_looked_up(lab: Lab, images: Path) -> None:
    """The run exists, but the process died before its reference was stored: no second run is started."""
    job = submitted(lab, images, "wait")
    while not job.run.ref:
        before, job = job, lab.runner.advance(job)
    assert before.run.start_tried or not before.run.ref
    forgotten = lab.store.jobs.get(job.id)
    lost = lab.recorder.note(forgotten, dataclasses.replace(forgotten, run=RunRef(start_tried=True)), at=0.0)
    assert lab.runner.advance(lost).run.ref == job.run.ref
    eventually(lambda: trainers(lab), lambda found: len(found) >= 1)
    lab.cancel(job.id)
    lab.watcher.start()
    assert settled(lab, job).state is JobState.CANCELLED


def test_delete_refuses_an_active_job_and_removes_a_finished_one(watched: Lab, images: Path) -> None:
    job = submitted(watched, images, "wait")
    with pytest.raises(errors.JobActive):
        watched.delete(job.id)
    watched.cancel(job.id)
    settled(watched, job)
    watched.delete(job.id, outputs=True)
    with pytest.raises(errors.JobNotFound):
        watched.store.jobs.get(job.id)
    assert not watched.logs.path(job.id).exists()
    assert not watched.outputs.folder(job.id).exists()


def test_the_watcher_runs_in_one_process_at_a_time(tmp_path: Path, images: Path) -> None:
    home = quick_home(tmp_path)
    with Lab.open(home.root) as one, Lab.open(home.root) as two:
        one.watcher.start()
        two.watcher.start()
        jobs = [submitted(lab, images) for lab in (one, two, one, two)]
        for job in jobs:
            done = settled(one, job)
            assert (done.state, done.attempt) == (JobState.COMPLETED, 1)
            assert one.logs.read(job.id).count(b"unpacked") == 1


def test_a_killed_supervisor_is_survived(watched: Lab, images: Path) -> None:
    job = submitted(watched, images, "wait")
    eventually(lambda: b"waiting" in watched.logs.read(job.id))
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any("_supervisor" in word for word in words) and any(str(watched.home.root) in word for word in words):
            os.kill(process.pid, signal.SIGKILL)
    done = settled(watched, job)  # the trainer saw its lifeline end; the next attempt goes on
    assert (done.state, done.attempt) == (JobState.COMPLETED, 2)


def test_the_log_is_cut_back_to_what_was_recorded(lab: Lab) -> None:
    lab.logs.append("j", 0, b"one\ntwo\n")
    lab.logs.append("j", 4, b"TWO\n")
    assert lab.logs.read("j") == b"one\nTWO\n"


def test_a_lost_race_leaves_the_log_alone(lab: Lab, images: Path) -> None:
    """Two processes polled the same run: the slower one writes neither its record nor its piece of the log."""
    job = submitted(lab, images)
    change = diff(
        dataclasses.replace(job, state=JobState.QUEUED),
        Snapshot(state=RunState.QUEUED, cursor="8", log=b"one\ntwo\n"),
        delivered=None,
        resumable=True,
        now=1.0,
    )
    change = dataclasses.replace(change, job=dataclasses.replace(change.job, state=job.state))
    lab.recorder.record(job, change, log=b"one\ntwo\n")
    with pytest.raises(errors.StaleRecord):
        lab.recorder.record(job, change, log=b"one\n")
    assert lab.logs.read(job.id) == b"one\ntwo\n"


def test_no_secret_of_the_environment_reaches_a_run(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "r8_" + "Zz9" * 13
    monkeypatch.setenv("REPLICATE_API_TOKEN", token)
    monkeypatch.setenv("HF_TOKEN", token)
    with Lab.open(quick_home(tmp_path).root) as lab:
        lab.watcher.start()
        settled(lab, submitted(lab, images))
        for path in lab.home.root.rglob("*"):
            if path.is_file():
                assert token.encode() not in path.read_bytes(), path


def test_settings_of_a_provider_are_checked(tmp_path: Path) -> None:
    home = quick_home(tmp_path)
    (home.provider_settings / "local.json").write_text(json.dumps({"pythn": "x", "nice": "low"}))
    with Lab.open(home.root) as lab:
        broken = {entry.id: entry.reason for entry in lab.registry.broken}
    assert "local.json" in broken["local"]


def test_a_piece_of_a_long_line_ends_with_a_whole_character() -> None:
    text = "日本".encode()
    assert [_whole_characters(text[:end]).decode() for end in (3, 4, 5, 6)] == ["日", "日", "日", "日本"]
    assert _whole_characters(text[:2]) == text[:2], "never nothing: a reader would wait for ever"
