"""Where caches live: one folder for all jobs of a user, bounded, and safe with several processes at once.

Layout: ``lock``; ``leases/``, a file a living job with the keys that it needs, locked while the job lives; and a folder
for each `cache.TensorCache`. Whoever adds a lease or removes entries holds ``lock``, so an entry that a job has found is
not taken away from it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from simpletuner_trainer.cache import ENTRY_SUFFIX
from simpletuner_trainer.errors import BadSpec
from simpletuner_trainer.files import writing

PLACE_ENV: Final = "SIMPLETUNER_CACHE_DIR"
BYTES_ENV: Final = "SIMPLETUNER_CACHE_BYTES"
HOME_ENV: Final = "SIMPLETUNER_HOME"
USUAL_BYTES: Final = 20 << 30

_LAYOUT: Final = "trainer-1"
_ABANDONED_S: Final = 24 * 3600.0
"""A partial file older than this is a killed process's."""


class Lease:
    """Keeps the entries that one job needs, until it is gone or its process ends."""

    def __init__(self, descriptor: int) -> None:
        self._release = weakref.finalize(self, os.close, descriptor)

    def release(self) -> None:
        """The job needs them no longer."""
        self._release()


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheDir:
    """The folder and its bound."""

    root: Path
    most_bytes: int

    @classmethod
    def find(cls, environment: Mapping[str, str], *, instead: Path, tell: Callable[[str], None]) -> Self:
        """The user's own: the named folder, else the lab's home, else the user's cache folder; made where it is not there.

        Where none of the unnamed can be used it is `instead`. `BadSpec` for a named one that cannot, and for a bound
        that is no number.
        """
        bound = environment.get(BYTES_ENV, "").strip() or str(USUAL_BYTES)
        if not bound.isdecimal():
            raise BadSpec(f"{BYTES_ENV} is {bound!r}, not a number of bytes", f"{USUAL_BYTES} is usual")
        named = environment.get(PLACE_ENV, "")
        found = cls(root=_place(environment) / _LAYOUT, most_bytes=int(bound))
        try:
            found._prepare()
        except OSError as error:
            if named:
                message = f"{PLACE_ENV}: {found.root} cannot be used: {error.strerror or error}"
                raise BadSpec(message, "name a folder of your own on a local disk") from error
            tell(f"  {found.root} cannot be used ({error.strerror or error}): this job keeps a cache of its own")
            found = cls(root=instead, most_bytes=int(bound))
            found._prepare()
        return found

    def lease(self, keys: Iterable[str]) -> Lease:
        """From now on none of these entries is removed, those that are still to be made included."""
        with writing("the cache"), self._locked():
            descriptor, _ = tempfile.mkstemp(prefix="job-", dir=self.root / "leases")
            try:
                with open(descriptor, "wb", closefd=False) as file:
                    file.write("\n".join(sorted(keys)).encode("ascii"))
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except BaseException:
                os.close(descriptor)
                raise
        return Lease(descriptor)

    def trim(self) -> int:
        """Remove what was used longest ago and no living job needs, until the bound is kept; bytes that were freed."""
        with self._locked():
            needed = self._needed()
            entries = list(self._entries())
            freed, excess = 0, sum(size for _, size, _ in entries) - self.most_bytes
            for _, size, path in sorted(entries):
                if freed >= excess:
                    break
                if path.stem not in needed:
                    path.unlink(missing_ok=True)
                    freed += size
        return freed

    def _prepare(self) -> None:
        """Make the folder for its owner alone; `OSError` where it cannot be, or is another's."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = self.root.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "it is a link")
        if found.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it belongs to another user")
        self.root.chmod(0o700)
        (self.root / "leases").mkdir(exist_ok=True, mode=0o700)
        with self._locked():
            pass

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _needed(self) -> set[str]:
        """Keys of living jobs; the leases of those that are gone are removed."""
        needed: set[str] = set()
        for path in (self.root / "leases").iterdir():
            with path.open("r+b") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    needed.update(file.read().decode("ascii").split())
                else:
                    path.unlink(missing_ok=True)
        return needed

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """When each was last used, how large it is, and where. Partial files of killed processes are removed."""
        for path in self.root.glob("*/??/*"):
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                if path.suffix == ENTRY_SUFFIX and stat.S_ISREG(found.st_mode):
                    yield found.st_mtime, found.st_size, path
                elif path.name.startswith(".") and time.time() - found.st_mtime > _ABANDONED_S:
                    path.unlink()


def _place(environment: Mapping[str, str]) -> Path:
    if named := environment.get(PLACE_ENV):
        return Path(named).expanduser().absolute()
    if home := environment.get(HOME_ENV):
        return Path(home).expanduser().absolute() / "cache"
    if cache := environment.get("XDG_CACHE_HOME"):
        return Path(cache).expanduser().absolute() / "simpletuner"
    return Path(environment.get("HOME") or Path.home()) / ".cache" / "simpletuner"
