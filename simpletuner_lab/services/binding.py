"""A job belongs to the endpoint and the account that its plan names, which were agreed to (SPEC C2).

Settings and tokens may change while it is under way. Then nothing is sent to the new place, and nothing that the new
place says is taken for word of the old one.
"""

from __future__ import annotations

from typing import Final

from simpletuner_lab.core.errors import (
    PlanChanged,
    ProviderElsewhere,
    ProviderFailure,
    ProviderUnavailable,
    SettingUnusable,
    TokenUnusable,
)
from simpletuner_lab.core.job import Job
from simpletuner_lab.core.plan import Identity, Plan
from simpletuner_lab.core.provider import Located, Provider
from simpletuner_lab.services.registry import Registry
from simpletuner_lab.services.store import Store

DATA_SETS: Final = "data sets"
"""What leaves for a provider, in the record of what left."""

_HINT: Final = "submit it again for the place that is set now, or set base_url and token back first"


def bound_provider(store: Store, registry: Registry, job: Job, plan: Plan) -> Provider:
    """The job's provider, where it is still set to the endpoint and the account of the plan. Cheap: no poll is dearer for it.

    What a plan leaves empty was not known, and is not compared. The version is pinned by the plan and sent, so a newer
    one is no difference.

    Raises:
        PlanChanged: it is not, and nothing of the job has left or was started.
        ProviderElsewhere: it is not, and the job has something at the other place.
        ProviderUnavailable: that cannot be told now.
        TokenUnusable, SettingUnusable: it cannot be told before somebody mends that.
    """
    provider = registry.get(job.provider)
    if not plan.remote:
        return provider
    there, now = plan.identity, difference(provider, plan.identity)
    if not now:
        return provider
    agreed = there.endpoint + (f", account {there.account}" if there.account else "")
    if _begun(store, job):
        raise ProviderElsewhere(
            f"it is at {agreed}; {provider.label} is set to {now} now: nothing is asked, sent, ended or deleted for this"
            " job until that is set back",
            hint=f"set base_url and token of {provider.id} back; the job goes on by itself",
        )
    raise PlanChanged(
        f"it was agreed to for {agreed}, and {provider.label} is set to {now} now; nothing was sent", hint=_HINT
    )


def difference(provider: Provider, identity: Identity) -> str:
    """Where or for whom else the provider is set up, in a word; empty where it is as the plan has it.

    Raises:
        ProviderFailure: as `bound_provider`.
    """
    endpoint = provider.endpoint if isinstance(provider, Located) else _asked_endpoint(provider)
    if identity.endpoint and endpoint != identity.endpoint:
        return endpoint
    if not identity.account:
        return ""
    account = _account(provider)
    return "" if account == identity.account else f"{endpoint}, account {account}"


def _asked_endpoint(provider: Provider) -> str:
    return provider.options().endpoint


def _account(provider: Provider) -> str:
    try:
        if isinstance(provider, Located):
            return provider.account()
        check = provider.check()
    except (TokenUnusable, SettingUnusable, ProviderUnavailable):
        raise
    except ProviderFailure as error:  # a bad answer to this question is no word on the job
        raise ProviderUnavailable(error.message, hint=error.hint) from error
    if not check.ready:
        raise ProviderUnavailable(check.message, hint=check.hint)
    return check.account


def _begun(store: Store, job: Job) -> bool:
    """Whether there may be anything of the job at its provider."""
    if job.upload_ref or job.run.ref or job.run.start_tried or job.uncertain:
        return True
    return any(one.what == DATA_SETS and one.discarded_at is None for one in store.transfers.of_job(job.id))
