"""Keys that are awkward, folders that are objects, and file systems that take two names for one."""

from __future__ import annotations

import threading
from xml.etree import ElementTree as ET

import pytest

from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.folding import folded, probe
from simpletuner_lab.server.storage.objects import ObjectStore
from simpletuner_lab.server.storage.records import Record
from tests.server.storage.kit import BUCKET, client, keys_in, leftovers, raw, refused

NS = "{http://s3.amazonaws.com/doc/2006-03-01/}"


def test_a_folder_marker_is_an_object_like_others(server):
    s3 = client(server)
    put = s3.put_object(
        Bucket=BUCKET, Key="a/b/", Body=b"", Metadata={"mtime": "1"}, ContentType="application/x-directory"
    )
    s3.put_object(Bucket=BUCKET, Key="a/b/c", Body=b"x")
    s3.put_object(Bucket=BUCKET, Key="a/b-c", Body=b"x")
    s3.put_object(Bucket=BUCKET, Key="a/", Body=b"")
    head = s3.head_object(Bucket=BUCKET, Key="a/b/")
    assert (head["ContentLength"], head["Metadata"], head["ETag"]) == (0, {"mtime": "1"}, put["ETag"])
    assert s3.get_object(Bucket=BUCKET, Key="a/b/")["Body"].read() == b""
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert keys == ["a/", "a/b-c", "a/b/", "a/b/c"]
    level = s3.list_objects_v2(Bucket=BUCKET, Prefix="a/", Delimiter="/")
    assert [entry["Key"] for entry in level["Contents"]] == ["a/", "a/b-c"]
    assert [entry["Prefix"] for entry in level["CommonPrefixes"]] == ["a/b/"]
    for size in (1, 2, 3):
        for call in ("list_objects", "list_objects_v2"):
            pages = s3.get_paginator(call).paginate(Bucket=BUCKET, PaginationConfig={"PageSize": size})
            assert [entry["Key"] for page in pages for entry in page["Contents"]] == keys
    s3.delete_object(Bucket=BUCKET, Key="a/b/")
    assert refused(s3.head_object, Bucket=BUCKET, Key="a/b/") == "404 404"
    assert s3.get_object(Bucket=BUCKET, Key="a/b/c")["Body"].read() == b"x"
    for key in ("a/b/c", "a/b-c", "a/"):
        s3.delete_object(Bucket=BUCKET, Key=key)
    assert list((server.objects._root / BUCKET).iterdir()) == []


def test_a_marker_and_an_object_of_its_name_collide(server):
    s3 = client(server)
    s3.put_object(Bucket=BUCKET, Key="folder/", Body=b"")
    assert refused(s3.put_object, Bucket=BUCKET, Key="folder", Body=b"x") == "ObjectExistsAsDirectory 409"
    assert refused(s3.get_object, Bucket=BUCKET, Key="folder") == "NoSuchKey 404"
    s3.delete_object(Bucket=BUCKET, Key="folder")
    s3.put_object(Bucket=BUCKET, Key="file", Body=b"x")
    assert refused(s3.put_object, Bucket=BUCKET, Key="file/", Body=b"") == "ParentIsObject 409"
    assert refused(s3.head_object, Bucket=BUCKET, Key="file/") == "404 404"
    s3.delete_object(Bucket=BUCKET, Key="file/")
    assert keys_in(server) == ["file", "folder/.stlab-folder"]
    assert raw(server, "PUT", f"/{BUCKET}/folder/.stlab-folder", body=b"x").code == "InvalidArgument"
    # a folder that a person made is none of ours
    (server.objects._root / BUCKET / "by-hand").mkdir()
    assert refused(s3.head_object, Bucket=BUCKET, Key="by-hand/") == "404 404"


@pytest.fixture
def folding(tmp_path):
    """A store told that names fall together, on a file system where they do not: what must be refused can be tried."""
    store = ObjectStore(tmp_path, folds=True)
    store.sweep(0.0)
    return store


def put(store, key: str, data: bytes = b"x") -> None:
    writer = store.open_writer(BUCKET, key, len(data))
    try:
        writer.write(data)
        writer.commit(Record(etag="e"))
    finally:
        writer.discard()


def code(call, *args) -> str:
    with pytest.raises(S3Error) as caught:
        call(*args)
    return f"{caught.value.code} {caught.value.status}"


