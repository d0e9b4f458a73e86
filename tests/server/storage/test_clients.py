"""Clients as people have them, against a running notebook server: bytes in, bytes out, and everything gone again.

Under `/user/ann/`: boto3, awscli, s5cmd, rclone, obstore. minio and s3cmd cannot sign the prefix of a path, so they come
in at the root of the second listener.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import httpx
import obstore
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.client import Config
from minio import Minio
from obstore.store import S3Store

from simpletuner_lab.services.grants import Credentials
from tests.server.outside_kit import Outside, server_with_outside

BIN = Path(sys.executable).parent
SMALL = random.Random(1).randbytes(100_001)
LARGE = random.Random(2).randbytes(17 << 20)
KEY = "a folder/b+é & c.bin"


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    with server_with_outside(tmp_path_factory.mktemp("clients")) as running:
        yield running


@dataclass(frozen=True)
class Files:
    """A client, by what it does with whole files."""

    put: Callable[[str, Path], object]
    get: Callable[[str, Path], object]
    list: Callable[[], list[str]]
    read: Callable[[str, int, int], bytes] | None
    presigned: Callable[[str], str] | None
    delete: Callable[[list[str]], object]


def environment(url: str, keys: Credentials, folder: Path) -> dict[str, str]:
    secret = keys.secret_key.reveal()
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RCLONE_"))}
    return own | {
        "HOME": str(folder), "AWS_CONFIG_FILE": str(folder / "aws"), "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
        "AWS_ACCESS_KEY_ID": keys.access_key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL_S3": url, "S3_ENDPOINT_URL": url,
        "RCLONE_CONFIG_LAB_TYPE": "s3", "RCLONE_CONFIG_LAB_PROVIDER": "Other", "RCLONE_CONFIG_LAB_ENDPOINT": url,
        "RCLONE_CONFIG_LAB_ACCESS_KEY_ID": keys.access_key, "RCLONE_CONFIG_LAB_SECRET_ACCESS_KEY": secret,
        "RCLONE_CONFIG_LAB_REGION": "us-east-1", "RCLONE_CONFIG_LAB_FORCE_PATH_STYLE": "true",
        "RCLONE_S3_UPLOAD_CUTOFF": "8M", "RCLONE_S3_CHUNK_SIZE": "5M",
    }  # fmt: skip


def runner(url: str, outside: Outside, folder: Path) -> Callable[..., str]:
    given = environment(url, outside.owner, folder)
    (folder / "aws").write_text("[default]\ns3 =\n  signature_version = s3v4\n  addressing_style = path\n")

    def run(*words: object) -> str:
        command = [str(BIN / str(words[0])), *map(str, words[1:])]
        done = subprocess.run(command, env=given, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


def with_boto3(url: str, outside: Outside, folder: Path, bucket: str) -> Files:
    keys = outside.owner
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key.reveal(), config=Config(signature_version="s3v4"),
    )  # fmt: skip
    client.create_bucket(Bucket=bucket)
    parts = TransferConfig(multipart_threshold=6 << 20, multipart_chunksize=5 << 20)
    return Files(
        put=lambda key, path: client.upload_file(str(path), bucket, key, Config=parts),
        get=lambda key, path: client.download_file(bucket, key, str(path), Config=parts),
        list=lambda: [one["Key"] for one in client.list_objects_v2(Bucket=bucket).get("Contents", [])],
        read=lambda key, a, b: client.get_object(Bucket=bucket, Key=key, Range=f"bytes={a}-{b - 1}")["Body"].read(),
        presigned=lambda key: client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}),
        delete=lambda keys: client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]}),
    )


def with_awscli(url: str, outside: Outside, folder: Path, bucket: str) -> Files:
    run = runner(url, outside, folder)
    run("aws", "s3", "mb", f"s3://{bucket}")

    def read(key: str, a: int, b: int) -> bytes:
        run(
            "aws",
            "s3api",
            "get-object",
            "--bucket",
            bucket,
            "--key",
            key,
            "--range",
            f"bytes={a}-{b - 1}",
            folder / "part",
        )
        return (folder / "part").read_bytes()

    def listed() -> list[str]:
        found = json.loads(run("aws", "s3api", "list-objects-v2", "--bucket", bucket, "--output", "json") or "{}")
        return [one["Key"] for one in found.get("Contents", [])]

    return Files(
        put=lambda key, path: run("aws", "s3", "cp", "--only-show-errors", path, f"s3://{bucket}/{key}"),
        get=lambda key, path: run("aws", "s3", "cp", "--only-show-errors", f"s3://{bucket}/{key}", path),
        list=listed,
        read=read,
        presigned=lambda key: run("aws", "s3", "presign", f"s3://{bucket}/{key}").strip(),
        delete=lambda _: run("aws", "s3", "rm", "--recursive", f"s3://{bucket}/"),
    )


def with_s5cmd(url: str, outside: Outside, folder: Path, bucket: str) -> Files:
    run = runner(url, outside, folder)
    run("s5cmd", "mb", f"s3://{bucket}")

    def listed() -> list[str]:
        try:
            lines = run("s5cmd", "--json", "ls", f"s3://{bucket}/*").splitlines()
        except AssertionError as error:
            if "no object found" in str(error):  # so it tells an empty list
                return []
            raise
        return [json.loads(line)["key"].removeprefix(f"s3://{bucket}/") for line in lines]

    return Files(
        put=lambda key, path: run("s5cmd", "cp", "--part-size", 5, path, f"s3://{bucket}/{key}"),
        get=lambda key, path: run("s5cmd", "cp", "--part-size", 5, f"s3://{bucket}/{key}", path),
        list=listed,
        read=None,  # it has no such command; a large file comes in ranges
        presigned=lambda key: run("s5cmd", "presign", f"s3://{bucket}/{key}").strip(),
        delete=lambda _: run("s5cmd", "rm", f"s3://{bucket}/*"),
    )


def with_rclone(url: str, outside: Outside, folder: Path, bucket: str) -> Files:
    run = runner(url, outside, folder)
    run("rclone", "mkdir", f"lab:{bucket}")

    def read(key: str, a: int, b: int) -> bytes:
        given = environment(url, outside.owner, folder)
        command = [BIN / "rclone", "cat", "--offset", str(a), "--count", str(b - a), f"lab:{bucket}/{key}"]
        return subprocess.run(command, env=given, capture_output=True, check=True, timeout=60).stdout

    return Files(
        put=lambda key, path: run("rclone", "copyto", path, f"lab:{bucket}/{key}"),
        get=lambda key, path: run("rclone", "copyto", f"lab:{bucket}/{key}", path),
        list=lambda: run("rclone", "lsf", "-R", "--files-only", f"lab:{bucket}").splitlines(),
        read=read,
        presigned=lambda key: run("rclone", "link", "--expire", "1h", f"lab:{bucket}/{key}").strip(),
        delete=lambda _: run("rclone", "delete", f"lab:{bucket}"),
    )


def with_obstore(url: str, outside: Outside, folder: Path, bucket: str) -> Files:
    with_boto3(url, outside, folder, bucket)  # it makes no buckets
    keys = outside.owner
    store = S3Store(
        bucket, endpoint=f"{url}/{bucket}", access_key_id=keys.access_key, secret_access_key=keys.secret_key.reveal(),
        region="us-east-1", virtual_hosted_style_request=True, client_options={"allow_http": True},
    )  # fmt: skip
    return Files(
        put=lambda key, path: obstore.put(store, key, path, chunk_size=5 << 20),
        get=lambda key, path: path.write_bytes(bytes(obstore.get(store, key).bytes())),
        list=lambda: [one["path"] for batch in obstore.list(store) for one in batch],
        read=lambda key, a, b: bytes(obstore.get_range(store, key, start=a, end=b)),
        presigned=lambda key: obstore.sign(store, "GET", key, timedelta(hours=1)),
        delete=lambda keys: obstore.delete(store, keys),
    )


def with_minio(url: str, outside: Outside, folder: Path, bucket: str) -> Files:
    keys = outside.owner
    client = Minio(
        url.removeprefix("http://"), access_key=keys.access_key, secret_key=keys.secret_key.reveal(), secure=False
    )
    client.make_bucket(bucket_name=bucket)

    def read(key: str, a: int, b: int) -> bytes:
        answer = client.get_object(bucket_name=bucket, object_name=key, offset=a, length=b - a)
        try:
            return answer.read()
        finally:
            answer.close()
            answer.release_conn()

    return Files(
        put=lambda key, path: client.fput_object(
            bucket_name=bucket, object_name=key, file_path=str(path), part_size=5 << 20
        ),
        get=lambda key, path: client.fget_object(bucket_name=bucket, object_name=key, file_path=str(path)),
        list=lambda: [one.object_name or "" for one in client.list_objects(bucket_name=bucket, recursive=True)],
        read=read,
        presigned=lambda key: client.presigned_get_object(bucket_name=bucket, object_name=key),
        delete=lambda keys: [client.remove_object(bucket_name=bucket, object_name=key) for key in keys],
    )


def with_s3cmd(url: str, outside: Outside, folder: Path, bucket: str) -> Files:
    keys, host = outside.owner, url.removeprefix("http://")
    (folder / "s3cfg").write_text(
        f"[default]\naccess_key = {keys.access_key}\nsecret_key = {keys.secret_key.reveal()}\nhost_base = {host}\n"
        f"host_bucket = {host}\nuse_https = False\nsignature_v2 = False\nmultipart_chunk_size_mb = 5\n"
    )
    plain = runner(url, outside, folder)

    def run(*words: object) -> str:
        return plain("s3cmd", "-c", folder / "s3cfg", "--no-progress", *words)

    run("mb", f"s3://{bucket}")
    return Files(
        put=lambda key, path: run("put", path, f"s3://{bucket}/{key}"),
        get=lambda key, path: run("get", "--force", f"s3://{bucket}/{key}", path),
        list=lambda: [line.partition(f"s3://{bucket}/")[2] for line in run("ls", "-r", f"s3://{bucket}").splitlines()],
        read=None,  # it has no such command
        presigned=None,  # its signurl signs with version 2 alone
        delete=lambda _: run("del", "--recursive", "--force", f"s3://{bucket}"),
    )


CLIENTS: list[tuple[Any, bool]] = [
    (with_boto3, True), (with_awscli, True), (with_s5cmd, True), (with_rclone, True), (with_obstore, True),
    (with_minio, False), (with_s3cmd, False), (with_boto3, False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "below"), CLIENTS, ids=lambda one: getattr(one, "__name__", "base" if one else "root")
)
def test_a_client(make: Callable[..., Files], below: bool, outside: Outside, tmp_path: Path) -> None:
    url = f"{outside.server.url}api/cloud/storage" if below else outside.url
    bucket = f"{make.__name__.replace('_', '-')}-{'base' if below else 'root'}"
    client = make(url, outside, tmp_path, bucket)
    for name, content in ((KEY, SMALL), ("large.bin", LARGE), ("empty", b"")):
        (tmp_path / "out").write_bytes(content)
        client.put(name, tmp_path / "out")
        client.get(name, tmp_path / "in")
        assert (tmp_path / "in").read_bytes() == content, name
        assert (outside.home.outputs / bucket / name).read_bytes() == content, name
        (tmp_path / "in").unlink()
    assert sorted(client.list()) == [KEY, "empty", "large.bin"]
    if client.read is not None:
        assert client.read("large.bin", 6_000_000, 6_000_100) == LARGE[6_000_000:6_000_100]
    if client.presigned is not None:
        fetched = httpx.get(client.presigned(KEY))
        assert (fetched.status_code, hashlib.sha256(fetched.content).digest()) == (200, hashlib.sha256(SMALL).digest())
    client.delete([KEY, "empty", "large.bin"])
    assert client.list() == []
