"""The git repository of snapshots: bare, one branch, a folder for each name of a config.

A commit is on the branch first, then under `refs/jobs/ID`: whoever was killed in between left a newest commit that
names its job, and the next writer finishes that. One process writes at a time, and a job never gets a second commit.
Real git reads it, and may pack it, at any time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from dulwich.errors import (
    ChecksumMismatch,
    FileFormatException,
    NotCommitError,
    NotGitRepository,
    NotTreeError,
    ObjectMissing,
    RefFormatError,
    WrongObjectException,
)
from dulwich.file import FileLocked
from dulwich.objects import Blob, Commit, ObjectID, Tree
from dulwich.refs import Ref
from dulwich.repo import Repo

from simpletuner_lab.core.errors import DiskFull, LabError, NotFound, StoreUnusable, lacks_room
from simpletuner_lab.core.snapshot import BRANCH, Entry, Snapshot, entry_of

_HEAD: Final = Ref(f"refs/heads/{BRANCH}".encode())
_AUTHOR: Final = b"simpletuner_lab <simpletuner_lab@localhost>"
_FILE: Final = 0o100644
_FOLDER: Final = 0o040000

_PATIENCE_S: Final = 5.0
"""So long a writer waits for another one; a write takes some milliseconds."""
_POLL_S: Final = 0.01
_STALE_S: Final = 60.0
"""A lock of git on a branch that is older was left by somebody who was killed."""
_TRIES: Final = 16
"""So many left locks are cleared away for one write."""

_BROKEN: Final = (
    *(OSError, KeyError, ValueError, AssertionError, zlib.error),
    *(ChecksumMismatch, FileFormatException, NotGitRepository, ObjectMissing, RefFormatError, WrongObjectException),
)
"""What reading or writing raises where the repository is not as we left it."""


class SnapshotRepository:
    """Safe with several threads and processes, and with a kill at any moment."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = folder.with_name(f"{folder.name}.lock")

    @property
    def present(self) -> bool:
        """Whether a first snapshot has made it."""
        return (self._folder / "HEAD").exists()

    def write(self, snapshot: Snapshot, files: Mapping[str, bytes], text: str) -> str:
        """The commit of a job: a new one with these files in the snapshot's folder, or the one that it has already.

        Raises:
            DiskFull: no room for it.
            StoreUnusable: the repository is damaged, not ours to write, or held by others all the time.
        """
        with self._told(), self._alone():
            self._make()
            for _ in range(_TRIES):
                try:
                    return self._written(snapshot, files, text)
                except FileLocked as locked:
                    self._clear(Path(os.fsdecode(locked.lockfilename)))
        raise StoreUnusable(f"{self._folder} is full of locks", hint="remove the files that end with .lock")

    def log(self, *, limit: int) -> tuple[Entry, ...]:
        """The newest snapshots, also of jobs that were deleted.

        Raises:
            StoreUnusable: the repository is damaged.
        """
        if not self.present:
            return ()
        with self._told(), contextlib.closing(Repo(str(self._folder))) as repo:
            return tuple(_log(repo, limit))

    def head(self) -> str:
        """The newest commit; empty where there is none. `StoreUnusable` as `log`."""
        found = self.log(limit=1)
        return found[0].commit if found else ""

    def configs(self, *, limit: int) -> Mapping[str, bytes]:
        """The last `plan.json` of each config, by its folder. `StoreUnusable` as `log`."""
        if not self.present:
            return {}
        with self._told(), contextlib.closing(Repo(str(self._folder))) as repo:
            tip = _tip(repo)
            if tip is None:
                return {}
            tree = _tree(repo, _commit(repo, tip).tree)
            names = [name for name in tree if tree[name][0] == _FOLDER][:limit]
            return {os.fsdecode(name): _file(repo, tree, f"{os.fsdecode(name)}/plan.json") for name in names}

    def files(self, commit: str, folder: str) -> Mapping[str, bytes]:
        """What a commit has in a folder.

        Raises:
            NotFound: there is no such commit, or nothing of that in it.
            StoreUnusable: the repository is damaged.
        """
        if not self.present:
            raise NotFound(f"there is no snapshot {commit}")
        with self._told(), contextlib.closing(Repo(str(self._folder))) as repo:
            wanted = ObjectID(commit.encode())
            if wanted not in repo.object_store:
                raise NotFound(f"there is no snapshot {commit}", hint="the repository may have been removed")
            root = _tree(repo, _commit(repo, wanted).tree)
            if folder.encode() not in root:
                raise NotFound(f"snapshot {commit} has no folder {folder}")
            tree = _tree(repo, root[folder.encode()][1])
            return {os.fsdecode(name): _file(repo, tree, os.fsdecode(name)) for name in tree}

    # ------------------------------------------------------------ writing

    def _written(self, snapshot: Snapshot, files: Mapping[str, bytes], text: str) -> str:
        with contextlib.closing(Repo(str(self._folder))) as repo:
            repo.object_store.fsync_object_files = True  # a reference on disk never names what is not there yet
            tip = _tip(repo)
            if tip is not None:
                _finish(repo, tip)
            ours = _ref_of(snapshot.job_id)
            if ours in repo.refs:
                return repo.refs[ours].decode()
            commit = _made(repo, tip, snapshot, files, text)
            moved = repo.refs.add_if_new(_HEAD, commit) if tip is None else repo.refs.set_if_equals(_HEAD, tip, commit)
            if not moved:
                raise StoreUnusable(f"{BRANCH} of {self._folder} was moved by somebody else", hint="try again")
            repo.refs.add_if_new(ours, commit)
            return commit.decode()

    def _make(self) -> None:
        """The repository, whole or not at all."""
        if self.present:
            return
        for left in self._folder.parent.glob(f".{self._folder.name}.*"):
            shutil.rmtree(left, ignore_errors=True)
        new = self._folder.with_name(f".{self._folder.name}.{secrets.token_hex(6)}")
        new.mkdir(mode=0o700)
        Repo.init_bare(str(new), default_branch=BRANCH.encode()).close()
        new.rename(self._folder)

    def _clear(self, lock: Path) -> None:
        """Removes a lock that was left by a kill. Objects are locked by us alone, and nobody else of us is at it."""
        objects = lock.is_relative_to(self._folder / "objects")
        os.utime(self._lock)
        with contextlib.suppress(FileNotFoundError):
            if not objects and self._lock.stat().st_mtime - lock.stat().st_mtime < _STALE_S:
                raise StoreUnusable(f"git is at work in {self._folder}", hint="the snapshot is made with the next one")
            lock.unlink()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Holds the lock of writers, which ends with the process."""
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            until = time.monotonic() + _PATIENCE_S
            while not _taken(descriptor):
                if time.monotonic() > until:
                    raise StoreUnusable(f"{self._folder} is being written by another process all the time")
                time.sleep(_POLL_S)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong here in words."""
        try:
            yield
        except LabError:
            raise
        except _BROKEN as error:
            if lacks_room(error):
                raise DiskFull(f"no room for snapshots in {self._folder}", hint="free some space") from error
            said = error.strerror if isinstance(error, OSError) else "something in them is damaged or missing"
            raise StoreUnusable(
                f"the snapshots in {self._folder} cannot be used: {said}",
                hint="git fsck tells more; moved away, a new repository is begun with the next snapshot",
            ) from error


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _made(repo: Repo, tip: ObjectID | None, snapshot: Snapshot, files: Mapping[str, bytes], text: str) -> ObjectID:
    """A commit on top of the tip that nothing names yet."""
    store = repo.object_store
    folder = Tree()
    for name, data in files.items():
        blob = Blob.from_string(data)
        store.add_object(blob)
        folder.add(name.encode(), _FILE, blob.id)
    store.add_object(folder)
    root = Tree() if tip is None else _tree(repo, _commit(repo, tip).tree)
    root[snapshot.folder.encode()] = (_FOLDER, folder.id)
    store.add_object(root)
    commit = Commit()
    commit.tree = root.id
    commit.parents = [] if tip is None else [tip]
    commit.author = commit.committer = _AUTHOR
    commit.author_time = commit.commit_time = int(snapshot.created_at)
    commit.author_timezone = commit.commit_timezone = 0
    commit.encoding = b"UTF-8"
    commit.message = text.encode()
    store.add_object(commit)
    return commit.id


