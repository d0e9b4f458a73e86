"""Where the trained model goes (SPEC D1 to D3): home, an S3 bucket, the Hugging Face Hub; and who sends it there."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from simpletuner_lab.core.errors import Problem

OUTPUTS_BUCKET: Final = "outputs"
"""Home's bucket of the object endpoint."""

ACCESS_KEY: Final = "SIMPLETUNER_S3_ACCESS_KEY"
SECRET_KEY: Final = "SIMPLETUNER_S3_SECRET_KEY"  # noqa: S105 - the name of a variable
"""Names under which a storage grant travels."""

HUB_TOKEN: Final = "HF_TOKEN"  # noqa: S105
S3_ACCESS_KEY: Final = "AWS_ACCESS_KEY_ID"
S3_SECRET_KEY: Final = "AWS_SECRET_ACCESS_KEY"  # noqa: S105
S3_SESSION_TOKEN: Final = "AWS_SESSION_TOKEN"  # noqa: S105
"""Names of the user's own credentials, in the lab's environment and in a trainer's."""

_BUCKET: Final = re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX: Final = re.compile(r"(?!/)(?!.*//)(?!(.*/)?\.\.?/)[^\x00-\x1f\x7f\\]{1,512}/")
_REGION: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_REPO_PART: Final = r"(?![-.])(?!.*(--|\.\.))[A-Za-z0-9._-]{1,95}(?<![-.])"
_REPO_ID: Final = re.compile(f"{_REPO_PART}/{_REPO_PART}(?<!\\.git)(?<!\\.ipynb)")
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]+")
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class Sender(enum.StrEnum):
    """Who brings it there. `lab`: home first, then the lab, so no credential of the user travels with the job."""

    LAB = "lab"
    TRAINER = "trainer"


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeDestination:
    """The lab itself: through its own object endpoint where a server runs, as plain files where none does."""

    kind: Literal["home"] = "home"


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Destination:
    """A bucket of any S3. Objects are `<prefix><job id>/…`; the id is filled in after the digest."""

    kind: Literal["s3"] = "s3"
    bucket: str
    prefix: str = ""
    endpoint_url: str = ""
    """Empty: Amazon's own for the region."""
    region: str = "us-east-1"
    checkpoints: bool = False
    sender: Sender = Sender.LAB


@dataclass(frozen=True, slots=True, kw_only=True)
class HubDestination:
    """A model repository on the Hugging Face Hub."""

    kind: Literal["hub"] = "hub"
    repo_id: str
    private: bool = True
    checkpoints: bool = False
    sender: Sender = Sender.LAB


Destination: TypeAlias = HomeDestination | S3Destination | HubDestination
"""What the user chose, before the job id is filled in. Holds no secret; part of the plan's digest."""

AwayDestination: TypeAlias = S3Destination | HubDestination

KINDS: Final[dict[str, type[HomeDestination | S3Destination | HubDestination]]] = {
    "home": HomeDestination,
    "s3": S3Destination,
    "hub": HubDestination,
}
HOME: Final = HomeDestination()


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderDelivery:
    """For one attempt: the trainer writes plain files under this absolute path."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Delivery:
    """For one attempt: the trainer uploads to an S3 endpoint; its keys travel by these names, not in here."""

    endpoint_url: str
    """Empty: Amazon's own for the region."""
    bucket: str
    prefix: str
    region: str = "us-east-1"
    checkpoints: bool = True
    access_key_env: str = ACCESS_KEY
    secret_key_env: str = SECRET_KEY
    session_token_env: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubDelivery:
    """For one attempt: the trainer commits to a repository; its token travels by this name, not in here."""

    repo_id: str
    private: bool
    checkpoints: bool
    token_env: str = HUB_TOKEN


Delivery = FolderDelivery | S3Delivery | HubDelivery


class DeliveryState(enum.StrEnum):
    """Where the way of a model to an S3 bucket or the Hub stands. Apart from the job's state, which never changes."""

    WAITING = "waiting"
    """For the result, for the next try, or for its turn."""
    SENDING = "sending"
    DELIVERED = "delivered"
    FAILED = "failed"
    """A person is needed; it can be pushed again."""
    GIVEN_UP = "given_up"
    """The user asked for its end; it can be pushed again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """One job's model on its way to one destination, and how far it has come. Times are seconds since the epoch."""

    id: str
    job_id: str
    destination: AwayDestination
    state: DeliveryState = DeliveryState.WAITING
    asked_at: float
    delivered_at: float | None = None
    retry_at: float | None = None
    tries: int = 0
    """In a row that came to nothing."""
    url: str = ""
    revision: str = ""
    """The Hub's commit."""
    problem: str = ""
    hint: str = ""
    checkpoints: tuple[str, ...] = ()
    """Keys of checkpoints that are there."""
    reported_sha256: str = ""
    """What the trainer says the manifest of its delivered result is; only where it is the sender."""
    verified: bool = False
    """Everything there was compared with its checksum."""

    @property
    def open(self) -> bool:
        """Whether there is still something to do for it."""
        return self.state in {DeliveryState.WAITING, DeliveryState.SENDING}


