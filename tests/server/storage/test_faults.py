"""What happens when clients go away, several come at once, the disk is full, or the server is killed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from simpletuner_lab.core.secret import Secret
from simpletuner_lab.server.storage.parts import MIN_PART_BYTES
from simpletuner_lab.services.grants import Credentials
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.storage_server import storage_server
from tests.server.storage.kit import BUCKET, client, keys_in, leftovers, refused, signed_headers

MIB = 1 << 20
SERVE = """
import json, sys
from pathlib import Path
from simpletuner_lab.testing.storage_server import storage_server
with storage_server(Path(sys.argv[1])) as server:
    keys = server.owner
    print(json.dumps([server.endpoint_url, keys.access_key, keys.secret_key.reveal()]), flush=True)
    sys.stdin.read()
"""


class Elsewhere:
    """A server in a process of its own, with the attributes the clients of the kit need."""

    def __init__(self, root: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.endpoint_url, access_key, secret = json.loads(self.process.stdout.readline())
        self.owner = Credentials(access_key=access_key, secret_key=Secret(secret))

    def peak_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024

    def end(self, *, kill: bool = False) -> None:
        if kill:
            self.process.kill()
        self.process.communicate()


@contextmanager
def elsewhere(root: Path):
    server = Elsewhere(root)
    try:
        yield server
    finally:
        server.end()


@contextmanager
def begun(server, key: str, size: int, sent: bytes, method: str = "PUT"):
    """A connection on which a PUT has begun: headers and the first bytes of the body."""
    url = urlsplit(server.endpoint_url)
    headers = signed_headers(f"{server.endpoint_url}/{BUCKET}/{key}", method, server.owner, payload="UNSIGNED-PAYLOAD")
    lines = [f"{method} {url.path}/{BUCKET}/{key} HTTP/1.1", f"Host: {url.netloc}", f"Content-Length: {size}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection((url.hostname, url.port), timeout=30) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + sent)
        yield connection


def test_a_client_that_goes_away_leaves_nothing_and_the_old_object(server):
    s3 = client(server)
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"old")
    for sent in (b"", b"x" * 10, b"x" * (3 * MIB)):
        with begun(server, "k", 4 * MIB, sent):
            eventually(lambda: leftovers(server), lambda left: len(left) == 1)
        eventually(lambda: leftovers(server), lambda left: left == [])
    assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"old"
    assert keys_in(server) == ["k"]


def test_a_client_that_goes_away_while_it_is_sent_something(server):
    s3 = client(server)
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"x" * (8 * MIB))
    for _ in range(3):
        answer = s3.get_object(Bucket=BUCKET, Key="k")
        answer["Body"].read(1000)
        answer["Body"].close()
    assert len(s3.get_object(Bucket=BUCKET, Key="k")["Body"].read()) == 8 * MIB
    descriptors = eventually(
        lambda: [link for link in map(_target, Path("/proc/self/fd").iterdir()) if link.endswith("/outputs/k")],
        lambda links: not links,
    )
    assert descriptors == []


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def test_writers_at_once_never_mix(server):
    s3 = client(server, max_pool_connections=8)
    size = 2 * MIB + 7
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"0" * size)
    seen: set[bytes] = set()
    torn: list[str] = []

    def write(letter: bytes) -> None:
        for _ in range(4):
            s3.put_object(Bucket=BUCKET, Key="k", Body=letter * size)

    def read() -> None:
        for _ in range(8):
            answer = s3.get_object(Bucket=BUCKET, Key="k")
            body = answer["Body"].read()
            if len(body) != size or len(set(body)) != 1 or hashlib.md5(body).hexdigest() != answer["ETag"].strip('"'):
                torn.append(answer["ETag"])
            seen.add(body[:1])

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    threads += [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torn == []
    assert seen <= {b"0", b"a", b"b", b"c"}
    assert leftovers(server) == []


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], capture_output=True)
    if made.returncode:
        if os.environ.get("CI_REQUIRE_ALL"):
            pytest.fail(f"no small file system: {made.stderr.decode()}")
        pytest.skip("no leave to mount a small file system here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_one_clean_error(small_disk):
    with storage_server(small_disk) as server:
        s3 = client(server)
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"old")
        # known beforehand
        assert refused(s3.put_object, Bucket=BUCKET, Key="k", Body=b"x" * (30 * MIB)) == "InsufficientStorage 507"
        # full while the body comes
        filler = small_disk / "filler"
        with begun(server, "k", 8 * MIB, b"x" * (2 * MIB)) as connection:
            eventually(lambda: _used(server), lambda used: used >= MIB)
            _fill(filler)
            connection.sendall(b"x" * (6 * MIB))
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 507")
        eventually(lambda: leftovers(server), lambda left: left == [])
        # full when parts become an object
        filler.unlink()
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key="m")["UploadId"]
        here = {"Bucket": BUCKET, "Key": "m", "UploadId": upload}
        etags = [s3.upload_part(**here, PartNumber=number, Body=b"x" * MIN_PART_BYTES)["ETag"] for number in (1, 2)]
        _fill(filler)
        chosen = {"Parts": [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]}
        assert refused(s3.complete_multipart_upload, **here, MultipartUpload=chosen) == "InsufficientStorage 507"
        # reads, lists and deletes go on, and so does the upload once there is room
        assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"old"
        assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["k"]
        s3.delete_object(Bucket=BUCKET, Key="k")
        filler.unlink()
        s3.complete_multipart_upload(**here, MultipartUpload=chosen)
        assert (keys_in(server), leftovers(server)) == (["m"], [])


def _used(server) -> int:
    return sum(path.stat().st_size for path in (server.objects._root / ".stlab/drafts").iterdir())


def _fill(path: Path) -> None:
    with path.open("wb") as file, suppress(OSError):
        while True:
            os.write(file.fileno(), b"\0" * 65536)


def test_killed_at_any_moment_nothing_torn_is_seen_afterwards(tmp_path):
    first = Elsewhere(tmp_path)
    s3 = client(first)
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"old")
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="m", Metadata={"a": "b"})["UploadId"]
    here = {"Bucket": BUCKET, "Key": "m", "UploadId": upload}
    etag = s3.upload_part(**here, PartNumber=1, Body=b"1" * MIN_PART_BYTES)["ETag"]
    drafts = tmp_path / "objects/.stlab/drafts"
    with begun(first, "k", 4 * MIB, b"x" * (3 * MIB)):
        eventually(lambda: [path.stat().st_size for path in drafts.iterdir()], lambda sizes: sizes and sizes[0] >= MIB)
        first.end(kill=True)
    assert len(list(drafts.iterdir())) == 1
    with elsewhere(tmp_path) as second:
        s3 = client(second)
        assert list(drafts.iterdir()) == []
        assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"old"
        last = s3.upload_part(**here, PartNumber=2, Body=b"2")["ETag"]
        chosen = {"Parts": [{"PartNumber": 1, "ETag": etag}, {"PartNumber": 2, "ETag": last}]}
        s3.complete_multipart_upload(**here, MultipartUpload=chosen)
        got = s3.get_object(Bucket=BUCKET, Key="m")
        assert (got["Body"].read(), got["Metadata"]) == (b"1" * MIN_PART_BYTES + b"2", {"a": "b"})


def test_memory_stays_constant_for_a_large_object(tmp_path):
    size, block = 256 * MIB, b"x" * MIB
    with elsewhere(tmp_path) as server:
        s3 = client(server)
        s3.put_object(Bucket=BUCKET, Key="warm", Body=block)
        s3.get_object(Bucket=BUCKET, Key="warm")["Body"].read()
        before = server.peak_mib()
        with begun(server, "large", size, b"") as connection:
            for _ in range(size // MIB):
                connection.sendall(block)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        body = s3.get_object(Bucket=BUCKET, Key="large")["Body"]
        assert sum(len(piece) for piece in body.iter_chunks(MIB)) == size
        assert server.peak_mib() - before < 24
