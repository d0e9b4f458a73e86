"""Every attack that must fail, in every way a payload may travel and every way to sign: refused, and nothing written."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from simpletuner_lab.core.grant import grant_id
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.server.storage.chunked import STREAMING
from simpletuner_lab.services.grants import Credentials
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.storage_server import storage_server
from tests.server.storage.kit import BUCKET, client
from tests.server.storage.wire import BODY, MODES, SIGNED, TRAILED, UNSIGNED, made

UNKNOWN = Credentials(access_key=grant_id(b"\0" * 10), secret_key=Secret("x" * 40))
WAYS = pytest.mark.parametrize("how", ["header", "query"])
ALL = pytest.mark.parametrize("mode", MODES)


@pytest.fixture(scope="module")
def target(tmp_path_factory, clock):
    with storage_server(tmp_path_factory.mktemp("target"), base_url="/user/ann/", clock=clock) as server:
        client(server).put_object(Bucket=BUCKET, Key="there", Body=b"there")
        client(server).create_bucket(Bucket="other")
        yield server


def tree(root: Path) -> dict[str, bytes | None]:
    """Everything on the disk, names and bytes."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else None for path in root.rglob("*")
    }


@pytest.fixture
def unchanged(target, clock):
    root = target.objects._root
    (root / ".stlab/drafts").mkdir(parents=True, exist_ok=True)
    before = tree(root.parent)
    yield
    clock.shift_s = 0.0
    assert tree(root.parent) == before


@WAYS
@ALL
def test_a_good_request_passes(target, mode, how):
    """Or the refusals below would prove nothing."""
    path = f"/{BUCKET}/good/{mode}-{how}"
    assert made(target, mode, how, path).send(target).status == 200
    assert (target.objects._root / path[1:]).read_bytes() == BODY


@WAYS
@ALL
@pytest.mark.parametrize(
    ("attack", "code"),
    [
        ("secret", "SignatureDoesNotMatch"),
        ("unknown", "InvalidAccessKeyId"),
        ("nobody", "AccessDenied"),
        ("empty", "AccessDenied"),
        ("other grant", "AccessDenied"),
        ("other secret", "SignatureDoesNotMatch"),
        ("other key", "SignatureDoesNotMatch"),
        ("other method", "SignatureDoesNotMatch"),
        ("unsigned header", "AccessDenied"),
        ("unsigned metadata", "AccessDenied"),
        ("changed header", "SignatureDoesNotMatch"),
        ("other host", "SignatureDoesNotMatch"),
        ("other mode", "SignatureDoesNotMatch"),
    ],
)
def test_who_asks(target, unchanged, mode, how, attack, code):
    one = target.issue("job-1")
    other = target.issue("job-2")
    mixed = Credentials(access_key=target.owner.access_key, secret_key=one.secret_key)
    options = {
        "secret": {"secret": "wrong"},
        "unknown": {"keys": UNKNOWN},
        "other grant": {"keys": other, "path": f"/{BUCKET}/job-1/k"},
        "other secret": {"keys": mixed},
        "changed header": {"headers": {"x-amz-meta-a": "1"}},
    }
    sent = made(target, mode, how, **options.get(attack, {}))
    if attack == "nobody":
        bare = {name: value for name, value in sent.headers.items() if name != "Authorization"}
        sent = type(sent)(target=f"/{BUCKET}/k", headers=bare, body=sent.body)
    elif attack == "empty":
        bare = {name: value for name, value in sent.headers.items() if name != "Authorization"}
        query = "?X-Amz-Algorithm=&X-Amz-Credential=&X-Amz-Signature=" if how == "query" else ""
        sent = type(sent)(target=f"/{BUCKET}/k{query}", headers=bare, body=sent.body)
        code = "AuthorizationQueryParametersError" if query else code
    elif attack == "other key":
        sent = type(sent)(target=sent.target.replace("/k", "/there", 1), headers=sent.headers, body=sent.body)
    elif attack == "other method":
        sent = type(sent)(target=sent.target.replace("/k", "/there", 1), headers=sent.headers, method="DELETE")
    elif attack == "unsigned header":
        sent = sent.with_headers(x_amz_copy_source=f"/{BUCKET}/there")
    elif attack == "unsigned metadata":
        sent = sent.with_headers(x_amz_meta_evil="1")
    elif attack == "changed header":
        sent = sent.with_headers(x_amz_meta_a="2")
    elif attack == "other host":
        sent = sent.with_headers(Host="elsewhere.example")
    elif attack == "other mode":
        others = {name.lower(): name for name in sent.headers}
        changed = UNSIGNED if mode != UNSIGNED else "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
        sent = sent.with_headers(**{others["x-amz-content-sha256"]: changed})
    answer = sent.send(target)
    assert (answer.code, answer.status) == (code, 400 if code.startswith("Auth") else 403)


