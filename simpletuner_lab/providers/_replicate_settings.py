"""Settings of the Replicate provider, and what each of them may be."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, urlsplit

from simpletuner_lab.core.errors import InvalidRequest, Problem
from simpletuner_lab.providers._replicate_rates import RATES, Price, price_list, price_problems

API: Final = "https://api.replicate.com"
STATUS_PAGE: Final = "https://www.replicatestatus.com"
STATUS_URL: Final = f"{STATUS_PAGE}/api/v2/summary.json"

_MODEL: Final = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")
_IMAGE: Final = re.compile(rf"({_MODEL.pattern})(?::([0-9a-f]{{64}}))?")
_VERSION: Final = re.compile(r"[0-9a-f]{64}")
_PROXIES: Final = frozenset({"http", "https"})
_SHORTEST_RUN_S: Final = 60.0
_LONGEST_RUN_S: Final = 7 * 86400.0
_LONGEST_TIMEOUT_S: Final = 600.0

_UNENCRYPTED: Final = (
    "base_url is plain http: the token and the data go in clear, and others on the way can read and change them"
)
_UNVERIFIED: Final = (
    "TLS certificates are not verified (verify_tls is off): others on the way can read and change what is sent"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicateSettings:
    """Settings of Replicate. A value that cannot be is refused when they are made, all of them at once."""

    base_url: str = API
    """Where the API is; a gateway's address, or an emulator's."""
    model: str = "simpletuner/advanced-trainer"
    """The published model that the target `simpletuner` runs: OWNER/NAME."""
    image: str = ""
    """Your push of our trainer, OWNER/NAME or OWNER/NAME:VERSION, which the target `cog` runs; empty: that is not offered."""
    version: str = ""
    """64 hexadecimal digits: the version of `model` to run; empty: its newest."""
    hardware: str = field(default="gpu-l40s", metadata={"choices": tuple(RATES)})
    """What these models run on at Replicate, as their pages say; costs are counted by its price."""
    prices: tuple[str, ...] = ()
    """SKU=USD per second, such as gpu-l40s=0.000975, where Replicate's price list says otherwise by now than ours, or has new hardware."""
    run_limit_s: float = 1800.0
    """How long one prediction may take; longer only where Replicate's support has agreed to it."""
    webhook_allowed_ips: tuple[str, ...] = ()
    """Addresses and networks that webhooks may come from; empty: any, the signature decides."""
    webhook_test_model: str = "replicate/hello-world"
    """A small public model that wants `text` alone: a test of webhooks runs it once, for what one run of it costs."""
    status_url: str = STATUS_URL
    """Where incidents are looked up while a run waits; empty: nowhere."""
    proxy: str = ""
    """Empty: that of the environment (HTTPS_PROXY, NO_PROXY)."""
    ca_bundle: str = ""
    """A PEM file with the certificates to trust; empty: the usual ones."""
    timeout_s: float = 30.0
    """How long an answer may take."""
    verify_tls: bool = True
    """False lets anybody on the way read and change what is sent."""

    def __post_init__(self) -> None:
        if found := tuple(_problems(self)):
            told = "; ".join(f"{problem.path} {problem.message}" for problem in found)
            raise InvalidRequest(told, hint=found[0].hint, problems=found)

    @property
    def api(self) -> str:
        """The base URL as paths are joined to it: without a slash, and without the `v1` that they begin with."""
        return self.base_url.rstrip("/").removesuffix("/v1")

    @property
    def price_list(self) -> Mapping[str, Price]:
        """What hardware costs, by its sku."""
        return price_list(self.prices)

    @property
    def host(self) -> str:
        """Where data go, in a word."""
        return urlsplit(self.base_url).netloc

    @property
    def doubts(self) -> tuple[str, ...]:
        """What is unsafe about the way to Replicate, in sentences for people."""
        parts = urlsplit(self.base_url)
        plain = (_UNENCRYPTED,) if parts.scheme == "http" and not _is_loopback(parts.hostname or "") else ()
        return plain if self.verify_tls else (*plain, _UNVERIFIED)

    @property
    def image_model(self) -> str:
        """OWNER/NAME of the image."""
        return self.image.partition(":")[0]

    @property
    def image_version(self) -> str:
        """The version that the image names; empty: its newest."""
        return self.image.partition(":")[2]


