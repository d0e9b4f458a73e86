"""Notebook servers of this user that may have a lab: where to ask, not whether they answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundServer:
    """A notebook server of this user, from Jupyter's runtime files or the Hub's environment."""

    url: str
    token: str


def find_servers(environment: Mapping[str, str], runtime_dir: Path) -> Iterator[FoundServer]:
    """Servers that may be asked, the likeliest first: the Hub's own, the one that started this kernel, the newest."""
    if environment.get("JUPYTERHUB_API_TOKEN") and environment.get("JUPYTERHUB_SERVICE_URL"):
        url, prefix = environment["JUPYTERHUB_SERVICE_URL"], environment.get("JUPYTERHUB_SERVICE_PREFIX", "/")
        origin = httpx.URL(url).copy_with(path=prefix, query=None)
        yield FoundServer(url=str(origin), token=environment["JUPYTERHUB_API_TOKEN"])
    parent = environment.get("JPY_PARENT_PID", "")
    files = sorted(runtime_dir.glob("jpserver-*.json"), key=_modified, reverse=True)
    for file in sorted(files, key=lambda file: file.stem != f"jpserver-{parent}"):
        try:
            info = json.loads(file.read_text("utf-8"))
            yield FoundServer(url=str(info["url"]), token=str(info.get("token", "")))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # being written, or of another program


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0  # its server ends just now
