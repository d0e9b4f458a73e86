"""Snapshots of what was submitted: one a job, what differs between two, and a job's request again (SPEC G1).

A submit stores, together with the job, that a snapshot is to be made of it, and then makes it. All that goes into it is
kept with the job, so one that cannot be written now (a full disk, a kill) is written with the next one, and hinders no
submit: it is a record, and no guard of money, consent or keys. Diff, draft and rerun read the job's own plan, and work
without snapshots too.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from simpletuner_lab.core.canonical import JsonObject
from simpletuner_lab.core.data_sets import ARCHIVE, place_of, plain_keys
from simpletuner_lab.core.errors import Conflict, InvalidRequest, JobNotFound, LabError
from simpletuner_lab.core.plan import Plan, SubmitRequest
from simpletuner_lab.core.snapshot import BRANCH, Snapshot, abbreviated, commit_text, files_of, new_snapshot
from simpletuner_lab.services.comparing import compare
from simpletuner_lab.services.forms import RequestForm
from simpletuner_lab.services.snapshot_views import (
    ConfigEntry,
    Configs,
    Draft,
    JobDiff,
    JobMetadata,
    JobSnapshot,
    OurRepository,
    PreSubmitCheck,
    SnapshotEntry,
    SnapshotPage,
    SnapshotView,
)
from simpletuner_lab.services.store import Store
from simpletuner_lab.services.views import PlanView
from simpletuner_lab.services.working_folder import look_at

if TYPE_CHECKING:  # it brings git
    from simpletuner_lab.services.snapshot_repository import SnapshotRepository

_SETTING: Final = "snapshots"
_FOLDER_KEY: Final = "instance_data_dir"
_COUNTED: Final = 100
_AT_ONCE: Final = 20
"""So many that wait are written with one submit."""
MAX_LISTED: Final = 500

_log = logging.getLogger(__name__)


class Snapshots:
    """Makes and reads them. Safe with several threads and processes."""

    def __init__(self, store: Store, folder: Path, environment: Mapping[str, str]) -> None:
        self._store = store
        self._folder = folder
        self._environment = environment
        self._repository: SnapshotRepository | None = None

    # ------------------------------------------------------------ making them

    def enabled(self) -> bool:
        """Whether each submit makes one; it does unless that was switched off."""
        return self._store.settings.get(_SETTING) is not False

    def set_enabled(self, enabled: bool) -> None:
        """Switches them on or off, for submits from now on."""
        self._store.settings.put(_SETTING, enabled)

    def planned(self, request: SubmitRequest, plan: Plan, job_id: str, *, now: float) -> Snapshot | None:
        """What a new job's is to be; None where they are off."""
        return new_snapshot(request, plan, job_id, now=now) if self.enabled() else None

    def make(self, job_id: str, plan: Plan) -> None:
        """Writes that of a new job, and what waits."""
        self._write({job_id: plan})

    def catch_up(self) -> str:
        """Writes those that wait, the oldest first. Returns why it could not, else nothing."""
        return self._write({})

    def _write(self, plans: Mapping[str, Plan]) -> str:
        try:
            for snapshot in self._store.snapshots.waiting(limit=_AT_ONCE):
                plan = plans.get(snapshot.job_id) or self._plan(snapshot.job_id)
                if plan is None:
                    continue
                commit = self._repo().write(snapshot, files_of(plan), commit_text(snapshot, plan))
                self._store.snapshots.written(snapshot.job_id, commit)
        except LabError as error:
            _log.warning("a snapshot waits: %s", error.message)
            return error.message
        return ""

    def _plan(self, job_id: str) -> Plan | None:
        """That of a job; None where the job is gone, or another release stored it."""
        try:
            return self._store.jobs.plan(job_id)
        except (JobNotFound, InvalidRequest):
            return None

    # ------------------------------------------------------------ reading them

    def of_job(self, job_id: str) -> JobSnapshot:
        """A job's snapshot with its files.

        Raises:
            JobNotFound: there is no such job.
        """
        self._store.jobs.get(job_id)
        found, problem = self._store.snapshots.get(job_id), ""
        if found is not None and not found.commit:
            problem = self.catch_up()
            found = self._store.snapshots.get(job_id)
        files: Mapping[str, bytes] = {}
        if found is not None and found.commit:
            try:
                files = self._repo().files(found.commit, found.folder)
            except LabError as error:
                problem = error.message
        return JobSnapshot(
            job_id=job_id,
            snapshot=None if found is None else SnapshotView.of(found),
            files={name: data.decode(errors="replace") for name, data in files.items()},
            problem=problem,
        )

    def metadata(self, job_id: str) -> JobMetadata:
        """What a job's detail has of it."""
        found = self._store.snapshots.get(job_id)
        return JobMetadata(snapshot=None if found is None else SnapshotView.of(found))

    def listed(self, *, limit: int = 50) -> SnapshotPage:
        """The newest, also of jobs that were deleted.

        Raises:
            StoreUnusable: the repository is damaged.
        """
        self.catch_up()
        return SnapshotPage(
            enabled=self.enabled(),
            folder=str(self._folder),
            waiting=self._waiting(),
            snapshots=tuple(map(SnapshotEntry.of, self._repo().log(limit=min(limit, MAX_LISTED)))),
        )

    def configs(self) -> Configs:
        """The names of configs that were submitted, and the newest of them. `StoreUnusable` as `listed`."""
        newest = self._repo().log(limit=1)
        abouts = self._repo().configs(limit=MAX_LISTED)
        names = {folder: str(_object(text).get("name", folder)) for folder, text in abouts.items()}
        active = names.get(newest[0].folder, "") if newest else ""
        entries = tuple(ConfigEntry(name=name, is_active=name == active) for name in sorted(names.values()))
        return Configs(configs=entries, active_config=active)

    def check(self, folder: str = "") -> PreSubmitCheck:
        """How things stand before a submit: in a working folder (else that of this process), and with us."""
        state = look_at(Path(folder or ".").expanduser(), self._environment)
        ours, config_name, run_name = self._ours()
        return PreSubmitCheck(
            git_available=state.git,
            repo_present=state.present,
            is_dirty=state.dirty_count > 0,
            dirty_count=state.dirty_count,
            dirty_paths=state.dirty_paths,
            current_commit=state.commit,
            current_abbrev=abbreviated(state.commit),
            current_branch=state.branch,
            tracker_run_name=run_name,
            config_name=config_name,
            problem=state.problem,
            snapshots=ours,
        )

    # ------------------------------------------------------------ jobs side by side, and again

    def diff(self, a: str, b: str) -> JobDiff:
        """What of the second job is not as in the first.

        Raises:
            JobNotFound: there is no such job.
        """
        plans = (PlanView.of(self._store.jobs.plan(job_id)) for job_id in (a, b))
        return compare(*plans, names=(a, b))

    def draft(self, job_id: str) -> Draft:
        """A job's request as its user had it, with the folders of this machine.

        Raises:
            JobNotFound: there is no such job.
            Conflict: it was started elsewhere, so nobody asked for it here.
        """
        job, request = self._store.jobs.get(job_id), self.request(job_id)
        form = RequestForm(
            config=request.config,
            dataloader_config=request.dataloader,
            provider=request.provider,
            target=request.target,
            hardware_profile=request.hardware,
            config_name=request.name,
            destination=request.destination,
            strip_exif=request.strip_exif,
            priority=request.priority,
        )
        return Draft(job_id=job_id, digest=job.digest, request=form, notes=tuple(_notes(request)))

    def request(self, job_id: str, *, snapshot_name: str = "", snapshot_message: str = "") -> SubmitRequest:
        """The request that a job was made of, with words for a snapshot of its own. Raises as `draft`."""
        job = self._store.jobs.get(job_id)
        if job.imported:
            raise Conflict(f"job {job_id} was started elsewhere: its config is not known here")
        plan = self._store.jobs.plan(job_id)
        roots = {dataset.id: dataset.root for dataset in plan.identity.manifest.datasets}
        return SubmitRequest(
            config=plan.identity.config,
            dataloader=tuple(_homeward(entry, roots) for entry in plan.identity.dataloader),
            provider=plan.identity.provider,
            target=plan.identity.target,
            hardware=plan.identity.hardware,
            name=plan.name,
            destination=plan.identity.destination,
            strip_exif=any(dataset.strip_exif for dataset in plan.identity.manifest.datasets),
            priority=job.priority,
            snapshot_name=snapshot_name,
            snapshot_message=snapshot_message,
        )

    # ------------------------------------------------------------ parts

    def _repo(self) -> SnapshotRepository:
        """Git is loaded with the first use of it: most commands need none."""
        if self._repository is None:
            from simpletuner_lab.services.snapshot_repository import SnapshotRepository

            self._repository = SnapshotRepository(self._folder)
        return self._repository

    def _waiting(self) -> int:
        return len(self._store.snapshots.waiting(limit=_COUNTED))

    def _ours(self) -> tuple[OurRepository, str, str]:
        """How our repository stands, and config and run of its newest snapshot."""
        newest, names, problem = None, ("", ""), ""
        try:
            for newest in self._repo().log(limit=1):
                names = _names(self._repo().files(newest.commit, newest.folder))
        except LabError as error:
            problem = error.message
        commit = newest.commit if newest else ""
        state = OurRepository(
            enabled=self.enabled(),
            repo_present=self._repo().present,
            current_commit=commit,
            current_abbrev=abbreviated(commit),
            current_branch=BRANCH,
            waiting=self._waiting(),
            problem=problem,
        )
        return state, *names


def _names(files: Mapping[str, bytes]) -> tuple[str, str]:
    """What a snapshot's config and its run are called; empty where the files are not as we write them."""
    config, about = _object(files.get("config.json", b"")), _object(files.get("plan.json", b""))
    return str(about.get("name", "")), str(plain_keys(config).get("tracker_run_name", ""))


def _object(text: bytes) -> JsonObject:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _homeward(entry: JsonObject, roots: Mapping[str, str]) -> JsonObject:
    """A data set as its user had it: where it lies here, in place of where the trainer unpacks it."""
    root = roots.get(str(plain_keys(entry).get("id", "")))
    if root is None or place_of(entry) != ARCHIVE:
        return entry
    return {key: root if key.removeprefix("--") == _FOLDER_KEY else value for key, value in entry.items()}


def _notes(request: SubmitRequest) -> Iterator[str]:
    for entry in request.dataloader:
        named = plain_keys(entry)
        place, folder = place_of(entry), named.get(_FOLDER_KEY)
        if place == ARCHIVE and isinstance(folder, str) and not Path(folder).is_dir():
            yield f"{named.get('id')}: {folder} is not there any more"
        elif place is None and isinstance(folder, str):
            yield f"{named.get('id')}: nothing was read from it, so its folder is not known any more"
