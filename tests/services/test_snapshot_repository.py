"""The git repository of snapshots as real git reads it: several writers, kills at any moment, damage."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dulwich.repo import Repo

from simpletuner_lab.core.errors import StoreUnusable
from simpletuner_lab.services.snapshot_repository import SnapshotRepository
from tests.services.snapshot_worker import snapshot_of, write

ROOT = Path(__file__).parents[2]
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def worker(folder: Path, first: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.services.snapshot_worker", str(folder), str(first), str(count)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()


@needs_git
def test_git_reads_it_and_may_pack_it(tmp_path: Path) -> None:
    repository = SnapshotRepository(tmp_path / "snapshots")
    assert (repository.present, repository.log(limit=5)) == (False, ())
    commits = [write(repository, number) for number in range(4)]
    git(tmp_path / "snapshots", "fsck", "--strict", "--full")
    assert git(tmp_path / "snapshots", "log", "--format=%H").split() == commits[::-1]
    assert git(tmp_path / "snapshots", "show", "main:c0/config.json") == '{"number": 3}\n'
    git(tmp_path / "snapshots", "gc", "-q", "--prune=now")
    assert [entry.commit for entry in repository.log(limit=9)] == commits[::-1]
    assert write(repository, 2) == commits[2], "a job has one commit, packed or not"
    write(repository, 4)
    assert repository.files(commits[0], "c0")["config.json"] == b'{"number": 0}\n'
    git(tmp_path / "snapshots", "fsck", "--strict", "--full")
    assert (tmp_path / "snapshots").stat().st_mode & 0o077 == 0


@needs_git
def test_several_processes_lose_and_double_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "snapshots"
    workers = [worker(folder, first, 6) for first in (0, 3, 6)]  # each second half is another's first half
    for process in workers:
        go(process)
    said = [line.split() for process in workers for line in process.communicate(timeout=60)[0].splitlines()]
    assert [process.returncode for process in workers] == [0, 0, 0]
    assert len(said) == 18
    commits = dict(said)
    assert all(commits[number] == commit for number, commit in said), "two processes, one job, one commit"
    assert sorted(git(folder, "log", "--format=%H").split()) == sorted(commits.values())
    git(folder, "fsck", "--strict", "--full")


@needs_git
def test_kills_leave_it_whole(tmp_path: Path) -> None:
    folder = tmp_path / "snapshots"
    told: dict[str, str] = {}
    for killed in range(4):
        process = worker(folder, 0, 40)
        go(process)
        assert process.stdout
        for _ in range(1 + killed * 2):
            number, commit = process.stdout.readline().split()
            assert told.setdefault(number, commit) == commit
        process.kill()
        process.communicate()
        _age_locks(folder)
    repository = SnapshotRepository(folder)
    for number in range(14):
        told.setdefault(str(number), write(repository, number))
    jobs = [entry.job_id for entry in repository.log(limit=500)]
    assert len(jobs) == len(set(jobs)), "no job twice"
    assert {f"job-{number}" for number in told} <= set(jobs), "none that was told is lost"
    git(folder, "fsck", "--strict", "--full")


def _age_locks(folder: Path) -> None:
    """As if a minute had gone by since the kill."""
    for lock in folder.rglob("*.lock"):
        os.utime(lock, (1, 1))


def test_a_kill_between_branch_and_reference_is_made_good(tmp_path: Path) -> None:
    repository = SnapshotRepository(tmp_path / "snapshots")
    write(repository, 0)
    commit = write(repository, 1)
    (tmp_path / "snapshots" / "refs" / "jobs" / "job-1").unlink()  # as a kill leaves it
    write(repository, 2)
    assert write(repository, 1) == commit
    assert [entry.job_id for entry in repository.log(limit=9)] == ["job-2", "job-1", "job-0"]


def test_locks_that_were_left(tmp_path: Path) -> None:
    folder = tmp_path / "snapshots"
    repository = SnapshotRepository(folder)
    write(repository, 0)
    with Repo(str(folder)) as repo:
        tree = repo[repo.refs[b"refs/heads/main"]].tree.decode()  # type: ignore[index, union-attr]
    left = folder / "objects" / tree[:2] / f"{tree[2:]}.lock"
    left.touch()
    (folder / "objects" / tree[:2] / tree[2:]).rename(left)  # an object that was never whole
    shutil.copy(left, left.with_suffix(""))
    branch = folder / "refs" / "heads" / "main.lock"
    branch.touch()
    with pytest.raises(StoreUnusable, match="at work"):
        write(repository, 1)
    os.utime(branch, (1, 1))
    write(repository, 1)
    assert not branch.exists()


def test_damage_is_told(tmp_path: Path) -> None:
    repository = SnapshotRepository(tmp_path / "snapshots")
    commit = write(repository, 0)
    damaged = tmp_path / "snapshots" / "objects" / commit[:2] / commit[2:]
    damaged.chmod(0o600)
    damaged.write_bytes(b"")
    with pytest.raises(StoreUnusable, match="cannot be used: something in them is damaged or missing"):
        write(repository, 1)
    with pytest.raises(StoreUnusable):
        repository.log(limit=1)


def test_a_name_is_of_use_in_a_message(tmp_path: Path) -> None:
    repository = SnapshotRepository(tmp_path / "snapshots")
    write(repository, 7)
    (entry,) = repository.log(limit=1)
    assert (entry.job_id, entry.name, entry.message) == ("job-7", snapshot_of(7).name, "m")
