"""Connections of a reachability test: plain sockets, so that each fault is seen where it happens. No proxy is asked."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from simpletuner_lab.core.errors import InvalidRequest
from simpletuner_lab.core.grant import ENDPOINT_PATH
from simpletuner_lab.services.reach.report import Look, Step, failed, ok, warning

PATIENCE_S: Final = 10.0
SOON_S: Final = 14 * 24 * 3600.0
"""A certificate that ends within this time is worth a word."""

_PUSH_EVERY_S: Final = 0.5
_MAX_ANSWER: Final = 1 << 18
_WITH_HEADERS: Final = 1024
"""So much of a body goes with the headers: read with them, it cannot reset the connection that the answer is on."""

_PORTS: Final = {"http": 80, "https": 443}
_SELF_SIGNED: Final = frozenset({18, 19})
_NO_CHAIN: Final = frozenset({2, 20, 21})
_NOT_YET: Final = 9
_EXPIRED: Final = 10
_NAMES: Final = frozenset({62, 64})
"""OpenSSL's numbers of what can be wrong with a certificate (X509_V_ERR_...)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where the endpoint is said to be."""

    scheme: str
    host: str
    port: int
    path: str
    """Of the endpoint, `/api/cloud/storage` at its end, as it goes over the wire."""

    @property
    def netloc(self) -> str:
        """The Host header that a client sends: without the port where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The endpoint's URL."""
        return f"{self.scheme}://{self.netloc}{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back; header names in lower case, the body's beginning as text."""

    status: int
    headers: Mapping[str, str]
    text: str
    at: float

    @property
    def is_ours(self) -> bool:
        """An object endpoint answered, in S3's own words."""
        return "x-amz-request-id" in self.headers


def site_of(text: str) -> Site:
    """The endpoint behind a URL; `/api/cloud/storage` is added where it is missing.

    Raises:
        InvalidRequest: it is no http(s) URL.
    """
    try:
        url: SplitResult = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise InvalidRequest(f"{text!r} is no URL: {error}") from error
    if url.scheme not in _PORTS or not url.hostname or url.query or url.fragment or "@" in url.netloc:
        raise InvalidRequest(
            f"{text!r} is no URL of a server", hint="http(s)://HOST[:PORT][/PATH], as in SimpleTunerLabApp.public_url"
        )
    path = url.path.rstrip("/")
    path = path if path.endswith(ENDPOINT_PATH) else path + ENDPOINT_PATH
    return Site(scheme=url.scheme, host=url.hostname, port=port or _PORTS[url.scheme], path=path)


class Wire:
    """Opens connections to a site, once its name is known to have an address."""

    def __init__(self, site: Site, address: tuple[str, int], context: ssl.SSLContext | None) -> None:
        self._site = site
        self._address = address
        self._context = context

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        push: bytes = b"",
        patience_s: float = PATIENCE_S,
    ) -> Answer | None:
        """Sends a request and reads the answer, which may come before all of the body is sent.

        `push` is sent again and again until something comes: some proxies hand on the headers with the first full buffer
        of the body, and an answer with the next. None where nothing comes in time. `Content-Length` may promise more than `body` holds.

        Raises:
            OSError, http.client.HTTPException: the connection broke, or what came is no HTTP.
        """
        with contextlib.closing(self._connection(patience_s)) as connection:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in ({"host": self._site.netloc} | dict(headers)).items():
                connection.putheader(name, value)
            connection.endheaders(body[:_WITH_HEADERS])
            with contextlib.suppress(ConnectionError, ssl.SSLError):  # answered before the end
                connection.send(body[_WITH_HEADERS:])
            try:
                begun = _Begun.awaited(connection.sock, push, patience_s)
                if begun is None:
                    return None
                response = http.client.HTTPResponse(begun, method=method)  # type: ignore[arg-type]
                response.begin()
                text = response.read(_MAX_ANSWER).decode("utf-8", "replace")
            except TimeoutError:
                return None
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(status=response.status, headers=found, text=text, at=time.time())

    def _connection(self, patience_s: float) -> http.client.HTTPConnection:
        plain = socket.create_connection(self._address, timeout=patience_s)
        connection = http.client.HTTPConnection(self._site.host, self._site.port, timeout=patience_s)
        try:
            connection.sock = (
                plain if self._context is None else self._context.wrap_socket(plain, server_hostname=self._site.host)
            )
        except BaseException:
            plain.close()
            raise
        return connection