# A payload that is neither signed nor has a checksum promises the number of its bytes alone.
CHANGES = [
    *(("body", mode) for mode in MODES if mode != UNSIGNED),
    *((attack, mode) for attack in ("trailer", "trailer name", "no trailer") for mode in sorted(TRAILED)),
    *((attack, mode) for attack in ("shorter", "longer") for mode in sorted(STREAMING)),
    *(("cut", mode) for mode in MODES if mode != UNSIGNED),
]


@WAYS
@pytest.mark.parametrize(("attack", "mode"), CHANGES)
def test_what_comes(target, unchanged, mode, how, attack):
    """A changed byte anywhere. Only a payload that is not signed and has no checksum cannot show it."""
    sent = made(target, mode, how)
    body = sent.body
    if attack == "body":
        body = body.replace(BODY[-3:], b"XXX")
    elif attack in {"trailer", "trailer name", "no trailer"}:
        at = body.index(b"x-amz-checksum")
        if attack == "trailer":
            body = body.replace(b"crc32:", b"crc32:A", 1).replace(b"==\r\n", b"=\r\n", 1)
        elif attack == "trailer name":
            body = body.replace(b"checksum-crc32:", b"checksum-sha1:", 1)
        else:
            body = body[:at] + b"\r\n"
    elif attack in {"shorter", "longer"}:
        sent = made(target, mode, how, length=len(BODY) + (1 if attack == "longer" else -1))
        body = sent.body
    elif mode not in STREAMING:
        body = body[:-1]
    else:
        body = body[:-9]
    answer = type(sent)(target=sent.target, headers=sent.headers, body=body).send(target)
    assert answer.status in {400, 403}
    assert answer.code in {
        "BadDigest",
        "IncompleteBody",
        "InvalidRequest",
        "MalformedTrailerError",
        "SignatureDoesNotMatch",
        "XAmzContentSHA256Mismatch",
    }


@ALL
@pytest.mark.parametrize(
    ("how", "shift_s"),
    [*((how, shift_s) for how in ("header", "query") for shift_s in (16 * 60, -16 * 60, 24 * 3600)), ("query", 61)],
)
def test_when_it_comes(target, clock, unchanged, mode, how, shift_s):
    sent = made(target, mode, how)
    clock.shift_s = shift_s
    answer = sent.send(target)
    assert (answer.code, answer.status) == ("RequestTimeTooSkewed" if how == "header" else "AccessDenied", 403)


@WAYS
@ALL
def test_a_grant_that_ended(target, clock, unchanged, mode, how):
    """The very request that was good a moment ago is not when the grant was revoked, replaced or is past its end."""
    path = f"/{BUCKET}/job-e/k"
    keys = target.issue("job-e", life_s=600)
    sent = made(target, mode, how, path, keys=keys, expires=604_800)
    clock.shift_s = 601.0
    assert sent.send(target).code == "AccessDenied"
    clock.shift_s = 0.0
    target.grants.revoke_job("job-e")
    assert sent.send(target).code == "AccessDenied"
    first = target.issue("job-f", attempt=1)
    sent = made(target, mode, how, f"/{BUCKET}/job-f/k", keys=first)
    target.issue("job-f", attempt=2)
    assert sent.send(target).code == "AccessDenied"


