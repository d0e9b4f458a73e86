"""The destination that is recommended for models: the Hub where its token works, else home (contract §2.2).

Either way a model comes home first and the lab sends it on, so no token travels with a job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from simpletuner_lab.core.consent import ConsentMode
from simpletuner_lab.core.destination import HOME, Destination, HubDestination, label
from simpletuner_lab.core.errors import CredentialUnusable, LabError, ProviderUnavailable, UploadsForbidden
from simpletuner_lab.services.exposure import reach
from simpletuner_lab.services.lab import Lab
from simpletuner_lab.services.reach.report import Outcome

REPOSITORY: Final = "simpletuner-models"
"""Of the token's account, where no other is named; private."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommended:
    """The default destination from now on, and why it is this one."""

    destination: Destination
    reached: bool | None
    """Whether home is reached from outside, which jobs elsewhere need for every destination; null: no public URL is set."""
    message: str


def enable_recommended(lab: Lab, *, repo_id: str = "", listener: str = "") -> Recommended:
    """Sets it, for plans from now on.

    Args:
        lab: whose.
        repo_id: the repository on the Hub; empty: that of the default if it has one, else `REPOSITORY` of the account.
        listener: where the second listener listens.

    Raises:
        InvalidRequest: `repo_id` cannot be one.
        CredentialUnusable, UploadsForbidden: it is named, and cannot be used. Without one, home is taken.
    """
    try:
        chosen, said = _hub(lab, repo_id)
    except (CredentialUnusable, ProviderUnavailable, UploadsForbidden) as error:
        if repo_id:
            raise
        chosen, said = HOME, error.message
    lab.set_destination(chosen)
    reached, way = _way_home(lab, listener)
    told = (f"models go to {label(chosen)}", said, way)
    return Recommended(destination=chosen, reached=reached, message="; ".join(part for part in told if part))


def _hub(lab: Lab, repo_id: str) -> tuple[Destination, str]:
    """A repository that can be written, and what is doubtful about it: a Hub that does not answer, for one."""
    if lab.consent_mode() is ConsentMode.NEVER:
        raise UploadsForbidden("consent is set to never: nothing goes to the Hub", hint="change the consent setting")
    before = lab.destination()
    kept = before if isinstance(before, HubDestination) and repo_id in {"", before.repo_id} else None
    chosen = kept or HubDestination(repo_id=repo_id or f"{_account(lab)}/{REPOSITORY}")
    return chosen, "; ".join(lab.tokens.check(chosen))


def _account(lab: Lab) -> str:
    token = lab.tokens.hub()
    if token is None:
        raise CredentialUnusable("there is no token for the Hugging Face Hub", hint="set HF_TOKEN where the lab runs")
    return lab.tokens.account(token).name


def _way_home(lab: Lab, listener: str) -> tuple[bool | None, str]:
    if lab.desk.endpoint(remote=True) is None:
        return None, "no public URL is set, so jobs elsewhere cannot bring theirs home"
    try:
        found = reach(lab, listener=listener)
    except LabError as error:
        return False, f"home is not reached from outside: {error.message}"
    if found.reached:
        return True, ""
    wrong = next((step.message for step in found.steps if step.status is Outcome.FAILED), "")
    return False, f"home is not reached from outside: {wrong}"
