"""Which file system a path lies on: a database with shared memory must not lie on a network one."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

# fmt: off
NETWORK: Final = frozenset((
    "9p", "afpfs", "afs", "beegfs", "beegfs_nodev", "ceph", "cifs", "cvmfs", "davfs", "drvfs", "fuse.cephfs",
    "fuse.davfs2", "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.juicefs", "fuse.rclone", "fuse.s3fs",
    "fuse.sshfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs3", "nfs4", "orangefs", "panfs", "pvfs2",
    "smb2", "smb3", "smbfs", "webdav", "wekafs",
))
# fmt: on
"""File systems on which two machines, or two virtual machines, may see different bytes of one mapped file."""

_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_MACOS: Final = re.compile(r"^.+? on (?P<point>/.*) \((?P<kind>[^,)]+)[,)]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A mounted file system: where, and of what kind."""

    point: str
    kind: str


def parse_proc_mounts(table: str) -> tuple[Mount, ...]:
    """Reads Linux's `/proc/mounts` (fstab format: blanks in names are written as octal escapes)."""
    rows = (line.split(" ") for line in table.splitlines())
    return tuple(Mount(point=_unescape(row[1]), kind=row[2]) for row in rows if len(row) >= 3)


def parse_macos_mount(output: str) -> tuple[Mount, ...]:
    """Reads what macOS's `mount` prints: `//me@host/share on /Volumes/share (smbfs, nodev)`."""
    found = (_MACOS.match(line) for line in output.splitlines())
    return tuple(Mount(point=match["point"], kind=match["kind"]) for match in found if match)


def mount_of(path: PurePath, mounts: Iterable[Mount]) -> Mount | None:
    """The mount that an absolute path lies on: the deepest, and of several at one point the last."""
    best: Mount | None = None
    for mount in mounts:
        deeper = best is None or len(PurePath(mount.point).parts) >= len(PurePath(best.point).parts)
        if deeper and path.is_relative_to(mount.point):
            best = mount
    return best


def network_kind(path: PurePath, mounts: Iterable[Mount]) -> str | None:
    """The kind of network file system an absolute path lies on; None for a local one."""
    mount = mount_of(path, mounts)
    return mount.kind if mount is not None and mount.kind in NETWORK else None


def read_mounts() -> tuple[Mount, ...]:
    """The mounts of this machine; empty where they cannot be told."""
    try:
        if sys.platform == "darwin":
            output = subprocess.run(["/sbin/mount"], capture_output=True, text=True, check=True, timeout=10).stdout
            return parse_macos_mount(output)
        return parse_proc_mounts(Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape"))
    except (OSError, subprocess.SubprocessError):
        return ()


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
