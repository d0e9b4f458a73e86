from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simpletuner_lab.server.storage import drafts, entries, records
from simpletuner_lab.server.storage.drafts import Quota
from simpletuner_lab.server.storage.entries import SETTLED_NS
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.listing import after_marker, rolled_up
from simpletuner_lab.server.storage.objects import ObjectStore
from simpletuner_lab.server.storage.records import ATTRIBUTE, Record, Records

BUCKET = "outputs"


@pytest.fixture(params=["attributes", "aside"])
def store(request, tmp_path):
    records = Records(tmp_path / ".stlab/records", attributes=request.param == "attributes")
    made = ObjectStore(tmp_path, records=records)
    made.sweep(0.0)
    return made


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path


def put(store: ObjectStore, key: str, data: bytes = b"x", **record) -> None:
    writer = store.open_writer(BUCKET, key, len(data))
    writer.write(data)
    writer.commit(Record(etag=hashlib.md5(data).hexdigest(), **record))


def get(store: ObjectStore, key: str) -> bytes:
    reader = store.open_reader(BUCKET, key)
    try:
        return reader.read(0, reader.info.size + 1)
    finally:
        reader.close()


def info(store: ObjectStore, key: str):
    reader = store.open_reader(BUCKET, key)
    reader.close()
    return reader.info


def names(root: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if not p.is_dir())


def code(call, *args, **kwargs) -> str:
    with pytest.raises(S3Error) as caught:
        call(*args, **kwargs)
    return caught.value.code


def test_an_object_is_a_plain_file_with_its_record(store, root):
    put(store, "a/b.txt", b"hello", content_type="text/plain", metadata={"who": "ann"}, checksums={"crc32": "NhCmhg=="})
    assert (root / BUCKET / "a/b.txt").read_bytes() == b"hello"
    record = info(store, "a/b.txt").record
    assert (record.content_type, record.metadata, record.checksums) == (
        "text/plain",
        {"who": "ann"},
        {"crc32": "NhCmhg=="},
    )


def test_a_long_record_goes_aside_and_goes_with_its_object(store, root):
    put(store, "a", b"1", metadata={"long": "ü" * 3000})
    assert info(store, "a").record.metadata == {"long": "ü" * 3000}
    put(store, "a", b"2")
    assert info(store, "a").record.metadata == {}
    store.delete(BUCKET, "a")
    assert names(root) == []


def test_nothing_is_visible_before_the_commit_nor_after_a_discard(store, root):
    put(store, "k", b"old")
    writer = store.open_writer(BUCKET, "k", 3)
    writer.write(b"new")
    assert get(store, "k") == b"old"
    writer.discard()
    writer.discard()
    assert get(store, "k") == b"old"
    assert [name for name in names(root) if "drafts" in name] == []


def test_a_reader_keeps_what_it_opened(store):
    put(store, "k", b"old")
    reader = store.open_reader(BUCKET, "k")
    put(store, "k", b"newer")
    store.delete(BUCKET, "k")
    assert reader.read(0, 10) == b"old"
    reader.close()


def test_a_file_that_a_person_drops_in_is_an_object(store, root):
    path = root / BUCKET / "mine.txt"
    path.write_bytes(b"by hand")
    assert info(store, "mine.txt").record.etag == hashlib.md5(b"by hand").hexdigest()
    put(store, "ours", b"first", metadata={"a": "b"})
    (root / BUCKET / "ours").write_bytes(b"changed")
    assert info(store, "ours").record == Record(etag=hashlib.md5(b"changed").hexdigest())


def test_a_record_that_is_nonsense_is_not_believed(root):
    store = ObjectStore(root)
    store.sweep(0.0)
    put(store, "k", b"x")
    for text in (b"", b"[]", b'{"etag": 1}', b"\xff"):
        os.setxattr(root / BUCKET / "k", ATTRIBUTE, text)
        assert info(store, "k").record.etag == hashlib.md5(b"x").hexdigest()


