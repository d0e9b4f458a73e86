"""Snapshots as front-ends see them: the JSON shapes of their routes, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from simpletuner_lab.core.comparison import Difference
from simpletuner_lab.core.snapshot import BRANCH, Entry, Snapshot, abbreviated
from simpletuner_lab.services.forms import RequestForm
from simpletuner_lab.services.times import iso


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotView:
    """A job's snapshot. `commit` is empty while it is still to be written."""

    commit: str
    abbrev: str
    name: str
    auto_generated: bool
    message: str
    branch: str
    folder: str
    """Where its files are in the commit."""
    was_dirty: bool = False
    """Nothing of our repository is ever uncommitted; users of the original know the member."""

    @classmethod
    def of(cls, snapshot: Snapshot) -> SnapshotView:
        """The view of a snapshot."""
        return cls(
            commit=snapshot.commit,
            abbrev=snapshot.abbrev,
            name=snapshot.name,
            auto_generated=snapshot.auto_generated,
            message=snapshot.message,
            branch=BRANCH,
            folder=snapshot.folder,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMetadata:
    """What a job's detail has besides: the member that users of the original know."""

    snapshot: SnapshotView | None = None
    """Null where snapshots were off when it was submitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSnapshot:
    """A job's snapshot with its files; null where snapshots were off when it was submitted."""

    job_id: str
    snapshot: SnapshotView | None
    files: Mapping[str, str]
    """Text by name, as it was committed."""
    problem: str
    """Why it is not written yet, or cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotEntry:
    """A snapshot of the list. Its job may be deleted."""

    commit: str
    abbrev: str
    job_id: str
    name: str
    message: str
    folder: str
    created_at: str

    @classmethod
    def of(cls, entry: Entry) -> SnapshotEntry:
        """The view of a commit."""
        return cls(
            commit=entry.commit,
            abbrev=abbreviated(entry.commit),
            job_id=entry.job_id,
            name=entry.name,
            message=entry.message,
            folder=entry.folder,
            created_at=iso(entry.at),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotPage:
    """The newest snapshots, whether new ones are made, and where."""

    enabled: bool
    folder: str
    waiting: int
    """So many are still to be written (at most a hundred are counted)."""
    snapshots: tuple[SnapshotEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataDifference:
    """What differs in the files of a data set that was, or would be, packed."""

    id: str
    files_added: int
    files_removed: int
    files_changed: int
    files_same: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDiff:
    """What differs between two jobs, or between a job and a plan of now."""

    a: str
    b: str
    same_digest: bool
    """What would leave is the same to the byte, and goes to the same place."""
    differences: tuple[Difference, ...]
    data: tuple[DataDifference, ...]
    """Data sets whose files differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A job's request as its user had it, ready for a form or a plan."""

    job_id: str
    digest: str
    """Of the job's own plan."""
    request: RequestForm
    notes: tuple[str, ...]
    """What is not any more as it was then, as far as can be told without a plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigEntry:
    """The name of a config that was submitted."""

    name: str
    is_active: bool
    """It is that of the newest snapshot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configs:
    """The configs of the snapshots."""

    configs: tuple[ConfigEntry, ...]
    active_config: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OurRepository:
    """How the repository of snapshots stands."""

    enabled: bool
    repo_present: bool
    current_commit: str
    current_abbrev: str
    current_branch: str
    waiting: int
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreSubmitCheck:
    """Before a submit: the git repository of the user's working folder, and ours. Nothing is changed by looking.

    Commit and branch are empty where there is no repository, or it has no commit.
    """

    git_available: bool
    """There is a git on this machine; snapshots need none."""
    repo_present: bool
    is_dirty: bool
    dirty_count: int
    dirty_paths: tuple[str, ...]
    """The first of them, untracked ones too."""
    current_commit: str
    current_abbrev: str
    current_branch: str
    tracker_run_name: str
    """Of the newest snapshot, as `config_name`."""
    config_name: str
    problem: str
    """Why the working folder's state is not known."""
    snapshots: OurRepository
