"""The calls about buckets, and the listings of what is in them."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from simpletuner_lab.server.storage import xml
from simpletuner_lab.server.storage.answers import Answer, Work
from simpletuner_lab.server.storage.calls import Call, number
from simpletuner_lab.server.storage.errors import S3Error
from simpletuner_lab.server.storage.listing import MAX_PAGE, after_marker, uploads_page

_REGION: Final = "us-east-1"
_MAX_BUCKETS: Final = 10_000
_MANY: Final = 10**9


def list_buckets(work: Work) -> Answer:
    """The buckets by name, a page of them where one is asked for."""
    query = work.call.query
    prefix, token = query.get("prefix", ""), query.get("continuation-token")
    after = b"" if token is None else _from_token(token)
    limit = number(query, "max-buckets", _MAX_BUCKETS, 1, _MAX_BUCKETS)
    found = [
        bucket
        for bucket in work.objects.buckets.all()
        if bucket.name.startswith(prefix) and bucket.name.encode() > after
    ]
    if query.get("bucket-region", _REGION) != _REGION:
        found = []
    page = found[:limit]
    given = {"Prefix": prefix} if "prefix" in query else {}
    if len(found) > limit:
        given["ContinuationToken"] = _token(page[-1].name.encode())
    return Answer(document=xml.buckets(page, given))


def create_bucket(work: Work) -> Answer:
    """Makes a bucket; whoever may make it may make it again."""
    work.objects.buckets.create(work.call.bucket)
    return Answer(headers={"Location": f"/{work.call.bucket}"})


def head_bucket(work: Work) -> Answer:
    """Whether there is such a bucket."""
    work.objects.buckets.check(work.call.bucket)
    return Answer(headers={"x-amz-bucket-region": _REGION})


def delete_bucket(work: Work) -> Answer:
    """Removes an empty bucket."""
    work.objects.delete_bucket(work.call.bucket)
    return Answer(status=204)


def get_location(work: Work) -> Answer:
    """The region, which is the nameless first one."""
    work.objects.buckets.check(work.call.bucket)
    return Answer(document=xml.document("LocationConstraint", ()))


def list_objects(work: Work) -> Answer:
    """Version 1 of the listing, with markers."""
    call = work.call
    prefix, delimiter = call.query.get("prefix", ""), call.query.get("delimiter", "")
    marker = call.query.get("marker", "")
    encode, max_keys = _encode(call), _limit(call, "max-keys")
    page = work.objects.list_page(
        call.bucket,
        prefix=prefix,
        delimiter=delimiter,
        after=after_marker(marker, prefix, delimiter),
        max_keys=max_keys,
    )
    given = {"Prefix": prefix, "Marker": marker, "MaxKeys": str(max_keys)}
    if delimiter:
        given["Delimiter"] = delimiter
    if delimiter and page.next_after:
        given["NextMarker"] = page.last
    return Answer(document=xml.listing(call.bucket, page, given, encode=encode, owner=True))


def list_objects_v2(work: Work) -> Answer:
    """Version 2 of the listing, with continuation tokens."""
    call = work.call
    if call.query["list-type"] != "2":
        raise S3Error("InvalidArgument", "list-type is 2", ArgumentName="list-type")
    prefix, delimiter = call.query.get("prefix", ""), call.query.get("delimiter", "")
    start, token = call.query.get("start-after", ""), call.query.get("continuation-token")
    after = start.encode() if token is None else _from_token(token)
    encode, max_keys = _encode(call), _limit(call, "max-keys")
    page = work.objects.list_page(call.bucket, prefix=prefix, delimiter=delimiter, after=after, max_keys=max_keys)
    given = {"Prefix": prefix, "MaxKeys": str(max_keys), "KeyCount": str(len(page.objects) + len(page.prefixes))}
    if delimiter:
        given["Delimiter"] = delimiter
    if start:
        given["StartAfter"] = start
    if token is not None:
        given["ContinuationToken"] = token
    if page.next_after:
        given["NextContinuationToken"] = _token(page.next_after)
    owner = call.query.get("fetch-owner") == "true"
    return Answer(document=xml.listing(call.bucket, page, given, encode=encode, owner=owner))


def list_uploads(work: Work) -> Answer:
    """The multipart uploads that are under way, by key and then by when they began."""
    call = work.call
    work.objects.buckets.check(call.bucket)
    prefix, delimiter = call.query.get("prefix", ""), call.query.get("delimiter", "")
    key_marker, id_marker = call.query.get("key-marker", ""), call.query.get("upload-id-marker", "")
    encode, limit = _encode(call), _limit(call, "max-uploads")
    uploads = [upload for upload in work.objects.uploads.all() if upload.bucket == call.bucket]
    after = (key_marker, id_marker) if key_marker else ("", "")
    page = uploads_page(uploads, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
    given = {"KeyMarker": key_marker, "UploadIdMarker": id_marker, "Prefix": prefix, "MaxUploads": str(limit)}
    if delimiter:
        given["Delimiter"] = delimiter
    return Answer(document=xml.uploads(call.bucket, page, given, encode=encode))


def _limit(call: Call, name: str) -> int:
    return min(number(call.query, name, MAX_PAGE, 0, _MANY), MAX_PAGE)


def _encode(call: Call) -> bool:
    encoding = call.query.get("encoding-type")
    if encoding not in {None, "url"}:
        raise S3Error("InvalidArgument", "encoding-type is url", ArgumentName="encoding-type")
    return encoding == "url"


def _token(after: bytes) -> str:
    return base64.urlsafe_b64encode(after).decode("ascii")


def _from_token(token: str) -> bytes:
    try:
        return base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise S3Error("InvalidArgument", "the continuation token is not one of ours") from error
