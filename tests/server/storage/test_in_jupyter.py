"""The endpoint inside a real Jupyter server: no token, no cookie, its own signature alone."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from urllib.parse import unquote

import pytest
from tornado.httpclient import HTTPClientError

from simpletuner_lab.server.storage.exchange import StorageContext
from simpletuner_lab.server.storage.handlers import storage_routes
from simpletuner_lab.server.storage.objects import ObjectStore
from simpletuner_lab.services.grants import Grants, ServerKey
from simpletuner_lab.testing.storage_server import MemoryGrants
from tests.server.storage.kit import BUCKET, client, refused

pytest_plugins = ["pytest_jupyter.jupyter_server"]


@pytest.fixture
def jp_server_config():
    return {"ServerApp": {"allow_unauthenticated_access": False}}


@pytest.fixture
def endpoint(jp_serverapp, http_server, jp_http_port, tmp_path):
    objects = ObjectStore(tmp_path / "objects")
    objects.sweep(time.time())
    grants = Grants(MemoryGrants(), ServerKey(b"k" * 32), time.time)
    with ThreadPoolExecutor(2) as disk:
        base = jp_serverapp.base_url
        context = StorageContext(
            objects=objects, resolve=grants.resolve, disk=disk, db=disk, clock=time.time, base_url=base
        )
        routes = storage_routes(context, base + "api/cloud/storage")
        jp_serverapp.web_app.add_handlers(".*$", routes)
        # boto3 quotes the path of its endpoint itself: a name such as ann@example is given to it as it is
        url = f"http://127.0.0.1:{jp_http_port}{unquote(base)}api/cloud/storage"
        yield SimpleNamespace(endpoint_url=url, owner=grants.owner())


async def test_signed_requests_pass_where_a_token_would_be_needed(endpoint):
    s3 = client(endpoint)
    body = b"x" * (3 << 20)

    def work() -> None:
        s3.put_object(Bucket=BUCKET, Key="a b", Body=body)
        assert s3.get_object(Bucket=BUCKET, Key="a b")["Body"].read() == body
        assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["a b"]
        assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == [BUCKET]
        assert (
            refused(client(endpoint, secret="x").put_object, Bucket=BUCKET, Key="a b", Body=b"")
            == "SignatureDoesNotMatch 403"
        )

    await asyncio.to_thread(work)


async def test_a_jupyter_token_is_no_signature(endpoint, jp_fetch):
    with pytest.raises(HTTPClientError) as caught:
        await jp_fetch("api", "cloud", "storage", BUCKET)
    assert caught.value.code == 400
    assert b"AuthorizationHeaderMalformed" in caught.value.response.body
