"""Base URLs of user names that are hard to spell: boto3 quotes the path of its endpoint once more, or not."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from simpletuner_lab.core.job import JobState
from simpletuner_lab.services.grants import Grants, ServerKey
from simpletuner_lab.testing import eventually
from simpletuner_lab.testing.storage_server import MemoryGrants
from tests.lab_kit import dataset, quick_home, request
from tests.server.outside_kit import s3
from tests.server.server_kit import Server


@pytest.mark.parametrize("user", ["ann@example.org", "100%#1?a b"])
def test_a_model_comes_home_and_clients_come_in(tmp_path: Path, user: str) -> None:
    home = quick_home(tmp_path)
    server = Server(tmp_path, home.root, f"/user/{quote(user, safe='')}/").start()
    try:
        client = server.client()
        asked = request(dataset(tmp_path / "images"))
        job = client.submit(asked, approve=client.plan(asked).digest)
        ended = eventually(lambda: client.job(job.job_id), lambda seen: seen.is_terminal, patience_s=60)
        assert ended.status is JobState.COMPLETED, ended
        owner = Grants(MemoryGrants(), ServerKey.load_or_create(home.server_key), lambda: 0.0).owner()
        own = s3(client.local_upload().endpoint_url, owner)
        assert [bucket["Name"] for bucket in own.list_buckets()["Buckets"]] == ["outputs"]
        own.put_object(Bucket="outputs", Key="a/b c", Body=b"d")
        assert own.get_object(Bucket="outputs", Key="a/b c")["Body"].read() == b"d"
    finally:
        server.stop()
