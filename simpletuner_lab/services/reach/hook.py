"""Whether webhooks arrive: the lab sends itself one at its public URL, and sees what became of it on the way."""

from __future__ import annotations

import dataclasses
import http.client
import json
import time
from typing import Any, Final

from simpletuner_lab.core.grant import ENDPOINT_PATH
from simpletuner_lab.services.reach.report import Look, Mode, Step, WebhookReport, failed, ok, warning
from simpletuner_lab.services.reach.stranger import arrived_at, changed, stranger
from simpletuner_lab.services.reach.wire import Answer, Site, Wire, connect, site_of
from simpletuner_lab.services.webhook_proof import HEADER, Prover
from simpletuner_lab.services.webhooks import WEBHOOKS_PATH

STEPS: Final = (Step.DNS, Step.TCP, Step.TLS, Step.PATH, Step.SIGNATURE)


def examine_webhook(endpoint: str, provider_id: str, prover: Prover, now: float) -> WebhookReport:
    """Tests the route for a provider's webhooks, step by step; `endpoint` is the object endpoint's URL beside it.

    Raises:
        InvalidRequest: `endpoint` is no URL of a server.
    """
    storage = site_of(endpoint)
    prefix = storage.path.removesuffix(ENDPOINT_PATH)
    site = dataclasses.replace(storage, path=f"{prefix}{WEBHOOKS_PATH}/{provider_id}")
    looks, wire = connect(site, now)
    began = time.perf_counter()
    if wire is not None:
        try:
            looks += _looks(site, wire, provider_id, prover, prefix)
        except (OSError, http.client.HTTPException) as error:
            told = str(error) or type(error).__name__
            fix = "is this a web server at all, and is the proxy or tunnel up?"
            looks.append(failed(Step.PATH, f"the connection broke: {told}", fix))
    took_s = round(time.perf_counter() - began, 3)
    return WebhookReport.of(provider_id, Mode.DIRECT, site.url, looks, steps=STEPS, took_s=took_s)


def _looks(site: Site, wire: Wire, provider_id: str, prover: Prover, prefix: str) -> list[Look]:
    proof = prover.make(provider_id)
    headers = {"content-type": "application/json", "content-length": str(len(proof.body)), HEADER: proof.header}
    answer = wire.ask("POST", site.path, headers, proof.body)
    if answer is None:
        return [failed(Step.PATH, "no answer comes", "is the notebook server up, and does the proxy reach it?")]
    if arrived := arrived_at(answer):
        return [changed(site.path, arrived, prefix)]
    told = _told(answer)
    if answer.status == 200 and told.get("test") == proof.answer:
        whole = ok(Step.SIGNATURE, "what is signed arrives as it was sent, and this lab answers")
        return [of_the_caller(str(told.get("caller", "")), told.get("allowed")), whole]
    if answer.status == 403 and told.get("code") == "forbidden":
        fix = "is this URL that of this lab, and does a proxy take X- headers out or write bodies anew?"
        return [
            ok(Step.PATH, "a lab answers at the route for webhooks"),
            failed(Step.SIGNATURE, "the test arrives, and is not as it was sent, or at another lab", fix),
        ]
    return [stranger(answer)]


def of_the_caller(caller: str, allowed: object) -> Look:
    """What the lab said of who it saw; `allowed` is None where a provider has no list."""
    seen = f"the route for webhooks answers; it was called from {caller or 'an address that it cannot tell'}"
    if allowed is not False:
        return ok(Step.PATH, seen)
    return warning(
        Step.PATH,
        f"{seen}, which is not in webhook_allowed_ips",
        "right if that is this machine's own address; if it is a proxy's, no webhook is let in: name the proxy in "
        "SimpleTunerLabApp.trusted_proxies",
    )


def _told(answer: Answer) -> dict[str, Any]:
    try:
        found = json.loads(answer.text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
