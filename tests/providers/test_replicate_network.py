"""How the provider reaches Replicate: its token, proxies, certificates, redirects, and what leaves to where."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
import trustme
from tornado import web

from simpletuner_lab.core.errors import (
    Forbidden,
    InvalidRequest,
    LabError,
    ProviderUnavailable,
    SettingUnusable,
    TokenUnusable,
)
from simpletuner_lab.providers._replicate_notes import Notes
from simpletuner_lab.providers._replicate_settings import STATUS_URL, ReplicateSettings
from simpletuner_lab.server.callers import networks
from simpletuner_lab.services.codec import decode
from simpletuner_lab.testing.listening import HOST, listening
from simpletuner_lab.testing.replicate_emulator import Fault
from tests.providers.proxy_kit import proxying
from tests.providers.replicate_kit import TOKEN, Scene, forged, scene


@pytest.fixture
def replicate(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


# ------------------------------------------------------------------------------------------------------------ the token


def test_nothing_is_asked_without_a_token(replicate: Scene) -> None:
    provider = replicate.provider("")
    check = provider.check()
    assert (check.ready, check.message) == (False, "REPLICATE_API_TOKEN not set")
    assert str(replicate.folder / "secrets" / "REPLICATE_API_TOKEN") in check.hint
    calls = (
        provider.options,
        provider.list,
        lambda: provider.poll("abc", ""),
        lambda: provider.cancel("abc"),
        lambda: provider.webhook(forged(), b""),
    )
    for call in calls:
        with pytest.raises(TokenUnusable, match="REPLICATE_API_TOKEN not set"):
            call()
    assert replicate.emulator.seen == ()


def test_a_token_that_is_not_accepted(replicate: Scene) -> None:
    check = replicate.provider("r8_wrong-token-of-nobody").check()
    assert (check.ready, check.message) == (False, "Invalid token: Replicate does not accept it")
    assert "r8_" in check.hint
    assert "of-nobody" not in repr(check)


def keep(scene: Scene, token: str, mode: int = 0o600) -> Path:
    path = scene.folder / "secrets" / "REPLICATE_API_TOKEN"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(token + "\n")
    path.chmod(mode)
    return path


def test_the_token_is_read_when_it_is_needed(replicate: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment first, then the keyring, then the file; each change counts at once, and no answer is another's."""
    unset = replicate.provider("")
    assert not unset.check().ready
    path = keep(replicate, TOKEN)
    assert unset.check().account == "ann"
    assert replicate.provider("r8_bob").check().account == "bob"

    ring, errors = ModuleType("keyring"), ModuleType("keyring.errors")
    errors.KeyringError = type("KeyringError", (Exception,), {})
    ring.get_password = lambda service, name: {("simpletuner_lab", "REPLICATE_API_TOKEN"): "r8_bob"}.get(
        (service, name)
    )
    monkeypatch.setitem(sys.modules, "keyring", ring)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    assert unset.check().account == "bob"

    def locked(_service: str, _name: str) -> str:
        raise errors.KeyringError("it is locked")

    ring.get_password = locked
    assert unset.check().account == "ann"
    path.unlink()
    assert unset.check().message == "REPLICATE_API_TOKEN not set"


def test_forged_webhooks_ask_for_no_more_than_one_secret_a_minute(replicate: Scene) -> None:
    """And for none where no secret could make them right."""
    provider = replicate.provider()
    unsigned = ({}, forged(off_s=301), forged(off_s=-301), forged() | {"webhook-signature": "v1,AAAA v1a,AAAA"})
    for headers in unsigned:
        with pytest.raises(Forbidden):
            provider.webhook(headers, b"{}")
    assert replicate.emulator.seen == ()
    replicate.emulator.fail("webhooks.secret", Fault(times=2, status=401))
    with pytest.raises(TokenUnusable):
        provider.webhook(forged(), b"{}")
    for _ in range(5):
        with pytest.raises(ProviderUnavailable, match="not asked for again so soon: Invalid token"):
            provider.webhook(forged(), b"{}")
    assert replicate.asked("webhooks.secret") == 1
    replicate.emulator.advance(61)
    with pytest.raises(TokenUnusable):
        provider.webhook(forged(off_s=61), b"{}")
    replicate.emulator.advance(61)
    with pytest.raises(Forbidden):
        provider.webhook(forged(off_s=122), b"{}")
    assert replicate.asked("webhooks.secret") == 3


