"""Requests from what people write down: mappings, files, folders."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from simpletuner_lab.core.destination import HubDestination
from simpletuner_lab.core.errors import InvalidDataset, InvalidRequest, LabError
from simpletuner_lab.core.plan import DEFAULT_PROVIDER
from simpletuner_lab.submission import request_of


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with folders of images."""
    for name in ("boats", "My pictures!", "deep/boats"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made_of(folder: Path, name: str) -> dict[str, str]:
    return {"id": name, "type": "local", "instance_data_dir": str(folder), "caption_strategy": "textfile"}


def test_a_mapping_and_a_folder(place: Path) -> None:
    asked = request_of({"max_train_steps": 3}, "boats", name="first", hardware="cpu", target="trainer")
    assert asked.config == {"max_train_steps": 3}
    assert asked.dataloader == (made_of(place / "boats", "boats"),)
    assert (asked.provider, asked.name, asked.hardware, asked.target) == (DEFAULT_PROVIDER, "first", "cpu", "trainer")


def test_ids_of_folders_are_safe_and_no_two_alike(place: Path) -> None:
    chosen = {"id": "My-Pictures", "type": "local", "instance_data_dir": "x"}
    asked = request_of({}, ["My pictures!", "boats", Path("deep/boats"), chosen])
    assert [entry["id"] for entry in asked.dataloader] == ["My-pictures-2", "boats", "boats-2", "My-Pictures"]
    assert asked.dataloader[3]["instance_data_dir"] == str(place / "x")


def test_the_folder_one_stands_in_has_a_name(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("boats")
    assert request_of({}, ".").dataloader[0]["id"] == "boats"
    (place / "...").mkdir()
    assert request_of({}, place / "...").dataloader[0]["id"] == "data"


def test_a_request_of_before_stands_but_for_what_is_said(place: Path) -> None:
    before = request_of(
        {"a": 1}, place / "boats", provider="p", target="t", hardware="gpu", name="n", priority="lead", strip_exif=True
    )
    assert request_of(before) == before
    home = HubDestination(repo_id="ann/neon")
    after = request_of(before, place / "deep", provider="q", name="m", destination=home, priority=40)
    assert after == dataclasses.replace(
        before, dataloader=after.dataloader, provider="q", name="m", destination=home, priority=40
    )
    assert [entry["id"] for entry in after.dataloader] == ["deep"]


def test_files_count_from_their_own_folder(place: Path) -> None:
    (place / "deep/config.json").write_text(json.dumps({"--data_backend_config": "data.json", "seed": 1}))
    (place / "deep/data.json").write_text(json.dumps([made_of(Path("boats"), "set")]))
    asked = request_of("deep/config.json")
    assert (asked.config, asked.name) == ({"seed": 1}, "config")
    assert asked.dataloader == (made_of(place / "deep/boats", "set"),)
    assert request_of(Path("deep/config.json"), "boats").dataloader == (made_of(place / "boats", "boats"),)
    assert request_of({}, "deep/data.json").dataloader == asked.dataloader


@pytest.mark.parametrize("key", ["data_backend_config", "--data_backend_config", "dataloader"])
@pytest.mark.parametrize("named", ["boats", ["boats"], [{"id": "boats", "type": "local", "instance_data_dir": "boats", "caption_strategy": "textfile"}]])  # fmt: skip
def test_a_config_names_its_data_sets(place: Path, key: str, named: object) -> None:
    asked = request_of({key: named, "seed": 1})
    assert asked.config == {"seed": 1}
    assert asked.dataloader == (made_of(place / "boats", "boats"),)


def test_the_config_of_a_result_and_a_spec_are_taken_too(place: Path) -> None:
    whole = {"format": "simpletuner-spec/1", "config": {"seed": 1}, "dataloader": str(place / "pictures")}
    (place / "config.json").write_text(json.dumps(whole))
    (place / "pictures").mkdir(exist_ok=True)
    made = request_of(str(place / "config.json"))
    assert made.config == {"seed": 1}
    assert made.dataloader == request_of({}, str(place / "pictures")).dataloader


def test_values_become_json_and_nothing_of_the_caller_is_changed(place: Path) -> None:
    config = {"pretrained_model_name_or_path": place / "base", "dataloader": "boats", "betas": (0.9, 0.99)}
    asked = request_of(config)
    assert asked.config == {"pretrained_model_name_or_path": str(place / "base"), "betas": [0.9, 0.99]}
    assert config["dataloader"] == "boats"


def test_home_is_understood(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(place))
    assert request_of({}, "~/boats").dataloader == (made_of(place / "boats", "boats"),)
    given = {"id": "a", "instance_data_dir": "~/boats"}
    assert request_of({}, given).dataloader[0]["instance_data_dir"] == str(place / "boats")


@pytest.mark.parametrize(
    ("config", "data", "cls", "told"),
    [
        (3, "boats", InvalidRequest, "not int"),
        ([], "boats", InvalidRequest, "not list"),
        ({}, None, InvalidRequest, "no data sets"),
        (None, None, InvalidRequest, "no data sets"),
        ({}, 3, InvalidRequest, "not int"),
        ({}, [3], InvalidRequest, "not int"),
        ({}, b"boats", InvalidRequest, "not int"),
        ({}, [["boats"]], InvalidRequest, "not list"),
        ({}, "nowhere", InvalidDataset, "does not exist"),
        ({}, ["boats", "nowhere"], InvalidDataset, "nowhere does not exist"),
        ({}, "~nobody-of-this-name/x", InvalidRequest, "cannot be found"),
        ({"seed": object()}, "boats", InvalidRequest, "the config holds what JSON cannot"),
        ({}, {"id": {1, 2}}, InvalidRequest, "a data set holds what JSON cannot"),
        ("nowhere.json", "boats", InvalidRequest, "cannot be read"),
        ("boats", "boats", InvalidRequest, "cannot be read"),
        ("bad.json", "boats", InvalidRequest, "is not JSON"),
        ("list.json", "boats", InvalidRequest, "JSON object"),
        ({}, "bad.json", InvalidRequest, "is not JSON"),
        ({}, "numbers.json", InvalidRequest, "JSON list"),
        ("nan.json", "boats", InvalidRequest, "nan.json.lr must be a finite number, not nan"),
        ({"lr": [float("inf")]}, "boats", InvalidRequest, "the config.lr[0] must be a finite number, not inf"),
    ],
)
def test_bad_input_is_one_clear_error(place: Path, config, data, cls: type[LabError], told: str) -> None:
    (place / "bad.json").write_text("{")
    (place / "list.json").write_text("[]")
    (place / "numbers.json").write_text("[1]")
    (place / "nan.json").write_text('{"lr": NaN}')
    with pytest.raises(cls) as caught:
        request_of(config, data)
    assert told in caught.value.message
