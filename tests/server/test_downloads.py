"""Delivered files over a real socket under `/user/ann/`: ranges, conditions, names, resuming, and the zip."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import socket
import subprocess
import zipfile
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import psutil
import pytest

from simpletuner_lab.client import LabClient
from simpletuner_lab.core.errors import OutputNotFound
from simpletuner_lab.downloading import download
from simpletuner_lab.testing import eventually
from tests.lab_kit import dataset, png, request
from tests.server.server_kit import TOKEN, Server

BIG = bytes(range(256)) * (3 << 12)
"""3 MiB: more than what waits in sockets on its own."""
LORA = "pytorch_lora_weights.safetensors"
PART = f".{LORA}.{hashlib.sha256(b'lora').hexdigest()[:12]}.part"
ODD = 'sub/na"me; ü 100%\u202e.png'


@pytest.fixture(scope="module")
def job_id(client: LabClient, folder: Path) -> str:
    """A completed job, and beside its result what a person or a later push may have left there."""
    asked = request(dataset(folder / "images"))
    made = client.submit(asked, approve=client.plan(asked).digest, key=None, entry="test").job_id
    eventually(lambda: client.job(made), lambda seen: seen.status == "completed", patience_s=40)
    own = Path(client.outputs(made).folder)
    (own / "sub").mkdir()
    (own / "big.bin").write_bytes(BIG)
    (own / "empty.txt").write_bytes(b"")
    (own / "page.html").write_text("<script>alert(1)</script>")
    (own / ODD).write_bytes(png())
    return made


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with server.http() as made:
        yield made


def below(job_id: str, path: str) -> str:
    return f"/jobs/{job_id}/outputs/{quote(path)}"


def place(client: LabClient, job_id: str, path: str) -> Path:
    return Path(client.outputs(job_id).folder, path)


def test_a_whole_file(http: httpx.Client, job_id: str) -> None:
    answer = http.get(below(job_id, "big.bin"))
    assert (answer.status_code, answer.content) == (200, BIG)
    headers = answer.headers
    assert headers["Content-Length"] == str(len(BIG))
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Disposition"].startswith('attachment; filename="big.bin"')
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in headers["Content-Security-Policy"]
    assert parsedate_to_datetime(headers["Last-Modified"])
    head = http.head(below(job_id, "big.bin"))
    assert head.content == b""
    named = ("Content-Length", "ETag", "Last-Modified", "Content-Type", "Content-Disposition", "Accept-Ranges")
    assert [head.headers[name] for name in named] == [headers[name] for name in named]


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=5-9", 5, 9),
        ("bytes=100-", 100, len(BIG) - 1),
        ("bytes=-7", len(BIG) - 7, len(BIG) - 1),
        (f"bytes=10-{10 * len(BIG)}", 10, len(BIG) - 1),
        (f"bytes=-{10 * len(BIG)}", 0, len(BIG) - 1),
    ],
)
def test_a_range(http: httpx.Client, job_id: str, asked: str, first: int, last: int) -> None:
    answer = http.get(below(job_id, "big.bin"), headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(BIG)}"
    assert answer.content == BIG[first : last + 1]


@pytest.mark.parametrize("asked", ["bytes=9-5", "bytes=-", "lines=0-3", "bytes=0-1,4-5", "bytes=x-9", ""])
def test_a_range_that_says_nothing_gives_the_whole(http: httpx.Client, job_id: str, asked: str) -> None:
    answer = http.get(below(job_id, "big.bin"), headers={"Range": asked})
    assert (answer.status_code, len(answer.content)) == (200, len(BIG))


@pytest.mark.parametrize(
    ("path", "asked", "size"), [("big.bin", f"bytes={len(BIG)}-", len(BIG)), ("empty.txt", "bytes=0-", 0)]
)
def test_a_range_behind_the_end(http: httpx.Client, job_id: str, path: str, asked: str, size: int) -> None:
    answer = http.get(below(job_id, path), headers={"Range": asked})
    assert (answer.status_code, answer.headers["Content-Range"], answer.content) == (416, f"bytes */{size}", b"")


def test_conditions(http: httpx.Client, job_id: str) -> None:
    url = below(job_id, "big.bin")
    seen = http.get(url).headers
    etag, date = seen["ETag"], seen["Last-Modified"]
    assert etag[0] == '"'  # strong

    def status(**headers: str) -> int:
        return http.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()}).status_code

    assert status(If_None_Match=etag) == status(If_None_Match=f'"other", W/{etag}') == status(If_None_Match="*") == 304
    assert status(If_None_Match='"other"') == status(If_None_Match='"other"', If_Modified_Since=date) == 200
    assert status(If_Modified_Since=date) == 304
    assert status(If_Match=etag) == 200
    assert status(If_Match='"other"') == status(If_Match=f"W/{etag}") == 412
    part = {"Range": "bytes=0-9"}
    assert status(If_Range=etag, **part) == status(If_Range=date, **part) == 206
    assert status(If_Range='"other"', **part) == status(If_Range=f"W/{etag}", **part) == 200
    assert status(If_Range="Sat, 01 Jan 2000 00:00:00 GMT", **part) == 200


def test_the_tag_is_the_checksum_as_long_as_it_is_true(client: LabClient, http: httpx.Client, job_id: str) -> None:
    file = place(client, job_id, LORA)
    before, times = file.read_bytes(), file.stat()
    sha256 = hashlib.sha256(before).hexdigest()
    known = {output.path: output.sha256 for output in client.outputs(job_id).outputs}
    assert known[LORA] == sha256
    assert known["manifest.json"] == client.job(job_id).result_sha256
    assert known["big.bin"] == ""
    assert http.head(below(job_id, LORA)).headers["ETag"] == f'"{sha256}"'
    try:
        file.write_bytes(b"l0ra")
        assert http.head(below(job_id, LORA)).headers["ETag"] != f'"{sha256}"'
        assert {output.path: output.sha256 for output in client.outputs(job_id).outputs}[LORA] == ""
    finally:
        file.write_bytes(before)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert http.head(below(job_id, LORA)).headers["ETag"] == f'"{sha256}"'


def test_names_of_any_kind(http: httpx.Client, job_id: str) -> None:
    answer = http.get(below(job_id, ODD))
    plain, true = 'filename="na_me; u 100__.png"', "filename*=UTF-8''na%22me%3B%20%C3%BC%20100%25_.png"
    assert answer.headers["Content-Disposition"] == f"attachment; {plain}; {true}"
    assert answer.headers["Content-Type"] == "image/png"


def test_pictures_may_stand_in_a_page_and_nothing_else(http: httpx.Client, job_id: str) -> None:
    picture = http.get(below(job_id, ODD), params={"inline": "1"}).headers
    assert (picture["Content-Disposition"][:7], picture["X-Content-Type-Options"]) == ("inline;", "nosniff")
    page = http.get(below(job_id, "page.html"), params={"inline": "1"}).headers
    assert (page["Content-Disposition"][:11], page["Content-Type"]) == ("attachment;", "application/octet-stream")


@pytest.mark.parametrize(
    "path", ["../x", "%2e%2e/%2e%2e/store.sqlite", "nothing", "sub", "sub/%2e%2e/big.bin", "/etc/passwd", "big.bin/"]
)
def test_nothing_else_is_to_be_had(http: httpx.Client, job_id: str, path: str) -> None:
    answer = http.get(f"/jobs/{job_id}/outputs/{path}")
    assert answer.status_code == 404
    assert answer.json()["code"] in {"output_not_found", "http_404"}


def test_who_is_not_logged_in_gets_nothing(server: Server, job_id: str) -> None:
    with server.http(token="") as stranger:
        for path in (below(job_id, "big.bin"), f"/jobs/{job_id}/outputs.zip"):
            assert stranger.get(path).status_code == 403
            assert stranger.head(path).status_code == 403


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_curl_goes_on_where_it_broke_off(server: Server, job_id: str, tmp_path: Path) -> None:
    part = tmp_path / "big.bin"
    part.write_bytes(BIG[: 1 << 20])
    url = f"{server.url}api/cloud{below(job_id, 'big.bin')}"
    done = subprocess.run(
        ["curl", "-sS", "--fail", "-C", "-", "-o", part, "-w", "%{http_code} %{size_download}",
         "-H", f"Authorization: token {TOKEN}", url], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"206 {len(BIG) - (1 << 20)}"
    assert part.read_bytes() == BIG


def half_read(server: Server, path: str) -> tuple[socket.socket, int]:
    """A connection on which the headers were read, and the length that they told."""
    address = urlsplit(server.url)
    reader = socket.create_connection((address.hostname, address.port))
    lines = (f"GET {address.path}api/cloud{path} HTTP/1.1", f"Host: {address.netloc}", f"Authorization: token {TOKEN}")
    reader.sendall("\r\n".join((*lines, "", "")).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += reader.recv(1)
    assert len(reader.recv(1 << 16, socket.MSG_WAITALL)) == 1 << 16  # so the file is open
    (length,) = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    return reader, int(length)


@pytest.mark.parametrize("fate", ["written", "deleted", "replaced", "cut"])
@pytest.mark.parametrize("way", ["file", "zip"])
def test_a_file_that_changes_on_the_way_ends_in_an_error(
    server: Server, client: LabClient, job_id: str, fate: str, way: str
) -> None:
    file = place(client, job_id, "a.bin")
    with file.open("wb") as stream:
        stream.truncate(64 << 20)
    try:
        reader, length = half_read(server, below(job_id, "a.bin") if way == "file" else f"/jobs/{job_id}/outputs.zip")
        if fate == "written":
            with file.open("r+b") as stream:
                stream.seek(-1, os.SEEK_END)
                stream.write(b"x")
        elif fate == "deleted":
            file.unlink()
        elif fate == "replaced":
            other = file.with_name("other")
            other.write_bytes(b"")
            os.truncate(other, 64 << 20)
            other.replace(file)
        else:
            os.truncate(file, 1 << 20)
        received = 1 << 16
        with reader:
            while block := reader.recv(1 << 20):
                received += len(block)
        assert received < length
    finally:
        file.unlink(missing_ok=True)


def test_the_zip(client: LabClient, http: httpx.Client, job_id: str) -> None:
    url = f"/jobs/{job_id}/outputs.zip"
    answer = http.get(url)
    assert answer.headers["Content-Type"] == "application/zip"
    assert answer.headers["Content-Length"] == str(len(answer.content)) == http.head(url).headers["Content-Length"]
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="quick.zip"')
    listed = {output.path: output.bytes for output in client.outputs(job_id).outputs}
    with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
        assert packed.testzip() is None
        assert {name.split("/")[0] for name in packed.namelist()} == {"quick"}
        assert sorted(entry.file_size for entry in packed.infolist()) == sorted(listed.values())
        assert packed.read("quick/big.bin") == BIG
        assert [name for name in packed.namelist() if "\u202e" in name or '"' in name] == []
    assert http.get("/jobs/nothing/outputs.zip").json()["code"] == "job_not_found"


@pytest.mark.skipif(shutil.which("unzip") is None, reason="no unzip here")
def test_unzip_reads_it(http: httpx.Client, job_id: str, tmp_path: Path) -> None:
    packed = tmp_path / "all.zip"
    packed.write_bytes(http.get(f"/jobs/{job_id}/outputs.zip").content)
    subprocess.run(["unzip", "-q", packed, "-d", tmp_path], check=True)
    assert (tmp_path / "quick" / "big.bin").read_bytes() == BIG


# ---------------------------------------------------------------------------------------------------------- from Python


def test_python_brings_everything_and_compares(client: LabClient, job_id: str, tmp_path: Path) -> None:
    got = list(download(client, job_id, tmp_path))
    assert {file.path.relative_to(tmp_path).as_posix() for file in got} == {
        output.path for output in client.outputs(job_id).outputs
    }
    assert (tmp_path / "big.bin").read_bytes() == BIG
    verified = {file.path.name: file.verified for file in got}
    assert (verified[LORA], verified["manifest.json"], verified["big.bin"]) == (True, True, False)
    again = {file.path.name: file.kept for file in download(client, job_id, tmp_path, paths=[LORA, "sub"])}
    assert again == {LORA: True, Path(ODD).name: False}


def test_python_goes_on_with_a_part_and_begins_a_wrong_one_anew(client: LabClient, job_id: str, tmp_path: Path) -> None:
    part = tmp_path / PART
    part.write_bytes(b"lo")
    heard: list[int] = []
    (got,) = download(client, job_id, tmp_path, paths=[LORA], told=lambda _, done: heard.append(done))
    assert (got.path.read_bytes(), heard) == (b"lora", [4])
    got.path.unlink()
    part.write_bytes(b"xx")
    (got,) = download(client, job_id, tmp_path, paths=[LORA])
    assert (got.path.read_bytes(), got.verified) == (b"lora", True)
    assert list(tmp_path.iterdir()) == [got.path]
    with pytest.raises(OutputNotFound):
        list(download(client, job_id, tmp_path, paths=["nothing"]))


def test_python_survives_a_restart_of_the_server(
    server: Server, client: LabClient, job_id: str, tmp_path: Path
) -> None:
    """What broke off is gone on with by the next call, since the checksum says that it is the same file."""
    file = place(client, job_id, LORA)
    (tmp_path / PART).write_bytes(file.read_bytes()[:1])
    server.kill()
    with pytest.raises(Exception, match="does not answer"):
        list(download(client, job_id, tmp_path))
    server.start()
    (got,) = download(client, job_id, tmp_path, paths=[LORA])
    assert (got.path.read_bytes(), got.verified) == (b"lora", True)


@pytest.mark.slow
def test_four_gibibytes_take_no_memory(server: Server, client: LabClient, http: httpx.Client, job_id: str) -> None:
    """Sparse, and more than 32 bits count: by itself, and in a zip."""
    size = (4 << 30) + 5
    file = place(client, job_id, "sparse.bin")
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    with file.open("wb") as stream:
        stream.truncate(size)
    try:
        before = process.memory_info().rss
        most = 0
        for url in (below(job_id, "sparse.bin"), f"/jobs/{job_id}/outputs.zip"):
            received = 0
            with http.stream("GET", url, timeout=300) as answer:
                for block in answer.iter_raw(1 << 20):
                    received += len(block)
                    most = max(most, process.memory_info().rss - before)
                assert received == int(answer.headers["Content-Length"]) >= size
        assert most < 64 << 20
    finally:
        file.unlink()