TRAVERSALS = (
    "/outputs/../server.key",
    "/outputs/%2e%2e/server.key",
    "/outputs/%2E%2e%2Fserver.key",
    "/outputs/a/../../../server.key",
    "/outputs/..%5Cserver.key",
    "/outputs/a\\b",
    "/outputs//etc/passwd",
    "/outputs/%2Fetc%2Fpasswd",
    "/outputs/a//b",
    "/outputs/./a",
    "/outputs/a%00b",
    "/outputs/a%0Ab",
    "/outputs/%C0%AE%C0%AE/server.key",
    "/outputs/%E0%80%AE%E0%80%AE/server.key",
    "/outputs/%FF",
    "/../server.key",
    "/%2E%2E/server.key",
    "/..%2Fserver.key/x",
    "/.stlab/drafts/x",
    "/%2Estlab/uploads/x",
    "/outputs%2F..%2Fother/x",
    "/outputs%5C..%5Cother/x",
    "/Outputs/x",
    "/outputs%00/x",
    "/api/x",
)


@WAYS
@ALL
@pytest.mark.parametrize("path", TRAVERSALS)
def test_where_it_would_go(target, unchanged, mode, how, path):
    answer = made(target, mode, how, path).send(target)
    assert answer.status == 400
    assert answer.code in {"InvalidArgument", "InvalidBucketName", "InvalidURI"}


@WAYS
@ALL
def test_a_percent_that_is_encoded_twice_is_only_a_name(target, mode, how):
    path = f"/{BUCKET}/%252e%252e/{mode}-{how}"
    assert made(target, mode, how, path).send(target).status == 200
    assert (target.objects._root / BUCKET / "%2e%2e" / f"{mode}-{how}").read_bytes() == BODY


@WAYS
@ALL
def test_beyond_the_grant(target, unchanged, mode, how):
    """Another's keys, bucket, upload and source of a copy: the same answer whether or not they exist."""
    mine = target.issue("job-m")
    for path in (
        f"/{BUCKET}/there",
        f"/{BUCKET}/nothing",
        f"/{BUCKET}/job-m",
        f"/{BUCKET}/job-mm/k",
        "/other/job-m/k",
        "/nothere/job-m/k",
        f"/{BUCKET}/there?partNumber=1&uploadId={'0' * 32}",
    ):
        answer = made(target, mode, how, path, keys=mine).send(target)
        assert (answer.code, answer.status) == ("AccessDenied", 403)
    upload = f"/{BUCKET}/job-m/k?partNumber=1&uploadId={'0' * 32}"
    assert made(target, mode, how, upload, keys=mine).send(target).code == "NoSuchUpload"
    for source in (f"/{BUCKET}/there", f"/{BUCKET}/nothing", "/other/job-m/k"):
        headers = {"x-amz-copy-source": source}
        answer = made(target, mode, how, f"/{BUCKET}/job-m/k", keys=mine, headers=headers).send(target)
        assert answer.code == "AccessDenied"


@WAYS
def test_another_jobs_upload_is_unknown(target, how):
    theirs, mine = target.issue("job-a"), target.issue("job-b")
    upload = client(target, theirs).create_multipart_upload(Bucket=BUCKET, Key="job-a/k")["UploadId"]
    before = tree(target.objects._root)
    for path, code in ((f"/{BUCKET}/job-a/k", "AccessDenied"), (f"/{BUCKET}/job-b/k", "NoSuchUpload")):
        sent = made(target, SIGNED, how, f"{path}?partNumber=1&uploadId={upload}", keys=mine)
        assert sent.send(target).code == code
    assert tree(target.objects._root) == before


@WAYS
@ALL
def test_refusals_are_told_without_what_would_repeat_them(target, caplog, mode, how):
    keys = target.issue("job-log")
    sent = made(target, mode, how, f"/{BUCKET}/job-log/k%C3%BC%20b", keys=keys, secret="wrong")
    with caplog.at_level(logging.INFO):
        assert sent.send(target).code == "SignatureDoesNotMatch"
        lines = eventually(
            lambda: [line for record in caplog.records if "refused" in (line := record.getMessage())],
            lambda found: len(found) > 0,
        )
    assert lines == [f"refused: PUT {BUCKET} job-log/k\\xfc b {keys.access_key} SignatureDoesNotMatch"]
    signature = sent.headers.get("Authorization", sent.target).partition("Signature=")[2][:64]
    assert len(signature) == 64
    for secret in (signature, keys.secret_key.reveal(), "X-Amz-"):
        assert secret not in caplog.text
