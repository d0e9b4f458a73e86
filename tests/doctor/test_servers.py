"""Real notebook servers: ours, one without the extension, one of another home, one that has gone."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from traitlets import TraitError

from simpletuner_lab.doctor.finding import Finding, Status
from simpletuner_lab.doctor.servers import server_findings
from simpletuner_lab.server.app import SimpleTunerLabApp
from simpletuner_lab.services.home import Home
from simpletuner_lab.testing import eventually
from tests.lab_kit import quick_home
from tests.server.server_kit import TOKEN, Server, free_port


class BareServer(Server):
    """A notebook server in which the extension is switched off."""

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            return httpx.get(self.url + "api/status", params={"token": TOKEN}, timeout=5).status_code == 200
        except httpx.HTTPError:
            return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    started = Server(folder, quick_home(folder).root, "/user/ann/").start()
    yield started
    started.stop()


def runtime(server: Server) -> Path:
    return server.folder / "jupyter/runtime"


def told(server: Server, home: Path, folder: Path | None = None) -> dict[str, Finding]:
    return {found.name: found for found in server_findings(Home(home), {}, folder or runtime(server))}


def with_file(server: Server, folder: Path, **changed: str) -> Path:
    """The runtime folder with its server's file changed."""
    shutil.copytree(runtime(server), folder / "runtime")
    for file in (folder / "runtime").glob("jpserver-*.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    return folder / "runtime"


def test_a_server_of_ours(server: Server) -> None:
    found = told(server, server.home)
    assert {finding.status for finding in found.values()} == {Status.OK}
    assert list(found) == ["server", "object endpoint", "public endpoint", "port"]
    assert "no public URL is set" in found["public endpoint"].message
    assert "is bound to 127.0.0.1" in found["port"].message
    assert not any(TOKEN in finding.message + finding.fix for finding in found.values())


def test_a_public_endpoint_is_tested(tmp_path: Path) -> None:
    """One that is reached, and one whose port is taken: the listener and the way to it are told apart."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for port, status in ((free_port(), Status.OK), (taken.getsockname()[1], Status.PROBLEM)):
            folder = tmp_path / status
            home = quick_home(folder)
            url = f"http://127.0.0.1:{port}"
            options = (f"--SimpleTunerLabApp.public_port={port}", f"--SimpleTunerLabApp.public_url={url}")
            server = Server(folder, home.root, "/", *options).start()
            try:
                found = told(server, home.root)
            finally:
                server.stop()
            if status is Status.OK:
                assert found["public endpoint"].message == f"{url}/api/cloud/storage is reached"
                assert found["public endpoint"].status is Status.OK
            else:
                assert found["public listener"].status is Status.PROBLEM
                assert f"port {port}" in found["public listener"].message


def test_a_public_url_that_leads_nowhere_is_a_problem(tmp_path: Path) -> None:
    home = quick_home(tmp_path)
    url = f"http://127.0.0.1:{free_port()}"
    server = Server(tmp_path, home.root, "/", f"--SimpleTunerLabApp.public_url={url}").start()
    try:
        found = told(server, home.root)["public endpoint"]
    finally:
        server.stop()
    assert (found.status, found.message.partition(":")[0]) == (Status.PROBLEM, "tcp")
    assert found.fix


@pytest.mark.parametrize(
    "url",
    ["public.example", "ftp://x", "https://me:pw@x", "https://x/?q=1", "https://x/api/cloud/storage", "http://x:port"],
)
def test_a_public_url_that_is_none_is_told(url: str) -> None:
    with pytest.raises(TraitError, match="public_url is"):
        SimpleTunerLabApp(public_url=url)


@pytest.mark.parametrize(
    ("url", "kept"), [("", ""), ("https://x/", "https://x"), ("http://x:81/user/ann/", "http://x:81/user/ann")]
)
def test_a_public_url_is_kept(url: str, kept: str) -> None:
    assert SimpleTunerLabApp(public_url=url).public_url == kept


def test_a_server_that_is_named(server: Server) -> None:
    url, home = server.url, Home(server.home)
    found = server_findings(home, {"JUPYTER_TOKEN": TOKEN}, Path("/nowhere"), url)
    assert found[0].status is Status.OK
    (wrong, *_) = server_findings(home, {"JUPYTER_TOKEN": "wrong"}, Path("/nowhere"), url)
    assert (wrong.status, "does not take the token" in wrong.message) == (Status.WARNING, True)
    (gone,) = server_findings(home, {}, Path("/nowhere"), "http://127.0.0.1:9/")
    assert (gone.status, "does not answer" in gone.message) == (Status.PROBLEM, True)


def test_a_server_of_another_home(server: Server, tmp_path: Path) -> None:
    found = told(server, tmp_path)["server"]
    assert found.status is Status.WARNING
    assert found.fix.startswith(f"set SIMPLETUNER_HOME={server.home} here")


def test_a_server_that_everybody_reaches(server: Server, tmp_path: Path) -> None:
    found = told(server, server.home, with_file(server, tmp_path, hostname="0.0.0.0"))["port"]
    assert (found.status, "open to every network" in found.message) == (Status.OK, True)
    open_door = with_file(server, tmp_path / "2", hostname="", token="")
    assert told(server, server.home, open_door)["port"].status is Status.WARNING


def test_a_server_without_the_extension(tmp_path: Path) -> None:
    off = "--ServerApp.jpserver_extensions={'simpletuner_lab': False}"
    bare = BareServer(tmp_path, tmp_path / "home", "/", off).start()
    try:
        found = told(bare, tmp_path / "home")["server"]
        assert (found.status, "runs without simpletuner_lab" in found.message) == (Status.WARNING, True)
        assert found.fix.startswith("jupyter server extension enable simpletuner_lab")
    finally:
        bare.stop()


def test_a_server_whose_store_does_not_open(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").prepare()
    home.database.write_text("no database")
    server = Server(tmp_path, home.root).start()
    try:
        found = eventually(lambda: told_all(server), lambda all_of: any(f.status is Status.PROBLEM for f in all_of))
        assert "is not a database" in next(finding.message for finding in found if finding.status is Status.PROBLEM)
    finally:
        server.stop()


def told_all(server: Server) -> list[Finding]:
    return server_findings(Home(server.home), {}, runtime(server))


def test_no_server_and_one_that_left_its_file(tmp_path: Path) -> None:
    (none,) = server_findings(Home(tmp_path), {}, tmp_path)
    assert (none.status, "no notebook server" in none.message) == (Status.OK, True)
    (tmp_path / "jpserver-1.json").write_text(json.dumps({"url": "http://127.0.0.1:9/", "token": "x"}))
    (tmp_path / "jpserver-2.json").write_text("{")
    (tmp_path / "jpserver-3.json").write_text(json.dumps({"url": "no url at all\x00", "token": "ü"}))
    assert server_findings(Home(tmp_path), {}, tmp_path) == [none]


def test_another_release() -> None:
    from simpletuner_lab.doctor.servers import _extension

    answer = httpx.Response(200, json={"version": "9.9.9", "home": ""})
    (found,) = _extension("http://127.0.0.1:8888/", answer, Home(Path("/tmp")))
    assert (found.status, "runs simpletuner_lab 9.9.9" in found.message) == (Status.WARNING, True)
