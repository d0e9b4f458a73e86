from __future__ import annotations

import pytest

from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.keys import check_bucket, check_key

GOOD = [
    "a",
    "a/b",
    "ü ñ/日本.txt",
    "a+b&c%20'\"<>.bin",
    "...",
    ".hidden",
    "a..b",
    "~",
    "k" * 255,
    "/".join(["k" * 200] * 5),
]
BAD = {
    "": "InvalidArgument",
    "/a": "InvalidArgument",
    "a//b": "InvalidArgument",
    ".": "InvalidArgument",
    "..": "InvalidArgument",
    "../a": "InvalidArgument",
    "a/../b": "InvalidArgument",
    "a/./b": "InvalidArgument",
    "a/..": "InvalidArgument",
    "a\\b": "InvalidArgument",
    "..\\a": "InvalidArgument",
    "a\x00b": "InvalidArgument",
    "a\nb": "InvalidArgument",
    "a\x7f": "InvalidArgument",
    "a\x85": "InvalidArgument",
    "a\ufffe": "InvalidArgument",
    "a\ud800": "InvalidArgument",
    "k" * 256: "KeyTooLongError",
    "é" * 128: "KeyTooLongError",
    "/".join(["k" * 200] * 6): "KeyTooLongError",
    "/": "InvalidArgument",
    "a//": "InvalidArgument",
    "a/../": "InvalidArgument",
    ".stlab-folder": "InvalidArgument",
    "a/.STLAB-Folder": "InvalidArgument",
}


@pytest.mark.parametrize("key", GOOD)
def test_keys_that_may_be(key):
    assert "/".join(check_key(key)) == key


@pytest.mark.parametrize("key", BAD)
def test_keys_that_may_not(key):
    with pytest.raises(S3Error) as caught:
        check_key(key)
    assert caught.value.code == BAD[key]


def test_a_folder_marker_is_a_file_in_its_folder():
    assert check_key("a/b/") == ("a", "b", ".stlab-folder")


@pytest.mark.parametrize("name", ["abc", "a-b.c", "0" * 63, "outputs"])
def test_buckets_that_may_be(name):
    assert check_bucket(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ab",
        "a" * 64,
        "api",
        "Abc",
        "a_b",
        "-ab",
        "ab-",
        "a..b",
        ".stlab",
        "..",
        "a/b",
        "a\\b",
        "abc\n",
        "1.2.3.4",
        "äbc",
    ],
)
def test_buckets_that_may_not(name):
    with pytest.raises(S3Error, match="InvalidBucketName"):
        check_bucket(name)
