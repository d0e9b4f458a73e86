"""Parts side by side in one sparse file: completed without a byte being written again, and never torn."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import threading
import time
from pathlib import Path

import pytest

from simpletuner_lab.server.storage import slots
from simpletuner_lab.server.storage.completion import Expected, complete_upload
from simpletuner_lab.server.storage.drafts import Quota
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.objects import ObjectStore
from simpletuner_lab.server.storage.parts import MIN_PART_BYTES, Chosen, Upload, pieces
from simpletuner_lab.server.storage.records import Record
from simpletuner_lab.testing.storage_server import storage_server
from tests.server.storage.kit import BUCKET, client, leftovers, raw, refused, signed_headers
from tests.server.storage.wire import Sent, connected, received

ID = "0" * 32
P = MIN_PART_BYTES


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


class Sending:
    """An upload of one key, driven by hand below the wire."""

    def __init__(self, root: Path) -> None:
        self.store = ObjectStore(root)
        self.store.sweep(0.0)
        self.place = root / ".stlab/uploads" / ID
        self.upload = Upload(
            id=ID, bucket=BUCKET, key="m", checksum="", initiated_at=0.0, record=Record(etag="", metadata={"a": "b"})
        )
        draft = self.store.open_draft(BUCKET, "m", 0)
        self.store.uploads.create(self.upload, draft)
        self.parts: dict[int, bytes] = {}

    def open(self, number: int, size: int):
        draft = self.store.open_draft(BUCKET, "m", size)
        return self.store.uploads.open_part(self.upload, number, size, draft)

    def send(self, number: int, data: bytes) -> None:
        writer = self.open(number, len(data))
        for start in range(0, len(data), 1 << 20):
            writer.write(data[start : start + (1 << 20)])
        writer.commit(Record(etag=md5(data)))
        self.parts[number] = data

    def complete(self, *numbers: int) -> bytes:
        chosen = [Chosen(number=n, etag=md5(self.parts[n])) for n in numbers or sorted(self.parts)]
        info = complete_upload(self.store, BUCKET, "m", ID, chosen=chosen, expected=Expected())
        assert info.record.metadata == {"a": "b"}
        reader = self.store.open_reader(BUCKET, "m")
        try:
            return reader.read(0, info.size + 1)
        finally:
            reader.close()

    def data_file(self, stride: int = P) -> os.stat_result:
        return (self.place / f"data-{stride}").stat()


@pytest.fixture
def sending(tmp_path):
    return Sending(tmp_path)


def payload(number: int, size: int = P) -> bytes:
    return random.Random(number).randbytes(size)


@pytest.mark.parametrize("order", [(1, 2, 3, 4), (4, 3, 2, 1), (2, 4, 1, 3), (3, 1, 4, 2)])
@pytest.mark.parametrize("last", [P, P - 1, 7])
def test_parts_of_one_size_become_the_object_as_they_lie(sending, tmp_path, order, last):
    for number in order:
        sending.send(number, payload(number, last if number == 4 else P))
    there = sending.data_file()
    assert sending.complete() == b"".join(sending.parts[n] for n in (1, 2, 3, 4))
    assert (tmp_path / BUCKET / "m").stat().st_ino == there.st_ino
    assert not sending.place.exists()


def test_a_last_part_that_comes_first_and_looks_like_the_measure(sending, tmp_path):
    """It sets a distance of its own, and is the one part that is copied once the others are known."""
    sending.send(3, payload(3, P))
    for number in (1, 2):
        sending.send(number, payload(number, P + 4096))
    there = sending.data_file(P + 4096)
    assert sending.complete() == b"".join(sending.parts[n] for n in (1, 2, 3))
    assert (tmp_path / BUCKET / "m").stat().st_ino == there.st_ino


@pytest.mark.parametrize("sizes", [(P, P + 1, 5), (P + 1, P, 5), (P, P + 1, P + 2), (10,), (P,)])
def test_parts_of_several_sizes(sending, sizes):
    for number, size in enumerate(sizes, 1):
        sending.send(number, payload(number, size))
    assert sending.complete() == b"".join(sending.parts[n] for n in sorted(sending.parts))
    assert not sending.place.exists()


def test_numbers_with_gaps_and_parts_that_are_not_chosen(sending):
    for number in (1, 2, 3, 5, 9):
        sending.send(number, payload(number))
    assert sending.complete(2, 5, 9) == sending.parts[2] + sending.parts[5] + sending.parts[9]


def test_parts_behind_the_chosen_ones_are_left_out(sending):
    for number in (1, 2, 3):
        sending.send(number, payload(number))
    assert sending.complete(1, 2) == sending.parts[1] + sending.parts[2]


def test_a_part_that_is_sent_again_replaces_the_first_and_tears_nothing(sending, tmp_path):
    for number in (1, 2, 3):
        sending.send(number, payload(number))
    again = sending.open(2, P)
    again.write(payload(20)[:1000])
    assert not isinstance(again, slots.SlotWriter)
    assert [part.etag for part in sending.store.uploads.parts(sending.upload)] == [md5(payload(n)) for n in (1, 2, 3)]
    again.discard()
    sending.send(2, payload(20))
    there = sending.data_file()
    assert sending.complete() == payload(1) + payload(20) + payload(3)
    assert (tmp_path / BUCKET / "m").stat().st_ino == there.st_ino


def test_two_sendings_of_one_part_at_once(sending):
    """Whoever ends last is the part, whichever of them wrote in the slot."""
    sending.send(1, payload(1))
    first, second = sending.open(2, P), sending.open(2, P)
    assert (type(first), isinstance(second, slots.SlotWriter)) == (slots.SlotWriter, False)
    first.write(payload(2))
    second.write(payload(20))
    second.commit(Record(etag=md5(payload(20))))
    first.commit(Record(etag=md5(payload(2))))
    sending.parts[2] = payload(2)
    assert sending.complete() == payload(1) + payload(2)


def test_who_still_writes_does_not_write_into_the_object(sending, tmp_path):
    """A completion while a part is under way leaves the file to its writer, and copies."""
    for number in (1, 2):
        sending.send(number, payload(number))
    late = sending.open(3, P)
    late.write(b"x" * 1000)
    assert sending.complete(1, 2) == payload(1) + payload(2)
    late.write(b"x" * (P - 1000))
    with pytest.raises(S3Error, match="NoSuchUpload"):
        late.commit(Record(etag=md5(b"x" * P)))
    late.discard()
    assert (tmp_path / BUCKET / "m").read_bytes() == payload(1) + payload(2)
    assert list((tmp_path / ".stlab/drafts").iterdir()) == []


def test_what_was_not_acknowledged_takes_no_room(sending):
    sending.send(1, payload(1))
    before = sending.data_file().st_blocks
    cut = sending.open(2, P)
    cut.write(payload(2)[: P // 2])
    cut.discard()
    assert abs(sending.data_file().st_blocks - before) <= 16
    sending.send(2, payload(2))
    sending.send(2, b"short")
    assert abs(sending.data_file().st_blocks - before) <= 16
    assert sending.store.usage(BUCKET, "") == P + 5


def test_holes_are_not_counted_and_what_is_coming_is(sending):
    quota = Quota(bucket=BUCKET, prefix="", limit_bytes=2 * P)
    sending.send(1000, payload(1, P))
    assert sending.data_file().st_size == 1000 * P
    assert sending.store.usage(BUCKET, "") == P
    draft = sending.store.open_draft(BUCKET, "m", P, quota)
    coming = sending.store.uploads.open_part(sending.upload, 1, P, draft)
    with pytest.raises(S3Error, match="InsufficientStorage"):
        sending.store.open_draft(BUCKET, "m", 1, quota)
    coming.discard()
    sending.store.open_draft(BUCKET, "m", P, quota).discard()


def test_after_a_crash_the_acknowledged_parts_are_there_and_the_room_of_others_is_given_back(sending, tmp_path):
    sending.send(1, payload(1))
    before = sending.data_file().st_blocks
    torn = sending.open(2, P)
    torn.write(payload(2)[: P // 2])
    os.close(torn._data)  # as when its server is killed
    os.close(torn._claim)
    os.close(torn._about.descriptor)
    store = ObjectStore(tmp_path)
    store.sweep(1.0)
    assert abs(sending.data_file().st_blocks - before) <= 16
    assert [part.number for part in store.uploads.parts(sending.upload)] == [1]
    assert list((tmp_path / ".stlab/drafts").iterdir()) == []
    sending.store = store
    sending.send(2, payload(2))
    assert sending.complete() == payload(1) + payload(2)


def test_a_completion_whose_server_was_killed_before_the_parts_were_removed(sending, tmp_path):
    for number in (1, 2):
        sending.send(number, payload(number))
    about = (sending.place / "upload.json").read_bytes()
    records = {name: (sending.place / name).read_bytes() for name in ("00001", "00002")}
    whole = sending.complete()

    def come_back() -> None:
        sending.place.mkdir()
        for name, content in {"upload.json": about, **records}.items():
            (sending.place / name).write_bytes(content)

    come_back()
    assert sending.complete() == whole
    assert not sending.place.exists()
    come_back()
    ObjectStore(tmp_path).sweep(1.0)
    assert not sending.place.exists()


def test_a_completion_that_fails_at_the_last_step_leaves_the_upload(sending, tmp_path):
    for number in (1, 2):
        sending.send(number, payload(number))
    (tmp_path / BUCKET / "m").mkdir()
    (tmp_path / BUCKET / "m/other").write_bytes(b"x")
    with pytest.raises(S3Error, match="ObjectExistsAsDirectory"):
        sending.complete()
    (tmp_path / BUCKET / "m/other").unlink()
    (tmp_path / BUCKET / "m").rmdir()
    sending.send(3, payload(3, 5))
    assert sending.complete() == payload(1) + payload(2) + payload(3, 5)


def test_a_file_system_without_holes_gives_each_part_a_file(sending, monkeypatch):
    monkeypatch.setattr(slots, "give_back", lambda *_: False)
    for number in (2, 1):
        sending.send(number, payload(number))
        assert (sending.place / f"{number:05}").stat().st_size == P
    assert sending.complete() == payload(1) + payload(2)


def test_the_greatest_upload_leaves_no_file_beyond_what_file_systems_hold(tmp_path):
    assert slots.stride_for(os.open(tmp_path, os.O_RDONLY), 10_000, 5 << 30) == 0
    assert slots.stride_for(os.open(tmp_path, os.O_RDONLY), 1000, 5 << 30) == 5 << 30


def test_parts_at_once_over_the_wire_and_one_sent_again_meanwhile(server):
    s3 = client(server, max_pool_connections=8)
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="m")["UploadId"]
    here = {"Bucket": BUCKET, "Key": "m", "UploadId": upload}
    etags: dict[int, str] = {}

    def send(number: int) -> None:
        etags[number] = s3.upload_part(**here, PartNumber=number, Body=payload(number, P if number < 6 else 99))["ETag"]

    numbers = [6, 3, 3, 1, 5, 2, 4, 1]
    threads = [threading.Thread(target=send, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    parts = [{"PartNumber": number, "ETag": etags[number]} for number in range(1, 7)]
    s3.complete_multipart_upload(**here, MultipartUpload={"Parts": parts})
    whole = b"".join(payload(number, P if number < 6 else 99) for number in range(1, 7))
    assert s3.get_object(Bucket=BUCKET, Key="m")["Body"].read() == whole
    assert leftovers(server) == []
    # the parts can be read by their numbers afterwards
    for number, piece in enumerate([payload(n, P if n < 6 else 99) for n in range(1, 7)], 1):
        got = s3.get_object(Bucket=BUCKET, Key="m", PartNumber=number)
        assert (got["Body"].read(), got["PartsCount"]) == (piece, 6)
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
        head = s3.head_object(Bucket=BUCKET, Key="m", PartNumber=number)
        assert (head["ContentLength"], head["PartsCount"]) == (len(piece), 6)
    assert raw(server, "GET", f"/{BUCKET}/m?partNumber=7").code == "InvalidPartNumber"
    assert raw(server, "GET", f"/{BUCKET}/m?partNumber=7").status == 416
    for wrong in ("0", "10001", "x", ""):
        assert raw(server, "GET", f"/{BUCKET}/m?partNumber={wrong}").code == "InvalidArgument"
    assert refused(s3.get_object, Bucket=BUCKET, Key="m", PartNumber=1, Range="bytes=0-1") == "InvalidRequest 400"
    page = s3.get_object_attributes(
        Bucket=BUCKET, Key="m", ObjectAttributes=["ObjectParts"], MaxParts=2, PartNumberMarker=3
    )["ObjectParts"]
    assert [part["PartNumber"] for part in page["Parts"]] == [4, 5]
    assert (page["TotalPartsCount"], page["IsTruncated"], page["NextPartNumberMarker"]) == (6, True, 5)
    assert raw(server, "GET", f"/{BUCKET}/m?attributes").code == "InvalidArgument"


def test_an_object_in_one_piece_is_its_only_part(server):
    s3 = client(server)
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"hello")
    got = s3.get_object(Bucket=BUCKET, Key="k", PartNumber=1)
    assert (got["Body"].read(), got["ContentRange"], "PartsCount" in got) == (b"hello", "bytes 0-4/5", False)
    assert refused(s3.head_object, Bucket=BUCKET, Key="k", PartNumber=2) == "416 416"
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"")
    assert s3.get_object(Bucket=BUCKET, Key="k", PartNumber=1)["ContentLength"] == 0


def test_ten_thousand_parts_have_a_short_record_without_checksums():
    sizes = ((P, 9999), (7, 1))
    found = pieces(Record(etag="e", part_sizes=sizes))
    assert (len(found), found[-1].offset, found[-1].size, found[0].checksum) == (10_000, 9999 * P, 7, "")


def test_an_answer_that_takes_long_is_kept_alive_and_may_still_be_an_error(tmp_path):
    with storage_server(tmp_path, patience_s=0.01) as server:
        s3 = client(server)
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key="m")["UploadId"]
        here = {"Bucket": BUCKET, "Key": "m", "UploadId": upload}
        etags = [s3.upload_part(**here, PartNumber=n, Body=payload(n, 10))["ETag"] for n in (1, 2)]
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        body = "".join(
            f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>" for n, etag in enumerate(etags, 1)
        )
        document = f"<CompleteMultipartUpload>{body}</CompleteMultipartUpload>".encode()
        path = f"/{BUCKET}/m?uploadId={upload}"
        headers = signed_headers(server.endpoint_url + path, "POST", server.owner, body=document)
        sent = Sent(target=path, headers=headers, method="POST")
        # somebody else is ending this upload, and takes long
        with (tmp_path / "objects/.stlab/uploads" / upload / "upload.json").open("rb") as about:
            fcntl.flock(about, fcntl.LOCK_EX)
            with connected(server, sent, Content_Length=str(len(document)), Connection="close") as connection:
                connection.sendall(document)
                answer = b""
                while answer.count(b"\r\n1\r\n \r\n") < 3:
                    answer += connection.recv(65536)
                fcntl.flock(about, fcntl.LOCK_UN)
                answer += received(connection)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"<Error><Code>EntityTooSmall</Code>" in answer
        assert answer.count(b"<?xml") == 1
        # botocore sees an error in the 200, as it does with S3
        assert refused(s3.complete_multipart_upload, **here, MultipartUpload={"Parts": parts}).startswith(
            "EntityTooSmall"
        )
        s3.complete_multipart_upload(**here, MultipartUpload={"Parts": parts[:1]})
        assert s3.get_object(Bucket=BUCKET, Key="m")["Body"].read() == payload(1, 10)
        s3.copy_object(Bucket=BUCKET, Key="n", CopySource={"Bucket": BUCKET, "Key": "m"})
        assert s3.get_object(Bucket=BUCKET, Key="n")["Body"].read() == payload(1, 10)


def test_another_server_that_starts_takes_nothing_that_is_being_sent(tmp_path, monkeypatch):
    """Its sweep meets a part that is acknowledged between its looks, and an upload that is being completed."""
    sending, other = Sending(tmp_path), ObjectStore(tmp_path)
    first, second = b"a" * P, b"b" * P
    sending.send(1, first)
    writer, held = sending.open(2, P), []
    writer.write(second)
    free_slot = slots.free_slot

    def acknowledged_just_now(directory, number, is_kept):
        if number == 2 and not held:
            writer.commit(Record(etag=md5(second)))
            held.append(number)
        free_slot(directory, number, is_kept)

    monkeypatch.setattr(slots, "free_slot", acknowledged_just_now)
    other.sweep(0.0)
    assert held == [2]
    sending.parts[2] = second
    with sending.store.uploads.ending(ID, BUCKET, "m"):
        other.sweep(8 * 24 * 3600.0)  # old enough to be thrown away, but somebody is just completing it
    assert sending.complete() == first + second


def test_servers_that_start_again_and_again_beside_one_that_takes_uploads(tmp_path):
    failures: list[BaseException] = []
    ended = threading.Event()

    def start() -> None:
        try:
            while not ended.is_set():
                ObjectStore(tmp_path / "objects").sweep(time.time())
        except BaseException as error:
            failures.append(error)

    with storage_server(tmp_path) as server:
        starter = threading.Thread(target=start)
        starter.start()
        try:
            s3 = client(server)
            for index in range(8):
                body = [os.urandom(P) for _ in range(3)]
                upload = s3.create_multipart_upload(Bucket=BUCKET, Key=f"m{index}")["UploadId"]
                here = {"Bucket": BUCKET, "Key": f"m{index}", "UploadId": upload}
                tags = [s3.upload_part(**here, PartNumber=n, Body=part)["ETag"] for n, part in enumerate(body, 1)]
                listed = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, 1)]
                s3.complete_multipart_upload(**here, MultipartUpload={"Parts": listed})
                assert s3.get_object(Bucket=BUCKET, Key=f"m{index}")["Body"].read() == b"".join(body)
        finally:
            ended.set()
            starter.join()
    assert failures == []
