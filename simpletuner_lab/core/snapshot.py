"""A snapshot of what a job was submitted with, as a commit of a git repository of ours (SPEC G1)."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from simpletuner_lab.core.canonical import Json, JsonObject, canonical_json, sha256_hex
from simpletuner_lab.core.errors import InvalidRequest, SecretInConfig
from simpletuner_lab.core.plan import PLAN_FORMAT, Plan, SubmitRequest, canonical_form
from simpletuner_lab.core.redact import Redactor, find_secrets

BRANCH: Final = "main"

MAX_NAME: Final = 100
MAX_MESSAGE: Final = 2000

_SLUG_LENGTH: Final = 48
_ABBREVIATED: Final = 7
_JOB: Final = "Job-Id"
_NAME: Final = "Snapshot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A job's snapshot. `commit` is empty until it is written."""

    job_id: str
    name: str
    message: str
    auto_generated: bool
    """Nobody gave it a name."""
    folder: str
    """Where its files are in the commit: one folder for each name of a config."""
    created_at: float
    commit: str = ""

    @property
    def abbrev(self) -> str:
        """The commit in short."""
        return abbreviated(self.commit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A commit of the log."""

    commit: str
    job_id: str
    name: str
    message: str
    folder: str
    at: float


def abbreviated(commit: str) -> str:
    """A commit in short."""
    return commit[:_ABBREVIATED]


def new_snapshot(request: SubmitRequest, plan: Plan, job_id: str, *, now: float) -> Snapshot:
    """The snapshot that a job is to get: under the name and with the words that were asked for, else our own."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    folder = slug(plan.name)
    return Snapshot(
        job_id=job_id,
        name=request.snapshot_name or f"{folder}-{stamp}",
        message=request.snapshot_message.strip() or f"pre-submit: {plan.name}",
        auto_generated=not request.snapshot_name,
        folder=folder,
        created_at=now,
    )


def require_words(name: str, message: str, known: Redactor | None = None) -> None:
    """Checks what a person calls a snapshot and says of it.

    Raises:
        InvalidRequest: too long, or characters that are no text.
        SecretInConfig: one of them looks like a secret, or is one that `known` has.
    """
    if len(name) > MAX_NAME or not name.isprintable():
        raise InvalidRequest(f"a snapshot's name has at most {MAX_NAME} characters, all of them printable")
    if len(message) > MAX_MESSAGE or not all(line.isprintable() for line in message.splitlines()):
        raise InvalidRequest(f"a snapshot's message has at most {MAX_MESSAGE} characters, all of them printable")
    if found := find_secrets({"snapshot_name": name, "snapshot_message": message}, known=known):
        raise SecretInConfig(f"{found[0].path} {found[0].message}", problems=found, hint="leave it out")


def slug(name: str) -> str:
    """A folder's name for the name of a config: two names never share one, on no file system."""
    plain = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-")[:_SLUG_LENGTH].strip("-")
    if plain and plain == name:
        return plain
    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain}-{mark}" if plain else f"config-{mark}"


def files_of(plan: Plan) -> Mapping[str, bytes]:
    """The files of a snapshot, the same bytes for the same plan: what the digest covers, data sets in counts.

    Nothing in them is a secret or a path of this machine's data sets: it is what was to be sent, and what was agreed to.
    """
    form = canonical_form(plan.identity)
    rest = {key: value for key, value in form.items() if key not in {"format", "config", "dataloader", "files"}}
    about = {"format": PLAN_FORMAT, "name": plan.name, "digest": plan.digest, **rest, "data": data_of(plan)}
    return {
        "config.json": _text(form["config"]),
        "dataloader.json": _text(form["dataloader"]),
        "plan.json": _text(about),
    }


def data_of(plan: Plan) -> dict[str, JsonObject]:
    """Each data set that would be packed, in counts, and a digest of the names and contents of its files."""
    return {
        one.id: {
            "files": len(one.files),
            "bytes": one.bytes,
            "images": one.images,
            "captions": one.captions_found,
            "sha256": sha256_hex(
                canonical_json([[f.name, f.sha256] for f in sorted(one.files, key=lambda f: f.name.encode())])
            ),
        }
        for one in plan.identity.manifest.datasets
    }


def commit_text(snapshot: Snapshot, plan: Plan) -> str:
    """The message of its commit. The last paragraph is for programs."""
    trailers = {
        _NAME: snapshot.name,
        _JOB: snapshot.job_id,
        "Provider": plan.identity.provider,
        "Plan-Digest": plan.digest,
        "Folder": snapshot.folder,
    }
    return "\n\n".join((snapshot.message, "\n".join(f"{key}: {value}" for key, value in trailers.items()))) + "\n"


def entry_of(commit: str, text: str, at: float) -> Entry:
    """A commit of the log, from its message; members are empty where the message is not ours."""
    message, _, last = text.strip().rpartition("\n\n")
    found = dict(line.partition(": ")[::2] for line in last.splitlines())
    return Entry(
        commit=commit,
        job_id=found.get(_JOB, ""),
        name=found.get(_NAME, ""),
        message=message if _JOB in found else text.strip(),
        folder=found.get("Folder", ""),
        at=at,
    )


def _text(value: Json) -> bytes:
    """JSON for people: sorted keys, a line a value. The same value, the same bytes."""
    return (json.dumps(value, ensure_ascii=False, sort_keys=True, indent=2, allow_nan=False) + "\n").encode()
