"""The one way out to a provider's HTTP API: to one host, past one proxy, and every fault as one of the lab's errors.

`Door` is an httpx transport, so that a provider's own client library can go through it as well. Whatever comes back from it
is an answer of 2xx. What may be asked twice without harm is asked again, a few times and soon; nothing else is.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from simpletuner_lab.core.errors import (
    OutOfCredit,
    ProviderFailure,
    ProviderUnavailable,
    SettingUnusable,
    TokenUnusable,
    TooLarge,
)
from simpletuner_lab.core.redact import mask
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.providers._http import HIDE, Network, NotDone, NotThere
from simpletuner_lab.providers._trust import trusting

_AGAIN_S: Final = (0.2, 0.8)
"""Pauses before what may be asked again is asked again; a server that wants a longer one is not waited for."""
_BUSY: Final = frozenset({429, 500, 502, 503, 504})
_SAFE: Final = frozenset({"GET", "DELETE"})
_UNSENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
_CUT_OFF: Final = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
_PROXIES: Final = frozenset({"http", "https"})
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_LONGEST_WORDS: Final = 300


class Door(httpx.BaseTransport):
    """The transport.

    Args:
        network: where to, and how.
        environment: whose proxy counts where the settings name none.
        sleep: waits between two tries.

    Raises:
        SettingUnusable: the CA file or the proxy cannot be used.
    """

    def __init__(
        self, network: Network, environment: Mapping[str, str], sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._network = network
        self._sleep = sleep
        self._base = httpx.URL(network.base_url)
        self._proxy = _proxy_for(network, environment)
        self._way = httpx.HTTPTransport(verify=_trust(network), proxy=self._proxy or None)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The answer, read to its end.

        Raises:
            LabError: there is none of 2xx.
        """
        self._require_ours(request)
        timeout_s = self._network.timeout_s
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), timeout_s)
        again = request.method in _SAFE or request.url.path.endswith("/cancel")
        for pause_s in (*_AGAIN_S, None) if again else (None,):
            try:
                response = self._way.handle_request(request)
                response.request = request
                response.read()
            except httpx.TransportError as error:
                if pause_s is None or not isinstance(error, _CUT_OFF):
                    raise self._unanswered(request, error) from error
            else:
                asked_s = _retry_after(response)
                if pause_s is None or response.status_code not in _BUSY or (asked_s or 0.0) > pause_s:
                    return self._accepted(response)
            self._sleep(pause_s)
        raise AssertionError("the last try has an end")

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request, by a path below the base URL.

        Raises:
            LabError: as of `handle_request`.
        """
        return self.handle_request(httpx.Request(method, f"{self._network.base_url}{path}", **more))

    def close(self) -> None:
        """Ends all connections."""
        self._way.close()

    def _require_ours(self, request: httpx.Request) -> None:
        ours, theirs = self._base, request.url
        if (ours.scheme, ours.host, ours.port) != (theirs.scheme, theirs.host, theirs.port):
            raise ProviderFailure(
                f"{self._network.who} points to {theirs.host}, and its token is for {ours.host} alone",
                hint="nothing was sent there",
            )

    def _accepted(self, response: httpx.Response) -> httpx.Response:
        status = response.status_code
        if 200 <= status < 300:
            return response
        who, asked = self._network.who, f"{response.request.method} {response.request.url.path}"
        said = self._words(response)
        told = f"{who} answered {status}{': ' if said else ''}{said}"
        match status:
            case 401:
                hint = "set another one; where it was copied from, it begins with r8_"
                raise TokenUnusable(f"Invalid token: {who} does not accept it", hint=hint)
            case 402:
                raise OutOfCredit(told, hint=f"buy credit at {who}, and submit again")
            case 404:
                raise NotThere(told, hint=asked)
            case 407:
                raise NotDone("the proxy asks for a login", hint="set HTTPS_PROXY with it where the lab runs")
            case 413:
                raise TooLarge(told, hint="use fewer images, data hosted on S3 or the Hub, or another provider")
            case 429:
                wait_s = _retry_after(response)
                hint = "it is tried again in a moment" if wait_s is None else f"it takes requests again in {wait_s:g} s"
                raise NotDone(f"{who} has been asked too often ({status})", hint=hint)
        if 300 <= status < 400:
            place = urlsplit(response.headers.get("location", "")).netloc or "somewhere else"
            hint = f"its token goes to {self._base.host} alone; see the setting base_url"
            raise ProviderFailure(f"{who} redirects to {place}, which is not followed", hint=hint)
        if status >= 500:
            raise ProviderUnavailable(told, hint="try again in a minute")
        raise ProviderFailure(told, hint=asked)

    def _words(self, response: httpx.Response) -> str:
        """What an error says for a person, without the secrets of the request."""
        try:
            found = response.json()
        except ValueError:
            return ""
        said = (found.get("detail") or found.get("title")) if isinstance(found, dict) else ""
        if not isinstance(said, str):
            return ""
        token = Secret(response.request.headers.get("Authorization", "").removeprefix("Bearer "))
        return mask(said, (token, *response.request.extensions.get(HIDE, ())))[:_LONGEST_WORDS]

    def _unanswered(self, request: httpx.Request, error: httpx.TransportError) -> ProviderUnavailable:
        who, host = self._network.who, self._base.host
        kind = NotDone if isinstance(error, _UNSENT) else ProviderUnavailable
        if _is_tls(error):
            hint = "name the CA that signs it with the setting ca_bundle"
            return kind(f"the certificate of {host} is not trusted: {error}", hint=hint)
        if self._proxy and isinstance(error, _UNSENT):
            place = urlsplit(self._proxy)
            hint = "see the setting proxy, or HTTPS_PROXY where the lab runs"
            return kind(f"{host} cannot be reached through the proxy {place.hostname}:{place.port}: {error}", hint=hint)
        if isinstance(error, httpx.TimeoutException):
            path, timeout_s = request.url.path, self._network.timeout_s
            hint = "try again, or raise the setting timeout_s"
            return kind(f"{who} does not answer within {timeout_s:g} s ({request.method} {path})", hint=hint)
        if kind is NotDone:
            return kind(f"{who} cannot be reached at {host}: {error}", hint="see network, proxy and base_url")
        return kind(f"{who} ended the connection without an answer", hint="try again in a minute")


def _proxy_for(network: Network, environment: Mapping[str, str]) -> str:
    """The setting's, else the environment's unless that leaves this host out; empty: none."""
    if network.proxy:
        return network.proxy
    base = urlsplit(network.base_url)
    host = base.hostname or ""
    named = {name.lower(): value for name, value in environment.items() if value}
    if host in _LOOPBACK or _left_out(host, named.get("no_proxy", "")):
        return ""
    found = named.get(f"{base.scheme}_proxy") or named.get("all_proxy") or ""
    proxy = found if not found or "://" in found else f"http://{found}"
    if proxy and urlsplit(proxy).scheme not in _PROXIES:
        raise SettingUnusable(
            f"a {urlsplit(proxy).scheme} proxy of the environment cannot be used",
            hint="set the setting proxy to one of http or https",
        )
    return proxy


def _left_out(host: str, no_proxy: str) -> bool:
    """Whether NO_PROXY names the host, or a domain that it is in."""
    named = [text.strip().lstrip(".") for text in no_proxy.split(",") if text.strip()]
    return any(name in {"*", host} or host.endswith(f".{name}") for name in named)


def _trust(network: Network) -> ssl.SSLContext | bool:
    if urlsplit(network.base_url).scheme == "http" and not network.proxy.startswith("https:"):
        return False  # no TLS, so no certificates to load
    if not network.verify_tls:
        return httpx.create_ssl_context(verify=False)
    if not network.ca_bundle:
        return httpx.create_ssl_context()
    return trusting(network.ca_bundle)


def _is_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _retry_after(response: httpx.Response) -> float | None:
    text = response.headers.get("retry-after", "").strip()
    return float(text) if text.isascii() and text.isdigit() else None
