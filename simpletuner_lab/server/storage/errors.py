"""S3's own error vocabulary: a code the client branches on, the HTTP status it comes with, a sentence.

These never reach a person through the lab's own API, so they stand beside the tree of `core.errors`, not in it:
an S3 client understands exactly these words. Statuses: the S3 documentation's list of error responses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final

from simpletuner_lab.core.errors import lacks_room

STATUS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "AccessDenied": 403,
        "AuthorizationHeaderMalformed": 400,
        "AuthorizationQueryParametersError": 400,
        "BadDigest": 400,
        "BucketNotEmpty": 409,
        "ConditionalRequestConflict": 409,
        "EntityTooLarge": 400,
        "EntityTooSmall": 400,
        "IncompleteBody": 400,
        "InsufficientStorage": 507,
        "InternalError": 500,
        "InvalidAccessKeyId": 403,
        "InvalidArgument": 400,
        "InvalidBucketName": 400,
        "InvalidDigest": 400,
        "InvalidPart": 400,
        "InvalidPartNumber": 416,
        "InvalidPartOrder": 400,
        "InvalidRange": 416,
        "InvalidRequest": 400,
        "InvalidURI": 400,
        "KeyTooLongError": 400,
        "KeysFallTogether": 409,
        "MalformedTrailerError": 400,
        "MalformedXML": 400,
        "MetadataTooLarge": 400,
        "MethodNotAllowed": 405,
        "MissingContentLength": 411,
        "NoSuchBucket": 404,
        "NoSuchKey": 404,
        "NoSuchUpload": 404,
        "NotImplemented": 501,
        "ObjectExistsAsDirectory": 409,
        "ParentIsObject": 409,
        "PreconditionFailed": 412,
        "RequestHeaderSectionTooLarge": 400,
        "RequestTimeTooSkewed": 403,
        "RequestTimeout": 400,
        "SignatureDoesNotMatch": 403,
        "XAmzContentSHA256Mismatch": 400,
    }
)


class S3Error(Exception):
    """An answer that is an error: `code` (a key of `STATUS`), a message, further elements such as `Key`.

    `access_key` is set where the request named a key that is known here: whoever was refused stands in the log.
    """

    def __init__(self, code: str, message: str, **details: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.details = details
        self.access_key = ""

    @property
    def status(self) -> int:
        """The HTTP status that goes with the code."""
        return STATUS[self.code]


def not_implemented(what: str) -> S3Error:
    """The refusal of a part of S3 that this endpoint does not speak, by its name."""
    return S3Error("NotImplemented", f"{what} is not implemented here")


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turns a full disk, an exceeded disk quota or file size limit into S3's InsufficientStorage."""
    try:
        yield
    except OSError as error:
        if lacks_room(error):
            raise S3Error("InsufficientStorage", "there is no room left to store this") from error
        raise
