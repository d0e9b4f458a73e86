"""SimpleTuner's keys for publishing become one destination, and leave the config."""

from __future__ import annotations

from typing import Any

import pytest

from simpletuner_lab.core.destination import HubDestination, S3Destination, label
from simpletuner_lab.core.publishing_keys import translate
from simpletuner_lab.core.redact import find_secrets

S3 = {"provider": "s3", "bucket": "models"}


@pytest.mark.parametrize(
    ("config", "destination"),
    [
        ({}, None),
        ({"push_to_hub": False, "hub_model_id": "ann/neon", "publishing_config": "none"}, None),
        ({"--push_to_hub": "true", "--hub_model_id": "ann/neon"}, HubDestination(repo_id="ann/neon")),
        (
            {"push_checkpoints_to_hub": True, "hub_model_id": "ann/neon", "push_to_hub_background": True},
            HubDestination(repo_id="ann/neon", checkpoints=True),
        ),
        ({"publishing_config": [S3]}, S3Destination(bucket="models")),
        (
            {
                "publishing_config": {
                    "provider": "backblaze_b2", "bucket": "models", "base_path": "/loras/", "region": "eu-1",
                    "endpoint_url": "https://b2.example", "access_key": {"env": "AWS_ACCESS_KEY_ID"},
                }
            },
            S3Destination(bucket="models", prefix="loras/", region="eu-1", endpoint_url="https://b2.example"),
        ),
    ],
)  # fmt: skip
def test_what_they_ask_for(config: dict[str, Any], destination: object) -> None:
    found = translate({"seed": 1, **config})
    assert (found.destination, dict(found.config), found.problems) == (destination, {"seed": 1}, ())


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"push_to_hub": True}, "config.hub_model_id"),
        ({"push_to_hub": 3}, "config.push_to_hub"),
        ({"publishing_config": [{"provider": "dropbox"}]}, "config.publishing_config[0].provider"),
        ({"publishing_config": [{**S3, "use_ssl": False}]}, "config.publishing_config[0].use_ssl"),
        ({"publishing_config": [{**S3, "secret_key": "env:MINE"}]}, "config.publishing_config[0].secret_key"),
        ({"publishing_config": [{**S3, "bucket": 5}]}, "config.publishing_config[0].bucket"),
        ({"publishing_config": "publish.json"}, "config.publishing_config"),
        ({"publishing_config": ["s3"]}, "config.publishing_config[0]"),
        ({"publishing_config": [S3, S3]}, "config.publishing_config"),
        ({"publishing_config": [S3], "push_to_hub": True, "hub_model_id": "a/b"}, "config.push_to_hub"),
    ],
)
def test_what_is_wrong_is_named(config: dict[str, Any], path: str) -> None:
    assert [problem.path for problem in translate(config).problems] == [path]


def test_secrets_in_it_are_found_by_the_keys_name() -> None:
    config = {"publishing_config": [{**S3, "access_key": "AKIA", "secret_key": "s3cr3t"}]}
    paths = [problem.path for problem in find_secrets({"config": config})]
    assert paths == ["config.publishing_config[0].access_key", "config.publishing_config[0].secret_key"]


def test_a_label_says_where_and_how() -> None:
    assert label(S3Destination(bucket="b", prefix="p/", endpoint_url="https://h:9/x")) == (
        "s3://b/p/ at h:9, home first, then sent by this lab"
    )