def test_file_and_folder_cannot_have_one_name(store):
    put(store, "a/b", b"1")
    assert code(put, store, "a") == "ObjectExistsAsDirectory"
    assert code(put, store, "a/b/c") == "ParentIsObject"
    assert get(store, "a/b") == b"1"


def test_a_deleted_object_takes_its_empty_folders_along_and_the_bucket_stays(store, root):
    put(store, "a/b/c")
    put(store, "a/d")
    store.delete(BUCKET, "a/b/c")
    assert sorted(p.name for p in (root / BUCKET).rglob("*")) == ["a", "d"]
    store.delete(BUCKET, "a/d")
    store.delete(BUCKET, "a/d")
    store.delete(BUCKET, "never/was")
    assert list((root / BUCKET).iterdir()) == []


def test_links_devices_and_pipes_are_not_objects(store, root, tmp_path_factory):
    secret = tmp_path_factory.mktemp("outside") / "secret"
    secret.write_bytes(b"secret")
    bucket = root / BUCKET
    (bucket / "link").symlink_to(secret)
    (bucket / "folder").symlink_to(secret.parent)
    os.mkfifo(bucket / "pipe")
    for key in ("link", "folder/secret", "pipe"):
        assert code(store.open_reader, BUCKET, key) == "NoSuchKey"
    store.delete(BUCKET, "folder/secret")
    assert code(put, store, "folder/new") == "ParentIsObject"
    put(store, "link", b"mine")
    assert secret.read_bytes() == b"secret"
    assert [o.key for o in listed(store, "", "")] == ["link"]


def test_a_bucket_that_is_a_link_is_none(store, root, tmp_path_factory):
    (root / "other").symlink_to(tmp_path_factory.mktemp("outside"))
    assert code(store.buckets.check, "other") == "NoSuchBucket"
    assert [bucket.name for bucket in store.buckets.all()] == [BUCKET]


def test_buckets_and_missing_things(store):
    store.buckets.create("photos")
    store.buckets.create("photos")
    assert [bucket.name for bucket in store.buckets.all()] == [BUCKET, "photos"]
    assert code(store.open_writer, "nothere", "k", 1) == "NoSuchBucket"
    assert code(store.open_reader, "nothere", "k") == "NoSuchBucket"
    assert code(store.open_reader, BUCKET, "k") == "NoSuchKey"


def test_deliveries_go_on_when_the_folder_was_cleared(store, root):
    (root / BUCKET).rmdir()
    put(store, "k", b"1")
    assert get(store, "k") == b"1"


def test_usage_and_quota_count_what_is_there_and_what_is_coming(store, root):
    put(store, "job/a", b"x" * 60)
    put(store, "other/a", b"x" * 500)
    (root / BUCKET / "job/by-hand").write_bytes(b"x" * 5)
    assert store.usage(BUCKET, "job/") == 65
    assert store.usage(BUCKET, "") == 565
    quota = Quota(bucket=BUCKET, prefix="job/", limit_bytes=100)
    coming = store.open_writer(BUCKET, "job/b", 30, quota)
    assert code(store.open_writer, BUCKET, "job/c", 6, quota) == "InsufficientStorage"
    store.open_writer(BUCKET, "job/c", 5, quota).discard()
    coming.discard()
    store.open_writer(BUCKET, "job/c", 35, quota).discard()


