"""The verbs over REST: the body of `client.Client` where a notebook server of this user runs."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx

from simpletuner_lab.core.canonical import require_finite
from simpletuner_lab.core.consent import ConsentMode
from simpletuner_lab.core.destination import Destination
from simpletuner_lab.core.doubt import Decision
from simpletuner_lab.core.errors import InvalidRequest, LabError, OutputChanged, ServerUnreachable
from simpletuner_lab.core.job import ALL_JOBS, NEWEST_FIRST, JobFilter
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.refusals import body_of, error_from
from simpletuner_lab.rest_money import MoneyDesk, RestMoney
from simpletuner_lab.rest_queue import Queue, RestQueue
from simpletuner_lab.rest_setup import RestSetup, Setup, segment
from simpletuner_lab.rest_snapshots import RestSnapshots, Snapshots
from simpletuner_lab.services.codec import decode, encode
from simpletuner_lab.services.forms import form_of
from simpletuner_lab.services.provider_views import ProviderView, SyncView
from simpletuner_lab.services.reach.report import LocalUpload, Mode, Reach, WebhookReport
from simpletuner_lab.services.views import (
    DeliveryView,
    EventView,
    JobDetail,
    JobPage,
    JobView,
    LogChunk,
    MetricsView,
    OutputsView,
    PlanView,
    PublishingView,
)

_TIMEOUT: Final = httpx.Timeout(30.0, read=300.0)
"""Planning a large data set for the first time reads all of it."""

_SAY_WHO: Final = (
    "set JUPYTER_TOKEN to the server's token: jupyter server list prints it, and so does the server as it starts"
)
_WHOSE: Final = "is JUPYTER_TOKEN the token of this very server? jupyter server list prints it"

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})

T = TypeVar("T")


class LabClient:
    """The verbs over a notebook server's REST API. Raises the same `LabError`s as a lab in this process."""

    def __init__(self, url: str, token: str = "", *, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"Authorization": f"token {token}"} if token else {}
        base = url.rstrip("/") + "/api/cloud"
        self.url = url
        here = httpx.URL(url).host in _LOOPBACK  # no proxy is asked for this machine, nor shown the token
        try:
            self._http = httpx.Client(
                base_url=base, headers=headers, timeout=_TIMEOUT, transport=transport, trust_env=not here
            )
        except UnicodeEncodeError as error:
            raise InvalidRequest("the token is not plain ASCII", hint="look at JUPYTER_TOKEN") from error

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    @functools.cached_property
    def lab_id(self) -> str:
        """Which lab this is; the server is asked once."""
        return str(self._call("GET", "/health/live")["lab"])

    @property
    def setup(self) -> Setup:
        """How its providers are set up."""
        return RestSetup(self._call)

    @property
    def money(self) -> MoneyDesk:
        """Its limits and what was spent."""
        return RestMoney(self._call)

    @property
    def queue(self) -> Queue:
        """Its queue."""
        return RestQueue(self._call, self.url)

    @property
    def snapshots(self) -> Snapshots:
        """What was submitted before."""
        return RestSnapshots(self._call)

    def plan(self, request: SubmitRequest) -> PlanView:
        """What a submit would do."""
        return self._read(PlanView, "POST", "/jobs/plan", json=form_of(request))

    def submit(
        self, request: SubmitRequest, *, approve: str | None = None, key: str | None = None, entry: str = "python"
    ) -> JobView:
        """Submits an approved plan. An answer that is lost is asked for again, under the same key: one job."""
        body = form_of(request) | {"approve": approve, "idempotency_key": key or secrets.token_hex(16), "entry": entry}
        try:
            answer = self._call("POST", "/jobs/submit", json=body)
        except ServerUnreachable:
            answer = self._call("POST", "/jobs/submit", json=body)
        return decode(JobView, answer["job"], what="answer.job")

    def jobs(
        self, chosen: JobFilter = ALL_JOBS, *, sort: str = NEWEST_FIRST, limit: int = 50, offset: int = 0
    ) -> JobPage:
        """A page of jobs."""
        query: dict[str, Any] = {"sort": sort, "limit": limit, "offset": offset, "idempotency_key": chosen.key}
        query |= {"status": ",".join(sorted(chosen.states)), "provider": chosen.provider, "text": chosen.text}
        if chosen.remote is not None:
            query["job_type"] = "cloud" if chosen.remote else "local"
        return self._read(
            JobPage, "GET", "/jobs", params={name: value for name, value in query.items() if value not in {"", None}}
        )

    def job(self, job_id: str) -> JobView:
        """One job."""
        answer = self._call("GET", f"/jobs/{segment(job_id)}", params={"only": "job"})
        return decode(JobView, answer["job"], what="answer.job")

    def detail(self, job_id: str) -> JobDetail:
        """One job with plan and timeline."""
        return self._read(JobDetail, "GET", f"/jobs/{segment(job_id)}")

    def events(self, after: int, *, job_id: str | None = None, limit: int = 1000) -> Sequence[EventView]:
        """Events after a cursor."""
        path = f"/jobs/{segment(job_id)}/events" if job_id else "/events"
        answer = self._call("GET", path, params={"after": after, "limit": limit})
        return tuple(decode(EventView, event, what="answer.events") for event in answer["events"])

    def log(self, job_id: str, *, offset: int = 0, limit: int = 1 << 20) -> LogChunk:
        """A piece of the log."""
        return self._read(LogChunk, "GET", f"/jobs/{segment(job_id)}/logs", params={"offset": offset, "limit": limit})

    def metrics(self, job_id: str, *, points: int | None = None, after_step: int | None = None) -> MetricsView:
        """The curve."""
        query = {name: value for name, value in (("points", points), ("after_step", after_step)) if value is not None}
        return self._read(MetricsView, "GET", f"/jobs/{segment(job_id)}/metrics", params=query)

    def outputs(self, job_id: str) -> OutputsView:
        """What has arrived."""
        return self._read(OutputsView, "GET", f"/jobs/{segment(job_id)}/outputs")

    def read_output(self, job_id: str, path: str, *, offset: int = 0, sha256: str = "") -> Iterator[bytes]:
        """The bytes of one file from an offset on; a file that changed, or changes meanwhile, is an error."""
        headers = {"Accept-Encoding": "identity"}
        headers |= {"Range": f"bytes={offset}-"} if offset else {}
        headers |= {"If-Match": f'"{sha256}"'} if sha256 else {}
        where = f"/jobs/{segment(job_id)}/outputs/{quote(path)}"
        try:
            with self._http.stream("GET", where, headers=headers) as answer:
                if answer.status_code == 412 or (offset and answer.status_code == 200):
                    raise OutputChanged(
                        f"{path} is not the file that was asked for any more", hint="list the outputs anew"
                    )
                if answer.status_code == 416:
                    return
                if answer.is_error:
                    answer.read()
                    raise self._refusal(answer.status_code, body_of(answer))
                yield from answer.iter_bytes()
        except httpx.HTTPError as error:
            raise ServerUnreachable(f"the download of {path} broke off: {error}", hint="start it again") from error

    def push(self, job_id: str, destination: Destination, *, entry: str = "python") -> DeliveryView:
        """Sends a completed job's outputs on; how it goes is among the job's `deliveries`."""
        body = {"destination": encode(destination), "entry": entry}
        return self._read(DeliveryView, "POST", f"/jobs/{segment(job_id)}/push", json=body)

    def deliveries(self, job_id: str) -> Sequence[DeliveryView]:
        """Where else its model goes."""
        return self._deliveries("GET", f"/jobs/{segment(job_id)}/push")

    def hasten(self, job_id: str) -> Sequence[DeliveryView]:
        """Tries now what waits to be sent."""
        return self._deliveries("POST", f"/jobs/{segment(job_id)}/push/retry")

    def give_up(self, job_id: str, push_id: str = "", *, entry: str = "python") -> Sequence[DeliveryView]:
        """Ends what waits to be sent: all, or one."""
        query = {"id": push_id, "entry": entry} if push_id else {"entry": entry}
        return self._deliveries("DELETE", f"/jobs/{segment(job_id)}/push", params=query)

    def settle(self, job_id: str) -> Sequence[DeliveryView]:
        """After a job's end: its deliveries. The server sends them."""
        return self.deliveries(job_id)

    def destination(self) -> Destination:
        """The default destination."""
        kind: Any = Destination
        found: Destination = decode(kind, self._call("GET", "/destination"), what="answer")
        return found

    def set_destination(self, destination: Destination) -> None:
        """Changes it."""
        self._call("PUT", "/destination", json=encode(destination))

    def publishing(self) -> PublishingView:
        """Which destinations could be used now."""
        return self._read(PublishingView, "GET", "/publishing/status")

    def cancel(self, job_id: str) -> JobView:
        """Asks for the end."""
        return decode(JobView, self._call("POST", f"/jobs/{segment(job_id)}/cancel")["job"], what="answer.job")

    def resolve(self, job_id: str, decision: Decision, *, entry: str = "python") -> JobView:
        """Decides about an uncertain start."""
        body = {"action": decision.value, "entry": entry}
        answer = self._call("POST", f"/jobs/{segment(job_id)}/resolve", json=body)
        return decode(JobView, answer["job"], what="answer.job")

    def sync(self, provider: str = "") -> SyncView:
        """Imports runs that were started elsewhere."""
        return self._read(SyncView, "POST", "/jobs/sync", json={"provider": provider})

    def delete(self, job_id: str, *, outputs: bool = False) -> None:
        """Removes a finished job."""
        self._call("DELETE", f"/jobs/{segment(job_id)}", params={"outputs": "1"} if outputs else {})

    def providers(self) -> Sequence[ProviderView]:
        """Installed providers."""
        answer = self._call("GET", "/providers")
        return tuple(decode(ProviderView, provider, what="answer.providers") for provider in answer["providers"])

    def consent(self) -> ConsentMode:
        """The consent setting."""
        return ConsentMode.parse(self._call("GET", "/data-consent/setting")["consent"])

    def set_consent(self, mode: ConsentMode) -> None:
        """Changes it."""
        self._call("PUT", "/data-consent/setting", json={"consent": mode.value})

    def local_upload(self) -> LocalUpload:
        """Where results come home to."""
        return self._read(LocalUpload, "GET", "/local-upload/config")

    def reach(self, url: str = "") -> Reach:
        """Tests whether the object endpoint is reached from outside."""
        return self._read(Reach, "POST", "/local-upload/test", json={"url": url})

    def test_webhook(self, provider: str, mode: Mode) -> WebhookReport:
        """Tests whether a provider's webhooks arrive."""
        return self._read(WebhookReport, "POST", f"/providers/{segment(provider)}/test-webhook", json={"mode": mode})

    def _deliveries(self, method: str, path: str, **how: Any) -> Sequence[DeliveryView]:
        found = self._call(method, path, **how)["deliveries"]
        return tuple(decode(DeliveryView, one, what="answer.deliveries") for one in found)

    def _read(self, cls: type[T], method: str, path: str, **how: Any) -> T:
        return decode(cls, self._call(method, path, **how), what="answer")

    def _call(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        require_finite(how.get("json"), "body")
        if self._http.is_closed:
            raise ServerUnreachable(f"the connection to {self.url} was closed", hint="connect() makes another")
        try:
            answer = self._http.request(method, path, **how)
        except httpx.HTTPError as error:
            raise ServerUnreachable(
                f"{self.url} does not answer: {error}", hint="is the notebook server up?"
            ) from error
        try:
            body = answer.json()
        except ValueError as error:
            raise ServerUnreachable(
                f"{self.url} answered {answer.status_code} without JSON", hint="is the extension installed there?"
            ) from error
        if answer.is_error or not isinstance(body, dict):
            raise self._refusal(answer.status_code, body)
        return body

    def _refusal(self, status: int, body: Any) -> LabError:
        """The error. Where the server does not know who asks, it says no more than that: here is what to do."""
        error = error_from(status, body)
        unknown = status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN} and type(error) is LabError
        if unknown and not error.hint:  # it is none of ours
            known = "Authorization" in self._http.headers
            error.hint = _WHOSE if known else _SAY_WHO
        return error
