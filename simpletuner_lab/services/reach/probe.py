"""The test itself: a handful of harmless requests to the endpoint from outside, and what their answers mean.

Nothing is stored and nothing that is sent opens anything: the object that is asked for does not exist, and the body
that is sent is refused at its end, since its checksum is a random number.
"""

from __future__ import annotations

import http.client
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote

from simpletuner_lab.core.destination import OUTPUTS_BUCKET
from simpletuner_lab.core.grant import ENDPOINT_PATH
from simpletuner_lab.services.grants import Credentials
from simpletuner_lab.services.reach.report import Look, Outcome, Reach, Step, failed, ok, warning
from simpletuner_lab.services.reach.stranger import arrived_at, changed, element, resource, stranger
from simpletuner_lab.services.reach.wire import Answer, Site, Wire, connect, site_of

SKEW_WARN_S: Final = 5 * 60
SKEW_FAIL_S: Final = 15 * 60
WHOLE_BYTES: Final = 8 << 20
"""A part of a multipart upload, as trainers send them."""

ANNOUNCED_BYTES: Final = 64 << 20
BEGINNING_BYTES: Final = 1024
PUSH_BYTES: Final = 16 << 10
EARLY_S: Final = 4.0
"""A refusal that only the headers need comes long before; from behind a proxy that collects the body, never."""

_HARD: Final = "a b+é%"
"""Part of the key that is asked for: a proxy that decodes paths, or encodes them its own way, changes it."""