def test_a_quota_is_counted_rarely_and_never_passed(store, root, monkeypatch):
    counted = []
    usage = store.usage
    monkeypatch.setattr(store, "usage", lambda *about: counted.append(about) or usage(*about))
    quota = Quota(bucket=BUCKET, prefix="job/", limit_bytes=1000)

    def put_in(key: str, size: int) -> None:
        writer = store.open_writer(BUCKET, key, size, quota)
        writer.write(b"x" * size)
        writer.commit(Record(etag=hashlib.md5(b"x" * size).hexdigest()))

    for index in range(90):
        put_in(f"job/{index}", 10)
    assert len(counted) == 1, "there is plenty of room"
    for _ in range(20):
        put_in("job/89", 10)  # over itself: what can be there is counted up, then what is there is counted
    assert usage(BUCKET, "job/") == 900
    assert len(counted) < 15
    put_in("job/last", 100)
    assert code(store.open_writer, BUCKET, "job/more", 1, quota) == "InsufficientStorage"
    store.delete(BUCKET, "job/0")
    put_in("job/more", 10)
    assert code(store.open_writer, BUCKET, "job/again", 1, quota) == "InsufficientStorage"
    assert usage(BUCKET, "job/") == 1000
    (root / BUCKET / "job/by-hand").write_bytes(b"x")
    store.delete(BUCKET, "job/1")
    monkeypatch.setattr(drafts, "COUNTED_FOR_S", -1.0)
    assert code(store.open_writer, BUCKET, "job/again", 10, quota) == "InsufficientStorage"


def test_a_disk_that_is_too_small_is_known_before_the_first_byte(store):
    assert code(store.open_writer, BUCKET, "k", 1 << 60) == "InsufficientStorage"


def test_leftovers_of_a_dead_writer_are_swept_and_a_living_one_is_left_alone(store, root):
    living = store.open_writer(BUCKET, "k", 4)
    living.write(b"live")
    (root / ".stlab/drafts/dead").write_bytes(b"x")
    (root / ".stlab/uploads").mkdir(exist_ok=True)
    (root / ".stlab/uploads" / ("0" * 32)).mkdir()
    store.sweep(2**33)
    assert [name for name in names(root) if "dead" in name] == []
    assert list((root / ".stlab/uploads").iterdir()) == []
    living.commit(Record(etag="e"))
    assert get(store, "k") == b"live"


def test_records_aside_whose_file_is_gone_are_swept(root):
    """As after a crash between the step that replaced a file and the one that forgot the old one's record."""
    aside = root / ".stlab/records"
    store = ObjectStore(root, records=Records(aside, attributes=False))
    store.sweep(0.0)
    put(store, "kept", b"1", metadata={"a": "b"})
    put(store, "lost", b"2")
    (root / BUCKET / "lost").unlink()
    store.sweep(0.0)
    assert len(list(aside.iterdir())) == 2
    store.sweep(2**33)
    assert len(list(aside.iterdir())) == 1
    assert info(store, "kept").record.metadata == {"a": "b"}


