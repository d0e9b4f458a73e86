"""What a run on this machine does when processes die, linger, leave children or say too much. All of them are real."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from simpletuner_lab.core.errors import InvalidRequest, ProviderFailure, ProviderUnavailable
from simpletuner_lab.core.provider import RunState, RunTag
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.provider_contract import uploaded
from tests.providers.local_kit import (
    JOB,
    attach,
    begin,
    exit_record,
    facts,
    local_provider,
    order,
    spool,
    stand_in,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def work(home: Path) -> Path:
    return home / "runs" / JOB / "work"


def gone(pid: int) -> bool:
    """Ended, whether or not the machine's first process has reaped it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class TestProcesses:
    def test_a_run_survives_whoever_started_it(self, tmp_path: Path, home: Path) -> None:
        program = "import sys; from tests.providers.local_kit import start_and_wait; start_and_wait(sys.argv[1])"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        with subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        ) as starter:  # fmt: skip
            assert starter.stdout
            ref = starter.stdout.readline().strip()
            starter.kill()
        assert starter.returncode == -signal.SIGKILL
        run = attach(local_provider(home), order(tmp_path, "half"), ref)
        eventually(lambda: run.poll().log)
        assert run.poll().state is RunState.RUNNING
        (work(home) / "release").touch()
        assert run.ended()[0].state is RunState.SUCCEEDED

    def test_when_the_supervisor_is_killed_the_trainer_ends_by_itself(self, tmp_path: Path, home: Path) -> None:
        run = begin(local_provider(home), order(tmp_path, "linger"), told=True)
        os.kill(facts(run)["supervisor"], signal.SIGKILL)
        eventually((work(home) / "winding-down").exists)
        assert run.poll().state is RunState.RUNNING  # the trainer holds its own lock
        with pytest.raises(ProviderFailure, match="still runs"):
            run.provider.start(uploaded(run.provider, order(tmp_path, "succeed", attempt=2)))
        assert not run.provider.discard(run.order.tag, run.order.upload_ref)
        (work(home) / "release").touch()
        last, _log = run.ended()
        assert last.state is RunState.LOST
        assert "without a word" in last.error

    def test_a_lost_attempt_stays_lost_while_the_next_one_runs(self, tmp_path: Path, home: Path) -> None:
        provider = local_provider(home)
        first = begin(provider, order(tmp_path, "wait"), told=True)
        os.kill(facts(first)["supervisor"], signal.SIGKILL)
        assert first.ended()[0].state is RunState.LOST
        second = begin(provider, order(tmp_path, "wait", attempt=2), told=True)
        assert (work(home) / "checkpoint").exists()
        assert first.poll().state is RunState.LOST
        provider.cancel(first.ref)
        assert first.poll().state is RunState.LOST
        provider.cancel(second.ref)
        assert second.ended()[0].state is RunState.CANCELLED

    def test_cancel_reaches_a_trainer_without_a_supervisor(self, tmp_path: Path, home: Path) -> None:
        run = begin(local_provider(home), order(tmp_path, "linger"), told=True)
        os.kill(facts(run)["supervisor"], signal.SIGKILL)
        eventually((work(home) / "winding-down").exists)
        run.provider.cancel(run.ref)
        (work(home) / "release").touch()
        assert run.ended()[0].state is RunState.CANCELLED

    def test_a_killed_trainer_is_lost_and_the_signal_is_on_record(self, tmp_path: Path, home: Path) -> None:
        run = begin(local_provider(home), order(tmp_path, "wait"), told=True)
        os.kill(facts(run)["pid"], signal.SIGKILL)
        last, _log = run.ended()
        assert last.state is RunState.LOST
        assert "SIGKILL" in last.error
        assert exit_record(home)["signal"] == signal.SIGKILL
        assert exit_record(home)["status"] is None
        assert not exit_record(home)["cancelled"]

    def test_one_that_does_not_hear_is_killed_after_the_grace(self, tmp_path: Path, home: Path) -> None:
        run = begin(local_provider(home, grace_s=0.3), order(tmp_path, "stubborn"), told=True)
        run.provider.cancel(run.ref)
        assert run.ended()[0].state is RunState.CANCELLED
        assert exit_record(home) | {"ended_at": 0} == {
            "attempt": 1, "status": None, "signal": signal.SIGKILL, "cancelled": True, "interrupted": False,
            "ended_at": 0,
        }  # fmt: skip

    def test_cancel_lets_it_write_a_checkpoint(self, tmp_path: Path, home: Path) -> None:
        run = begin(local_provider(home), order(tmp_path, "wait"), told=True)
        run.provider.cancel(run.ref)
        last, _log = run.ended()
        assert (last.state, last.exit_code) == (RunState.CANCELLED, 75)
        assert (work(home) / "checkpoint").exists()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_a_supervisor_that_is_told_to_end_interrupts(self, tmp_path: Path, home: Path, number: int) -> None:
        run = begin(local_provider(home), order(tmp_path, "wait"), told=True)
        os.kill(facts(run)["supervisor"], number)
        last, _log = run.ended()
        assert last.state is RunState.INTERRUPTED
        assert "checkpoint" in last.error
        assert exit_record(home)["interrupted"]

    def test_stragglers_are_killed(self, tmp_path: Path, home: Path) -> None:
        run = begin(local_provider(home), order(tmp_path, "straggler"))
        assert run.ended()[0].state is RunState.SUCCEEDED
        child = facts(run)["child"]
        eventually(lambda: gone(child))

    def test_what_the_trainer_is_given(self, tmp_path: Path, home: Path) -> None:
        foreign = {"REPLICATE_API_TOKEN": "r8_x", "AWS_SECRET_ACCESS_KEY": "x", "HF_TOKEN": "hf_x", "HF_HUB_TOKEN": "x"}
        provider = local_provider(home, nice=3, HF_HOME="/hub", https_proxy="http://proxy", **foreign)
        secrets = {"SIMPLETUNER_S3_ACCESS_KEY": Secret("the-key")}
        run = begin(provider, dataclasses.replace(order(tmp_path, "report"), secrets=secrets))
        assert run.ended()[0].state is RunState.SUCCEEDED
        seen = facts(run)
        environment = seen["environment"]
        assert not foreign.keys() & environment.keys()
        assert environment["SIMPLETUNER_S3_ACCESS_KEY"] == "the-key"
        assert (environment["HF_HOME"], environment["https_proxy"]) == ("/hub", "http://proxy")
        assert (environment["SIMPLETUNER_LIFELINE"], environment["PYTHONUNBUFFERED"]) == ("stdin", "1")
        assert seen["inherited"] == [0, 1, 2]
        assert seen["group"]
        assert seen["session"] != os.getsid(0)
        assert seen["nice"] == os.getpriority(os.PRIO_PROCESS, 0) + 3
        assert seen["umask"] == 0o077

    def test_files_are_for_their_owner_alone(self, tmp_path: Path, home: Path) -> None:
        begin(local_provider(home), order(tmp_path, "succeed")).ended()
        for path in [home, *home.rglob("*")]:
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
        names = {path.name for path in (home / "runs" / JOB / "attempt-0001").iterdir()}
        assert names == {"spec.json", "order.json", "lock", "trainer.log", "supervisor.log", "exit.json"}


