"""Notebook servers of this user: whether one runs, has the extension, is of this release and home, and who reaches it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from simpletuner_lab._version import __version__
from simpletuner_lab.client import LabClient
from simpletuner_lab.core.errors import LabError
from simpletuner_lab.doctor.finding import Finding, ok, problem, warning
from simpletuner_lab.doctor.parts import ENABLE
from simpletuner_lab.servers import FoundServer, find_servers
from simpletuner_lab.services.home import VARIABLE, Home
from simpletuner_lab.services.reach.report import Outcome

_PATIENCE_S: Final = 3.0
_OPEN: Final = frozenset({"", "*", "0.0.0.0", "::"})  # noqa: S104 - what is looked for


def server_findings(home: Home, environment: Mapping[str, str], runtime: Path, url: str | None = None) -> list[Finding]:
    """The servers in Jupyter's runtime folder and the Hub's environment, or the one at `url`."""
    if url is not None:
        servers: Sequence[FoundServer] = [FoundServer(url=url, token=environment.get("JUPYTER_TOKEN", ""))]
    else:
        servers = list(find_servers(environment, runtime))
    found = [finding for server in servers for finding in _server(server, home, _addresses(runtime))]
    if found:
        return found
    if url is not None:
        return [problem("server", f"{url} does not answer", "is the notebook server up, and the address right?")]
    return [ok("server", "no notebook server of yours runs; commands work on the files themselves")]


def _server(server: FoundServer, home: Home, addresses: Mapping[str, str]) -> Iterator[Finding]:
    """Nothing of one that does not answer: it has ended, and left its file."""
    headers = {"Authorization": f"token {server.token}"} if server.token else {}
    try:
        with httpx.Client(headers=headers, timeout=_PATIENCE_S, trust_env=False) as http:
            base = server.url.rstrip("/") + "/api/cloud"
            alive = http.get(f"{base}/health/live")
            yield from _extension(server.url, alive, home)
            if alive.status_code == 200:
                yield from _open_store(server.url, http.get(f"{base}/health"))
                yield _endpoint(server.url, httpx.get(f"{base}/storage/", timeout=_PATIENCE_S, trust_env=False))
                yield from _exposure(server)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError):
        return
    yield _binding(server.url, addresses.get(server.url), token=bool(server.token))


def _extension(url: str, alive: httpx.Response, home: Home) -> Iterator[Finding]:
    said = _object(alive)
    if alive.status_code in {401, 403}:
        yield warning("server", f"{url} does not take the token that it left", "JUPYTER_TOKEN=... stcloud --url ...")
    elif alive.status_code != 200 or "version" not in said:
        yield warning("server", f"{url} runs without simpletuner_lab", f"{ENABLE}, and restart it")
    elif said["version"] != __version__:
        message = f"{url} runs simpletuner_lab {said['version']}, this is {__version__}"
        yield warning("server", message, "restart the server, in the environment that has this release")
    elif said.get("home") and said["home"] != str(home.root):
        message = f"{url} keeps its things in {said['home']}, and you look at {home.root}"
        yield warning("server", message, f"set {VARIABLE}={said['home']} here, or restart the server with yours")
    else:
        yield ok("server", f"{url} answers, with simpletuner_lab {said['version']}")


def _open_store(url: str, health: httpx.Response) -> Iterator[Finding]:
    for part in _object(health).get("components") or ():
        if part.get("status") == "unhealthy":
            yield problem(str(part.get("name")), f"{url}: {part.get('message')}", "mend that, and restart the server")


def _endpoint(url: str, answer: httpx.Response) -> Finding:
    """Without a signature it must refuse, in S3's own words."""
    if answer.status_code == 403 and "AccessDenied" in answer.text:
        return ok("object endpoint", f"{url}api/cloud/storage answers")
    fix = "look into the server's log; without it a model comes home as plain files"
    return warning("object endpoint", f"{url}api/cloud/storage answers {answer.status_code}", fix)


def _exposure(server: FoundServer) -> Iterator[Finding]:
    """Whether a run elsewhere would reach the object endpoint; each step that is not right is a finding."""
    with contextlib.closing(LabClient(server.url, server.token)) as client:
        try:
            told = client.local_upload()
            found = client.reach() if told.enabled else None
        except LabError as error:
            yield warning("public endpoint", error.message, error.hint)
            return
    if found is None:
        message = "no public URL is set: results of runs elsewhere cannot come home to this machine"
        yield ok("public endpoint", message)
        return
    for look in found.steps:
        if look.status is Outcome.FAILED:
            yield problem("public endpoint", f"{look.name}: {look.message}", look.hint)
        elif look.status is Outcome.WARNING:
            yield warning("public endpoint", f"{look.name}: {look.message}", look.hint)
    if found.reached:
        yield ok("public endpoint", f"{found.url} is reached")


def _binding(url: str, address: str | None, *, token: bool) -> Finding:
    if address is None or address not in _OPEN:
        return ok("port", f"{url} is bound to {address or 'an address it does not tell'}")
    if not token:
        fix = "start it with a token or a password, or with --ServerApp.ip=127.0.0.1"
        return warning("port", f"{url} is open to every network, and left no token: is it behind a password?", fix)
    return ok("port", f"{url} is open to every network (bound to {address or 'all'}); its token guards it")


def _addresses(runtime: Path) -> dict[str, str]:
    """What each server is bound to, by its URL."""
    found = {}
    for file in runtime.glob("jpserver-*.json"):
        try:
            told = json.loads(file.read_text("utf-8"))
            found[str(told["url"])] = str(told["hostname"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
