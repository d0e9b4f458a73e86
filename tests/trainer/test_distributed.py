"""Two processes on one model: the same numbers as one, one voice, and one end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch.distributed import TCPStore

from simpletuner_trainer import report
from simpletuner_trainer.__main__ import main
from simpletuner_trainer.errors import BadSpec
from simpletuner_trainer.files import Manifest
from simpletuner_trainer.report import Exit
from simpletuner_trainer.team import Place
from tests.trainer.trainer_kit import Job, of_kind, reports

Jobs = Callable[..., Job]
WEIGHTS = "pytorch_lora_weights.safetensors"
CONFIG = {
    "lora_dropout": 0.2,
    "caption_dropout_probability": 0.3,
    "use_ema": True,
    "max_train_steps": 5,
    "checkpoint_step_interval": 3,
    "validation_prompt": "circle 1",
    "validation_step_interval": 0,
    "validation_num_inference_steps": 1,
}
ENDLESS = {"max_train_steps": 100_000, "checkpoint_step_interval": 0}
BOUND_S = 60


@dataclass(slots=True)
class Rank:
    """A process of a run, forked from this one: what it imports is there already."""

    pid: int
    log: Path

    def wait(self) -> int:
        """Its exit code, negative for a signal; an error where it does not end."""
        until = time.monotonic() + BOUND_S
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        raise AssertionError(f"it still runs\n{self.said()}")

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def said(self) -> str:
        return self.log.read_text("utf-8")


@dataclass(slots=True)
class Pair:
    """Two ranks of one job."""

    job: Job
    ranks: list[Rank]

    def codes(self) -> list[int]:
        return [rank.wait() for rank in self.ranks]

    def until(self, steps: int) -> None:
        """Wait for so many steps."""
        metrics, until = self.job.work / "metrics.jsonl", time.monotonic() + BOUND_S
        while not (metrics.is_file() and metrics.read_bytes().count(b"\n") >= steps):
            assert time.monotonic() < until, self.ranks[0].said()
            time.sleep(0.005)


def start_pair(job: Job, port: int) -> Pair:
    spec = job.write()
    sys.stdout.flush()
    sys.stderr.flush()
    ranks = []
    for rank in range(2):
        log = job.folder / f"rank-{rank}.log"
        pid = os.fork()
        if pid == 0:
            _be(rank, port, log, spec)
        ranks.append(Rank(pid, log))
    return Pair(job, ranks)


def _be(rank: int, port: int, log: Path, spec: Path) -> None:
    """In the child: run as this rank and never come back."""
    code = 255
    try:
        out = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                       "TORCHELASTIC_USE_AGENT_STORE": "True",
                       "MASTER_PORT": str(port)}  # fmt: skip
        code = main([str(spec)])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@pytest.fixture
def start(job: Jobs) -> Iterator[Callable[..., Pair]]:
    """Start a job of this name and config in two processes; whatever still runs in the end is killed."""
    pairs = []
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # torchrun has one, too

    def make(name: str = "two", **parts: Any) -> Pair:
        pairs.append(start_pair(job(name, **parts), store.port))
        return pairs[-1]

    yield make
    for rank in [rank for pair in pairs for rank in pair.ranks if rank.pid]:
        rank.send(signal.SIGKILL)
        os.waitpid(rank.pid, 0)


def test_two_processes_are_one_with_the_same_batch(
    job: Jobs, start: Callable[..., Pair], capsys: pytest.CaptureFixture[str]
) -> None:
    one = job("one", config={**CONFIG, "gradient_accumulation_steps": 2})
    assert one.run() == Exit.DONE
    pair = start(config=CONFIG)
    assert pair.codes() == [0, 0], pair.ranks[0].said()
    two = pair.job
    assert len(two.metrics()) == 5
    for expected, found in zip(one.metrics(), two.metrics(), strict=True):
        assert found == pytest.approx(expected, abs=1e-6)
    expected, found = load_file(one.output / WEIGHTS), load_file(two.output / WEIGHTS)
    assert expected.keys() == found.keys()
    assert max(float((expected[key] - found[key]).abs().max()) for key in expected) <= 1e-6
    Manifest.verified(two.output)
    assert len(list((two.output / "samples").iterdir())) == 2
    said = pair.ranks[0].said()
    assert ", 2 processes" in said
    assert len(of_kind(said, report.End)) == 1
    assert [one.total for one in of_kind(said, report.Steps)][-1] == 5
    assert reports(pair.ranks[1].said()) == []

    _another_number_of_processes_is_told(two, capsys)


def _another_number_of_processes_is_told(two: Job, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(two.output)
    shutil.rmtree(two.work / "checkpoints" / "step-00000005")
    capsys.readouterr()
    assert two.run() == Exit.BAD_SPEC
    (failure,) = of_kind(capsys.readouterr().out, report.Failure)
    assert "another number of processes (2, now 1)" in failure.message
    assert 'resume_despite ["world_size"]' in failure.hint
    two.config = {**CONFIG, "resume_despite": "world_size"}
    assert two.run() == Exit.DONE
    assert of_kind(capsys.readouterr().out, report.Resume) == [report.Resume(step=3)]


def test_one_is_told_to_end_and_all_end_after_the_same_step(job: Jobs, start: Callable[..., Pair]) -> None:
    config = {**CONFIG, **ENDLESS, "validation_prompt": "", "lr_scheduler": "constant"}
    pair = start(config=config)
    pair.until(2)
    pair.ranks[1].send(signal.SIGTERM)
    assert pair.codes() == [Exit.INTERRUPTED, Exit.INTERRUPTED]
    (end,) = of_kind(pair.ranks[0].said(), report.End)
    assert Manifest.verified(pair.job.work / "checkpoints" / f"step-{end.step:08d}").step == end.step
    assert of_kind(pair.ranks[0].said(), report.Failure) == []


@pytest.mark.parametrize("killed", [0, 1])
def test_a_rank_that_is_killed_ends_the_other(start: Callable[..., Pair], killed: int) -> None:
    pair = start(config={**CONFIG, **ENDLESS, "validation_prompt": ""})
    pair.until(2)
    pair.ranks[killed].send(signal.SIGKILL)
    begun_s = time.monotonic()
    codes = pair.codes()
    assert time.monotonic() - begun_s < 20
    assert codes[killed] == -signal.SIGKILL
    assert codes[1 - killed] == Exit.INTERRUPTED
    said = pair.ranks[1 - killed].said()
    assert "another of the 2 processes is gone" in said
    if killed == 1:  # the leader keeps what was done
        (end,) = of_kind(said, report.End)
        assert end.step >= 2
        assert Manifest.verified(pair.job.work / "checkpoints" / f"step-{end.step:08d}").step == end.step


def test_a_fault_of_one_is_told_by_the_leader(job: Jobs, start: Callable[..., Pair]) -> None:
    """Of an image that only the second process looks at."""
    made = job("two", config=CONFIG)
    made.write()
    image = made.folder / "pictures" / "p1.png"
    image.write_bytes(image.read_bytes()[:-40])
    pair = start(config=CONFIG)
    assert pair.codes() == [Exit.BAD_DATA, Exit.BAD_DATA]
    (failure,) = of_kind(pair.ranks[0].said(), report.Failure)
    assert failure.code == "bad_data"
    assert "p1.png" in failure.message


def test_a_leader_that_cannot_begin_ends_the_others(job: Jobs, start: Callable[..., Pair]) -> None:
    import fcntl

    made = job("two", config=CONFIG)
    made.work.mkdir(parents=True)
    holder = os.open(made.work / "trainer.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        pair = start(config=CONFIG)
        assert pair.codes() == [Exit.CRASHED, Exit.CRASHED]
    finally:
        os.close(holder)
    assert of_kind(pair.ranks[0].said(), report.Failure)[0].code == "work_dir_in_use"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_torchrun_starts_them(job: Jobs) -> None:
    whole, killed = job("whole", config=CONFIG), job("killed", config={**CONFIG, **ENDLESS})
    done = torchrun(whole.write()).communicate(timeout=600)
    assert "Exit" not in done[1], done
    Manifest.verified(whole.output)

    running = torchrun(killed.write())
    pids = _children_of(running.pid, killed)
    os.kill(pids[1], signal.SIGKILL)
    out, errors = running.communicate(timeout=60)
    assert running.returncode == 1, errors
    (end,) = of_kind(out, report.End)
    assert end.exit is Exit.INTERRUPTED


def torchrun(spec: Path) -> subprocess.Popen[str]:
    options = ["--standalone", "--nproc_per_node", "2", "-m", "simpletuner_trainer", str(spec)]
    return subprocess.Popen([sys.executable, "-m", "torch.distributed.run", *options], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def _children_of(pid: int, job: Job) -> list[int]:
    until = time.monotonic() + 300
    while not (job.work / "metrics.jsonl").is_file() or (job.work / "metrics.jsonl").stat().st_size == 0:
        assert time.monotonic() < until
        time.sleep(0.05)
    return sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()))


def test_a_place_comes_from_the_environment() -> None:
    assert Place.of({}) == Place(rank=0, local_rank=0, size=1)
    assert Place.of({"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}) == Place(rank=3, local_rank=1, size=4)
    for wrong in ({"RANK": "2", "WORLD_SIZE": "2"}, {"WORLD_SIZE": "two"}, {"RANK": "-1", "WORLD_SIZE": "2"}):
        with pytest.raises(BadSpec):
            Place.of(wrong)
