"""Who may send webhooks: the socket's own peer counts, or what a trusted proxy says, and nothing else."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from traitlets import TraitError

from simpletuner_lab.core.errors import Forbidden
from simpletuner_lab.server.app import SimpleTunerLabApp
from simpletuner_lab.server.callers import Refusals, caller, networks, peer_of

PROXIES = networks(["10.0.0.0/8", "127.0.0.1", "fd00::/8"])

CALLERS = [
    ("198.51.100.9", "", "198.51.100.9"),
    ("198.51.100.9", "203.0.113.7", "198.51.100.9"),  # anybody writes a header
    ("198.51.100.9", "nonsense", "198.51.100.9"),
    ("10.1.2.3", "", "10.1.2.3"),
    ("10.1.2.3", "203.0.113.7", "203.0.113.7"),
    ("10.1.2.3", "203.0.113.7, 198.51.100.9", "198.51.100.9"),  # the proxy's own word is the last
    ("10.1.2.3", "nonsense, 198.51.100.9", "198.51.100.9"),
    ("10.1.2.3", " 203.0.113.7 ,10.9.9.9,127.0.0.1", "203.0.113.7"),
    ("10.1.2.3", "10.0.0.1", "10.0.0.1"),
    ("10.1.2.3", "::ffff:203.0.113.7", "203.0.113.7"),
    ("10.1.2.3", "::ffff:10.0.0.1, 10.0.0.2", "10.0.0.1"),
    ("::ffff:10.1.2.3", "203.0.113.7", "203.0.113.7"),
    ("fd00::1%eth0", "2001:db8::5", "2001:db8::5"),
    ("2001:DB8:0::5", "", "2001:db8::5"),
]

UNKNOWN = [
    ("", ""), ("", "203.0.113.7"), ("/tmp/socket", ""),
    *(("10.1.2.3", text) for text in (
        "unknown", "203.0.113.7:80", "[2001:db8::5]", "203.0.113.7,", ",", " ", "203.0.113.07", "1", "203.0.113.7, 10.0.0.1, x",
        "10.0.0.1/8", "_hidden", "for=203.0.113.7", "203.0.113.7 198.51.100.9", "x" * 10_000,
    )),
]  # fmt: skip


@pytest.mark.parametrize(("peer", "forwarded", "expected"), CALLERS)
def test_who_calls(peer: str, forwarded: str, expected: str) -> None:
    assert str(caller(peer, forwarded, PROXIES)) == expected


@pytest.mark.parametrize(("peer", "forwarded"), UNKNOWN)
def test_who_cannot_be_told(peer: str, forwarded: str) -> None:
    with pytest.raises(Forbidden):
        caller(peer, forwarded, PROXIES)


@pytest.mark.parametrize("address", ["", b"", None, "/tmp/socket"])
def test_a_unix_socket_has_no_peer(address: object) -> None:
    connection = SimpleNamespace(context=SimpleNamespace(address=address, remote_ip="203.0.113.7"))
    assert peer_of(SimpleNamespace(connection=connection)) == ""


def test_refusals_are_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    refusals = Refusals(lambda: now[0])
    for second in range(150):
        now[0] = 1000.0 + second
        refusals.note("webhooks for a", "refused from 198.51.100.9")
    refusals.note("webhooks for b", "refused")
    assert [record.getMessage() for record in caplog.records] == [
        "webhooks for a: refused from 198.51.100.9",
        "webhooks for a: refused from 198.51.100.9 (59 more since the last word)",
        "webhooks for a: refused from 198.51.100.9 (59 more since the last word)",
        "webhooks for b: refused",
    ]


@pytest.mark.parametrize("text", ["10.0.0.1/8", "localhost", "10.0.0.0/33", ""])
def test_a_proxy_that_is_none(text: str) -> None:
    with pytest.raises(TraitError, match="trusted_proxies"):
        SimpleTunerLabApp(trusted_proxies=[text])
