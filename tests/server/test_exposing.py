"""The proxies of docs/exposing.md, as they stand there, with a certificate and ports of the test's own."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import trustme
import yaml

from simpletuner_lab.services.grants import Grants, ServerKey
from simpletuner_lab.testing.storage_server import MemoryGrants
from tests.lab_kit import quick_home
from tests.nginx_kit import caddy, needs_caddy, needs_nginx, nginx
from tests.server.outside_kit import BASE, s3
from tests.server.server_kit import Server, free_port

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "exposing.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of an authority that this machine trusts, for now; fullchain.pem and privkey.pem."""
    authority = trustme.CA()
    made = authority.issue_cert("localhost")
    made.cert_chain_pems[0].write_to_path(tmp_path / "fullchain.pem")
    made.private_key_pem.write_to_path(tmp_path / "privkey.pem")
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    return tmp_path


@contextmanager
def exposed(folder: Path, public_url: str, second: int) -> Iterator[Server]:
    home = quick_home(folder)
    options = (f"--SimpleTunerLabApp.public_port={second}", f"--SimpleTunerLabApp.public_url={public_url}")
    server = Server(folder, home.root, BASE, *options).start()
    try:
        yield server
    finally:
        server.stop()


def prove(server: Server, public_url: str, folder: Path) -> None:
    """The server's own test finds nothing, and a client's bytes come and go, under a key that is hard to spell."""
    with server.http() as told:
        found = told.post("/local-upload/test", json={}).json()
    assert {look["status"] for look in found["steps"]} == {"ok"}, found
    owner = Grants(MemoryGrants(), ServerKey.load_or_create(server.home / "cloud" / "server.key"), lambda: 0.0).owner()
    client = s3(f"{public_url}/api/cloud/storage", owner, verify=str(folder / "authority.pem"))
    body = bytes(range(256)) * 40_000
    client.put_object(Bucket="outputs", Key="a b/é+%", Body=body)
    assert client.get_object(Bucket="outputs", Key="a b/é+%")["Body"].read() == body


def nginx_block(number: int, certificate: Path, port: int, second: int) -> str:
    """As the document has it, with the ports and the certificate of a test."""
    block = blocks("nginx")[number]
    for old, new in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("lab.example.org", "localhost"),
        ("/etc/ssl/lab", str(certificate)),
        (":8900", f":{second}"),
    ):
        assert old in block or number == 1, old
        block = block.replace(old, new)
    return block


@needs_nginx
@pytest.mark.parametrize(("number", "path"), [(0, ""), (1, "/lab")])
def test_nginx(certificate: Path, number: int, path: str) -> None:
    port, second = free_port(), free_port()
    block = nginx_block(number, certificate, port, second)
    url = f"https://localhost:{port}{path}"
    with exposed(certificate, url, second) as server, nginx(certificate / "nginx", block, port):
        prove(server, url, certificate)


@needs_nginx
def test_nginx_with_a_limit_of_webhooks(certificate: Path) -> None:
    """Storage is as before; of a flood of webhooks the first are looked at (and refused unsigned), the rest turned away."""
    port, second = free_port(), free_port()
    block = nginx_block(2, certificate, port, second)
    url = f"https://localhost:{port}"
    with exposed(certificate, url, second) as server, nginx(certificate / "nginx", block, port):
        prove(server, url, certificate)
        with httpx.Client(verify=ssl.create_default_context(cafile=certificate / "authority.pem")) as flood:
            seen = [flood.post(f"{url}/api/webhooks/replicate", content=b"{}").status_code for _ in range(100)]
    assert seen[0] == 403
    assert set(seen) == {403, 429}


@needs_caddy
@pytest.mark.parametrize("path", ["", "/lab"])
def test_caddy(certificate: Path, path: str) -> None:
    port, second = free_port(), free_port()
    block = blocks("caddy")[0]
    assert "lab.example.org {" in block
    inside = block.partition("{")[2].rpartition("}")[0]
    if path:
        inside = re.findall(r"`(handle_path .*?\})` inside", DOCUMENT)[0].replace("{ ", "{\n").replace(" }", "\n}")
    tls = f"tls {certificate}/fullchain.pem {certificate}/privkey.pem"
    site = f"{{\n auto_https disable_redirects\n admin off\n}}\nhttps://localhost:{port} {{\n{tls}\n{inside}\n}}\n"
    url = f"https://localhost:{port}{path}"
    with (
        exposed(certificate, url, second) as server,
        caddy(certificate / "caddy", site.replace(":8900", f":{second}"), port),
    ):
        prove(server, url, certificate)


def test_the_snippets_that_are_not_run_lead_to_the_same_port() -> None:
    """cloudflared's and Traefik's are YAML at least; every port of this machine that is named is the second listener's."""
    tunnel, traefik = (list(yaml.safe_load_all(block)) for block in blocks("yaml"))
    assert tunnel[0]["ingress"][0]["service"] == "http://127.0.0.1:8900"
    assert "http://127.0.0.1:8900" in repr(traefik)
    (public_port,) = re.findall(r"public_port = (\d+)", DOCUMENT)
    assert public_port == "8900"
    assert set(re.findall(r"127\.0\.0\.1:(\d+)", "".join(map("".join, map(blocks, ("yaml", "nginx", "caddy")))))) == {
        "8900"
    }
