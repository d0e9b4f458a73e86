"""Where the trained model goes (SPEC D1 to D3). Today: home, this lab's own outputs folder."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

OUTPUTS_BUCKET: Final = "outputs"


class DestinationKind(enum.StrEnum):
    """`home` is the lab itself: through its own object endpoint where a server runs, as plain files where none does."""

    HOME = "home"


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """What the user chose, before the job id is filled in. Holds no secret; part of the plan's digest."""

    kind: DestinationKind = DestinationKind.HOME
    bucket: str = OUTPUTS_BUCKET


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderDelivery:
    """For one attempt: the trainer writes plain files under this absolute path."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Delivery:
    """For one attempt: the trainer uploads to an S3 endpoint; its keys travel as a credential, not in here."""

    endpoint_url: str
    bucket: str
    prefix: str
    region: str = "us-east-1"


Delivery = FolderDelivery | S3Delivery


def job_prefix(job_id: str) -> str:
    """Key prefix of everything a job delivers."""
    return f"{job_id}/"
