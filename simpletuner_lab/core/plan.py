"""A plan: everything that will happen if its digest is approved (DESIGN §2.1, SPEC C2, C3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from simpletuner_lab.core.canonical import JsonObject, canonical_json, sha256_hex
from simpletuner_lab.core.consent import ConsentState
from simpletuner_lab.core.cost import Estimate, Rate
from simpletuner_lab.core.destination import Destination
from simpletuner_lab.core.job_queue import DEFAULT_PRIORITY
from simpletuner_lab.core.manifest import Manifest
from simpletuner_lab.core.provider import Target
from simpletuner_lab.core.verdict import SpendVerdict

PLAN_FORMAT: Final = "lab-plan/1"

STORAGE_GRANT: Final = "storage grant"
"""Name of the credential with which results come home through the object endpoint."""

DEFAULT_PROVIDER: Final = "local"
"""Where a job runs when nobody says: here, with no account and no upload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitRequest:
    """What a user asks for, through whichever front-end. Data set paths are absolute or start with `~`."""

    config: JsonObject
    dataloader: tuple[JsonObject, ...]
    provider: str = DEFAULT_PROVIDER
    target: str = ""
    hardware: str = ""
    name: str = ""
    destination: Destination | None = None
    """None: what the config asks for in SimpleTuner's own keys, else the default of the lab."""
    priority: int = DEFAULT_PRIORITY
    """In the queue, 0 to 50. No part of what is agreed to."""
    snapshot_name: str = ""
    """What its snapshot is called; empty: by the config's name and the time."""
    snapshot_message: str = ""
    strip_exif: bool = False
    """Pictures leave without EXIF, places, XMP, IPTC, comments and text; their orientation and colours stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A secret that would travel with the job: its name and why, never its value."""

    name: str
    purpose: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The part of a plan that its digest covers."""

    provider: str
    account: str
    endpoint: str
    target: str
    version: str
    hardware: str
    destination: Destination
    config: JsonObject
    """As sent: paths rewritten, secrets as reference names."""
    dataloader: Sequence[JsonObject]
    manifest: Manifest
    credentials: tuple[Credential, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would be sent, to whom, for how much, and whether that has been agreed to. Made without side effects."""

    name: str
    identity: Identity
    digest: str
    remote: bool
    target: Target
    rate: Rate
    estimate: Estimate
    steps: int
    stays: tuple[str, ...]
    warnings: tuple[str, ...]
    consent: ConsentState
    spend: SpendVerdict | None = None
    """Whether it may be paid for, as limits stood when the plan was made; None: an older plan."""
    asked: str = ""
    """Digest of the request that it was made of (`asked_of`); empty: an older plan, or nobody's request."""


def asked_of(request: SubmitRequest) -> str:
    """SHA-256 of what a request asks to be trained, whatever is in its data sets now: not priority or snapshot.

    Raises:
        InvalidRequest: a text of it is not UTF-8, or a number is none.
    """
    destination = request.destination
    form = {
        "config": request.config,
        "dataloader": list(request.dataloader),
        "provider": request.provider,
        "target": request.target,
        "hardware": request.hardware,
        "name": request.name,
        "destination": None if destination is None else dataclasses.asdict(destination),
        "strip_exif": request.strip_exif,
    }
    return sha256_hex(canonical_json(form))


def digest_of(identity: Identity) -> str:
    """SHA-256 of the canonical form `lab-plan/1`: not price, time or absolute paths.

    Raises:
        InvalidRequest: a file name or config text is not UTF-8.
    """
    return sha256_hex(canonical_json(canonical_form(identity)))


def canonical_form(identity: Identity) -> JsonObject:
    """The digest's input as a JSON value; two machines that would send the same get the same."""
    return {
        "format": PLAN_FORMAT,
        "provider": identity.provider,
        "account": identity.account,
        "endpoint": identity.endpoint,
        "target": identity.target,
        "version": identity.version,
        "hardware": identity.hardware,
        "destination": dataclasses.asdict(identity.destination),
        "config": identity.config,
        "dataloader": list(identity.dataloader),
        "files": [{"name": f.name, "bytes": f.bytes, "sha256": f.sha256} for f in identity.manifest.files],
        "credentials": sorted(credential.name for credential in identity.credentials),
    }
