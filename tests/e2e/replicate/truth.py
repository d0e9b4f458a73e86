"""What must be true of a lab and its Replicate: at every moment, and once nothing is under way."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.testing.replicate_emulator import Status
from simpletuner_trainer.report import Exit
from tests.e2e.replicate.house_kit import ANN, House

CENT = 0.01
_GRANTS_END_S = 15 * 60.0 + 1


@dataclass(frozen=True, slots=True)
class Run:
    """A prediction as the emulator alone knows it."""

    id: str
    job_id: str
    attempt: int
    status: Status
    exit_code: int | None


@dataclass(slots=True)
class Witness:
    """Looks on. What Replicate forgets an hour after a run is kept here."""

    lab: House
    consented: set[str] = field(default_factory=set)
    """Digests that a user has agreed to."""
    _tags: dict[str, str] = field(default_factory=dict)
    _codes: dict[str, int] = field(default_factory=dict)

    def look(self) -> None:
        """Nothing is there that nobody agreed to, and nothing twice.

        Raises:
            AssertionError: something is.
        """
        emulator = self.lab.emulator
        for one in emulator.predictions:
            if "tag" in one.input:
                self._tags[one.id] = one.input["tag"]
            if one.output is not None:
                self._codes[one.id] = json.loads(one.output)["exit_code"]
        assert len(self._tags) == len(emulator.predictions), "a prediction has no tag"
        twice = [tag for tag, count in Counter(self._tags.values()).items() if count > 1]
        assert not twice, f"paid for twice: {twice}"
        if not self.lab.up:
            return
        digests = {job.id: job.digest for job in self.lab.jobs()}
        left = {tag.partition("/")[0] for tag in self._tags.values()}
        left |= {str(file.metadata["job"]) for file in emulator.files(ANN)}
        for job_id in left:
            assert digests[job_id] in self.consented, f"nobody agreed to what was sent for {job_id}"

    def runs(self, job_id: str) -> list[Run]:
        """The predictions of a job, by attempt."""
        found = []
        for one in self.lab.emulator.predictions:
            job, _, attempt = self._tags[one.id].partition("/")
            if job == job_id:
                found.append(Run(one.id, job, int(attempt), one.status, self._codes.get(one.id)))
        return sorted(found, key=lambda run: run.attempt)

    def check_end(self) -> None:
        """Nothing is under way: ledgers agree, states agree, nothing of ours is left anywhere.

        Raises:
            AssertionError: not so.
        """
        self.check_settled(self.lab.jobs())
        self.lab.emulator.advance(_GRANTS_END_S)
        assert self.lab.ask("live_grants", tuple(self.lab.trainer.granted)) == [], "grants are left"

    def check_settled(self, jobs: tuple[Job, ...]) -> None:
        """All of `check_end` but the grants, which take their time: for these jobs, which are all that ran there.

        Raises:
            AssertionError: not so.
        """
        self.look()
        assert all(job.terminal and job.settled_at is not None for job in jobs), jobs
        for job in jobs:
            self._check_state(job)
        self._check_ledgers(jobs)
        assert self.lab.emulator.files(ANN) == (), "uploads are left"
        assert list(self.lab.home.spool.iterdir()) == [], "the spool is not empty"

    def _check_state(self, job: Job) -> None:
        runs = self.runs(job.id)
        if not runs:
            assert job.state in {JobState.FAILED, JobState.CANCELLED}, job
            return
        assert all(run.status.is_terminal for run in runs), f"still paid for: {runs}"
        assert [run.attempt for run in runs] == sorted({run.attempt for run in runs})
        assert job.state in _ends(runs[-1], job), (job, runs)

    def _check_ledgers(self, jobs: tuple[Job, ...]) -> None:
        theirs = {charge.prediction_id: charge.usd for charge in self.lab.emulator.charges}
        ours = {charge.ref: charge for charge in self.lab.charges()}
        assert ours.keys() == theirs.keys(), "the ledgers have other runs"
        for ref, usd in theirs.items():
            assert ours[ref].final, ours[ref]
            assert abs((ours[ref].cost_usd or 0.0) - usd) < CENT / 2, (ours[ref], usd)
        for job in jobs:
            of_job = sum(theirs[run.id] for run in self.runs(job.id))
            assert abs((job.cost_usd or 0.0) - of_job) < CENT / 2, (job, of_job)
        assert abs(sum(theirs.values()) - sum(charge.cost_usd or 0.0 for charge in ours.values())) < CENT / 2


def _ends(last: Run, job: Job) -> set[JobState]:
    """What a job may come to whose last run came to this."""
    cancelled = {JobState.CANCELLED} if job.cancel_requested_at is not None else set()
    match last.status:
        case Status.SUCCEEDED if last.exit_code in {None, Exit.DONE}:
            return {JobState.COMPLETED if job.result_sha256 else JobState.FAILED}
        case Status.SUCCEEDED:  # it could have gone on: it was cancelled, or came no further too often
            return cancelled or {JobState.FAILED}
        case Status.FAILED:
            return {JobState.FAILED} | cancelled
        case Status.CANCELED:
            return cancelled or {JobState.FAILED}
    return {JobState.CANCELLED}