_HOST_FIX: Final = (
    "set SimpleTunerLabApp.public_url to {url} on the server, then any Host is right; or let the proxy hand on the "
    "one it gets (nginx: proxy_set_header Host $http_host)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who tests: the keys of the lab that should answer, the clock, and where its listeners are on their machine."""

    keys: Credentials
    clock: Callable[[], float]
    hosts: Sequence[str] = ()
    """Hosts with ports under which a proxy may reach the server; one of them is tried where signatures fail."""


def examine(url: str, asker: Asker) -> Reach:
    """Tests the endpoint at `url`, step by step.

    Raises:
        InvalidRequest: `url` is no URL of a server.
    """
    site = site_of(url)
    looks, wire = connect(site, asker.clock())
    if wire is not None:
        try:
            looks += _Probe(site, wire, asker).looks()
        except (OSError, http.client.HTTPException) as error:
            told = str(error) or type(error).__name__
            fix = "is this a web server at all, and is the proxy or tunnel up?"
            seen = {look.name for look in looks}
            step = next(step for step in Step if step not in seen)
            looks.append(failed(step, f"the connection broke: {told}", fix))
    return Reach.of(site.url, looks)


class _Probe:
    def __init__(self, site: Site, wire: Wire, asker: Asker) -> None:
        self._site = site
        self._wire = wire
        self._asker = asker
        self._key = f"reachability-test-{secrets.token_hex(8)}/{_HARD}"
        self._object = f"/{OUTPUTS_BUCKET}/{quote(self._key)}"

    def looks(self) -> list[Look]:
        first = self._wire.ask("GET", self._site.path + self._object, {})
        if first is None:
            return [failed(Step.PATH, "no answer comes", "is the notebook server up, and does the proxy reach it?")]
        clock = self._clock(first)
        path = self._path(first)
        if path is not None:
            return [path, clock]
        signed = self._signed("GET", self._object)
        if signed is None:
            silent = failed(Step.SIGNATURE, "a signed request gets no answer", "look into the server's log")
            return [ok(Step.PATH, "the object endpoint answers"), silent, clock]
        if self._is_other_object(signed):
            return [self._kept(resource(signed)), clock]
        look = self._signature(signed, resource(first))
        if look.name is Step.PATH:
            return [look, clock]
        found = [ok(Step.PATH, "the object endpoint answers"), look, clock]
        return [*found, self._upload()] if look.status is Outcome.OK else found

    def _path(self, answer: Answer) -> Look | None:
        """What is wrong with where the request arrived; None where it arrived."""
        if not answer.is_ours:
            arrived = arrived_at(answer)
            return changed(self._sent, arrived, self._prefix) if arrived else stranger(answer)
        arrived = resource(answer)
        return None if arrived.endswith(ENDPOINT_PATH + self._object) else changed(self._sent, arrived, self._prefix)

    def _is_other_object(self, answer: Answer) -> bool:
        """The signature fits, and at the root of the second listener the path means a bucket of another name."""
        told = {name: element(answer, name) for name in ("Code", "BucketName", "Key")}
        if told["Code"] == "NoSuchBucket":
            return told["BucketName"] != OUTPUTS_BUCKET
        if told["Code"] == "NoSuchKey":
            return told["Key"] != self._key
        return told["Code"] == "InvalidBucketName"

    def _kept(self, arrived: str) -> Look:
        return failed(
            Step.PATH,
            f"the proxy leaves the path of public_url on: the server is asked for {arrived}",
            f"let it take off {self._prefix} (Caddy: handle_path; Traefik: StripPrefix; nginx: docs/exposing.md)",
        )

    def _signature(self, answer: Answer, arrived: str) -> Look:
        if answer.status in {200, 404}:
            return ok(Step.SIGNATURE, "signatures are right when they arrive")
        code = element(answer, "Code")
        if code == "InvalidAccessKeyId":
            fix = "is this the URL of this lab's own server, with the same SIMPLETUNER_HOME?"
            return failed(Step.SIGNATURE, "the endpoint does not know these keys: it belongs to another lab", fix)
        if code == "RequestTimeTooSkewed":
            return failed(Step.SIGNATURE, "the clocks differ by more than 15 minutes", "set both by NTP")
        if code != "SignatureDoesNotMatch":
            return failed(Step.SIGNATURE, f"a signed request is answered {answer.status} {code}", "see its log")
        for host in dict.fromkeys((*self._asker.hosts, self._site.host)):
            told = self._signed("GET", self._object, host=host, path=arrived)
            if told is not None and self._is_other_object(told):
                return self._kept(arrived)
            if told is not None and told.status in {200, 404}:
                fix = _HOST_FIX.format(url=self._site.url.removesuffix(ENDPOINT_PATH))
                return failed(Step.SIGNATURE, f"the proxy changes the Host header to {host}: no signature fits", fix)
        return failed(
            Step.SIGNATURE,
            "no signature fits: the proxy changes the Host header or the path, or the secret key is another",
            _HOST_FIX.format(url=self._site.url.removesuffix(ENDPOINT_PATH)),
        )

    def _upload(self) -> Look:
        """Whether a part arrives whole, and whether the endpoint sees a large one as it comes."""
        wrong = secrets.token_hex(32)
        whole = self._signed("PUT", self._object, body=bytes(WHOLE_BYTES), sha256=wrong)
        if whole is None or not whole.is_ours:
            return _limited(whole, WHOLE_BYTES)
        begun = self._wire.ask(
            "PUT",
            self._site.path + self._object,
            {"content-length": str(ANNOUNCED_BYTES)},
            bytes(BEGINNING_BYTES),
            push=bytes(PUSH_BYTES),
            patience_s=EARLY_S,
        )
        if begun is None:
            return warning(
                Step.UPLOAD,
                "the proxy collects each upload before it hands it on: slow, and twice on disk",
                "nginx: proxy_request_buffering off; Traefik: no buffering middleware",
            )
        if not begun.is_ours:
            return _limited(begun, ANNOUNCED_BYTES)
        return ok(Step.UPLOAD, f"{WHOLE_BYTES >> 20} MiB arrive whole, and larger ones as they come")

    def _clock(self, answer: Answer) -> Look:
        try:
            skew = parsedate_to_datetime(answer.headers.get("date", "")).timestamp() - self._asker.clock()
        except ValueError:
            return warning(Step.CLOCK, "the answer has no date", "let the proxy hand on the Date header")
        told = f"the clock over there is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
        if abs(skew) > SKEW_FAIL_S:
            return failed(Step.CLOCK, f"{told}: every signature is refused", "set both clocks by NTP")
        if abs(skew) > SKEW_WARN_S:
            return warning(Step.CLOCK, told, "set both clocks by NTP: at 15 minutes signatures are refused")
        return ok(Step.CLOCK, "both clocks agree" if abs(skew) < 2 else told)

    def _signed(
        self, method: str, below: str, *, host: str = "", path: str = "", body: bytes = b"", sha256: str = ""
    ) -> Answer | None:
        """Sends a request to the site, signed for it, or for another host and path."""
        sent = self._site.path + below
        place = f"{self._site.scheme}://{host or self._site.netloc}{path or sent}"
        headers = signed_headers(method, place, self._asker.keys, body, sha256)
        headers.pop("host", None)
        if body:
            headers["content-length"] = str(len(body))
        return self._wire.ask(method, sent, headers, body)

    @property
    def _sent(self) -> str:
        return self._site.path + self._object

    @property
    def _prefix(self) -> str:
        return self._site.path.removesuffix(ENDPOINT_PATH)


def signed_headers(method: str, url: str, keys: Credentials, body: bytes = b"", sha256: str = "") -> dict[str, str]:
    """The headers of a request signed with version 4, names in lower case; `sha256` is said of the body if given."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials as BotoCredentials

    class Auth(S3SigV4Auth):
        def payload(self, request: Any) -> str:
            return sha256 or str(super().payload(request))

    request = AWSRequest(method=method, url=url, data=body)
    Auth(BotoCredentials(keys.access_key, keys.secret_key.reveal()), "s3", "us-east-1").add_auth(request)
    return {name.lower(): str(value) for name, value in request.headers.items()}


def _limited(answer: Answer | None, size: int) -> Look:
    if answer is not None and answer.status == 413:
        return failed(
            Step.UPLOAD,
            f"the proxy refuses a body of {size >> 20} MiB (413)",
            "nginx: client_max_body_size 0; Caddy: no request_body limit; Cloudflare takes 100 MB at most",
        )
    told = "no answer comes" if answer is None else f"somebody in between answers {answer.status}"
    return failed(Step.UPLOAD, f"an upload of {size >> 20} MiB does not arrive: {told}", "look into the proxy's log")
