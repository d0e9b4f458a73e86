"""The reachability test, against a real endpoint behind real proxies, each of them wrong in its own way."""

from __future__ import annotations

import datetime as dt
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from simpletuner_lab.core.errors import InvalidRequest
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.services.grants import Credentials
from simpletuner_lab.services.reach.probe import Asker, examine
from simpletuner_lab.services.reach.report import Look, Outcome, Reach, Step
from simpletuner_lab.services.reach.wire import site_of
from simpletuner_lab.testing.storage_server import StorageServer, storage_server
from tests.nginx_kit import needs_nginx, nginx
from tests.server.server_kit import free_port

OK, WARNING, FAILED, SKIPPED = Outcome


def port_of(server: StorageServer) -> int:
    return site_of(server.endpoint_url).port


def look(found: Reach, step: Step) -> Look:
    return next(one for one in found.steps if one.name is step)


def asker(server: StorageServer, **changes: object) -> Asker:
    hosts = (f"127.0.0.1:{port_of(server)}", f"localhost:{port_of(server)}")
    return Asker(**({"keys": server.owner, "clock": time.time, "hosts": hosts} | changes))


def first_fault(found: Reach) -> Look:
    """The step to mend: every one before it is right, and it says what to do."""
    assert [one.name for one in found.steps] == list(Step)
    fault = next(one for one in found.steps if one.status is FAILED)
    assert fault.hint
    assert not found.reached
    return fault


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StorageServer]:
    with storage_server(tmp_path / "store") as running:
        yield running


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "store" / "objects" / "outputs"


Proxied = Callable[[str], str]


@pytest.fixture
def proxied(tmp_path: Path, server: StorageServer) -> Iterator[Proxied]:
    """Starts nginx with these lines in its server block, UPSTREAM being the endpoint; gives its URL."""
    running = []

    def start(lines: str) -> str:
        port = free_port()
        inside = lines.replace("UPSTREAM", f"http://127.0.0.1:{port_of(server)}")
        context = nginx(tmp_path / f"nginx-{port}", f"server {{ listen 127.0.0.1:{port}; {inside} }}", port)
        context.__enter__()
        running.append(context)
        return f"http://127.0.0.1:{port}"

    yield start
    for context in running:
        context.__exit__(None, None, None)


WIDE = "client_max_body_size 0; proxy_http_version 1.1; proxy_request_buffering off;"
RIGHT = f"{WIDE} proxy_set_header Host $http_host;"


# ------------------------------------------------------------ as it should be


def test_an_endpoint_that_is_reached(server: StorageServer, outputs: Path) -> None:
    found = examine(f"http://127.0.0.1:{port_of(server)}", asker(server))
    assert found.reached
    assert {one.status for one in found.steps} == {OK}
    assert found.url == server.endpoint_url
    assert list(outputs.iterdir()) == []  # nothing was stored
    assert server.stored == []


def test_before_the_first_bucket_is_made(tmp_path: Path) -> None:
    with storage_server(tmp_path) as empty:
        assert examine(empty.endpoint_url, asker(empty)).reached


@needs_nginx
def test_a_proxy_that_does_it_right(server: StorageServer, proxied: Proxied, outputs: Path) -> None:
    found = examine(proxied(f"{RIGHT} location / {{ proxy_pass UPSTREAM; }}"), asker(server))
    assert {one.status for one in found.steps} == {OK}
    assert list(outputs.iterdir()) == []


MAP = "map $request_uri $rest { ~^/a/b(/.*)$ $1; }"


@needs_nginx
@pytest.mark.parametrize(
    ("target", "right"), [("$rest", True), ("/", False)], ids=["path as it came", "path that nginx decoded"]
)
def test_with_a_public_url_any_host_and_a_stripped_path_are_right(tmp_path: Path, target: str, right: bool) -> None:
    """But a path that was decoded and encoded again on the way is another."""
    port = free_port()
    with storage_server(tmp_path / "other", public_url=f"http://127.0.0.1:{port}/a/b") as told:
        to = f"proxy_pass http://127.0.0.1:{port_of(told)}{target};"
        block = f"{MAP} server {{ listen 127.0.0.1:{port}; {WIDE} location /a/b/ {{ {to} }} }}"
        with nginx(tmp_path / "nginx", block, port):
            found = examine(f"http://127.0.0.1:{port}/a/b", asker(told))
    if right:
        assert {one.status for one in found.steps} == {OK}
    else:
        fault = first_fault(found)
        assert (fault.name, "changes the path" in fault.message) == (Step.PATH, True)


# ------------------------------------------------------------ names, ports, certificates