def test_writers_and_deleters_of_one_folder_do_not_trip_over_each_other(store):
    wrong: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for _ in range(40):
                put(store, f"deep/er/{name}", b"1")
                store.delete(BUCKET, f"deep/er/{name}")
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(str(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def listed(store: ObjectStore, prefix: str, delimiter: str, after: bytes = b"", size: int = 1000):
    page = store.list_page(BUCKET, prefix=prefix, delimiter=delimiter, after=after, max_keys=size)
    return list(page.objects)


SEGMENT = st.text("ab-./ é\U0001f600", min_size=1, max_size=3).filter(lambda s: "/" not in s and s not in {".", ".."})
KEY = st.lists(SEGMENT, min_size=1, max_size=3).map("/".join)


def compatible(keys: set[str]) -> list[str]:
    """Those of the keys that can be files side by side."""
    return sorted(key for key in keys if not any(other.startswith(key + "/") for other in keys))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keys=st.sets(KEY, max_size=12).map(compatible),
    prefix=st.text("ab-./", max_size=3),
    delimiter=st.sampled_from(["", "/", "a", "-", "b/", "é"]),
    size=st.integers(1, 4),
)
def test_pages_of_a_listing_are_those_of_a_simple_model(tmp_path_factory, keys, prefix, delimiter, size):
    root = tmp_path_factory.mktemp("list")
    store = ObjectStore(root)
    store.sweep(0.0)
    for key in keys:
        (root / BUCKET / key).parent.mkdir(parents=True, exist_ok=True)
        (root / BUCKET / key).write_bytes(b"")
    matching = sorted((key for key in keys if key.startswith(prefix)), key=str.encode)
    expected = sorted({rolled_up(key, prefix, delimiter) or key for key in matching}, key=str.encode)
    for version in (1, 2):
        found: list[str] = []
        after = b""
        while True:
            page = store.list_page(BUCKET, prefix=prefix, delimiter=delimiter, after=after, max_keys=size)
            entries = [o.key for o in page.objects] + list(page.prefixes)
            assert len(entries) <= size
            found += sorted(entries, key=str.encode)
            if not page.next_after:
                break
            after = page.next_after if version == 2 else after_marker(page.last, prefix, delimiter)
        assert found == expected


def test_a_listing_that_is_kept_is_never_an_old_one(store, root, monkeypatch):
    """Folders and records are remembered once they have been left alone for a while; any change is seen at once."""
    for index in range(20):
        put(store, f"f/{index:02}", b"old")
    reads = {"folders": 0, "records": 0}
    read_folder, read_record = entries._read, records._parsed

    def counted(what: str, function):
        def call(*args):
            reads[what] += 1
            return function(*args)

        return call

    monkeypatch.setattr(entries, "_read", counted("folders", read_folder))
    monkeypatch.setattr(records, "_parsed", counted("records", read_record))

    def tags() -> dict[str, str]:
        page = store.list_page(BUCKET, prefix="f/", delimiter="", after=b"", max_keys=1000)
        return {one.key: one.record.etag for one in page.objects}

    def fresh() -> dict[str, str]:
        other = ObjectStore(root, records=Records(root / ".stlab/records", attributes=store.records._attributes))
        page = other.list_page(BUCKET, prefix="f/", delimiter="", after=b"", max_keys=1000)
        return {one.key: one.record.etag for one in page.objects}

    tags()
    young = dict(reads)
    tags()
    assert reads["folders"] > young["folders"], "what was changed a moment ago may change again within the same tick"
    time.sleep(SETTLED_NS / 1e9 + 0.1)
    tags()
    settled = dict(reads)
    assert len(tags()) == 20
    assert reads == settled, "nothing is read again"

    put(store, "f/20", b"new")
    assert len(tags()) == 21
    put(store, "f/03", b"new")  # as long as before, in a folder that holds the same names
    assert tags()["f/03"] == hashlib.md5(b"new").hexdigest()
    store.delete(BUCKET, "f/04")
    assert "f/04" not in tags()
    (root / BUCKET / "f/05").write_bytes(b"own")
    before = (root / BUCKET / "f/06").stat()
    (root / BUCKET / "f/06").write_bytes(b"own")
    os.utime(root / BUCKET / "f/06", ns=(before.st_atime_ns, before.st_mtime_ns))
    (root / BUCKET / "f/07").unlink()
    (root / BUCKET / "f/07").symlink_to("06")
    (root / BUCKET / "f/08").rename(root / BUCKET / "f/88")
    now = tags()
    assert now == fresh()
    assert now["f/05"] == hashlib.md5(b"own").hexdigest()
    assert ("f/07" in now, "f/08" in now, "f/88" in now) == (False, False, True)


def test_an_edit_in_place_with_its_time_put_back_is_seen_once_touched(store: ObjectStore, root: Path) -> None:
    """As records.py says: an attribute cannot hold the time of its own writing."""
    put(store, "a", b"one")
    path, before = root / BUCKET / "a", (root / BUCKET / "a").stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    path.touch()
    page = store.list_page(BUCKET, prefix="a", delimiter="", after=b"", max_keys=1)
    assert [one.record.etag for one in page.objects] == [hashlib.md5(b"two").hexdigest()]
