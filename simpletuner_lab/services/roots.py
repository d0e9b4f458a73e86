"""Which folder may be a data set at all (SPEC K3): not the whole machine, nor where credentials or the system live."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from simpletuner_lab.core.errors import InvalidDataset
from simpletuner_lab.core.withhold import name_rule, portable_rule

_SYSTEM_TREES: Final = frozenset([
    "/etc", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/boot", "/proc", "/sys", "/usr/bin",
    "/usr/sbin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/include", "/run/secrets",
    "/private/etc", "/System", "/Library",
])  # fmt: skip
"""They and all below them hold no data sets. Homes of root, temporary folders, mounts and `/dev/shm` may."""
_SYSTEM_FOLDERS: Final = frozenset([
    "/dev", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/run/user", "/srv", "/usr", "/usr/local",
    "/usr/share", "/var", "/var/lib", "/var/log", "/private", "/private/var", "/Users", "/Volumes",
    "/Applications",
])  # fmt: skip
"""Too wide themselves; a folder below them may be a data set."""


def usable_root(path: str, home: Path) -> str:
    """The real path of a data set's folder, links resolved: the real folder is what is judged.

    Raises:
        InvalidDataset: it is refused, missing, unreadable or not a folder.
    """
    try:
        real = Path(path).expanduser().resolve(strict=True)
        with os.scandir(real):
            pass
    except FileNotFoundError as error:
        raise InvalidDataset(f"{path} does not exist", hint="check the path of the data set") from error
    except NotADirectoryError as error:
        raise InvalidDataset(f"{path} is not a folder", hint="name the folder that holds the images") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise InvalidDataset(f"{path} cannot be read: {error}", hint="check the path and its permissions") from error
    if reason := _refusal(real, home.resolve()):
        raise InvalidDataset(
            f"{path} is refused as a data set: {reason}", hint="keep the images in a folder of their own"
        )
    return str(real)


def _refusal(real: Path, home: Path) -> str | None:
    if real == Path(real.anchor):
        return "it is the whole machine"
    if real == home or real in home.parents:
        return "it is the home folder, or holds it"
    if str(real) in _SYSTEM_FOLDERS:
        return "it is a folder of the system"
    if any(str(folder) in _SYSTEM_TREES for folder in (real, *real.parents)):
        return "it belongs to the system"
    below = real.relative_to(real.anchor).parts
    if any(portable_rule((part,)) == "its name is not UTF-8: rename it" for part in below):
        return "its path is not UTF-8"
    return name_rule(below, folder=True)
