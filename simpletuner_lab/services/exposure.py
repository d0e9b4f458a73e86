"""How the object endpoint is seen from outside this lab, and whether it is reached (contract: local upload)."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from urllib.parse import urlsplit

from simpletuner_lab.core.destination import OUTPUTS_BUCKET
from simpletuner_lab.core.errors import Conflict, InvalidRequest, LabError
from simpletuner_lab.core.grant import ENDPOINT_PATH
from simpletuner_lab.core.provider import CausedWebhook, CausesWebhooks, Provider
from simpletuner_lab.services.desk import PUBLIC_HINT
from simpletuner_lab.services.lab import Lab
from simpletuner_lab.services.reach.hook import examine_webhook
from simpletuner_lab.services.reach.probe import Asker, examine
from simpletuner_lab.services.reach.report import LocalUpload, Outcome, Reach, Step, WebhookReport, warning
from simpletuner_lab.services.webhooks import WEBHOOKS_PATH


def local_upload(lab: Lab) -> LocalUpload:
    """As it is now: the public endpoint, else the one for this machine alone, else none."""
    public = lab.desk.endpoint(remote=True)
    url = public or lab.desk.endpoint(remote=False) or ""
    config = [{"provider": "s3", "bucket": OUTPUTS_BUCKET, "endpoint_url": url, "region": "us-east-1"}] if url else []
    return LocalUpload(
        enabled=public is not None,
        endpoint_url=url,
        bucket=OUTPUTS_BUCKET,
        config_json=json.dumps(config),
        outputs_dir=str(lab.home.outputs),
    )


def reach(lab: Lab, url: str = "", *, listener: str = "") -> Reach:
    """Tests the endpoint at `url`, else at the public URL that is set; `listener` is where the second one listens.

    Raises:
        InvalidRequest: no URL is given and none is set, or it is none.
    """
    url = url or lab.desk.endpoint(remote=True) or ""
    if not url:
        raise InvalidRequest("no public URL is set, and none is given to test", hint=PUBLIC_HINT)
    here = urlsplit(lab.desk.endpoint(remote=False) or "").netloc
    hosts = [host for known in (listener, here) if known for host in _spellings(known)]
    found = examine(url, Asker(keys=lab.grants.owner(), clock=time.time, hosts=tuple(hosts)))
    port = here.rpartition(":")[2]
    own = here and urlsplit(url).netloc in {here, f"localhost:{port}"}
    return _of_the_notebook(found, port) if own else found


def webhook_url(lab: Lab, provider_id: str) -> str:
    """Where this provider may call back from outside; empty where nothing of this lab can be reached."""
    public = lab.desk.endpoint(remote=True)
    return f"{public.removesuffix(ENDPOINT_PATH)}{WEBHOOKS_PATH}/{provider_id}" if public else ""


def require_own_webhook(lab: Lab, provider_id: str, url: str) -> str:
    """This lab's own address for a provider's webhooks, which `url` names too, or it is empty.

    Raises:
        ProviderNotFound, ProviderUnavailable: no such provider is in use here.
        InvalidRequest: no public URL is set, or `url` is another's: nobody makes this lab ask that.
    """
    lab.registry.get(provider_id)
    own = webhook_url(lab, provider_id)
    if not own:
        raise InvalidRequest("no public URL is set, so nothing can call back", hint=PUBLIC_HINT)
    if url and _parts(url) != _parts(own):
        raise InvalidRequest(
            "webhook_url is not this lab's own address, and no other is asked", hint=f"leave it out, or give {own}"
        )
    return own


def _parts(url: str) -> tuple[object, ...]:
    """What of a URL tells two addresses apart, in one spelling; nothing else may stand in it."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return ()
    return parts.scheme, parts.hostname, port, parts.path.rstrip("/"), parts.query, parts.fragment, "@" in parts.netloc


def prove_webhook(lab: Lab, provider_id: str) -> WebhookReport:
    """Tests the way of a provider's webhooks, by one that the lab sends to itself.

    Raises:
        InvalidRequest: no public URL is set.
        ProviderNotFound, ProviderUnavailable: no such provider is in use here.
        Conflict: it takes no webhooks.
    """
    provider = lab.registry.get(provider_id)
    if not _takes_webhooks(provider):
        raise Conflict(
            f"{provider.label} has no webhooks", hint="nothing is to be tested: its runs are looked at anyway"
        )
    endpoint = lab.desk.endpoint(remote=True)
    if endpoint is None:
        raise InvalidRequest("no public URL is set, so nothing can call back", hint=PUBLIC_HINT)
    return examine_webhook(endpoint, provider_id, lab.prover, time.time())


def cause_webhook(lab: Lab, provider_id: str, nonce: str) -> CausedWebhook:
    """Has a provider send a webhook whose URL carries the nonce.

    Raises:
        InvalidRequest: no public URL is set.
        Conflict: the provider cannot be made to send one.
        LabError: it would not, and why.
    """
    provider = lab.registry.get(provider_id)
    if not isinstance(provider, CausesWebhooks):
        raise Conflict(
            f"{provider.label} cannot be made to send a webhook", hint="test without it: mode direct goes the same way"
        )
    url = webhook_url(lab, provider_id)
    if not url:
        raise InvalidRequest("no public URL is set, so nothing can call back", hint=PUBLIC_HINT)
    return provider.test_webhook(f"{url}?test={nonce}")


def _takes_webhooks(provider: Provider) -> bool:
    """By its answer to a webhook that nobody signed: one without webhooks has none, the others refuse it."""
    try:
        return provider.webhook({}, b"") is not None
    except LabError:
        return True


def _of_the_notebook(found: Reach, port: str) -> Reach:
    """It was reached at the notebook server itself, where everything else is served too."""
    told = warning(
        Step.PATH,
        f"port {port} is the notebook server's own, not that of the second listener",
        "do not expose it: set public_port, and let the tunnel or proxy lead there",
    )
    steps = tuple(told if one.name is Step.PATH and one.status is Outcome.OK else one for one in found.steps)
    return replace(found, steps=steps)


def _spellings(host: str) -> tuple[str, ...]:
    """As a proxy on the same machine may write it."""
    name, _, port = host.rpartition(":")
    return (host, f"localhost:{port}", name) if name == "127.0.0.1" else (host, name)
