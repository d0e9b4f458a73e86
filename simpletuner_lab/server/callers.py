"""Who calls: the peer of the socket, or whom the proxies say that we trust (SPEC W1)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final, TypeAlias

from simpletuner_lab.core.errors import Forbidden

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_SAID_AGAIN_S: Final = 60.0

_log = logging.getLogger(__name__)


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks in CIDR form; an address is one of itself alone.

    Raises:
        ValueError: one is neither, or has bits set beyond its length.
    """
    return tuple(ip_network(text) for text in texts)


def peer_of(request: Any) -> str:
    """The address at the other end of the socket, whatever headers say and whoever has Jupyter believe them.

    Empty for a Unix socket.
    """
    address = getattr(request.connection.context, "address", None)
    return str(address[0]) if isinstance(address, tuple) and address else ""


def caller(peer: str, forwarded: str, trusted: Sequence[Network]) -> Address:
    """Who is behind the peer: it itself, unless it is a trusted proxy.

    Of `X-Forwarded-For` each proxy adds its own peer on the right, so what counts is the right-most address that is
    not a trusted proxy; whatever stands left of it anybody may have written.

    Args:
        peer: as `peer_of` gives it.
        forwarded: the header, all of them joined by commas; empty for none.
        trusted: whose word is taken.

    Raises:
        Forbidden: the peer is not known, or what counts is not an address.
    """
    found = _address(peer)
    entries = forwarded.split(",") if forwarded else []
    while is_among(found, trusted) and entries:
        found = _address(entries.pop().strip())
    return found


def is_among(address: Address, places: Sequence[Network]) -> bool:
    """Whether an address lies in one of the networks."""
    return any(address in place for place in places)


def _address(text: str) -> Address:
    """An IPv4 address that is written as IPv6 is the IPv4 address; a zone is left out."""
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError as error:
        raise Forbidden("it cannot be told who calls, and not everybody may") from error
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


class Refusals:
    """Says that callers were refused, for each subject once a minute: a flood of them fills no log."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}

    def note(self, subject: str, message: str) -> None:
        """Logs it, with how many went unsaid before."""
        again, unsaid = self._said.get(subject, (0.0, 0))
        now = self._clock()
        if now < again:
            self._said[subject] = (again, unsaid + 1)
            return
        self._said[subject] = (now + _SAID_AGAIN_S, 0)
        _log.warning("%s: %s%s", subject, message, f" ({unsaid} more since the last word)" if unsaid else "")