def job_prefix(job_id: str) -> str:
    """Key prefix of everything a job delivers."""
    return f"{job_id}/"


def is_away(destination: Destination) -> bool:
    """Whether the model leaves this lab for it."""
    return not isinstance(destination, HomeDestination)


def sent_by_trainer(destination: Destination) -> bool:
    """Whether results go there straight from the training machine, and not by way of this lab."""
    return not isinstance(destination, HomeDestination) and destination.sender is Sender.TRAINER


def is_same_place(one: Destination, other: Destination) -> bool:
    """Whether two destinations are one repository, or one prefix of one bucket."""
    match one, other:
        case S3Destination(), S3Destination():
            return (one.bucket, one.prefix, one.endpoint_url) == (other.bucket, other.prefix, other.endpoint_url)
        case HubDestination(), HubDestination():
            return one.repo_id == other.repo_id
    return one.kind == other.kind


def label(destination: Destination) -> str:
    """The destination in a few words for a person."""
    match destination:
        case HomeDestination():
            return "home, the results folder of this lab"
        case S3Destination():
            where = f"s3://{destination.bucket}/{destination.prefix}"
            at = f" at {urlsplit(destination.endpoint_url).netloc}" if destination.endpoint_url else ""
            return f"{where}{at}, {_way(destination)}"
        case HubDestination():
            shown = "private" if destination.private else "public"
            return f"Hugging Face Hub {destination.repo_id} ({shown}), {_way(destination)}"


def _way(destination: AwayDestination) -> str:
    what = "with checkpoints, " if destination.checkpoints else ""
    return what + ("home first, then sent by this lab" if destination.sender is Sender.LAB else "sent by the trainer")


def problems(destination: Destination, path: str = "destination") -> tuple[Problem, ...]:
    """Everything that is wrong with its values, each with its path."""
    match destination:
        case HomeDestination():
            return ()
        case S3Destination():
            return tuple(_s3_problems(destination, path))
        case HubDestination():
            if _REPO_ID.fullmatch(destination.repo_id):
                return ()
            return (
                Problem(
                    path=f"{path}.repo_id",
                    message=f"{destination.repo_id[:100]!r} is not the name of a repository",
                    hint="OWNER/NAME of letters, digits, - _ and dots, 95 characters at most each",
                ),
            )


def _s3_problems(destination: S3Destination, path: str) -> Iterator[Problem]:
    if not _BUCKET.fullmatch(destination.bucket):
        yield Problem(
            path=f"{path}.bucket",
            message=f"{destination.bucket[:100]!r} is not the name of a bucket",
            hint="3 to 63 lower-case letters, digits, dots and hyphens",
        )
    if destination.prefix and not _PREFIX.fullmatch(destination.prefix):
        yield Problem(
            path=f"{path}.prefix",
            message=f"{destination.prefix[:100]!r} cannot begin the keys of a job",
            hint="folders as in loras/2026/: it ends with / and has no empty or dotted part",
        )
    if not _REGION.fullmatch(destination.region):
        yield Problem(
            path=f"{path}.region", message=f"{destination.region[:100]!r} is no region", hint="for example us-east-1"
        )
    if destination.endpoint_url and not _is_endpoint(destination.endpoint_url):
        yield Problem(
            path=f"{path}.endpoint_url",
            message="is not the address of an S3 endpoint",
            hint="http or https, a host, perhaps a path; no user name, query or fragment",
        )


def _is_endpoint(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    plain = parts.scheme in {"http", "https"} and bool(host) and "@" not in parts.netloc
    return plain and not parts.query and not parts.fragment and _PRINTABLE.fullmatch(url) is not None


def is_plain_http(destination: Destination) -> bool:
    """Whether the model would go over a network unencrypted."""
    if not isinstance(destination, S3Destination) or not destination.endpoint_url.startswith("http:"):
        return False
    return (urlsplit(destination.endpoint_url).hostname or "") not in _LOOPBACK
