"""A 4 GiB object goes in and comes out, in one piece and in parts, and the server stays as small as it was."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from boto3.s3.transfer import TransferConfig

from tests.server.storage.elsewhere import elsewhere
from tests.server.storage.kit import BUCKET, client

GIB = 1 << 30
BLOCK = 1 << 20
MOST_MIB = 64


@pytest.mark.slow
@pytest.mark.parametrize("parts", [False, True], ids=["one request", "parts"])
def test_memory_does_not_grow_with_the_object(tmp_path: Path, parts: bool) -> None:
    source, digest = tmp_path / "source", hashlib.sha256()
    with source.open("wb") as file:
        for index in range(4 * GIB // BLOCK):
            block = index.to_bytes(8, "big") * (BLOCK // 8)
            digest.update(block)
            file.write(block)
    with elsewhere(tmp_path / "endpoint") as server:
        s3 = client(server, read_timeout=300)
        s3.put_object(Bucket=BUCKET, Key="small", Body=b"x" * (8 << 20))
        s3.get_object(Bucket=BUCKET, Key="small")["Body"].read()
        before = server.peak_mib()
        if parts:
            in_parts = TransferConfig(multipart_chunksize=64 << 20, max_concurrency=4)
            s3.upload_file(str(source), BUCKET, "big", Config=in_parts)
        else:
            with source.open("rb") as file:
                s3.put_object(Bucket=BUCKET, Key="big", Body=file)
        taken_in = server.peak_mib()
        source.unlink()
        received = hashlib.sha256()
        for block in s3.get_object(Bucket=BUCKET, Key="big")["Body"].iter_chunks(BLOCK):
            received.update(block)
        assert received.digest() == digest.digest()
        print(
            f"\nresident memory: {before:.0f} MiB, {taken_in:.0f} after it went in, {server.peak_mib():.0f} after it came out"
        )
        assert server.peak_mib() - before < MOST_MIB