@pytest.mark.parametrize(
    ("there", "coming"),
    [
        ("Photo", "photo"),
        ("\u00e9t\u00e9", "e\u0301te\u0301"),
        ("Stra\u00dfe", "STRASSE"),
        ("A/b", "a/c"),
        ("a/B/c", "a/b/d"),
    ],
)
def test_keys_that_fall_together_do_not_overwrite_each_other(folding, there, coming):
    put(folding, there, b"first")
    assert code(put, folding, coming) == "KeysFallTogether 409"
    assert code(folding.open_reader, BUCKET, coming) == "NoSuchKey 404"
    folding.delete(BUCKET, coming)
    assert folding.find(BUCKET, there).size == 5
    put(folding, there, b"again!")
    assert folding.find(BUCKET, there).size == 6
    folding.delete(BUCKET, there)
    put(folding, coming)
    assert folding.find(BUCKET, coming).size == 1


def test_of_two_that_fall_together_and_come_at_once_one_is_stored(folding):
    for turn in range(8):
        answers: list[str] = []
        ready = threading.Barrier(2)

        def write(key: str, answers=answers, ready=ready) -> None:
            ready.wait()
            try:
                put(folding, key)
                answers.append("done")
            except S3Error as error:
                answers.append(error.code)

        threads = [threading.Thread(target=write, args=(key,)) for key in (f"k{turn}", f"K{turn}")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == ["KeysFallTogether", "done"]


def test_the_probe_asks_the_file_system(tmp_path):
    (tmp_path / "case").touch()
    expected = (tmp_path / "CASE").exists()
    assert probe(tmp_path / "place") is expected
    assert list((tmp_path / "place").iterdir()) == []
    assert ObjectStore(tmp_path / "store").folds is expected
    with pytest.raises(OSError, match="case"):
        probe(tmp_path / "case")
    assert ObjectStore(tmp_path / "case").folds is True  # what cannot be known counts as folding


def test_one_form_for_names_that_some_system_takes_for_one():
    assert folded("\u00c9T\u00c9") == folded("e\u0301te\u0301")
    assert folded("a") != folded("b")


HOSTILE = [
    "]]>",
    "<Key>x</Key>",
    "&amp;",
    "&#0;",
    "'\"",
    "a\u00a0b",
    "a\u2028b",
    "\u202egnp.exe",
    "\ud7ff\ue000",
    "%00",
    "+",
]


def test_names_that_are_hostile_to_xml(server):
    s3 = client(server)
    for key in HOSTILE:
        s3.put_object(Bucket=BUCKET, Key=f"h/{key}", Body=b"")
    expected = sorted((f"h/{key}" for key in HOSTILE if "/" not in key), key=str.encode)
    for query in ("list-type=2", "list-type=2&encoding-type=url", "", "encoding-type=url"):
        answer = raw(server, "GET", f"/{BUCKET}?{query}" if query else f"/{BUCKET}")
        found = [element.text for element in ET.fromstring(answer.body).iter(f"{NS}Key")]
        assert b"+" not in answer.body or "encoding-type" not in query
        if "encoding-type" not in query:
            assert {key for key in found if key.count("/") == 1} == set(expected)
    listed = [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert listed == sorted((f"h/{key}" for key in HOSTILE), key=str.encode)
    hostile = raw(server, "GET", f"/{BUCKET}?prefix=%00%0D&delimiter=%01&marker=%02")
    assert ET.fromstring(hostile.body).find(f"{NS}IsTruncated").text == "false"


@pytest.mark.parametrize("delimiter", ["ab", "/b", " ", "%", "&", "é", "日", "\\", "\x01", "//"])
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_unusual_delimiters(delimited, delimiter, size):
    s3, keys = delimited
    rolled = sorted({key[: key.index(delimiter) + len(delimiter)] for key in keys if delimiter in key}, key=str.encode)
    for call in ("list_objects", "list_objects_v2"):
        found, prefixes = [], []
        for page in s3.get_paginator(call).paginate(
            Bucket="delimited", Delimiter=delimiter, PaginationConfig={"PageSize": size}
        ):
            found += [entry["Key"] for entry in page.get("Contents", [])]
            prefixes += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        assert found == [key for key in keys if delimiter not in key]
        assert prefixes == rolled


@pytest.fixture(scope="module")
def delimited(shared):
    s3 = client(shared)
    s3.create_bucket(Bucket="delimited")
    keys = sorted(["abab", "xab", "x/b/c", "x/bb", "a b", "a%b", "a&b", "éé", "日本", "z"], key=str.encode)
    for key in keys:
        s3.put_object(Bucket="delimited", Key=key, Body=b"")
    return s3, keys


@pytest.mark.parametrize("value", ["-1", "x", "", "1.5", "1e3", "%2B1", "99999999999999999999"])
@pytest.mark.parametrize("name", ["max-keys", "list-type=2&max-keys"])
def test_wrong_numbers_of_keys(shared, name, value):
    answer = raw(shared, "GET", f"/{BUCKET}?{name}={value}")
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_keys_too_long(shared):
    s3 = client(shared)
    longest = "/".join(["k" * 255, "l" * 255, "m" * 255, "n" * 256])[:1023]
    s3.put_object(Bucket=BUCKET, Key=longest, Body=b"x")
    s3.delete_object(Bucket=BUCKET, Key=longest)
    for key in ("/".join(["k" * 200] * 6), "é" * 513, "k" * 256, "é" * 128):
        for call in (s3.put_object, s3.get_object, s3.delete_object, s3.create_multipart_upload):
            assert refused(call, Bucket=BUCKET, Key=key) == "KeyTooLongError 400"
    assert leftovers(shared) == [] or all("uploads" in name for name in leftovers(shared))


def test_what_is_said_of_an_object_comes_back_as_bytes(shared):
    """User metadata beyond ASCII: UTF-8 as curl and others send it, RFC 2047 as boto3's users write it."""
    plain = "grüße 日本"
    headers = {
        "x-amz-meta-utf": plain,
        "x-amz-meta-mime": "=?UTF-8?B?Z3LDvMOfZQ==?=",
        "Expires": "soon",
        "x-amz-meta-empty": "",
    }
    assert raw(shared, "PUT", f"/{BUCKET}/said", body=b"x", headers=headers).status == 200
    answer = raw(shared, "HEAD", f"/{BUCKET}/said")
    assert {name: answer.headers[name.lower()].encode("latin-1").decode() for name in headers} == headers
    url = client(shared).generate_presigned_url(
        "put_object", Params={"Bucket": BUCKET, "Key": "said", "Metadata": {"who": "ann"}}
    )
    assert (
        raw(shared, "PUT", url.removeprefix(shared.endpoint_url), signed=False, extra={"x-amz-meta-who": "ann"}).status
        == 200
    )
    assert client(shared).head_object(Bucket=BUCKET, Key="said")["Metadata"] == {"who": "ann"}


def test_metadata_has_two_kibibytes(shared):
    s3 = client(shared)
    s3.put_object(Bucket=BUCKET, Key="much", Body=b"x", Metadata={"a": "x" * 2047})
    for call in (s3.put_object, s3.create_multipart_upload):
        assert refused(call, Bucket=BUCKET, Key="much", Metadata={"a": "x" * 2048}) == "MetadataTooLarge 400"


def test_headers_that_are_kept_have_eight_kibibytes(shared):
    s3 = client(shared)
    s3.put_object(Bucket=BUCKET, Key="headed", Body=b"x", ContentType="a/" + "b" * 5000)
    told = "RequestHeaderSectionTooLarge 400"
    for call in (s3.put_object, s3.create_multipart_upload):
        assert refused(call, Bucket=BUCKET, Key="headed", ContentType="a/" + "b" * 30_000) == told
        halves = {"ContentType": "a/" + "b" * 5000, "CacheControl": "c" * 5000}
        assert refused(call, Bucket=BUCKET, Key="headed", **halves) == told
    assert len(s3.head_object(Bucket=BUCKET, Key="headed")["ContentType"]) == 5002


def test_overrides_of_a_signed_read(shared):
    s3 = client(shared)
    s3.put_object(Bucket=BUCKET, Key="over", Body=b"x", ContentType="text/plain", CacheControl="no-store")
    wanted = {
        "ResponseContentType": "image/png",
        "ResponseContentDisposition": 'attachment; filename="ü.png"',
        "ResponseContentLanguage": "ja",
        "ResponseCacheControl": "max-age=1",
        "ResponseContentEncoding": "br",
        "ResponseExpires": "Tue, 01 Jan 2030 00:00:00 GMT",
    }
    url = s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "over", **wanted})
    answer = raw(shared, "GET", url.removeprefix(shared.endpoint_url), signed=False)
    assert (answer.status, answer.headers["content-type"], answer.headers["expires"]) == (
        200,
        "image/png",
        wanted["ResponseExpires"],
    )
    assert answer.headers["content-disposition"].encode("latin-1").decode() == wanted["ResponseContentDisposition"]
    assert (answer.headers["cache-control"], answer.headers["content-encoding"]) == ("max-age=1", "br")
    assert raw(shared, "HEAD", f"/{BUCKET}/over?response-content-type=a%2Fb").headers["content-type"] == "a/b"
    split = raw(shared, "GET", f"/{BUCKET}/over?response-content-type=a%0D%0ASet-Cookie%3A%20x")
    assert (split.status, split.code, "set-cookie" in split.headers) == (400, "InvalidArgument", False)
    assert raw(shared, "GET", f"/{BUCKET}/over?response-content-type=a", signed=False).code == "AccessDenied"