def test_a_file_that_others_can_read_is_refused(replicate: Scene) -> None:
    path = keep(replicate, TOKEN, 0o640)
    check = replicate.provider("").check()
    assert (check.message, f"chmod 600 {path}" in check.hint) == (f"{path} can be read by others", True)
    keep(replicate, f"{TOKEN} # mine")
    check = replicate.provider("").check()
    assert (check.ready, "one line" in check.hint) == (False, True)
    assert TOKEN not in repr(check)


def test_the_token_stands_in_no_log_and_no_repr(replicate: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    provider = replicate.provider()
    provider.options()
    run = replicate.begin(provider)
    run.poll()
    told = [caplog.text, repr(provider), *(path.read_text() for path in (replicate.folder / "home").rglob("*.json"))]
    for secret in (TOKEN, "SK-of-the-grant"):
        assert not [text for text in told if secret in text]
    files = [path for path in (replicate.folder / "home").rglob("*") if path.is_file()]
    assert files
    assert {path.stat().st_mode & 0o077 for path in files} == {0}


# ----------------------------------------------------------------------------------------------------- where to, and how


class _Elsewhere(web.RequestHandler):
    def initialize(self, to: str, seen: list) -> None:
        self.to, self.seen = to, seen

    def get(self, *_: str) -> None:
        self.seen.append(self.request.headers.get("Authorization"))
        self.redirect(self.to, status=307)

    def post(self, *_: str) -> None:
        self.get()


@contextmanager
def answering(handler: type[web.RequestHandler], tls: ssl.SSLContext | None = None, **parts: object) -> Iterator[str]:
    """A server that answers everything in one way."""
    with listening(web.Application([(r"/(.*)", handler, parts)]), tls=tls) as port:
        yield f"{'https' if tls else 'http'}://{HOST if tls is None else 'localhost'}:{port}"


def test_a_redirect_gets_no_token(replicate: Scene) -> None:
    seen: list[str | None] = []
    with (
        answering(_Elsewhere, to="", seen=seen) as other,
        answering(_Elsewhere, to=f"{other}/v1/account", seen=[]) as place,
    ):
        provider = replicate.provider(base_url=place)
        check = provider.check()
        assert (check.ready, "which is not followed" in check.message) == (False, True)
        with pytest.raises(LabError, match="which is not followed"):
            provider.poll("abc", "")
    assert seen == []


def test_a_next_page_elsewhere_is_not_asked(replicate: Scene) -> None:
    """Of a link in an answer the cursor counts, not its host."""
    seen: list[str | None] = []

    class Page(web.RequestHandler):
        def get(self, *_: str) -> None:
            seen.append(self.get_query_argument("cursor", ""))
            more = "https://evil.example/v1/predictions?cursor=abc" if len(seen) < 2 else None
            self.finish(json.dumps({"next": more, "results": []}))

    with answering(Page) as place:
        assert replicate.provider(base_url=place).list() == []
    assert seen == ["", "abc"]


def test_all_goes_through_the_proxy_of_the_settings(replicate: Scene) -> None:
    with proxying() as proxy:
        provider = replicate.provider(proxy=proxy.url)
        run = replicate.begin(provider)
        run.poll()
        asked = len(replicate.emulator.seen)
        assert len(proxy.forwarded) == asked > 3
        provider.options()
        assert len(proxy.forwarded) == len(replicate.emulator.seen)


def test_the_environments_proxy_counts_unless_a_host_is_left_out(replicate: Scene) -> None:
    """This machine itself is always asked directly."""
    with proxying() as proxy:
        environment = {"http_proxy": proxy.url, "HTTPS_PROXY": proxy.url}
        assert replicate.provider(environment=environment).check().ready
        assert proxy.forwarded == []
        far = replicate.provider(environment=environment, base_url="http://replicate.invalid")
        assert not far.check().ready
        assert {line.split()[1] for line in proxy.forwarded} == {"http://replicate.invalid/v1/account"}
        asked = len(proxy.forwarded)
        left_out = replicate.provider(
            environment={**environment, "no_proxy": "example.org, .invalid"}, base_url="http://replicate.invalid"
        )
        assert "cannot be reached at replicate.invalid" in left_out.check().message
        assert len(proxy.forwarded) == asked
        odd = replicate.provider(environment={"ALL_PROXY": "socks5://127.0.0.1:1"}, base_url="http://replicate.invalid")
        assert "socks5 proxy of the environment cannot be used" in odd.check().message


def test_a_proxy_that_is_not_there_or_wants_a_login(replicate: Scene) -> None:
    with proxying() as proxy:
        gone = proxy.url
    check = replicate.provider(proxy=gone).check()
    assert (
        check.ready,
        f"through the proxy {gone.removeprefix('http://')}" in check.message,
        "proxy" in check.hint,
    ) == (False, True, True)
    with proxying(refusing=407) as proxy:
        assert replicate.provider(proxy=proxy.url).check().message == "the proxy asks for a login"
        tunnelled = replicate.provider(proxy=proxy.url, base_url="https://replicate.invalid").check()
        assert "407" in tunnelled.message
        assert "token" not in proxy.forwarded[-1]


def test_certificates_are_verified(replicate: Scene, tmp_path: Path) -> None:
    """Through a tunnel too: a proxy sees neither token nor data of an API with TLS."""
    authority, stranger = trustme.CA(), trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    trusted, other, empty = tmp_path / "ca.pem", tmp_path / "other.pem", tmp_path / "empty.pem"
    authority.cert_pem.write_to_path(str(trusted))
    stranger.cert_pem.write_to_path(str(other))
    empty.write_text("no certificate\n")

    class Account(web.RequestHandler):
        def get(self, *_: str) -> None:
            self.finish({"type": "user", "username": "tess", "name": "Tess", "github_url": ""})

    with answering(Account, tls=server) as place, proxying() as proxy:
        assert replicate.provider(base_url=place, ca_bundle=str(trusted)).check().account == "tess"
        assert replicate.provider(base_url=place, ca_bundle=str(trusted), proxy=proxy.url).check().account == "tess"
        assert [line.split()[0] for line in proxy.forwarded] == ["CONNECT"]
        check = replicate.provider(base_url=place, ca_bundle=str(other)).check()
        assert (check.ready, "is not trusted" in check.message, "ca_bundle" in check.hint) == (False, True, True)
        assert replicate.provider(base_url=place, verify_tls=False).check().account == "tess"
        for path in (tmp_path / "none.pem", empty):
            with pytest.raises(SettingUnusable, match=f"ca_bundle: {path} cannot be used"):
                replicate.provider(base_url=place, ca_bundle=str(path)).options()


def test_a_place_that_is_not_there_or_is_no_api(replicate: Scene) -> None:
    with proxying() as proxy:
        nowhere = proxy.url

    class Page(web.RequestHandler):
        def get(self, *_: str) -> None:
            self.finish("<html><body>Welcome to the hotel</body></html>")

    assert "cannot be reached" in replicate.provider(base_url=nowhere).check().message
    with answering(Page) as place:
        check = replicate.provider(base_url=place).check()
        assert ("cannot be read" in check.message, "base_url" in check.hint) == (True, True)


def test_why_a_run_waits_is_asked_of_the_status_page(replicate: Scene) -> None:
    """Once a minute at most, without the token, and without harm where it does not answer."""
    seen: list[str | None] = []

    class Summary(web.RequestHandler):
        def get(self, *_: str) -> None:
            seen.append(self.request.headers.get("Authorization"))
            over = {"name": "an old one", "status": "resolved"}
            incidents = [over, {"name": "Slow boots of H100s", "status": "investigating"}]
            works = [{"name": "Now", "status": "in_progress"}, {"name": "Soon", "status": "scheduled"}]
            self.finish({"incidents": incidents, "scheduled_maintenances": works})

    replicate.emulator.conduct.queue_s = 1000.0
    with answering(Summary) as page:
        provider = replicate.provider(status_url=page)
        run = replicate.begin(provider)
        assert "Slow boots of H100s" in run.poll().waiting
        assert "Slow boots of H100s" in run.poll().waiting
        status = provider.service_status()
        assert seen == [None]
    assert (status.operational, status.ongoing_incidents) == (False, ("Slow boots of H100s",))
    assert (status.in_progress_maintenances, status.scheduled_maintenances) == (("Now",), ("Soon",))
    replicate.emulator.advance(61)
    gone = provider.service_status()
    assert (gone.operational, "did not answer" in gone.error) == (None, True)
    assert run.poll().waiting.endswith("is being set up")
    assert replicate.provider(status_url=STATUS_URL)._status._url == ""  # an emulator has no part in it


# ------------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("base_url", "api.replicate.com"), ("base_url", "https://user:pass@api.example"), ("base_url", "https://x:y"),
        ("model", "advanced-trainer"), ("image", "ann/x:latest"), ("version", "v1"), ("hardware", "gpu-b200"),
        ("run_limit_s", 5.0), ("run_limit_s", 1e308), ("run_limit_s", float("nan")),
        ("timeout_s", 0.0), ("timeout_s", float("nan")), ("webhook_allowed_ips", ("10.0.0.0/99",)),
        ("proxy", "ftp://proxy:1"), ("proxy", "http://ann:secret@proxy:1"), ("status_url", "file:///etc/passwd"),
    ],
)  # fmt: skip
def test_each_wrong_setting_is_named(key: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as raised:
        ReplicateSettings(**{key: value})
    assert [problem.path for problem in raised.value.problems] == [key]
    assert "secret" not in str(raised.value)
    told = {key: list(value) if isinstance(value, tuple) else value}
    with pytest.raises(InvalidRequest) as decoded:
        decode(ReplicateSettings, told, what="replicate.json")
    assert key in f"{decoded.value.problems[0].path} {decoded.value.problems[0].message}"


def test_a_network_with_bits_beyond_its_length_is_refused_with_the_one_that_is_meant() -> None:
    """Who compares callers with it would take none."""
    for text, meant in (("127.0.0.1/8", "127.0.0.0/8"), ("2001:db8::1/32", "2001:db8::/32")):
        with pytest.raises(InvalidRequest) as raised:
            ReplicateSettings(webhook_allowed_ips=(text,))
        (problem,) = raised.value.problems
        assert (text in problem.message, meant in problem.hint) == (True, True)
    good = ("127.0.0.0/8", "203.0.113.7", "2001:db8::/32")
    assert len(networks(ReplicateSettings(webhook_allowed_ips=good).webhook_allowed_ips)) == len(good)


@pytest.mark.parametrize(
    ("base_url", "doubtful"),
    [
        ("http://example.com", True), ("http://10.0.0.1:8080/v1", True), ("http://localhost.example.com", True),
        ("https://example.com", False), ("http://127.0.0.1:80", False), ("http://[::1]:80", False), ("http://localhost", False),
    ],
)  # fmt: skip
def test_a_way_in_clear_is_told(base_url: str, doubtful: bool) -> None:
    assert any("in clear" in text for text in ReplicateSettings(base_url=base_url).doubts) is doubtful


def test_a_run_limit_of_weeks_is_refused_in_days() -> None:
    with pytest.raises(InvalidRequest, match="7 days"):
        ReplicateSettings(run_limit_s=7 * 86400.0 + 1)
    assert ReplicateSettings(run_limit_s=7 * 86400.0).run_limit_s == 604800


def test_notes_are_in_folders_of_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "providers" / "replicate"
    before = os.umask(0o022)
    try:
        Notes(folder).write_sent("j-1", 1.0)
    finally:
        os.umask(before)
    made = (folder.parent, folder, folder / "uploads")
    assert [stat.S_IMODE(one.stat().st_mode) for one in made] == [0o700] * 3


def test_settings_are_told_all_at_once_and_have_defaults_that_work() -> None:
    with pytest.raises(InvalidRequest) as raised:
        ReplicateSettings(model="x", timeout_s=-1.0)
    assert [problem.path for problem in raised.value.problems] == ["model", "timeout_s"]
    defaults = ReplicateSettings()
    assert decode(ReplicateSettings, dataclasses.asdict(defaults) | {"webhook_allowed_ips": []}, what="x") == defaults
    assert (
        ReplicateSettings(base_url="https://gateway.example/replicate/v1/").api == "https://gateway.example/replicate"
    )


def test_a_lab_that_asks_nothing_loads_nothing() -> None:
    """The package and httpx come with the first question."""
    code = "import sys, simpletuner_lab.providers.replicate; print([name for name in ('httpx', 'replicate', 'ssl') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