def _problems(settings: ReplicateSettings) -> Iterator[Problem]:
    yield from _address(settings.base_url, "base_url", hint=f"for example {API}")
    if settings.status_url:
        yield from _address(settings.status_url, "status_url", hint="empty asks nowhere")
    if not _MODEL.fullmatch(settings.model):
        yield _wrong("model", settings.model, "is not OWNER/NAME")
    yield from _trial_model(settings)
    if settings.image and not _IMAGE.fullmatch(settings.image):
        yield _wrong("image", settings.image, "is not OWNER/NAME or OWNER/NAME:VERSION, a version being 64 hex digits")
    if settings.version and not _VERSION.fullmatch(settings.version):
        yield _wrong("version", settings.version, "is not the id of a version", "64 digits of 0-9 and a-f")
    yield from price_problems(settings.prices, "prices")
    if settings.hardware not in (known := settings.price_list):
        hint = f"one of {', '.join(known)}, or give its price in prices"
        yield _wrong("hardware", settings.hardware, "has no price here", hint)
    if not _SHORTEST_RUN_S <= settings.run_limit_s <= _LONGEST_RUN_S:
        message = f"is not between {_SHORTEST_RUN_S:g} and {_LONGEST_RUN_S:g} seconds (7 days)"
        yield _wrong("run_limit_s", settings.run_limit_s, message)
    if not 0 < settings.timeout_s <= _LONGEST_TIMEOUT_S:
        yield _wrong("timeout_s", settings.timeout_s, f"is not between 0 and {_LONGEST_TIMEOUT_S:g} seconds")
    for text in settings.webhook_allowed_ips:
        yield from _network(text)
    yield from _proxy(settings.proxy)


def _trial_model(settings: ReplicateSettings) -> Iterator[Problem]:
    key, name = "webhook_test_model", settings.webhook_test_model
    if not _MODEL.fullmatch(name):
        yield _wrong(key, name, "is not OWNER/NAME")
    elif name in {settings.model, settings.image_model}:
        yield _wrong(key, name, "is a model that trains", "for example replicate/hello-world")


def _proxy(text: str) -> Iterator[Problem]:
    if not text:
        return
    parts = _split(text)
    if parts is not None and "@" in parts.netloc:
        message = "holds a user name or password, which settings do not keep"
        yield Problem(path="proxy", message=message, hint="leave it empty and set HTTPS_PROXY where the lab runs")
    elif parts is None or parts.scheme not in _PROXIES or not parts.hostname:
        yield _wrong("proxy", text, "is not the address of a proxy", "http://HOST:PORT or https://HOST:PORT")


def _address(text: str, key: str, *, hint: str) -> Iterator[Problem]:
    parts = _split(text)
    if parts is not None and "@" in parts.netloc:
        yield Problem(path=key, message="holds a user name or password", hint=hint)
    elif parts is None or parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        yield _wrong(key, text, "is not an address of http or https", hint)


def _split(text: str) -> SplitResult | None:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _network(text: str) -> Iterator[Problem]:
    """As strict as those are who compare callers with it."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        try:
            meant = ipaddress.ip_network(text, strict=False)
        except ValueError:
            yield _wrong("webhook_allowed_ips", text, "is no address or network", "for example 203.0.113.0/24")
        else:
            yield _wrong("webhook_allowed_ips", text, "has bits set beyond its length", f"the network is {meant}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _wrong(key: str, value: object, message: str, hint: str = "") -> Problem:
    return Problem(path=key, message=f"{str(value)[:100]!r} {message}", hint=hint)
