"""`stcloud storage`: keys that open the endpoint, grants by hand, the endpoint alone as a process, and the test of it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import boto3
import psutil
import pytest
import trustme
from botocore.client import Config
from botocore.exceptions import ClientError
from IPython.core.interactiveshell import InteractiveShell

from simpletuner_lab import cli
from simpletuner_lab.services.home import Home
from simpletuner_lab.testing import eventually
from tests.lab_kit import quick_home
from tests.server.server_kit import Server

SECRET = "a-secret-of-some-length"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    made = quick_home(tmp_path)
    monkeypatch.setenv("SIMPLETUNER_HOME", str(made.root))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter" / "runtime"))
    monkeypatch.delenv("SIMPLETUNER_S3_SECRET_KEY", raising=False)
    return made


@pytest.fixture
def server(tmp_path: Path, home: Home) -> Iterator[Server]:
    running = Server(tmp_path, home.root, "/user/ann/").start()
    yield running
    running.stop()


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(("storage", *words))
    said = capsys.readouterr()
    return code, said.out, said.err


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    code, out, err = run(capsys, *words, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def s3(keys: dict, url: str = "", **more: object):
    return boto3.client(
        "s3", endpoint_url=url or keys["endpoint_url"], region_name=keys["region"], aws_access_key_id=keys["access_key"],
        aws_secret_access_key=keys["secret_key"], config=Config(signature_version="s3v4", retries={"max_attempts": 0}), **more,
    )  # fmt: skip


def refused(call, **what: object) -> str:
    with pytest.raises(ClientError) as caught:
        call(**what)
    return caught.value.response["Error"]["Code"]


# ------------------------------------------------------------ the owner's keys


def test_credentials_open_the_running_server(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    keys = asked(capsys, "credentials")
    assert keys["endpoint_url"] == f"{server.url}api/cloud/storage"
    client = s3(keys)
    client.put_object(Bucket="outputs", Key="a", Body=b"b")
    assert client.get_object(Bucket="outputs", Key="a")["Body"].read() == b"b"


def test_credentials_for_a_shell(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """The lines are what a shell and a client take: a boto3 without arguments works."""
    code, out, _ = run(capsys, "credentials")
    assert code == 0
    lines = [line for line in out.splitlines() if line.startswith("export")]
    assert len(lines) == 5
    program = "import boto3; print([b['Name'] for b in boto3.client('s3').list_buckets()['Buckets']])"
    script = "\n".join([*lines, f'"{sys.executable}" -c "{program}"'])
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("[")


def test_credentials_without_a_server(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    keys = asked(capsys, "credentials")
    assert (keys["endpoint_url"], len(keys["secret_key"])) == ("", 40)
    code, out, _ = run(capsys, "credentials")
    assert (code, keys["secret_key"] in out, "no notebook server of yours runs" in out) == (0, True, True)


@pytest.mark.parametrize(
    "line", ["credentials", "credentials --json", "grant --bucket abc --days 1", "serve --root x --access-key abc"]
)
@pytest.mark.parametrize("value", ["", "x = "])
def test_no_secret_comes_into_a_notebook(home: Home, line: str, value: str) -> None:
    shell = InteractiveShell()
    shell.run_line_magic("load_ext", "simpletuner_lab")
    ran = shell.run_cell(f"{value}%stcloud storage {line}")
    assert type(ran.error_in_exec).__name__ == "CommandRefused"
    assert "in a terminal: stcloud storage" in str(ran.error_in_exec)
    assert ran.result is None


# ------------------------------------------------------------ grants by hand


def test_a_grant_by_hand_opens_what_it_says_and_can_be_revoked(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    owner = s3(asked(capsys, "credentials"))
    owner.create_bucket(Bucket="models")
    owner.put_object(Bucket="models", Key="ann/a", Body=b"a")
    owner.put_object(Bucket="models", Key="bob/b", Body=b"b")
    made = asked(
        capsys, "grant", "--bucket", "models", "--prefix", "ann/", "--read-only", "--days", "1", "--name", "for Ann"
    )
    client = s3(made)
    assert client.get_object(Bucket="models", Key="ann/a")["Body"].read() == b"a"
    assert refused(client.get_object, Bucket="models", Key="bob/b") == "AccessDenied"
    assert refused(client.put_object, Bucket="models", Key="ann/c", Body=b"c") == "AccessDenied"
    assert refused(client.list_buckets) == "AccessDenied"
    listed = asked(capsys, "grants")
    assert (listed["id"], listed["name"], listed["live"]) == (made["access_key"], "for Ann", True)
    assert listed["verbs"] == ["GET", "HEAD", "LIST"]
    code, out, _ = run(capsys, "grants")
    assert (code, "for Ann" in out, made["secret_key"] in out) == (0, True, False)
    assert "secret" not in json.dumps(listed)
    assert asked(capsys, "revoke", made["access_key"]) == {"revoked": made["access_key"]}
    assert refused(client.get_object, Bucket="models", Key="ann/a") == "AccessDenied"
    assert run(capsys, "grants")[1].startswith("no grants were made by hand")
    assert asked(capsys, "grants", "--all")["live"] is False


def test_a_grant_ends_and_has_a_quota(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    short = asked(capsys, "grant", "--bucket", "outputs", "--days", "0.0000001")
    assert refused(s3(short).list_objects_v2, Bucket="outputs") == "AccessDenied"
    small = asked(capsys, "grant", "--bucket", "outputs", "--prefix", "small/", "--days", "1", "--max-bytes", "1000")
    client = s3(small)
    client.put_object(Bucket="outputs", Key="small/a", Body=bytes(900))
    assert refused(client.put_object, Bucket="outputs", Key="small/b", Body=bytes(900)) == "InsufficientStorage"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("grant", "--bucket", "No", "--days", "1"), "is no bucket"),
        (("grant", "--bucket", "api", "--days", "1"), "is no bucket"),
        (("grant", "--bucket", "1.2.3.4", "--days", "1"), "is no bucket"),
        (("grant", "--bucket", "a..b", "--days", "1"), "is no bucket"),
        (("grant", "--bucket", "abc", "--prefix", "a/.stlab-folder/", "--days", "1"), "beginning of no key"),
        (("grant", "--bucket", "abc", "--prefix", "/x", "--days", "1"), "beginning of no key"),
        (("grant", "--bucket", "abc", "--prefix", "a/../b", "--days", "1"), "beginning of no key"),
        (("grant", "--bucket", "abc", "--days", "0"), "--days"),
        (("grant", "--bucket", "abc", "--days", "nan"), "--days"),
        (("grant", "--bucket", "abc", "--days", "1", "--max-bytes", "0"), "a quota is"),
        (("revoke", "STLGAAAAAAAAAAAAAAAA"), "no grant made by hand"),
        (("revoke", "x"), "no grant made by hand"),
        (("test",), "no notebook server of yours runs"),
        (("test", "--access-key", "abc", "http://127.0.0.1:1"), "--access-key goes with"),
    ],
)
def test_what_is_refused(home: Home, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str) -> None:
    code, _, err = run(capsys, *words)
    assert (code, told in err) == (1, True), err


# ------------------------------------------------------------ the endpoint alone


@contextmanager
def served(
    root: Path, *words: str, secret: str = SECRET, ended_by: int = signal.SIGTERM, logged: Sequence[str] | None = ()
) -> Iterator[str]:
    """`stcloud storage serve` as a process; gives the URL of its ready line. `logged` is all that it may say."""
    command = [
        sys.executable,
        "-m",
        "simpletuner_lab.cli",
        "storage",
        "serve",
        "--root",
        str(root),
        "--port",
        "0",
        "--json",
    ]
    environment = os.environ | {"SIMPLETUNER_S3_SECRET_KEY": secret}
    process = subprocess.Popen(
        [*command, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        with open(f"/proc/{process.pid}/cmdline", "rb") as told:
            assert secret.encode() not in told.read()
        yield json.loads(line)["endpoint_url"]
    finally:
        process.send_signal(ended_by)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    lines = [line.partition(" WARNING ")[2] for line in err.splitlines()]
    assert lines == list(logged) if logged is not None else all(line.startswith("refused: ") for line in lines), err
    assert secret not in err


def answered(url: str, times: int = 16) -> list[bytes]:
    """What an object holds, asked over a connection of its own each time: the kernel picks the process."""
    return [s3(keys(url)).get_object(Bucket="outputs", Key="a/b")["Body"].read() for _ in range(times)]


def test_several_processes_serve_one_port_and_one_that_dies_is_replaced(tmp_path: Path) -> None:
    with served(tmp_path / "root", "--access-key", "me_1", "--processes", "3") as url:
        s3(keys(url)).put_object(Bucket="outputs", Key="a/b", Body=b"c" * 100_000)
        (parent,) = (one for one in psutil.Process().children() if "serve" in one.cmdline())
        eventually(lambda: len(parent.children()) == 3)
        first = parent.children()
        time.sleep(1.1)  # what dies sooner is not tried again
        first[0].kill()
        assert answered(url) == [b"c" * 100_000] * 16
        eventually(lambda: len(set(parent.children()) - set(first)) == 1)
        port = url.rpartition(":")[2]
        taken = subprocess.run(
            [sys.executable, "-m", "simpletuner_lab", "storage", "serve", "--root", str(tmp_path / "other"),
             "--port", port, "--access-key", "me_1", "--processes", "2"],
            env=os.environ | {"SIMPLETUNER_S3_SECRET_KEY": SECRET}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (taken.returncode, f"port {port}" in taken.stderr) == (1, True), "two servers never share a port"
        now = parent.children()
    assert not any(one.is_running() for one in now)


def test_processes_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    command = ["storage", "serve", "--root", str(tmp_path), "--port", "0", "--access-key", "me_1", "--processes", "2"]
    environment = os.environ | {"SIMPLETUNER_S3_SECRET_KEY": SECRET}
    with subprocess.Popen([sys.executable, "-m", "simpletuner_lab", *command], env=environment) as process:
        parent = psutil.Process(process.pid)
        eventually(lambda: len(parent.children()) == 2)
        children = parent.children()
        process.kill()
    assert psutil.wait_procs(children, timeout=20)[1] == []


def keys(url: str, access_key: str = "me_1", secret: str = SECRET) -> dict:
    return {"endpoint_url": url, "access_key": access_key, "secret_key": secret, "region": "us-east-1"}


@pytest.mark.parametrize("base", ["", "/x/y"])
@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_endpoint_alone(tmp_path: Path, base: str, ended_by: int) -> None:
    logged = ("refused: GET - - me_1 SignatureDoesNotMatch", "refused: GET - - - InvalidAccessKeyId")
    words = ("--base-path", base, "--access-key", "me_1")
    with served(tmp_path / "new" / "root", *words, ended_by=ended_by, logged=logged) as url:
        assert url.startswith("http://127.0.0.1:")
        assert url.endswith(base or url[-1])
        client = s3(keys(url))
        client.create_bucket(Bucket="things")
        client.put_object(Bucket="things", Key="a/b", Body=b"c" * 100_000)
        assert client.get_object(Bucket="things", Key="a/b", Range="bytes=5-9")["Body"].read() == b"ccccc"
        assert refused(s3(keys(url, secret="another-secret-of-some")).list_buckets) == "SignatureDoesNotMatch"
        assert refused(s3(keys(url, access_key="me_2")).list_buckets) == "InvalidAccessKeyId"
    assert (tmp_path / "new" / "root" / "things" / "a" / "b").read_bytes() == b"c" * 100_000
    assert stat.S_IMODE((tmp_path / "new" / "root").stat().st_mode) == 0o700


def test_the_endpoint_alone_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    words = ("--access-key", "abc", "--certfile", str(tmp_path / "both.pem"))
    with served(tmp_path / "root", *words) as url:
        assert url.startswith("https://")
        assert s3(keys(url, "abc"), verify=str(tmp_path / "ca.pem")).list_objects_v2(Bucket="outputs")["KeyCount"] == 0


def test_the_endpoint_alone_is_tested(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--base-path", "/api/cloud/storage", "--access-key", "me_1")
    with served(tmp_path / "root", *words, logged=None) as url:
        monkeypatch.setenv("SIMPLETUNER_S3_SECRET_KEY", SECRET)
        code, out, _ = run(capsys, "test", url, "--access-key", "me_1")
        assert (code, "is reached" in out.splitlines()[-1]) == (0, True), out
        monkeypatch.setenv("SIMPLETUNER_S3_SECRET_KEY", "another-secret-of-some")
        code, out, _ = run(capsys, "test", url, "--access-key", "me_1")
        assert (code, "failed      signature" in out, "skipped     upload" in out) == (1, True, True), out
        assert "another-secret" not in out


@pytest.mark.parametrize(
    ("words", "secret", "told"),
    [
        (("--access-key", "me"), SECRET, "3 to 128"),
        (("--access-key", "a-b"), SECRET, "3 to 128"),
        (("--access-key", "a" * 129), SECRET, "3 to 128"),
        (("--access-key", "abc"), "fifteen-letters", "at least 16"),
        (("--access-key", "abc"), None, "there is no secret key"),
        (("--access-key", "abc", "--host", "0.0.0.0"), None, "there is no secret key"),
        (("--access-key", "abc", "--base-path", "x"), SECRET, "is no base path"),
        (("--access-key", "abc", "--base-path", "/a/../b"), SECRET, "is no base path"),
        (("--access-key", "abc", "--keyfile", "k.pem"), SECRET, "--certfile"),
        (("--access-key", "abc", "--processes", "0"), SECRET, "--processes is from 1 to 64"),
        (("--access-key", "abc", "--port", "99999"), SECRET, "--port is from 0 to 65535"),
        (("--access-key", "abc", "--processes", "65"), SECRET, "--processes is from 1 to 64"),
        (("--access-key", "abc", "--certfile", "/no/such.pem"), SECRET, "certificate cannot be read"),
        (("--access-key", "abc", "--host", "192.0.2.1"), SECRET, "cannot listen at 192.0.2.1"),
    ],
)
def test_what_is_not_served(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...], secret: str | None, told: str,
) -> None:  # fmt: skip
    if secret is not None:
        monkeypatch.setenv("SIMPLETUNER_S3_SECRET_KEY", secret)
    code, _, err = run(capsys, "serve", "--root", str(tmp_path / "root"), "--port", "0", *words)
    assert (code, told in err, SECRET in err) == (1, True, False), err


def test_a_port_that_is_taken_is_told(home: Home, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(
        capsys,
        "serve",
        "--root",
        str(home.outputs),
        "--port",
        str(server.port),
        "--access-key",
        "abc",
        "--secret-key",
        SECRET,
    )
    assert (code, f"port {server.port}" in err) == (1, True)
