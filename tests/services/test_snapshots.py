"""Snapshots of a lab's submits, two jobs side by side, a job's request again, and secrets that are in none of it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from dulwich.repo import Repo

from simpletuner_lab.commands.snapshots import restored_answer
from simpletuner_lab.core.errors import ConsentRequired, JobNotFound, SecretInConfig
from simpletuner_lab.services.lab import Lab
from simpletuner_lab.services.working_folder import look_at
from tests.core.planted import SECRETS
from tests.lab_kit import dataset, png, request, submitted


def test_a_submit_makes_a_commit_and_the_job_has_it(lab: Lab, images: Path) -> None:
    job = submitted(lab, images)
    found = lab.snapshots.of_job(job.id)
    assert found.snapshot is not None
    assert (found.snapshot.branch, found.snapshot.folder, found.snapshot.auto_generated) == ("main", "quick", True)
    assert found.snapshot.message == "pre-submit: quick"
    assert found.snapshot.commit.startswith(found.snapshot.abbrev)
    assert len(found.snapshot.commit) == 40
    assert set(found.files) == {"config.json", "dataloader.json", "plan.json"}
    assert job.digest in found.files["plan.json"]
    assert all(str(images) not in text for text in found.files.values()), "where data sets lie is nobody's business"
    page = lab.snapshots.listed()
    assert [(entry.job_id, entry.commit) for entry in page.snapshots] == [(job.id, found.snapshot.commit)]
    assert lab.snapshots.metadata(job.id).snapshot == found.snapshot


def test_words_of_a_person_are_kept(lab: Lab, images: Path) -> None:
    asked = dataclasses.replace(request(images), snapshot_name="baseline", snapshot_message="before the holidays")
    job = lab.submit(asked, approve=lab.plan(request(images)).digest)
    found = lab.snapshots.of_job(job.id).snapshot
    assert found is not None
    assert (found.name, found.message, found.auto_generated) == ("baseline", "before the holidays", False)
    assert lab.snapshots.listed().snapshots[0].name == "baseline"


def test_off_is_off(lab: Lab, images: Path) -> None:
    lab.snapshots.set_enabled(False)
    job = submitted(lab, images)
    assert lab.snapshots.of_job(job.id).snapshot is None
    assert not lab.home.snapshots.exists()
    assert lab.snapshots.draft(job.id).request.config_name == "quick", "a draft needs none"
    lab.snapshots.set_enabled(True)
    assert lab.snapshots.listed().waiting == 0


def test_a_snapshot_that_cannot_be_written_hinders_no_submit(lab: Lab, images: Path) -> None:
    lab.home.snapshots.write_text("in the way")
    job = submitted(lab, images)
    waits = lab.snapshots.of_job(job.id)
    assert waits.snapshot is not None
    assert (waits.snapshot.commit, waits.files) == ("", {})
    assert "cannot be used" in waits.problem
    assert lab.snapshots.check(str(images)).snapshots.waiting == 1
    lab.home.snapshots.unlink()
    later = submitted(lab, images, learning_rate=2e-3)
    entries = lab.snapshots.listed().snapshots
    assert [entry.job_id for entry in entries] == [later.id, job.id], "each once, in the order of the submits"
    assert lab.snapshots.of_job(job.id).problem == ""


def test_a_kill_after_the_commit_makes_no_second(lab: Lab, images: Path) -> None:
    job = submitted(lab, images)
    before = lab.snapshots.of_job(job.id).snapshot
    with lab.store._database.write() as connection:
        connection.exec_driver_sql("UPDATE snapshots SET commit_id = ''")
    assert lab.snapshots.of_job(job.id).snapshot == before
    assert len(lab.snapshots.listed().snapshots) == 1


def test_the_same_key_makes_one(lab: Lab, images: Path) -> None:
    digest = lab.plan(request(images)).digest
    first, second = (lab.submit(request(images), approve=digest, key="nightly") for _ in range(2))
    assert first.id == second.id
    assert len(lab.snapshots.listed().snapshots) == 1


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")
def test_a_log_with_patches_reads_well(lab: Lab, images: Path) -> None:
    submitted(lab, images)
    submitted(lab, images, learning_rate=5e-4)
    command = ["git", "-C", str(lab.home.snapshots), "log", "-p", "-1", "--format=%s", "--", "quick/config.json"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    changed = [line for line in said.splitlines() if line and line[0] in "+-" and line[:3] not in {"+++", "---"}]
    assert changed == ['-  "learning_rate": 0.001,', '+  "learning_rate": 0.0005,']


# ------------------------------------------------------------ side by side, and again


def test_the_diff_of_two_jobs(lab: Lab, images: Path) -> None:
    first = submitted(lab, images, seed=1)
    (images / "0.png").write_bytes(png(9))
    (images / "9.png").write_bytes(png(3))
    (images / "9.txt").write_text("one more\n")
    second = submitted(lab, images, learning_rate=5e-4)
    found = lab.snapshots.diff(first.id, second.id)
    told = {one.path: (one.kind.value, one.before, one.after) for one in found.differences}
    assert told["config.learning_rate"] == ("changed", 1e-3, 5e-4)
    assert told["config.seed"] == ("removed", 1, None)
    assert told["data[set].files"] == ("changed", 6, 8)
    assert (found.same_digest, [dataclasses.astuple(one) for one in found.data]) == (False, [("set", 2, 0, 1, 5)])
    same = lab.snapshots.diff(first.id, first.id)
    assert (same.same_digest, same.differences, same.data) == (True, (), ())
    with pytest.raises(JobNotFound):
        lab.snapshots.diff(first.id, "nobody")


def test_a_draft_is_the_request_again(lab: Lab, images: Path) -> None:
    job = submitted(lab, images)
    draft = lab.snapshots.draft(job.id)
    assert draft.request.dataloader_config[0]["instance_data_dir"] == str(images)
    assert lab.plan(draft.request.request()).digest == job.digest == draft.digest
    urgent = lab.submit(dataclasses.replace(lab.snapshots.request(job.id), priority=40), approve=job.digest)
    assert lab.snapshots.draft(urgent.id).request.request().priority == 40
    assert draft.notes == ()
    images.rename(images.with_name("moved"))
    assert [str(images) in note for note in lab.snapshots.draft(job.id).notes] == [True]


def test_a_draft_strips_what_the_job_stripped(lab: Lab, images: Path) -> None:
    """Else the second run would send the places where photos were taken."""
    asked = dataclasses.replace(request(images), strip_exif=True)
    job = lab.submit(asked, approve=lab.plan(asked).digest)
    again = lab.snapshots.draft(job.id).request
    assert again.strip_exif
    assert "--strip-exif" in restored_answer(lab.snapshots.draft(job.id), images / "config.json").text
    assert lab.plan(again.request()).digest == job.digest


def test_a_rerun_asks_where_the_data_changed(lab: Lab, images: Path) -> None:
    job = submitted(lab, images)
    again = lab.submit(lab.snapshots.request(job.id))  # this digest was agreed to before
    assert (again.digest, again.id == job.id) == (job.digest, False)
    (images / "0.txt").write_text("another caption\n")
    asked = lab.snapshots.request(job.id)
    with pytest.raises(ConsentRequired):
        lab.submit(asked)
    assert lab.submit(asked, approve=lab.plan(asked).digest).digest != job.digest


# ------------------------------------------------------------ secrets


def test_a_secret_is_in_no_object(lab: Lab, images: Path) -> None:
    for secret in [text for _, text in SECRETS]:
        for more in ({"notes": secret}, {secret: 1}, {"hub_token": secret}):
            with pytest.raises(SecretInConfig):
                submitted(lab, images, **more)
        with pytest.raises(SecretInConfig):
            lab.submit(dataclasses.replace(request(images), snapshot_message=secret.replace("\n", " ")))
    assert not lab.home.snapshots.exists()


def test_references_stay_references(lab: Lab, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = SECRETS[10][1]
    monkeypatch.setenv("WANDB_API_KEY", value)
    monkeypatch.setenv("HF_TOKEN", value)
    (images / ".env").write_text(f"HF_TOKEN={value}\n")
    submitted(lab, images)
    with Repo(str(lab.home.snapshots)) as repo:
        repo.object_store.pack_loose_objects()
        objects = [repo[name].as_raw_string() for name in repo.object_store]
    assert len(objects) == 6
    assert not any(value.encode() in data or b".env" in data or bytes(images) in data for data in objects)


# ------------------------------------------------------------ before a submit


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")
def test_the_check_before_a_submit(lab: Lab, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    assert not lab.snapshots.check(str(folder)).repo_present
    identity = ("-c", "user.name=ann", "-c", "user.email=ann@localhost")
    for words in (["init", "-q", "-b", "trunk"], [*identity, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", "-C", str(folder), *words], check=True)
    (folder / "my config.json").write_text("{}")
    (folder / ".git" / "index").touch()
    stamp = (folder / ".git" / "index").stat().st_mtime_ns
    job = submitted(lab, images)
    found = lab.snapshots.check(str(folder))
    assert (found.git_available, found.repo_present, found.is_dirty, found.dirty_count) == (True, True, True, 1)
    assert (found.dirty_paths, found.current_branch, len(found.current_commit)) == (("my config.json",), "trunk", 40)
    assert (found.config_name, found.tracker_run_name, found.problem) == ("quick", "quick", "")
    ours = lab.snapshots.of_job(job.id).snapshot
    assert ours is not None
    assert (found.snapshots.current_commit, found.snapshots.waiting) == (ours.commit, 0)
    assert (folder / ".git" / "index").stat().st_mtime_ns == stamp, "looking writes nothing"
    configs = lab.snapshots.configs()
    assert (configs.active_config, [one.name for one in configs.configs]) == ("quick", ["quick"])


def test_a_git_that_takes_for_ever_is_not_waited_for(tmp_path: Path) -> None:
    slow = tmp_path / "git"
    slow.write_text("#!/bin/sh\nexec tail -f /dev/null\n")
    slow.chmod(0o700)
    found = look_at(tmp_path, {"PATH": f"{tmp_path}:{os.environ['PATH']}"}, patience_s=0.2)
    assert "longer than 0.2 s" in found.problem
    assert not look_at(tmp_path, {"PATH": str(tmp_path / "empty")}).git


def test_a_folder_for_each_name(lab: Lab, tmp_path: Path) -> None:
    for name in ("Neon", "neon"):
        asked = dataclasses.replace(request(dataset(tmp_path / "images")), name=name)
        lab.submit(asked, approve=lab.plan(asked).digest)
    assert {one.name for one in lab.snapshots.configs().configs} == {"Neon", "neon"}
