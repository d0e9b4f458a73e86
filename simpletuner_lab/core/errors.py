"""One tree of errors. Everything a user can meet is a `LabError`: a stable code, a sentence, and what to do.

    LabError                      500  internal
    ├── InvalidRequest            400  invalid_request       the request itself cannot be read
    │   ├── InvalidConfig         400  invalid_config        every wrong key at once, each with its path
    │   ├── InvalidDataset        400  invalid_dataset       empty, unreadable, outside, refused as a root
    │   ├── RunTooLong            400  run_too_long          longer than a run may take, where no run goes on from one
    │   └── SecretInConfig        400  secret_in_config      a token shape where none belongs
    ├── Forbidden                 403  forbidden
    │   ├── UploadsForbidden      403  uploads_forbidden     consent mode is `never`
    │   └── SpendLimitReached     403  spend_limit           a limit of this lab on what may be spent
    ├── NotFound                  404  not_found
    │   ├── JobNotFound           404  job_not_found
    │   ├── ProviderNotFound      404  provider_not_found
    │   └── OutputNotFound        404  output_not_found
    ├── Conflict                  409  conflict
    │   ├── ConsentRequired       409  consent_required      nobody agreed to this digest yet
    │   ├── PlanChanged           409  plan_changed          what would leave is not what was agreed to
    │   ├── ProviderElsewhere     409  provider_elsewhere    set to another endpoint or account than the job's
    │   ├── IllegalTransition     409  illegal_transition
    │   ├── JobActive             409  job_active            delete asks for a finished job
    │   ├── StaleRecord           409  stale_record          another process wrote this job in between
    │   ├── CredentialUnusable    409  credential_unusable   what a destination needs is not there, or is refused
    │   └── OutputChanged         409  output_changed        a delivered file changed while it was read, or differs
    ├── TooLarge                  413  too_large             over the provider's limit
    ├── ProviderFailure           502  provider_failure      the provider answered, and badly
    │   ├── TokenUnusable         409  token_unusable        its token is not there, or is refused
    │   ├── SettingUnusable       409  setting_unusable      one of its settings does not fit what is there
    │   ├── OutOfCredit           402  out_of_credit         its account has no credit left
    │   ├── ProviderUnavailable   503  provider_unavailable
    │   ├── ProviderUncertain     502  uncertain             whether a run was started cannot be told
    │   └── UploadGone            502  upload_gone           its copy of the data is not there any more
    ├── NotReached                502  not_reached           a test found that what it sends does not arrive
    ├── ServerUnreachable         503  server_unreachable    a client found no server where one was named
    ├── StoreUnusable             500  store_unusable        network file system, newer schema, damaged
    │   └── StoreUnreachable      503  store_unreachable     a shared database does not answer
    ├── ServerKeyUnusable         500  server_key_unusable   readable by others, or not 32 bytes
    └── DiskFull                  507  disk_full

Mapped to HTTP in `server/handlers.py` and to text in `commands/answers.py`, nowhere else.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong: where (`config.lora_rank`), what, and what to do."""

    path: str
    message: str
    hint: str = ""


class LabError(Exception):
    """Base of all errors meant for a person. `problems` lists several things wrong at once."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str = "", problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.problems = tuple(problems)

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a trace: an answer for a person, not a fault."""
        told = [f"{type(self).__name__}: {self.message}"]
        told += [f"  {one.path}: {one.message}" + (f" ({one.hint})" if one.hint else "") for one in self.problems]
        return [*told, *([self.hint] if self.hint else [])]


class InvalidRequest(LabError):
    """The request cannot be read or asks for something that does not exist in this form."""

    code = "invalid_request"
    status = 400


class InvalidConfig(InvalidRequest):
    """The training config or the dataloader is wrong."""

    code = "invalid_config"


class InvalidDataset(InvalidRequest):
    """A data set is empty, unreadable, outside what may be read, or refused as a root."""

    code = "invalid_dataset"


class RunTooLong(InvalidRequest):
    """The job takes longer than one run may, and its target cannot go on in another."""

    code = "run_too_long"


class SecretInConfig(InvalidRequest):
    """A value that looks like a token stands where no secret belongs."""

    code = "secret_in_config"


class Forbidden(LabError):
    """The caller may not do this."""

    code = "forbidden"
    status = 403


