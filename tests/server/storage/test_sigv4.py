from __future__ import annotations

import string
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.sigv4 import EMPTY_SHA256, Place, Request, places, read_claim, verify

ID, SECRET = "STLGAAAAAAAAAAAAAAAA", "s3cret/+="
DOC_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
DOC_NOW = 1369353600.0


def doc_request(**changes) -> Request:
    """The GET example of the S3 documentation, "Authenticating Requests: Using the Authorization Header"."""
    headers = {
        "host": "examplebucket.s3.amazonaws.com",
        "range": "bytes=0-9",
        "x-amz-content-sha256": EMPTY_SHA256,
        "x-amz-date": "20130524T000000Z",
        "authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    }
    fields = {"method": "GET", "path": "/test.txt", "query": ""} | {
        name: changes.pop(name) for name in ("method", "path", "query") if name in changes
    }
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    return Request(headers=tuple((n, v) for n, v in headers.items() if v is not None), **fields)


def check(request: Request, now: float, secret: str = SECRET, where: tuple[Place, ...] | None = None):
    claim = read_claim(request, now)
    return verify(request, claim, secret, where or places(request, "/", None))


def code(request: Request, now: float = DOC_NOW, secret: str = DOC_SECRET) -> str:
    with pytest.raises(S3Error) as caught:
        check(request, now, secret)
    return caught.value.code


def test_the_example_of_the_documentation_verifies():
    seed = check(doc_request(), DOC_NOW, DOC_SECRET)
    assert seed.scope == "20130524/us-east-1/s3/aws4_request"
    assert seed.signature.startswith("f0e8bdb8")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"path": "/test.txu"}, "SignatureDoesNotMatch"),
        ({"method": "HEAD"}, "SignatureDoesNotMatch"),
        ({"query": "a"}, "SignatureDoesNotMatch"),
        ({"range": "bytes=0-8"}, "SignatureDoesNotMatch"),
        ({"range": None}, "SignatureDoesNotMatch"),
        ({"x_amz_content_sha256": "UNSIGNED-PAYLOAD"}, "SignatureDoesNotMatch"),
        ({"x_amz_content_sha256": None}, "InvalidRequest"),
        ({"x_amz_acl": "public-read"}, "AccessDenied"),
        ({"x_amz_date": None}, "AccessDenied"),
        ({"x_amz_date": "yesterday"}, "AccessDenied"),
        ({"x_amz_date": "20130525T000000Z"}, "RequestTimeTooSkewed"),
        ({"authorization": None}, "AccessDenied"),
        ({"authorization": ""}, "AuthorizationHeaderMalformed"),
        ({"authorization": "Bearer abc"}, "AuthorizationHeaderMalformed"),
        ({"authorization": "AWS AKIA:c2ln"}, "InvalidRequest"),
        ({"authorization": "AWS4-HMAC-SHA256 Credential=a/b"}, "AuthorizationHeaderMalformed"),
        ({"query": "AWSAccessKeyId=x&Signature=y&Expires=1", "authorization": None}, "InvalidRequest"),
        ({"query": "X-Amz-Algorithm=AWS4-HMAC-SHA256"}, "InvalidArgument"),
        ({"query": "X-Amz-Algorithm=AWS4-HMAC-SHA256", "authorization": None}, "AuthorizationQueryParametersError"),
        ({"query": "prefix=a&prefix=b"}, "InvalidArgument"),
    ],
)
def test_whatever_is_changed_is_refused(changes, expected):
    assert code(doc_request(**changes)) == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("/s3/", "/ec2/", "AuthorizationHeaderMalformed"),
        ("aws4_request", "aws5_request", "AuthorizationHeaderMalformed"),
        ("/20130524/", "/20130523/", "AuthorizationHeaderMalformed"),
        ("us-east-1", "", "AuthorizationHeaderMalformed"),
        ("us-east-1", "eu-west-1", "SignatureDoesNotMatch"),
        ("host;range", "range;host", "AuthorizationHeaderMalformed"),
        ("host;range", "Host;range", "AuthorizationHeaderMalformed"),
        ("host;range", "range", "AccessDenied"),
        ("f0e8", "F0E8", "SignatureDoesNotMatch"),
        ("f0e8", "", "SignatureDoesNotMatch"),
        ("f0e8", "f0e9", "SignatureDoesNotMatch"),
    ],
)
def test_a_changed_authorization_is_refused(old, new, expected):
    header = dict(doc_request().headers)["authorization"]
    assert code(doc_request(authorization=header.replace(old, new, 1))) == expected


def test_sigv2_is_refused_with_what_to_do():
    with pytest.raises(S3Error, match='signature_version="s3v4"'):
        read_claim(doc_request(query="AWSAccessKeyId=x&Signature=y&Expires=1", authorization=None), DOC_NOW)


@pytest.mark.parametrize(("shift", "fine"), [(899, True), (-899, True), (901, False), (-901, False)])
def test_clocks_may_differ_by_fifteen_minutes(shift, fine):
    if fine:
        check(doc_request(), DOC_NOW + shift, DOC_SECRET)
    else:
        assert code(doc_request(), DOC_NOW + shift) == "RequestTimeTooSkewed"


def from_botocore(request: AWSRequest) -> Request:
    url = urlsplit(request.url)
    headers = [(name.lower(), value) for name, value in request.headers.items()]
    headers.append(("host", url.netloc))
    return Request(method=request.method, path=url.path, query=url.query, headers=tuple(headers))


TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=12)
NAME = st.text(string.ascii_lowercase + "-", min_size=1, max_size=8)


@settings(max_examples=80, deadline=None)
@given(
    path=TEXT.map(lambda text: "/b/" + quote(text, safe="/~")),
    query=st.dictionaries(NAME, TEXT, max_size=4),
    metadata=st.dictionaries(NAME, st.text(string.printable.strip() + " ", max_size=12).map(str.strip), max_size=3),
    plus=st.booleans(),
)
def test_agrees_with_botocore(path, query, metadata, plus):
    pairs = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    url = "http://127.0.0.1:8888" + path + ("?" + pairs if pairs else "")
    headers = {f"x-amz-meta-{name}": value for name, value in metadata.items()}
    request = AWSRequest(method="PUT", url=url, data=b"x", headers=headers)
    S3SigV4Auth(Credentials(ID, SECRET), "s3", "auto").add_auth(request)
    ours = from_botocore(request)
    now = read_time(ours)
    if plus:  # the Go clients send a space as a plus and sign it as %20
        ours = Request(method=ours.method, path=ours.path, query=ours.query.replace("%20", "+"), headers=ours.headers)
    check(ours, now)
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        check(ours, now, "another")


def read_time(request: Request) -> float:
    from datetime import UTC, datetime

    stamp = request.header("x-amz-date")
    assert stamp is not None
    return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def presigned(expires: int = 60, **query) -> tuple[Request, float]:
    pairs = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    request = AWSRequest(method="GET", url="http://127.0.0.1:8888/b/k" + ("?" + pairs if pairs else ""))
    S3SigV4QueryAuth(Credentials(ID, SECRET), "s3", "us-east-1", expires=expires).add_auth(request)
    ours = from_botocore(request)
    stamp = dict(pair.split("=") for pair in ours.query.split("&"))["X-Amz-Date"]
    return ours, read_time(Request(method="GET", path="", query="", headers=(("x-amz-date", stamp),)))


def test_presigned_urls_hold_for_their_time_and_no_longer():
    request, start = presigned(60)
    check(request, start)
    check(request, start + 59)
    check(request, start - 899)
    for when in (start + 60, start - 901):
        assert code(request, when, SECRET) == "AccessDenied"


@pytest.mark.parametrize(("expires", "fine"), [(1, True), (604800, True), (0, False), (604801, False)])
def test_presigned_urls_last_from_a_second_to_a_week(expires, fine):
    request, start = presigned(expires)
    if fine:
        check(request, start)
    else:
        assert code(request, start, SECRET) == "AccessDenied"


@pytest.mark.parametrize("value", ["", "-1", "1e3", "1_0", "\N{SUPERSCRIPT TWO}"])
def test_an_expiry_that_is_no_number_is_refused(value):
    request, start = presigned(60)
    query = request.query.replace("X-Amz-Expires=60", "X-Amz-Expires=" + quote(value))
    changed = Request(method="GET", path=request.path, query=query, headers=request.headers)
    assert code(changed, start, SECRET) == "AuthorizationQueryParametersError"


def test_a_header_added_to_a_presigned_url_must_be_signed():
    request, start = presigned(60)
    added = (*request.headers, ("x-amz-meta-a", "b"))
    assert (
        code(Request(method="GET", path=request.path, query=request.query, headers=added), start, SECRET)
        == "AccessDenied"
    )


def signed_for(url: str) -> tuple[dict[str, str], float]:
    request = AWSRequest(method="GET", url=url)
    S3SigV4Auth(Credentials(ID, SECRET), "s3", "us-east-1").add_auth(request)
    ours = from_botocore(request)
    return dict(ours.headers), read_time(ours)


@pytest.mark.parametrize(
    ("public", "base", "received"),
    [
        ("https://lab.example", "/", "/api/cloud/storage/b/k"),
        ("https://lab.example:443/", "/user/ann/", "/user/ann/api/cloud/storage/b/k"),
        ("https://lab.example:8443/x/y", "/", "/api/cloud/storage/b/k"),
        ("https://hub.example/user/ann/", "/user/ann/", "/user/ann/api/cloud/storage/b/k"),
    ],
)
def test_a_signature_for_the_public_address_counts(public, base, received):
    seen = public.replace(":443", "").rstrip("/") + "/api/cloud/storage/b/k"
    headers, now = signed_for(seen)
    request = Request(method="GET", path=received, query="", headers=tuple((headers | {"host": "127.0.0.1:9"}).items()))
    check(request, now, SECRET, places(request, base, public))
    assert code(request, now, SECRET) == "SignatureDoesNotMatch"


def test_forwarded_headers_never_count():
    headers, now = signed_for("https://lab.example/api/cloud/storage/b/k")
    headers |= {"host": "127.0.0.1:9", "x-forwarded-host": "lab.example", "forwarded": "host=lab.example"}
    request = Request(method="GET", path="/api/cloud/storage/b/k", query="", headers=tuple(headers.items()))
    assert code(request, now, SECRET) == "SignatureDoesNotMatch"


def test_bytes_of_utf8_headers_are_not_taken_for_spaces():
    """0xA0 and 0x85 are white space as characters, and parts of letters as bytes."""
    value = "à\u0145 x".encode().decode("latin-1")
    assert Request(method="GET", path="/", query="", headers=(("a", value),)).header("a") == value