class _Begun(io.RawIOBase):
    """A connection's answer whose first byte was read: waiting for it is the one way to know that it comes.

    What `select` tells of a TLS connection may be its session tickets.
    """

    def __init__(self, sock: socket.socket, first: bytes) -> None:
        super().__init__()
        self._sock = sock
        self._first = first

    @classmethod
    def awaited(cls, sock: socket.socket, push: bytes, patience_s: float) -> _Begun | None:
        """None where nothing comes in time; `push` is sent every half second until then."""
        pieces = int(patience_s / _PUSH_EVERY_S) if push else 0
        sock.settimeout(_PUSH_EVERY_S if push else patience_s)
        for _ in range(pieces + 1):
            try:
                first = sock.recv(1)
            except TimeoutError:
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    sock.sendall(push)
            else:
                sock.settimeout(patience_s)
                return cls(sock, first)
        return None

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What `http.client` asks a socket for."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._first:
            buffer[:1], self._first = self._first, b""
            return 1
        return self._sock.recv_into(buffer)


def connect(site: Site, now: float) -> tuple[list[Look], Wire | None]:
    """The first three steps, and the way on where there is one.

    A certificate that is not trusted fails its step and does not end the test: what lies behind is told as well. What
    is sent then opens nothing.
    """
    try:
        found = socket.getaddrinfo(site.host, site.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        fix = "look at the spelling; the name of a tunnel ends with the tunnel, and a new record takes a while"
        return [failed(Step.DNS, f"{site.host} has no address: {error}", fix)], None
    addresses = list(dict.fromkeys((str(entry[4][0]), int(entry[4][1])) for entry in found))
    looks = [ok(Step.DNS, f"{site.host} is {', '.join(address for address, _ in addresses)}")]
    address, problem = _first_open(addresses)
    if address is None:
        fix = "is the proxy or tunnel up, does it listen at this port, and does a firewall let it in?"
        return [*looks, failed(Step.TCP, f"nothing takes a connection at port {site.port}: {problem}", fix)], None
    looks.append(ok(Step.TCP, f"{address[0]} takes connections at port {site.port}"))
    if site.scheme == "http":
        looks.append(_plain(site, address[0]))
        return looks, Wire(site, address, None)
    look, context = _tls(site, address, now)
    return [*looks, look], None if context is None else Wire(site, address, context)


def _first_open(addresses: list[tuple[str, int]]) -> tuple[tuple[str, int] | None, str]:
    problem = ""
    for address in addresses:
        try:
            socket.create_connection(address, timeout=PATIENCE_S).close()
        except OSError as error:
            problem = f"{address[0]}: {error.strerror or error}"
        else:
            return address, ""
    return None, problem


def _plain(site: Site, address: str) -> Look:
    if address.startswith("127.") or address == "::1":
        return ok(Step.TLS, "not used: plain http on this machine")
    fix = "let the proxy or tunnel serve https"
    return warning(Step.TLS, f"{site.url} is plain http: what is sent can be read on the way", fix)


def _tls(site: Site, address: tuple[str, int], now: float) -> tuple[Look, ssl.SSLContext | None]:
    trusting = ssl.create_default_context()
    try:
        with (
            socket.create_connection(address, timeout=PATIENCE_S) as plain,
            trusting.wrap_socket(plain, server_hostname=site.host) as wrapped,
        ):
            return _good_until(wrapped.getpeercert() or {}, now), trusting
    except ssl.SSLCertVerificationError as error:
        doubting = ssl.create_default_context()
        doubting.check_hostname = False
        doubting.verify_mode = ssl.CERT_NONE
        return _untrusted(site, error), doubting
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        fix = "does this port speak https at all? If it is plain http, the URL begins with http://"
        return failed(Step.TLS, f"no TLS connection comes about: {reason}", fix), None


def _good_until(certificate: Mapping[str, object], now: float) -> Look:
    until = str(certificate.get("notAfter", ""))
    left = ssl.cert_time_to_seconds(until) - now if until else SOON_S
    if left < SOON_S:
        return warning(Step.TLS, f"the certificate ends on {until}", "renew it before a long run")
    return ok(Step.TLS, f"the certificate is trusted, until {until}")


def _untrusted(site: Site, error: ssl.SSLCertVerificationError) -> Look:
    code = error.verify_code
    if code in _SELF_SIGNED:
        return failed(
            Step.TLS,
            f"{site.host} shows a self-signed certificate, which no trainer elsewhere trusts",
            "use one of a public authority (Caddy and Traefik get it by themselves), or a tunnel that brings its own",
        )
    if code in _NAMES:
        fix = "get a certificate for this name, or use the name that it was made for"
        return failed(Step.TLS, f"the certificate is for another name than {site.host}", fix)
    if code == _EXPIRED:
        return failed(Step.TLS, "the certificate has expired", "renew it")
    if code == _NOT_YET:
        return failed(Step.TLS, "the certificate is not valid yet", "is the clock of this machine right?")
    if code in _NO_CHAIN:
        fix = "serve the whole chain (nginx: ssl_certificate with fullchain.pem), from a public authority"
        return failed(Step.TLS, "the certificate's chain leads to no authority that is known here", fix)
    return failed(Step.TLS, f"the certificate is not trusted: {error.verify_message}", "get one that is")
