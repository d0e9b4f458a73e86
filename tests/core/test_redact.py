"""Secrets in configs are found and named by their place, never repeated; references pass (SPEC K3)."""

from __future__ import annotations

import json

import pytest

from simpletuner_lab.core.redact import find_secrets, mask, reference_name
from simpletuner_lab.core.secret import MASK, Secret
from tests.core.planted import HARMLESS_TEXTS, SECRETS

SECRET_KEYS = [
    "hf_token", "--hf_token", "hub_token", "token", "api_key", "apiKey", "api-key", "openai_api_key", "access_key",
    "aws_access_key_id", "aws_secret_access_key", "s3_secret_key", "secretAccessKey", "s3_access_key", "auth_token",
    "upload_token", "password", "db_password", "passphrase", "client_secret", "webhook_secret", "secret", "credentials",
    "wandb_api_key", "huggingface_token", "authorization", "use_auth_token", "webhook_token", "AUTH_TOKEN",
]  # fmt: skip
ORDINARY_KEYS = [
    "hub_model_id", "tokenizer_max_length", "max_token_length", "placeholder_token", "instance_prompt",
    "caption_strategy",
    "push_to_hub", "resume_from_checkpoint", "trigger_token_count", "keyframes", "key", "monkey", "learning_rate",
    "tokens",
    "model_family", "secretary", "passwordless",
]  # fmt: skip


@pytest.mark.parametrize(("label", "secret"), SECRETS)
def test_a_token_shape_anywhere_is_named_by_its_path_and_not_repeated(label, secret):
    config = {"steps": 10, "nested": [{"prompt": f"a cat, {secret}"}], "fine": "a dog"}
    (problem,) = find_secrets({"config": config})
    assert problem.path == "config.nested[0].prompt"
    assert label in problem.message
    assert secret not in repr(problem)


def test_a_token_shape_in_a_key_is_found_and_masked():
    secret = dict(SECRETS)["a Hugging Face token"]
    (problem,) = find_secrets({"config": {secret: 1}})
    assert problem.path == f"config.{MASK}"
    assert secret not in repr(problem)


@pytest.mark.parametrize("key", SECRET_KEYS)
@pytest.mark.parametrize("value", ["short", "x" * 40, 123456, 1.5, ["one"], {"value": "deep"}])
def test_a_literal_under_a_secret_key_is_refused(key, value):
    problems = find_secrets({key: value}, "config")
    assert len(problems) == 1
    assert problems[0].path.startswith(f"config.{key}")
    assert "environment" in problems[0].hint
    assert "xxxx" not in repr(problems)


@pytest.mark.parametrize("key", SECRET_KEYS)
@pytest.mark.parametrize("value", [None, "", "  ", True, False, {"env": "HF_TOKEN"}, "env:HF_TOKEN", [], {}])
def test_a_reference_or_nothing_under_a_secret_key_passes(key, value):
    assert find_secrets({key: value}) == ()


@pytest.mark.parametrize("key", ORDINARY_KEYS)
def test_an_ordinary_key_may_hold_any_text(key):
    assert find_secrets({key: "some text", "n": {key: 12}}) == ()


@pytest.mark.parametrize("text", HARMLESS_TEXTS)
def test_prompts_pass(text):
    assert find_secrets({"validation_prompt": text}) == ()


def test_every_problem_is_reported_at_once_in_order():
    config = {"a": {"password": "hunter2"}, "b": [dict(SECRETS)["a Stripe key"], {"hf_token": "x"}]}
    assert [problem.path for problem in find_secrets(config)] == ["a.password", "b[0]", "b[1].hf_token"]


@pytest.mark.parametrize(
    "value", ["HF_TOKEN", "env:", "env:has blank", {"env": 5}, {"env": "A", "x": 1}, {}, None, 3, "env:1A"]
)
def test_what_is_no_reference_names_nothing(value):
    assert reference_name(value) is None


def test_a_token_is_no_name_of_a_variable():
    secret = dict(SECRETS)["a Hugging Face token"]
    assert reference_name(f"env:{secret}") is None
    assert len(find_secrets({"hf_token": {"env": secret}})) == 1


@pytest.mark.parametrize(("label", "secret"), [pair for pair in SECRETS if "service account" not in pair[0]])
def test_a_log_loses_every_shape_whole(label, secret):
    masked = mask(f"before {secret} after")
    assert masked.startswith("before ")
    assert MASK in masked
    longest = max(secret.replace('"', " ").replace("\\n", " ").split(), key=len)
    assert longest not in masked, label


def test_a_log_loses_known_secrets_of_any_shape():
    assert mask("user odd-shaped here", [Secret("odd-shaped"), Secret("odd"), Secret("")]) == f"user {MASK} here"
    assert mask(json.dumps({"a": 1})) == '{"a": 1}'
