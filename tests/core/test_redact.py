"""Secrets in configs are found and named by their place, never repeated; references pass (SPEC K3)."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest

from simpletuner_lab.core.redact import Redactor, find_secrets, mask, reference_name
from simpletuner_lab.core.secret import MASK, Secret
from tests.core.planted import HARMLESS_TEXTS, SECRETS
from tests.core.test_disguises import CLOTHES

KNOWN = "odd/shape+of=no&kind%planted 2"
"""A secret of no known shape."""

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


DEEPER: dict[str, Callable[[str], str]] = {
    "base64 of base64": lambda s: _base64(f"x={_base64(s)}"),
    "quoted base64": lambda s: "".join(f"%{byte:02x}" for byte in _base64(s).encode()),
    "base64 of quoted": lambda s: _base64("".join(f"%{byte:02X}" for byte in s.encode())),
    "hex of base64": lambda s: _base64(s).encode().hex(),
    "base64 in json in json": lambda s: json.dumps(json.dumps({"\n": _base64(s).replace("/", "\\/")})),
}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("clothes", CLOTHES | DEEPER)
def test_a_token_in_other_clothes_is_found_by_its_path_and_not_repeated(clothes):
    for label, secret in SECRETS:
        text = (CLOTHES | DEEPER)[clothes](secret)
        problems = find_secrets({"config": {"fine": "a dog", "prompt": f"a cat {text}", text: 1}})
        assert problems[0].path == "config.prompt", label
        assert len(problems) == 2, label
        assert text not in repr(problems), label


@pytest.mark.parametrize("clothes", CLOTHES | DEEPER)
def test_a_secret_of_the_lab_is_found_in_any_clothes(clothes):
    text = (CLOTHES | DEEPER)[clothes](KNOWN)
    known = Redactor([Secret(KNOWN)])
    (problem,) = find_secrets({"run": [f"a {text}"]}, "config", known)
    assert problem.path == "config.run[0]"
    assert KNOWN not in repr(problem)
    (key,) = find_secrets({text: "a"}, "config", known)
    assert KNOWN not in repr(key)
    assert find_secrets({"run": [f"a {text}"]}, "config") == (), "nobody else can tell"


def test_a_reference_has_no_secret_for_its_name():
    hidden = f"x{dict(SECRETS)['a Replicate token'].encode().hex()}"
    assert [one.path for one in find_secrets({"a": f"env:{hidden}", "b": {"env": hidden}})] == ["a", "b"]


HONEST = [
    *HARMLESS_TEXTS,
    "/home/ann/pictures/2024-05-01/a_very_long_folder_name_of_the_camera/IMG_20240501_120000_hdr.jpg",
    "C:\\Users\\ann\\new\\table\\x41.png and 100%25 of it",
    "black-forest-labs/FLUX.1-dev",
    "stabilityai/stable-diffusion-xl-base-1.0",
    "https://example.com/?a=%7B%22b%22%3A1%7D",
    "wandb-" + hashlib.sha1(b"a commit").hexdigest(),
    "runs/wandb/" + hashlib.sha1(b"another").hexdigest() + "/files",
    *(
        hashlib.new(name, str(number).encode()).hexdigest()
        for name in ("md5", "sha1", "sha256", "sha512")
        for number in range(50)
    ),
    *(_base64(hashlib.sha512(str(number).encode()).hexdigest()) for number in range(50)),
    *(base64.b64encode(random.Random(number).randbytes(300)).decode() for number in range(200)),
    "data:image/png;base64," + base64.b64encode(bytes(range(256)) * 20).decode(),
    "a photo of a very fine landscape, best quality, highly detailed, " * 500,
    quote("ein Bild von einem Straßencafé, 100 % schön & gemütlich"),
    json.dumps({"prompt": 'a "sign" that reads \\n', "nested": json.dumps({"a": "b\n"})}),
]


def test_honest_texts_pass_as_values_and_as_keys():
    known = Redactor([Secret("a-secret-of-the-lab-1"), Secret("8f1c0de5a4b79322")])
    assert find_secrets({"list": HONEST, **dict.fromkeys(HONEST, 1)}, "config", known) == ()
    assert [known.text(text) for text in HONEST] == HONEST, "and come back as they went in"


@pytest.mark.parametrize("value", [
    {f"key_{number}": f"/data/set-{number}/{number:032x}.png" for number in range(16_000)},
    {"prompts": ["a photo of a cat, best quality"] * 33_000},
    {"one": base64.b64encode(random.Random(1).randbytes(750_000)).decode()},
    {"one": "a photo of sks dog, " * 50_000},
    {"one": "%41" * 350_000},
    {"one": "\\u0041" * 170_000},
], ids=["keys", "prompts", "base64", "prose", "quoted", "escaped"])  # fmt: skip
def test_a_config_of_a_megabyte_is_looked_through_quickly(value):
    known = Redactor([Secret(secret) for _, secret in SECRETS[:20]])
    start = time.thread_time()
    assert find_secrets(value, "config", known) == ()
    assert time.thread_time() - start < 10


def test_a_problem_among_many_texts_is_the_only_one():
    value = {f"key_{number}": f"text {number}" for number in range(3000)}
    value["key_1500"] = _base64(dict(SECRETS)["a Hugging Face token"])
    assert [problem.path for problem in find_secrets(value)] == ["key_1500"]


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