class UploadsForbidden(Forbidden):
    """Consent mode `never`: nothing may be sent to another machine."""

    code = "uploads_forbidden"


class SpendLimitReached(Forbidden):
    """A spend limit of this lab does not let a job be paid for. Out of credit is the provider's word: `OutOfCredit`."""

    code = "spend_limit"


class NotFound(LabError):
    """There is no such thing."""

    code = "not_found"
    status = 404


class JobNotFound(NotFound):
    """No job has this id (or it is not the caller's)."""

    code = "job_not_found"


class ProviderNotFound(NotFound):
    """No provider of this name is installed."""

    code = "provider_not_found"


class OutputNotFound(NotFound):
    """The job has no such output."""

    code = "output_not_found"


class Conflict(LabError):
    """The request does not fit the present state."""

    code = "conflict"
    status = 409


class ConsentRequired(Conflict):
    """Nobody has agreed to this plan digest."""

    code = "consent_required"


class PlanChanged(Conflict):
    """What would leave now differs from what was agreed to; nothing was sent."""

    code = "plan_changed"


class ProviderElsewhere(Conflict):
    """The provider is set to another endpoint or account than the one at which the job has something."""

    code = "provider_elsewhere"


class IllegalTransition(Conflict):
    """The table of job states has no such edge."""

    code = "illegal_transition"


class JobActive(Conflict):
    """The job has not ended."""

    code = "job_active"


class CredentialUnusable(Conflict):
    """A token or key that the destination needs is not there, is not valid, or may not write."""

    code = "credential_unusable"


class StaleRecord(Conflict):
    """The row changed since it was read; read again and decide again."""

    code = "stale_record"


class OutputChanged(Conflict):
    """A delivered file was replaced or written while it was read, or differs from its checksum."""

    code = "output_changed"


class TooLarge(LabError):
    """Over a limit of the provider or of this server."""

    code = "too_large"
    status = 413


class ProviderFailure(LabError):
    """The provider refused or answered nonsense."""

    code = "provider_failure"
    status = 502


class TokenUnusable(ProviderFailure):
    """The provider's own token is not set, cannot be read safely, or is not accepted."""

    code = "token_unusable"
    status = 409


class SettingUnusable(ProviderFailure):
    """A setting of the provider names what is not there: a CA file, a model, a version."""

    code = "setting_unusable"
    status = 409


class OutOfCredit(ProviderFailure):
    """The account at the provider has nothing left to pay with."""

    code = "out_of_credit"
    status = 402


class ProviderUnavailable(ProviderFailure):
    """The provider cannot be reached, or cannot run anything now."""

    code = "provider_unavailable"
    status = 503


class ProviderUncertain(ProviderFailure):
    """The answer to a start was lost, and the run can be neither found nor ruled out."""

    code = "uncertain"


class UploadGone(ProviderFailure):
    """The provider no longer has the data that were uploaded; they can be uploaded again."""

    code = "upload_gone"


class NotReached(LabError):
    """A test found that what it sends does not arrive where it should; `problems` has the steps that failed."""

    code = "not_reached"
    status = 502


class ServerUnreachable(LabError):
    """No notebook server answered where one was named."""

    code = "server_unreachable"
    status = 503


class StoreUnusable(LabError):
    """The database cannot be used as it is."""

    code = "store_unusable"


class StoreUnreachable(StoreUnusable):
    """The server of a shared database does not answer, or the connection to it was lost."""

    code = "store_unreachable"
    status = 503


class ServerKeyUnusable(LabError):
    """The file with the server key is not what we wrote: readable by others, of a wrong size, or no plain file."""

    code = "server_key_unusable"


class DiskFull(LabError):
    """No room left where the lab keeps its files."""

    code = "disk_full"
    status = 507


_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def lacks_room(error: BaseException) -> bool:
    """Whether this is a full disk, a used-up quota, or a file that may not grow any more."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def is_interrupt(error: BaseException) -> bool:
    """Whether this is Ctrl-C, or what a library made of it.

    An interrupt arrives between any two instructions. Where it unwinds through a half-made thread or transaction, the
    clean-up there may fail (`RuntimeError: release unlocked lock`, `AssertionError`) and take its place.
    """
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, KeyboardInterrupt):
        seen = seen.__cause__ or seen.__context__
    return seen is not None
