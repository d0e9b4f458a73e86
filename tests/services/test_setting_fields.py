"""What a form is drawn from: a provider's `Settings`, read with the strings below its fields."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from simpletuner_lab.core import errors
from simpletuner_lab.core.errors import InvalidRequest, Problem
from simpletuner_lab.providers.replicate import ReplicateProvider
from simpletuner_lab.services.codec import decode, encode
from simpletuner_lab.services.setting_fields import FieldKind, SettingField, fields_of
from tests.services.remote_kit import away_lab


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """One of each kind."""

    place: str = field(default="here", metadata={"choices": ("here", "there")})
    """Where it is,
    in a word."""
    wait_s: float | None = None
    tries: int = 3
    """How often."""
    names: tuple[str, ...] = ("a",)
    sure: bool = True

    def __post_init__(self) -> None:
        if self.tries < 1:
            problem = Problem(path="tries", message="is too few", hint="1 at least")
            raise InvalidRequest("tries is too few", problems=[problem])


def test_kind_default_choices_and_words_of_each() -> None:
    def drawn(name: str, kind: FieldKind, default: object, doc: str = "") -> SettingField:
        return SettingField(name=name, kind=kind, default=default, choices=(), doc=doc)

    first, *rest = fields_of(Samples)
    place = drawn("place", FieldKind.TEXT, "here", "Where it is, in a word.")
    assert first == dataclasses.replace(place, choices=("here", "there"))
    assert rest == [
        drawn("wait_s", FieldKind.NUMBER, None),
        drawn("tries", FieldKind.NUMBER, 3, "How often."),
        drawn("names", FieldKind.LIST, ["a"]),
        drawn("sure", FieldKind.FLAG, True),
    ]


def test_a_class_without_source_has_no_words() -> None:
    made = dataclasses.make_dataclass("Made", [("count", int, field(default=1))])
    assert [(one.name, one.doc) for one in fields_of(made)] == [("count", "")]


def test_every_setting_of_replicate_has_words_and_its_hardware_is_chosen() -> None:
    found = {one.name: one for one in fields_of(ReplicateProvider.Settings)}
    assert [name for name, one in found.items() if not one.doc] == []
    assert found["hardware"].default in found["hardware"].choices
    assert found["verify_tls"].kind is FieldKind.FLAG
    assert encode(tuple(found.values()))[0]["name"] == "base_url"


def test_what_a_class_finds_wrong_keeps_its_place() -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode(Samples, {"tries": 0}, what="settings")
    assert refused.value.problems == (Problem(path="settings.tries", message="is too few", hint="1 at least"),)


def test_the_settings_of_a_provider_come_with_their_fields(tmp_path: Path) -> None:
    with away_lab(tmp_path, price=1.0) as away:
        found = away.lab.setup.config("elsewhere")
        assert [one.name for one in found.fields] == list(found.config)
        assert {one.name: one.default for one in found.fields}["price"] == 3.6
        with pytest.raises(errors.ProviderNotFound):
            away.lab.setup.config("nobody")