class TestLog:
    def test_half_a_line_waits_for_its_other_half(self, tmp_path: Path, home: Path) -> None:
        run = begin(local_provider(home), order(tmp_path, "half"))
        log_file = home / "runs" / JOB / "attempt-0001" / "trainer.log"
        eventually(lambda: log_file.exists() and b"half a" in log_file.read_bytes())
        first = run.poll()
        assert first.log.endswith(b"one whole line\n")
        (work(home) / "release").touch()
        run.ended()
        assert run.poll(first.cursor).log == b"half a line\n"

    def test_a_run_has_not_ended_until_its_whole_log_is_read(self, tmp_path: Path, home: Path) -> None:
        run = begin(local_provider(home), order(tmp_path, "much"))
        run.ended()
        seen = run.follow()
        assert [snapshot.state for _cursor, snapshot in seen] == [RunState.RUNNING] * 2 + [RunState.SUCCEEDED]
        log = b"".join(snapshot.log for _cursor, snapshot in seen)
        assert log == (home / "runs" / JOB / "attempt-0001" / "trainer.log").read_bytes()


class TestStart:
    def test_needs_the_data(self, tmp_path: Path, home: Path) -> None:
        with pytest.raises(ProviderFailure, match="not here"):
            local_provider(home).start(order(tmp_path, "succeed"))

    def test_an_attempt_starts_once(self, tmp_path: Path, home: Path) -> None:
        run = begin(local_provider(home), order(tmp_path, "succeed"))
        run.ended()
        with pytest.raises(ProviderFailure, match="started before"):
            run.provider.start(run.order)
        assert {path.name for path in (home / "runs" / JOB).iterdir()} == {"data.zip", "work", "attempt-0001"}

    @pytest.mark.parametrize("job_id", ["../x", "a/b", ".hidden", "", "a\n", "x" * 200])
    def test_a_job_id_names_no_other_place(self, tmp_path: Path, home: Path, job_id: str) -> None:
        with pytest.raises(InvalidRequest):
            local_provider(home).upload(spool(tmp_path), RunTag(job_id=job_id, attempt=1), lambda _done, _total: None)

    @pytest.mark.parametrize("ref", ["", "j-1", "../../etc/1", "j-1/0", "j-1/../1"])
    def test_a_reference_names_no_other_place(self, home: Path, ref: str) -> None:
        for call in (lambda: local_provider(home).poll(ref, ""), lambda: local_provider(home).cancel(ref)):
            with pytest.raises(ProviderFailure):
                call()

    def test_a_cursor_is_a_place_in_the_log(self, home: Path) -> None:
        with pytest.raises(ProviderFailure, match="not a place"):
            local_provider(home).poll("j-1/1", "-4")

    def test_without_its_interpreter_a_run_fails_and_says_so(self, tmp_path: Path, home: Path) -> None:
        run = begin(local_provider(home, python="/no/such/python"), order(tmp_path, "succeed"))
        last, _log = run.ended()
        assert last.state is RunState.FAILED
        assert "/no/such/python" in last.error


