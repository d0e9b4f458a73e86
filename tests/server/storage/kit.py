"""Clients of the endpoint: boto3 as users have it, and raw requests signed by botocore, the oracle."""

from __future__ import annotations

import functools
import http.client
from dataclasses import dataclass
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import boto3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as BotoCredentials
from botocore.exceptions import ClientError

from simpletuner_lab.services.grants import Credentials
from simpletuner_lab.testing.storage_server import StorageServer

BUCKET = "outputs"


def client(server: StorageServer, keys: Credentials | None = None, *, secret: str = "", **config):
    keys = keys or server.owner
    return _client(server.endpoint_url, keys.access_key, secret or keys.secret_key.reveal(), tuple(config.items()))


@functools.cache
def _client(endpoint_url: str, access_key: str, secret_key: str, config: tuple[tuple[str, object], ...]):
    """Making a client takes longer than most calls."""
    more = dict(config)
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
        verify=more.pop("verify", None),
        config=Config(retries={"max_attempts": 0}, signature_version="s3v4", s3={"addressing_style": "path"}, **more),
    )


def refused(call, *args, **kwargs) -> str:
    """The error code of a call that must fail, with its HTTP status."""
    try:
        call(*args, **kwargs)
    except ClientError as error:
        return f"{error.response['Error']['Code']} {error.response['ResponseMetadata']['HTTPStatusCode']}"
    raise AssertionError("the call was not refused")


class _Auth(S3SigV4Auth):
    def __init__(self, keys: BotoCredentials, payload: str | None) -> None:
        super().__init__(keys, "s3", "us-east-1")
        self._given = payload

    def payload(self, request) -> str:
        return self._given or super().payload(request)


def signed_headers(url, method, keys, *, headers=None, body=b"", payload=None, secret="") -> dict[str, str]:
    request = AWSRequest(method=method, url=url, data=body, headers=headers or {})
    auth = _Auth(BotoCredentials(keys.access_key, secret or keys.secret_key.reveal()), payload)
    auth.add_auth(request)
    return dict(request.headers.items())


@dataclass
class Raw:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return ET.fromstring(self.body).findtext("Code") or "" if self.body else ""


def raw(
    server, method, path, *, keys=None, headers=None, body=b"", payload=None, secret="", signed=True, extra=None
) -> Raw:
    """Sends exactly this path; `extra` headers are added after signing."""
    url = urlsplit(server.endpoint_url)
    target = url.path + path
    given = dict(headers or {})
    if signed:
        full = f"{url.scheme}://{url.netloc}{target}"
        given = signed_headers(
            full, method, keys or server.owner, headers=headers, body=body, payload=payload, secret=secret
        )
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=20)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True, skip_host="Host" in (extra or {}))
        for name, value in (given | (extra or {})).items():
            connection.putheader(name, value.encode())
        if "Content-Length" not in given and "Transfer-Encoding" not in given and (body or method in {"PUT", "POST"}):
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Raw(response.status, found, response.read())
    finally:
        connection.close()


def keys_in(server: StorageServer, bucket: str = BUCKET) -> list[str]:
    """The files of a bucket as they lie on the disk."""
    root = server.objects._root / bucket
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir())


def leftovers(server: StorageServer) -> list[str]:
    own = server.objects._root / ".stlab"
    return sorted(path.relative_to(own).as_posix() for path in own.rglob("*") if not path.is_dir())
