"""A prediction that is made for its webhook alone, to see whether one from Replicate arrives. No job has a part in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from simpletuner_lab.core.errors import ProviderUnavailable
from simpletuner_lab.core.provider import CausedWebhook
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.providers import _replicate_prediction as rp
from simpletuner_lab.providers._http import Api, NotDone, Unreadable

TRIAL: Final = "a test of webhooks"
"""Its input, by which it is known: it has no tag, and so it is nobody's run."""
_LIFE_S: Final = 45
"""`Cancel-After`: whatever hinders it, it ends and calls within the minute that a test waits."""
_COST: Final = "it costs as a run of that model does, once, and is not in this lab's costs"


def cause(api: Api, token: Secret, *, model: str, version: str, url: str) -> CausedWebhook:
    """Creates it, once, and returns what was done and costs.

    Args:
        api: the provider's.
        token: whose account pays.
        model: OWNER/NAME of a model that wants `text` alone.
        version: of it.
        url: what is called when it has ended.

    Raises:
        LabError: none was created. Where no answer tells, it may have been: that is returned as a sentence.
    """
    body = {"version": version, "input": {"text": TRIAL}, "webhook": url, "webhook_events_filter": ["completed"]}
    try:
        told = api.post("/v1/predictions", token, body, headers={"Cancel-After": f"{_LIFE_S}s"})
        made = rp.parse(told).id
    except NotDone:
        raise
    except (ProviderUnavailable, Unreadable) as error:
        unknown = f"whether a prediction of {model} was created is not known, and it is not tried again"
        return CausedWebhook(said=f"{error.message}: {unknown}; {_COST}")
    return CausedWebhook(said=f"prediction {made} of {model} was created; {_COST}", ref=made)


def is_trial(given: Mapping[str, Any]) -> bool:
    """Whether an input is that of one."""
    return "tag" not in given and given.get("text") == TRIAL
