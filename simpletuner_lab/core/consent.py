"""Consent is for one plan digest, and it is checked in the service for every entry (SPEC C1, C2). Fails closed."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

from simpletuner_lab.core.errors import ConsentRequired, InvalidRequest, PlanChanged, UploadsForbidden
from simpletuner_lab.core.redact import mask

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_ENTRY_LENGTH: Final = 32


class ConsentMode(enum.StrEnum):
    """Ask for each digest (the default), allow all, or never send anything to another machine."""

    ASK = "ask"
    ALLOW = "allow"
    NEVER = "never"

    @classmethod
    def parse(cls, text: object) -> ConsentMode:
        """Reads a mode; `deny` is another word for `never`.

        Raises:
            InvalidRequest: anything else.
        """
        try:
            return cls("never" if text == "deny" else str(text))
        except ValueError as error:
            raise InvalidRequest(f"consent is ask, allow or never, not {text!r}") from error


class ConsentState(enum.StrEnum):
    """What stands between a plan and its submit."""

    GIVEN = "given"
    NEEDED = "needed"
    FORBIDDEN = "forbidden"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Who agreed to a plan, when (seconds since the epoch), through which front-end and in which mode."""

    owner: str
    digest: str
    at: float
    entry: str
    mode: ConsentMode


def signed(entry: str) -> str:
    """Which front-end asked, as it is put on record: in short, and without a token, of which a piece would be left."""
    return mask(entry)[:_ENTRY_LENGTH]


def consent_state(*, mode: ConsentMode, remote: bool, agreed: bool) -> ConsentState:
    """Whether a plan may be submitted. `agreed`: its owner approved this very digest before."""
    if remote and mode is ConsentMode.NEVER:
        return ConsentState.FORBIDDEN
    if mode is ConsentMode.ALLOW or agreed:
        return ConsentState.GIVEN
    return ConsentState.NEEDED


def require_consent(*, state: ConsentState, digest: str, approve: str | None) -> None:
    """Passes only a plan that was agreed to, now (`approve` is its digest) or before.

    Raises:
        UploadsForbidden: mode `never` and data would leave this machine.
        PlanChanged: what was approved is another plan.
        ConsentRequired: nobody has agreed.
    """
    if state is ConsentState.FORBIDDEN:
        raise UploadsForbidden(
            "consent is set to never: nothing is sent to another machine",
            hint="train here with the local provider, or change the consent setting",
        )
    if approve is not None and approve != digest:
        was = approve[:12] if _DIGEST.fullmatch(approve) else "no digest"  # which may be a secret, pasted there
        raise PlanChanged(
            f"approved was {was}, but the plan is now {digest[:12]}; nothing was sent",
            hint="look at the plan again and approve its new digest",
        )
    if state is ConsentState.NEEDED and approve is None:
        raise ConsentRequired(
            f"plan {digest[:12]} needs your consent; nothing was sent",
            hint=f"read the plan, then submit with approve={digest}",
        )
