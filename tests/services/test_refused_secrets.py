"""A secret of the lab is refused in all that a submit keeps as it is, in whatever encoding, and nothing of it is kept."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from simpletuner_lab.core.destination import S3Destination
from simpletuner_lab.core.errors import SecretInConfig
from simpletuner_lab.core.job import JobFilter
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.services.known import KnownSecrets
from simpletuner_lab.services.lab import Lab, Surroundings
from tests.core.planted import SECRETS
from tests.lab_kit import quick_home, request

TOKEN = dict(SECRETS)["a Replicate token"]
ODD = "odd/shape+of=no&kind%planted-3"
KEPT = "kept-in-a-file-4"
SOURCES = {
    TOKEN: "holds the value of REPLICATE_API_TOKEN",
    ODD: "holds the value of MY_TOKEN",
    KEPT: "holds the value of HF_TOKEN in the lab's secrets",
}  # fmt: skip
"""What is said of where each came from."""
WORDS = {"DB_PASSWORD": "postgres", "SORT_KEY": "19700101", "SIGNING_KEY": "/usr/bin/env"}
"""What the names of these say, their values may not be."""
NAMES = {
    "DATASET_KEY": "dreambooth2024", "AWS_S3_KEY": "datasets/cats-2024/", "TRIGGER_TOKEN": "ohwxperson1",
    "PREFIX_KEY": "datasets/cats2024/second-half_v2/",
}  # fmt: skip
"""Nor these, whose names only end like those of secrets."""

CLOTHES: dict[str, Callable[[str], str]] = {
    "plain": lambda secret: f"x {secret}",
    "base64": lambda secret: base64.b64encode(f"key={secret};x".encode()).decode(),
    "quoted": lambda secret: "".join(f"%{byte:02X}" for byte in secret.encode()),
    "half quoted": lambda secret: quote(secret, safe="").replace("_", "%5F").replace("-", "%2d"),
    "hex": lambda secret: secret.encode().hex(),
}


@pytest.fixture
def knowing(tmp_path: Path) -> Iterator[Lab]:
    home = quick_home(tmp_path)
    (home.secrets / "HF_TOKEN").write_text(KEPT)
    with Lab.open(home.root, Surroundings(environment={"REPLICATE_API_TOKEN": TOKEN, "MY_TOKEN": ODD, **WORDS})) as lab:
        yield lab


def places(asked: SubmitRequest, text: str) -> Iterator[SubmitRequest]:
    """The request with the text wherever a request has one that is kept."""
    entry = asked.dataloader[0]
    yield dataclasses.replace(asked, config={**asked.config, "validation_prompt": text})
    yield dataclasses.replace(asked, config={**asked.config, "tracker_run_name": text})
    yield dataclasses.replace(asked, config={**asked.config, text: 1})
    yield dataclasses.replace(asked, dataloader=({**entry, "id": text},))
    yield dataclasses.replace(asked, dataloader=({**entry, "instance_prompt": [text]},))
    yield dataclasses.replace(asked, name=text)
    yield dataclasses.replace(asked, snapshot_name=text[:100])
    yield dataclasses.replace(asked, snapshot_message=f"this is\n{text}")


@pytest.mark.parametrize("secret", [TOKEN, ODD, KEPT], ids=["a token", "of no shape", "in a file"])
@pytest.mark.parametrize("clothes", CLOTHES)
def test_it_is_refused_wherever_it_stands(knowing: Lab, images: Path, clothes: str, secret: str) -> None:
    text = CLOTHES[clothes](secret)
    for asked in places(request(images), text):
        for verb in (knowing.plan, knowing.submit):
            with pytest.raises(SecretInConfig) as refused:
                verb(asked)
            said = f"{refused.value.message} {refused.value.hint} {refused.value.problems}"
            assert text not in said
            assert secret not in said
    asked, digest = request(images), knowing.plan(request(images)).digest
    for labels in ({"key": text}, {"entry": text}):
        with pytest.raises(SecretInConfig, match=SOURCES[secret]):
            knowing.submit(asked, approve=digest, **labels)
    with pytest.raises(SecretInConfig):
        knowing.preview([{**asked.dataloader[0], "id": text}])
    assert knowing.store.jobs.page(JobFilter()).total == 0


def test_it_is_refused_as_a_part_of_a_destination(knowing: Lab) -> None:
    with pytest.raises(SecretInConfig, match="holds the value of HF_TOKEN in the lab's secrets"):
        knowing.set_destination(S3Destination(bucket="mine", prefix=f"runs/{KEPT}/"))


def test_words_that_a_variable_has_as_well_are_no_secrets(knowing: Lab, images: Path) -> None:
    asked = dataclasses.replace(
        request(images, validation_prompt="postgres at 19700101 in /usr/bin/env"), name="postgres 19700101"
    )
    job = knowing.submit(asked, approve=knowing.plan(asked).digest, key="19700101", entry="postgres")
    assert knowing.store.jobs.get(job.id).name == "postgres 19700101"
    assert knowing.snapshots.request(job.id).config["validation_prompt"] == asked.config["validation_prompt"]


def test_a_variable_whose_name_only_ends_like_one_hinders_no_config(tmp_path: Path) -> None:
    drawn = {"MY_KEY": "9f3Kd0-zQ8m2Lw7pXv5tR1", "ODD_TOKEN": ODD}
    named = {"HF_TOKEN": "short1kept", "DB_PASSWORD": "hunter2024", "WANDB_API_KEY": "abcdefghij1"}
    known = KnownSecrets(tmp_path, NAMES | drawn | named)
    for text in NAMES.values():
        assert known.certain().what_in(f"a {text} b") == ""
        assert known.redactor().text(f"a {text} b") != f"a {text} b", "it is masked all the same"
    for name, text in (drawn | named).items():
        assert known.certain().what_in(f"a {text} b") == f"the value of {name}"


def test_a_secret_that_is_kept_later_counts_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    known = KnownSecrets(folder, WORDS)
    assert known.certain().what_in(f"a {KEPT} b") == ""
    (folder / "NAME").write_text(KEPT)
    assert known.certain().what_in(f"a {KEPT} b") == "the value of NAME in the lab's secrets"
    assert known.certain() is known.certain()
    assert known.redactor().text("postgres") != "postgres", "it is masked all the same: nothing is lost by that"
    assert known.certain().text("postgres 19700101 /usr/bin/env") == "postgres 19700101 /usr/bin/env"


def test_where_a_secret_came_from_is_named_without_any_part_of_one(tmp_path: Path) -> None:
    """A password in an address, a token that a file is named by, and a variable that is called by another's value."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / TOKEN).write_text(KEPT)
    proxy = {"HTTPS_PROXY": "http://ann:pass-word-of-2024@proxy.example:3128"}
    known = KnownSecrets(folder, proxy | {"MY_TOKEN": ODD, f"{ODD}_KEY": "9f3Kd0-zQ8m2Lw7pXv5tR1"})
    assert known.certain().what_in("pass-word-of-2024") == "the password in HTTPS_PROXY"
    assert known.certain().what_in(KEPT) == "a secret of this lab"
    assert known.certain().what_in("9f3Kd0-zQ8m2Lw7pXv5tR1") == "a secret of this lab"
    assert known.certain().what_in("a plain text") == ""
    others = "r8_" + "Q" * 37
    assert known.certain().what_in(f"{others} and {ODD}") == "the value of MY_TOKEN", (
        "what is known says more than a shape"
    )
    assert "Replicate" in known.certain().what_in(others)