class TestUpload:
    def test_links_where_it_can(self, tmp_path: Path, home: Path) -> None:
        archive = spool(tmp_path)
        local_provider(home).upload(archive, RunTag(job_id=JOB, attempt=1), lambda _done, _total: None)
        assert (home / "runs" / JOB / "data.zip").samefile(archive.path)

    def test_copies_across_file_systems(self, tmp_path: Path) -> None:
        shared = Path("/dev/shm")
        if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("there is one file system only")
        archive = spool(tmp_path)
        home = shared / f"simpletuner-lab-{os.getpid()}" / "home"
        provider = local_provider(home)
        tag = RunTag(job_id=JOB, attempt=1)
        try:
            provider.upload(archive, tag, lambda _done, _total: None)
            data = home / "runs" / JOB / "data.zip"
            assert data.read_bytes() == archive.path.read_bytes()
            assert data.stat().st_mode & 0o777 == 0o600
            assert provider.discard(tag, f"{JOB}/data.zip")
        finally:
            subprocess.run(["rm", "-r", str(home.parent)], check=True)

    def test_other_bytes_than_planned_are_refused(self, tmp_path: Path, home: Path) -> None:
        archive = spool(tmp_path)
        archive.path.write_bytes(archive.path.read_bytes()[:-1] + b"?")
        with pytest.raises(ProviderFailure, match="not the one that was planned"):
            local_provider(home).upload(archive, RunTag(job_id=JOB, attempt=1), lambda _done, _total: None)
        assert list((home / "runs" / JOB).iterdir()) == []

    def test_a_damaged_copy_is_replaced(self, tmp_path: Path, home: Path) -> None:
        provider = local_provider(home)
        wanted = order(tmp_path, "succeed")
        data = home / "runs" / JOB / "data.zip"
        data.parent.mkdir(parents=True)
        data.write_bytes(b"half of an earlier one")
        uploaded(provider, wanted)
        assert data.read_bytes() == wanted.archive.path.read_bytes()


class TestInterpreter:
    def test_ready_with_all_packages(self, home: Path) -> None:
        provider = local_provider(home)
        check = provider.check()
        assert check.ready, check
        options = provider.options()
        assert options.targets[0].version in check.message
        assert options.rates[0].usd_per_hour == 0.0

    def test_what_is_missing_is_named_with_the_command(self, home: Path) -> None:
        import_nothing = "/usr/bin/env"
        check = local_provider(home, python=import_nothing).check()
        assert not check.ready
        assert import_nothing in check.message
        assert check.hint

    def test_a_bare_interpreter_has_no_torch(self, tmp_path: Path, home: Path) -> None:
        bare = tmp_path / "bare" / "bin" / "python"
        bare.parent.mkdir(parents=True)
        bare.symlink_to(sys.executable)
        (tmp_path / "bare" / "pyvenv.cfg").write_text(f"home = {Path(sys.base_prefix) / 'bin'}\n")
        provider = local_provider(home, python=str(bare))
        check = provider.check()
        assert not check.ready
        assert "torch, diffusers, peft" in check.message
        assert check.hint.startswith(f"{bare} -m pip install")
        assert provider.options().rates[0].hardware in {"cpu", "mps"}

    def test_another_version_of_the_trainer_is_refused(self, home: Path) -> None:
        provider = local_provider(home)
        stand_in(home.parent, version="0.0.1")
        check = provider.check()
        assert not check.ready
        assert "0.0.1" in check.message

    def test_without_a_trainer_there_is_nothing_to_offer(self, home: Path) -> None:
        provider = local_provider(home, python="/no/such/python")
        assert not provider.check().ready
        with pytest.raises(ProviderUnavailable):
            provider.options()