def _finish(repo: Repo, tip: ObjectID) -> None:
    """Gives the newest commit its job's reference, where its writer was killed before."""
    found = _entry(_commit(repo, tip))
    if found.job_id and _ref_of(found.job_id) not in repo.refs:
        repo.refs.add_if_new(_ref_of(found.job_id), tip)


def _log(repo: Repo, limit: int) -> Iterator[Entry]:
    at = _tip(repo)
    while at is not None and limit > 0:
        commit = _commit(repo, at)
        yield _entry(commit)
        at, limit = (commit.parents[0] if commit.parents else None), limit - 1


def _tip(repo: Repo) -> ObjectID | None:
    try:
        return repo.refs[_HEAD]
    except KeyError:
        return None


def _ref_of(job_id: str) -> Ref:
    return Ref(f"refs/jobs/{job_id}".encode())


def _entry(commit: Commit) -> Entry:
    return entry_of(commit.id.decode(), commit.message.decode(errors="replace"), float(commit.commit_time))


def _commit(repo: Repo, name: ObjectID) -> Commit:
    found = repo[name]
    if not isinstance(found, Commit):
        raise NotCommitError(name)
    return found


def _tree(repo: Repo, name: ObjectID) -> Tree:
    found = repo[name]
    if not isinstance(found, Tree):
        raise NotTreeError(name)
    return found


def _file(repo: Repo, tree: Tree, path: str) -> bytes:
    _, name = tree.lookup_path(repo.__getitem__, path.encode())
    return repo[name].as_raw_string()