def test_a_name_without_an_address(server: StorageServer) -> None:
    fault = first_fault(examine("https://no-such-host.invalid/x", asker(server)))
    assert (fault.name, "no-such-host.invalid has no address" in fault.message) == (Step.DNS, True)


def test_nobody_at_the_port(server: StorageServer) -> None:
    port = free_port()
    found = examine(f"http://127.0.0.1:{port}", asker(server))
    fault = first_fault(found)
    assert (fault.name, f"port {port}" in fault.message) == (Step.TCP, True)
    assert look(found, Step.DNS).status is OK
    assert look(found, Step.SIGNATURE).status is SKIPPED


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> trustme.CA:
    """One that this machine trusts, for now."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    return made


def served(tmp_path: Path, certificate: trustme.LeafCert, asker_of: Callable[[StorageServer], Asker]) -> Reach:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    with storage_server(tmp_path / "tls", tls=context) as server:
        return examine(f"https://localhost:{port_of(server)}", asker_of(server))


def test_a_good_certificate(tmp_path: Path, authority: trustme.CA) -> None:
    found = served(tmp_path, authority.issue_cert("localhost"), asker)
    assert (look(found, Step.TLS).status, found.reached) == (OK, True)


def test_a_certificate_that_soon_ends(tmp_path: Path, authority: trustme.CA) -> None:
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(days=3)
    found = served(tmp_path, authority.issue_cert("localhost", not_after=soon), asker)
    assert (look(found, Step.TLS).status, found.reached) == (WARNING, True)


def test_a_self_signed_certificate(tmp_path: Path) -> None:
    """What lies behind it is told all the same."""
    found = served(tmp_path, trustme.CA().issue_cert("localhost"), asker)
    fault = first_fault(found)
    assert (fault.name, "self-signed" in fault.message or "no authority" in fault.message) == (Step.TLS, True)
    assert look(found, Step.UPLOAD).status is OK


@pytest.mark.parametrize(
    ("names", "days", "words"),
    [(["other.example"], 30, "another name"), (["localhost"], -2, "has expired")],
)
def test_a_certificate_that_does_not_fit(
    tmp_path: Path, authority: trustme.CA, names: list[str], days: int, words: str
) -> None:
    now = dt.datetime.now(dt.UTC)
    dates = {
        "not_before": now - dt.timedelta(days=10),
        "not_after": now + dt.timedelta(days=days),
    }
    fault = first_fault(served(tmp_path, authority.issue_cert(*names, **dates), asker))
    assert (fault.name, words in fault.message) == (Step.TLS, True), fault.message


def test_no_tls_at_all(server: StorageServer) -> None:
    fault = first_fault(examine(f"https://127.0.0.1:{port_of(server)}", asker(server)))
    assert (fault.name, "http://" in fault.hint) == (Step.TLS, True)


def test_what_is_no_web_server() -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))  # nobody listens: connecting is refused, or hangs up
        keys = Credentials(access_key="x", secret_key=Secret("y"))
        found = examine(f"http://127.0.0.1:{mute.getsockname()[1]}", Asker(keys=keys, clock=time.time))
    assert first_fault(found).name is Step.TCP


# ------------------------------------------------------------ paths

PATHS = [
    ("location /lab/ { return 502; }", "answers 502: it does not reach"),
    ("location / { return 302 http://hub.example/hub/login?next=x; }", "a login page answers"),
    ("location / { default_type text/html; return 200 '<title>JupyterHub</title>Sign in'; }", "a login page answers"),
    ("location / { return 301 https://$host$request_uri; }", "is sent elsewhere"),
    ("location / { default_type text/html; return 404 'no such tunnel'; }", "another server answers: 404 with text/html"),
]  # fmt: skip


@needs_nginx
@pytest.mark.parametrize(("lines", "words"), PATHS, ids=[words for _, words in PATHS])
def test_a_path_that_leads_elsewhere(server: StorageServer, proxied: Proxied, lines: str, words: str) -> None:
    found = examine(proxied(f"{RIGHT} {lines}") + "/lab", asker(server))
    fault = first_fault(found)
    assert fault.name is Step.PATH
    assert look(found, Step.SIGNATURE).status is SKIPPED
    assert re.search(words, fault.message), fault.message


# ------------------------------------------------------------ signatures


@needs_nginx
@pytest.mark.parametrize("upstream", ["127.0.0.1", "localhost"])
def test_a_proxy_that_changes_the_host(server: StorageServer, proxied: Proxied, upstream: str) -> None:
    """nginx does so unless it is told not to."""
    to = f"http://{upstream}:{port_of(server)}"
    url = proxied(f"location / {{ proxy_pass {to}; }}")
    fault = first_fault(examine(url, asker(server)))
    assert fault.name is Step.SIGNATURE
    assert f"changes the Host header to {upstream}:{port_of(server)}" in fault.message
    assert f"public_url to {url}" in fault.hint
    assert "proxy_set_header Host" in fault.hint


@needs_nginx
def test_a_proxy_that_changes_the_host_to_something_unforeseen(server: StorageServer, proxied: Proxied) -> None:
    url = proxied("location / { proxy_set_header Host backend.internal; proxy_pass UPSTREAM; }")
    fault = first_fault(examine(url, asker(server)))
    assert (fault.name, "no signature fits" in fault.message) == (Step.SIGNATURE, True)


@pytest.mark.parametrize(
    ("access_key", "secret", "words"), [("STLG" + "A" * 16, None, "another lab"), (None, "wrong", "no signature fits")]
)
def test_keys_of_another_lab(server: StorageServer, access_key: str | None, secret: str | None, words: str) -> None:
    keys = Credentials(
        access_key=access_key or server.owner.access_key,
        secret_key=Secret(secret) if secret else server.owner.secret_key,
    )
    fault = first_fault(examine(server.endpoint_url, asker(server, keys=keys)))
    assert (fault.name, words in fault.message) == (Step.SIGNATURE, True)


# ------------------------------------------------------------ uploads and clocks


@needs_nginx
def test_a_proxy_with_a_limit(server: StorageServer, proxied: Proxied) -> None:
    """nginx takes 1 MiB unless it is told otherwise."""
    url = proxied("proxy_set_header Host $http_host; location / { proxy_pass UPSTREAM; }")
    fault = first_fault(examine(url, asker(server)))
    assert (fault.name, fault.message) == (Step.UPLOAD, "the proxy refuses a body of 8 MiB (413)")
    assert "client_max_body_size 0" in fault.hint


@needs_nginx
def test_a_proxy_with_a_limit_for_larger_ones(server: StorageServer, proxied: Proxied) -> None:
    url = proxied("client_max_body_size 20m; proxy_set_header Host $http_host; location / { proxy_pass UPSTREAM; }")
    fault = first_fault(examine(url, asker(server)))
    assert (fault.name, fault.message) == (Step.UPLOAD, "the proxy refuses a body of 64 MiB (413)")


@needs_nginx
def test_a_proxy_that_collects_uploads(server: StorageServer, proxied: Proxied) -> None:
    url = proxied("client_max_body_size 0; proxy_set_header Host $http_host; location / { proxy_pass UPSTREAM; }")
    found = examine(url, asker(server))
    assert (look(found, Step.UPLOAD).status, found.reached) == (WARNING, True)
    assert "proxy_request_buffering off" in look(found, Step.UPLOAD).hint


@pytest.mark.parametrize(("ahead_s", "outcome"), [(0, OK), (200, OK), (400, WARNING), (-400, WARNING), (1000, FAILED)])
def test_clocks(server: StorageServer, ahead_s: float, outcome: Outcome) -> None:
    found = examine(server.endpoint_url, asker(server, clock=lambda: time.time() + ahead_s))
    assert look(found, Step.CLOCK).status is outcome
    assert look(found, Step.SIGNATURE).status is OK
    assert found.reached is (outcome is not FAILED)


def test_a_clock_that_refuses_signatures(tmp_path: Path) -> None:
    with storage_server(tmp_path, clock=lambda: time.time() - 3600) as late:
        fault = first_fault(examine(late.endpoint_url, asker(late)))
    assert (fault.name, "clocks differ" in fault.message) == (Step.SIGNATURE, True)


# ------------------------------------------------------------ words


@pytest.mark.parametrize("url", ["", "ftp://x", "//x", "http://", "http://x:y", "http://x/?a", "http://me@x", "x"])
def test_what_is_no_url(server: StorageServer, url: str) -> None:
    with pytest.raises(InvalidRequest, match="no URL"):
        examine(url, asker(server))


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        ("https://h", "https://h/api/cloud/storage"),
        ("https://h:443/a/", "https://h/a/api/cloud/storage"),
        ("http://h:81/api/cloud/storage/", "http://h:81/api/cloud/storage"),
        ("http://[::1]:81", "http://[::1]:81/api/cloud/storage"),
    ],
)
def test_the_path_is_added(given: str, endpoint: str) -> None:
    assert site_of(given).url == endpoint


def test_no_secret_is_told(server: StorageServer) -> None:
    found = examine(server.endpoint_url, asker(server))
    assert server.owner.secret_key.reveal() not in str(found)
    assert server.owner.secret_key.reveal() not in repr(asker(server))
