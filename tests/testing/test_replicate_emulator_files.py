"""Files of the emulated Replicate: there and back, signed addresses, limits, and forms that are none."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from datetime import datetime

import httpx
import pytest
from replicate.exceptions import ReplicateError

from simpletuner_lab.testing.replicate_emulator import ManualClock, ReplicateEmulator, Step, replicate_emulator
from tests.testing.replicate_kit import ACCOUNTS, NOW, TRAINER, TRAINER_VERSION, client, fetched, plain

CONTENT = b'--b\r\nContent-Disposition: form-data; name="content"\r\n\r\n1\r\n'


@pytest.fixture
def emulator() -> Iterator[ReplicateEmulator]:
    with replicate_emulator(ACCOUNTS, clock=ManualClock(NOW)) as running:
        yield running


def test_a_file_there_and_back(emulator: ReplicateEmulator) -> None:
    ann, content = client(emulator), bytes(range(256)) * 3000 + b"\r\n--"
    file = ann.files.create(io.BytesIO(content), filename="ds.zip", content_type="application/zip", metadata={"job": 1})
    assert (file.name, file.content_type, file.size, file.metadata) == (
        "ds.zip",
        "application/zip",
        len(content),
        {"job": 1},
    )
    assert file.checksums == {"sha256": hashlib.sha256(content).hexdigest(), "md5": file.etag}
    made, ends = (datetime.fromisoformat(text) for text in (file.created_at, file.expires_at))
    assert (ends - made).total_seconds() == 86_400
    (stored,) = emulator.files("ann")
    assert stored.path.read_bytes() == content
    empty = ann.files.create(io.BytesIO(b""), filename="empty")
    assert [one.id for one in ann.files.list()] == [empty.id, file.id]
    ann.files.delete(file.id)
    with pytest.raises(ReplicateError) as told:
        ann.files.get(file.id)
    assert (told.value.status, stored.path.exists(), ann.files.get(empty.id).size) == (404, False, 0)


def test_a_file_is_gone_after_a_day(emulator: ReplicateEmulator) -> None:
    ann = client(emulator)
    file = ann.files.create(io.BytesIO(b"x"))
    (stored,) = emulator.files("ann")
    emulator.advance(86_399)
    assert ann.files.get(file.id).id == file.id
    emulator.advance(1)
    with plain(emulator) as http:
        assert [http.get(f"/v1/files/{file.id}").status_code, http.delete(f"/v1/files/{file.id}").status_code] == [
            404,
            404,
        ]
    assert (emulator.files("ann"), stored.path.exists()) == ((), False)


def test_a_download_by_a_signed_address(emulator: ReplicateEmulator) -> None:
    given: list[str] = []
    emulator.play(TRAINER, lambda job: given.append(job.input["images"]) or [Step()])
    ann = client(emulator)
    file = ann.files.create(io.BytesIO(b"data"))
    ann.predictions.create(version=TRAINER_VERSION, input={"images": file.urls["get"]})
    emulator.advance(1)
    signed = httpx.URL(given[0])
    assert fetched(str(signed)).content == b"data"
    wrong = [
        signed.copy_merge_params({name: value})
        for name, value in (("owner", "bob"), ("expiry", "9999999999"), ("expiry", "x"), ("signature", "AAAA"))
    ]
    assert [fetched(str(url)).status_code for url in (*wrong, signed.copy_with(query=None))] == [403] * 5
    emulator.advance(86_400)
    assert fetched(str(signed)).status_code == 403


def test_a_file_over_the_limit(emulator: ReplicateEmulator) -> None:
    """Whether it says so, or is found out on the way, or ends just there: 413, and nothing is left of it."""
    emulator.conduct.max_file_bytes = 3 << 20

    def endless() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="content"; filename="a"\r\n\r\n'
        for _ in range(64):
            yield bytes(1 << 16)

    ann, folder = client(emulator), emulator.files
    details = []
    for size in (40 << 20, 3 << 20):
        with pytest.raises(ReplicateError) as told:
            ann.files.create(io.BytesIO(bytes(size)))
        details.append((told.value.status, told.value.detail))
    with plain(emulator) as http:
        chunked = http.post("/v1/files", content=endless(), headers={"Content-Type": "multipart/form-data; boundary=b"})
    details.append((chunked.status_code, chunked.json()["detail"]))
    assert details == [(413, "Files must be less than 3MB in size")] * 3
    last = ann.files.create(io.BytesIO(bytes((3 << 20) - 1)))
    (stored,) = folder("ann")
    assert (stored.id, [path.name for path in stored.path.parent.iterdir()]) == (last.id, [last.id])


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("multipart/form-data", b"", 415),
        ("multipart/form-data; boundary=b", b"", 422),
        ("multipart/form-data; boundary=b", b"--b--\r\n", 422),
        ("multipart/form-data; boundary=b", b"--bx\r\n", 422),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n--b--\r\n', 422),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="content"\r\n\r\n1', 422),
        ("multipart/form-data; boundary=b", b"--b\r\nX: y\r\n\r\n1\r\n--b--\r\n", 422),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"a" * 20_000, 422),
        (
            "multipart/form-data; boundary=b",
            CONTENT + b'--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n[1]\r\n--b--\r\n',
            422,
        ),
    ],
)  # fmt: skip
def test_an_upload_out_of_form(emulator: ReplicateEmulator, kind: str, body: bytes, status: int) -> None:
    with plain(emulator) as http:
        told = http.post("/v1/files", content=body, headers={"Content-Type": kind})
    assert (told.status_code, emulator.files("ann")) == (status, ())


def test_a_form_in_pieces_of_any_size(emulator: ReplicateEmulator) -> None:
    """Boundaries fall where they may; what looks like one is content."""
    content = b"\r\n--bound\r\n--boundary\r\r\n-\r\n--boundar"
    body = (
        b'preamble\r\n--boundary1\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{"a": 1}\r\n'
        b'--boundary1\r\nContent-Disposition: form-data; name="content"; filename="a \\"b\\".zip"\r\n'
        b"Content-Type: application/zip\r\n\r\n" + content + b"\r\n--boundary1--\r\nepilogue"
    )
    kind = {"Content-Type": 'multipart/form-data; boundary="boundary1"'}
    with plain(emulator) as http:
        for size in (1, 7, 1000):
            pieces = (body[at : at + size] for at in range(0, len(body), size))
            told = http.post("/v1/files", content=pieces, headers=kind).json()
            assert (told["name"], told["size"], told["metadata"]) == ('a "b".zip', len(content), {"a": 1})
    assert {stored.path.read_bytes() for stored in emulator.files("ann")} == {content}
