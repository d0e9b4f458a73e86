"""The state of the git repository that a folder lies in, asked of git itself: read-only, and bounded in time."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LISTED: Final = 50
"""So many paths that differ are named."""

_PATIENCE_S: Final = 2.0
_MAX_BYTES: Final = 4 << 20
_NO_COMMIT: Final = "(initial)"
_DETACHED: Final = "(detached)"

_STATUS: Final = (
    *("--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"),
    *("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal", "--ignore-submodules=all"),
)
"""Writes nothing, not even the index, and starts no program that the repository names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingFolder:
    """What git says of a folder. Commit and branch are empty where there is none."""

    git: bool
    present: bool = False
    commit: str = ""
    branch: str = ""
    dirty_count: int = 0
    dirty_paths: tuple[str, ...] = ()
    problem: str = ""


def look_at(folder: Path, environment: Mapping[str, str], *, patience_s: float = _PATIENCE_S) -> WorkingFolder:
    """The state of the repository around a folder."""
    git = shutil.which("git", path=environment.get("PATH", os.defpath))
    if git is None:
        return WorkingFolder(git=False)
    plain = {name: value for name, value in environment.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            [git, *_STATUS],
            cwd=folder, env=plain | {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"},
            stdin=subprocess.DEVNULL, capture_output=True, timeout=patience_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return WorkingFolder(git=True, present=True, problem=f"git took longer than {patience_s:g} s to look at it")
    except OSError as error:
        return WorkingFolder(git=True, problem=f"git cannot be run there: {error.strerror}")
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        none = any("not a git repository" in line for line in said)
        return WorkingFolder(git=True, problem="" if none else _printable(said[0] if said else "git failed"))
    return _read(done.stdout)


def _read(output: bytes) -> WorkingFolder:
    """Porcelain v2: headers `# branch.oid ...`, then entries ended by NUL; a rename has its old path as the next."""
    commit = branch = ""
    paths: list[str] = []
    parts = iter(output[:_MAX_BYTES].decode(errors="replace").split("\0"))
    for part in parts:
        kind, _, rest = part.partition(" ")
        match kind:
            case "#":
                name, _, value = rest.partition(" ")
                commit = value if name == "branch.oid" and value != _NO_COMMIT else commit
                branch = value if name == "branch.head" and value != _DETACHED else branch
            case "?":
                paths.append(rest)
            case "1" | "u" | "2":
                paths.append(rest.split(" ", {"1": 7, "2": 8, "u": 9}[kind])[-1])
                if kind == "2":
                    next(parts, None)
    shown = tuple(map(_printable, paths[:LISTED]))
    return WorkingFolder(
        git=True, present=True, commit=commit, branch=_printable(branch), dirty_count=len(paths), dirty_paths=shown
    )


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)
