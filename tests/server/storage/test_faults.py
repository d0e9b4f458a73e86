"""What happens when clients go away, several come at once, the disk is full, or the server is killed."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from simpletuner_lab.server.storage.parts import MIN_PART_BYTES
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.storage_server import storage_server
from tests.disk_kit import fill, mounted
from tests.server.storage.elsewhere import Elsewhere, elsewhere
from tests.server.storage.kit import BUCKET, client, keys_in, leftovers, refused, signed_headers

MIB = 1 << 20


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


def test_an_object_that_is_deleted_while_it_is_read_is_read_to_its_end(server):
    s3 = client(server)
    data = os.urandom(8 * MIB)
    s3.put_object(Bucket=BUCKET, Key="k", Body=data)
    body = s3.get_object(Bucket=BUCKET, Key="k")["Body"]
    first = body.read(1000)
    s3.delete_object(Bucket=BUCKET, Key="k")
    assert refused(s3.get_object, Bucket=BUCKET, Key="k") == "NoSuchKey 404"
    assert first + body.read() == data


def test_writers_at_once_never_mix(server):
    s3 = client(server, max_pool_connections=34)
    size = MIB + 7
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"0" * size)
    seen: set[bytes] = set()
    torn: list[str] = []

    def write(letter: bytes) -> None:
        for _ in range(2):
            s3.put_object(Bucket=BUCKET, Key="k", Body=letter * size)

    def read() -> None:
        for _ in range(8):
            answer = s3.get_object(Bucket=BUCKET, Key="k")
            body = answer["Body"].read()
            if len(body) != size or len(set(body)) != 1 or hashlib.md5(body).hexdigest() != answer["ETag"].strip('"'):
                torn.append(answer["ETag"])
            seen.add(body[:1])

    letters = [bytes([65 + number]) for number in range(32)]
    threads = [threading.Thread(target=write, args=(letter,)) for letter in letters]
    threads += [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torn == []
    assert seen <= {b"0", *letters}
    assert leftovers(server) == []


@pytest.fixture
def small_disk(request, tmp_path):
    with mounted(tmp_path / "small", "24m", *([request.param] if hasattr(request, "param") else [])) as place:
        yield place


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
            fill(filler)
            connection.sendall(b"x" * (6 * MIB))
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 507")
        eventually(lambda: leftovers(server), lambda left: left == [])
        # full when parts of several sizes become an object, and are copied
        filler.unlink()
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key="m")["UploadId"]
        here = {"Bucket": BUCKET, "Key": "m", "UploadId": upload}
        sizes = (MIN_PART_BYTES, MIN_PART_BYTES + 1)
        etags = [s3.upload_part(**here, PartNumber=n, Body=b"x" * size)["ETag"] for n, size in enumerate(sizes, 1)]
        fill(filler)
        chosen = {"Parts": [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]}
        assert refused(s3.complete_multipart_upload, **here, MultipartUpload=chosen) == "InsufficientStorage 507"
        # reads, lists and deletes go on, and so does the upload once there is room
        assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"old"
        assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["k"]
        s3.delete_object(Bucket=BUCKET, Key="k")
        filler.unlink()
        s3.complete_multipart_upload(**here, MultipartUpload=chosen)
        assert (keys_in(server), leftovers(server)) == (["m"], [])


def test_parts_of_one_size_need_no_room_to_become_an_object(small_disk):
    with storage_server(small_disk) as server:
        s3 = client(server)
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key="m")["UploadId"]
        here = {"Bucket": BUCKET, "Key": "m", "UploadId": upload}
        etags = [s3.upload_part(**here, PartNumber=n, Body=b"x" * MIN_PART_BYTES)["ETag"] for n in (1, 2, 3)]
        # and a part that finds the disk full leaves nothing of itself
        filler = small_disk / "filler"
        before = _free(small_disk)
        with begun(server, f"m?partNumber=4&uploadId={upload}", MIN_PART_BYTES, b"x" * (2 * MIB)) as connection:
            eventually(lambda: _free(small_disk), lambda free: free <= before - MIB)
            fill(filler)
            connection.sendall(b"x" * (MIN_PART_BYTES - 2 * MIB))
            assert connection.recv(65536).startswith(b"HTTP/1.1 507")
        filler.unlink()
        eventually(lambda: _free(small_disk), lambda free: free >= before - 65536)
        fill(filler)
        chosen = {"Parts": [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]}
        s3.complete_multipart_upload(**here, MultipartUpload=chosen)
        assert s3.head_object(Bucket=BUCKET, Key="m")["ContentLength"] == 3 * MIN_PART_BYTES
        assert leftovers(server) == []


@pytest.mark.parametrize("small_disk", ["nr_inodes=200"], indirect=True)
def test_a_disk_without_room_for_names(small_disk):
    """Full where drafts, folders, records and descriptions are made: the same clean error, and nothing half done."""
    with storage_server(small_disk) as server:
        s3 = client(server)
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"old")
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key="m")["UploadId"]
        here = {"Bucket": BUCKET, "Key": "m", "UploadId": upload}
        etag = s3.upload_part(**here, PartNumber=1, Body=b"part")["ETag"]
        fillers = small_disk / "fillers"
        fillers.mkdir()
        made = 0
        with suppress(OSError):
            while True:
                (fillers / str(made)).touch()
                made += 1
        drafts = small_disk / "objects/.stlab/drafts"
        # freed one by one, so that each next step is the one that finds no room
        codes = []
        deep = "/".join("abcdefgh")
        long = {"Metadata": {"a": "x" * 2000}, "ContentDisposition": "y" * 1900}
        for free in range(1, 5):
            for call, more in (
                (s3.put_object, {"Key": "new", "Body": b"x"}),
                (s3.put_object, {"Key": deep, "Body": b"x"}),
                (s3.put_object, {"Key": "long", "Body": b"x", **long}),
                (s3.create_multipart_upload, {"Key": "n"}),
                (s3.copy_object, {"Key": "copy/deep/er", "CopySource": {"Bucket": BUCKET, "Key": "k"}}),
            ):
                try:
                    call(Bucket=BUCKET, **more)
                except s3.exceptions.ClientError as error:
                    codes.append(error.response["Error"]["Code"])
                else:
                    codes.append("done")
                if codes[-1] == "done" and "UploadId" not in more and call is not s3.create_multipart_upload:
                    s3.delete_object(Bucket=BUCKET, Key=more["Key"])
                eventually(lambda: list(drafts.iterdir()), lambda left: left == [])
            assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"old"
            assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["k"]
            (fillers / str(made - free)).unlink()
        assert set(codes) == {"done", "InsufficientStorage"}
        for path in fillers.iterdir():
            path.unlink()
        s3.complete_multipart_upload(**here, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
        assert s3.get_object(Bucket=BUCKET, Key="m")["Body"].read() == b"part"


def _free(place: Path) -> int:
    space = os.statvfs(place)
    return space.f_bavail * space.f_frsize


def _used(server) -> int:
    return sum(path.stat().st_size for path in (server.objects._root / ".stlab/drafts").iterdir())


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
