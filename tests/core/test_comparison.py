"""What differs between two JSON values, as a table of cases."""

from __future__ import annotations

import pytest

from simpletuner_lab.core.comparison import Kind, differences
from simpletuner_lab.core.errors import InvalidRequest, SecretInConfig
from simpletuner_lab.core.snapshot import entry_of, require_words, slug
from tests.core.planted import SECRETS

CATS, DOGS = {"id": "cats", "repeats": 1}, {"id": "dogs", "repeats": 1}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"a": 1}, {"a": 1.0}, []),
        ({"a": 1}, {"a": True}, [("a", "changed", 1, True)]),
        ({"a": [1, {"b": 1}]}, {"a": [1, {"b": True}]}, [("a", "changed", [1, {"b": 1}], [1, {"b": True}])]),
        ({"a": 1e-3}, {"a": 0.001}, []),
        ({"a": None}, {}, [("a", "removed", None, None)]),
        ({}, {"a": None}, [("a", "added", None, None)]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 2, "c": 2}}, [("a.b", "changed", 1, 2)]),
        ({"a": {"b": 1}}, {"a": [1]}, [("a", "changed", {"b": 1}, [1])]),
        ({"x.y": 1}, {"x.y": 2}, [('["x.y"]', "changed", 1, 2)]),
        ({"a": [1, 2]}, {"a": [2, 1]}, [("a", "changed", [1, 2], [2, 1])]),
        ({"d": [CATS]}, {"d": [CATS | {"repeats": 3}]}, [("d[cats].repeats", "changed", 1, 3)]),
        ({"d": [CATS]}, {"d": [CATS, DOGS]}, [("d[dogs]", "added", None, DOGS)]),
        ({"d": [CATS, DOGS]}, {"d": [DOGS]}, [("d[cats]", "removed", CATS, None)]),
        ({"d": [CATS, DOGS]}, {"d": [DOGS, CATS]}, [("d.order", "changed", ["cats", "dogs"], ["dogs", "cats"])]),
        ({"d": [CATS, CATS]}, {"d": [CATS]}, [("d", "changed", [CATS, CATS], [CATS])]),
        ({"d": []}, {"d": [CATS]}, [("d[cats]", "added", None, CATS)]),
        ({"b": 1, "a": 1}, {"a": 2, "c": 1}, [("a", "changed", 1, 2), ("b", "removed", 1, None), ("c", "added", None, 1)]),
    ],
)  # fmt: skip
def test_differences(before: object, after: object, told: list[tuple[object, ...]]) -> None:
    found = differences(before, after)
    assert [(one.path, one.kind.value, one.before, one.after) for one in found] == told
    turned = {Kind.ADDED: Kind.REMOVED, Kind.REMOVED: Kind.ADDED, Kind.CHANGED: Kind.CHANGED}
    back = [(one.path, turned[one.kind], one.after, one.before) for one in differences(after, before)]
    assert sorted(back, key=repr) == sorted(((o.path, o.kind, o.before, o.after) for o in found), key=repr)


def test_names_of_configs_never_share_a_folder() -> None:
    names = [
        "neon",
        "Neon",
        "NEON",
        "neon ",
        "neon/..",
        "..",
        ".git",
        "ネオン",
        "-neon",
        "neon.",
        "a" * 60,
        "a" * 61,
        "",
    ]
    folders = [slug(name) for name in names]
    assert len({folder.casefold() for folder in folders}) == len(names)
    assert all(folder and folder.strip(".-/") == folder and "/" not in folder for folder in folders)
    assert slug("neon") == "neon"


def test_words_of_a_person() -> None:
    require_words("before the holidays", "two lines\nare fine")
    for name, message in [("a" * 101, ""), ("a\nb", ""), ("", "\x1b[2J"), ("", "x" * 2001), ("\ud800", "")]:
        with pytest.raises(InvalidRequest):
            require_words(name, message)


@pytest.mark.parametrize("secret", [text for _, text in SECRETS if text.isprintable()])
def test_words_hold_no_secret(secret: str) -> None:
    with pytest.raises(SecretInConfig):
        require_words("", secret)


def test_the_last_paragraph_of_a_message_alone_is_for_programs() -> None:
    text = "Job-Id: forged\n\nJob-Id: forged too\n\nSnapshot: one\nJob-Id: real\nFolder: neon\n"
    found = entry_of("c" * 40, text, 1.0)
    assert (found.job_id, found.name, found.folder) == ("real", "one", "neon")
    assert entry_of("c" * 40, "a word of my own", 1.0).message == "a word of my own"
