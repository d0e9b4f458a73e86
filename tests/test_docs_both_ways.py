"""What the code has, the documents have, and the other way round: error codes, settings, traits, commands."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from simpletuner_lab.commands.tree import build_parser
from simpletuner_lab.commands.verbs import VERBS
from simpletuner_lab.core.provider import ENTRY_POINTS
from simpletuner_lab.providers.adapted import ServiceSettings
from simpletuner_lab.server.app import SimpleTunerLabApp

ROOT = Path(__file__).resolve().parent.parent


@cache
def document(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def rows(text: str) -> list[str]:
    """All that stands in backquotes in the first column of its tables."""
    firsts = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return [word for first in firsts for word in re.findall(r"`([^`]+)`", first)]


def part(name: str, heading: str) -> str:
    """A section of a document, to the next heading of its level."""
    found = re.search(
        rf"^{heading}$(.*?)(?=^{heading.partition(' ')[0]} |\Z)", document(name), re.MULTILINE | re.DOTALL
    )
    assert found, heading
    return found[1]


# --------------------------------------------------------------------------------------------------------- error codes


def texts_of(path: Path) -> Iterator[str]:
    """Each `code = "..."` in the body of a class."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        for line in node.body if isinstance(node, ast.ClassDef) else ():
            value = line.value if isinstance(line, ast.Assign | ast.AnnAssign) else None
            targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
            named = any(isinstance(target, ast.Name) and target.id == "code" for target in targets)
            if named and isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.value


def codes_of(package: str) -> set[str]:
    paths = (path for path in (ROOT / package).rglob("*.py") if "testing" not in path.parts)
    return {code for path in paths for code in texts_of(path)}


def test_error_codes() -> None:
    before_jobs, _, _ = document("errors.md").partition("\n## On a job\n")
    assert set(rows(before_jobs)) == codes_of("simpletuner_lab")


def failures_of(path: Path) -> Iterator[str]:
    """Each code that a `Failure` is made with, or that a constant keeps for one."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Failure":
            found = (word.value for word in node.keywords if word.arg == "code")
            yield from (one.value for one in found if isinstance(one, ast.Constant) and isinstance(one.value, str))


def test_codes_on_a_job() -> None:
    told = set(rows(part("errors.md", "## On a job")))
    made = {
        code
        for path in (ROOT / "simpletuner_lab").rglob("*.py")
        for code in failures_of(path)
        if "testing" not in path.parts
    }
    assert {"result_missing", "unknown_provider_state", "run_failed"} <= made
    assert made <= told
    of_runs = {"run_lost", "run_interrupted", "imported_unfinished"}
    trainers = codes_of("trainer/simpletuner_trainer")
    assert told - made - of_runs <= trainers | {"crashed", "stopped"}
    assert trainers <= told | set(rows(document("errors.md")))


# ------------------------------------------------------------------------------------------------------------ settings


def test_traits() -> None:
    told = {row for row in rows(document("operators.md")) if row.startswith("SimpleTunerLabApp.")}
    assert told == {f"SimpleTunerLabApp.{name}" for name in SimpleTunerLabApp.class_own_traits(config=True)}


def settings_classes() -> dict[str, type]:
    points = [point for point in entry_points(group=ENTRY_POINTS) if point.value.startswith("simpletuner_lab.")]
    return {point.name: point.load().Settings for point in points if not point.load().capabilities.coming_soon}


def test_settings_of_every_provider() -> None:
    """In the tables below the heading of settings; those of a service behind the interface are a table of their own."""
    told = [row for row in rows(part("operators.md", "## Settings")) if not row.startswith("SimpleTunerLabApp.")]
    classes = [*settings_classes().values(), ServiceSettings]
    assert sorted(told) == sorted(field.name for cls in classes for field in dataclasses.fields(cls))


@pytest.mark.parametrize("field", dataclasses.fields(ServiceSettings), ids=lambda field: field.name)
def test_settings_of_a_service_have_their_defaults(field: dataclasses.Field[object]) -> None:
    shown = "none" if field.default is None else str(field.default) or '""'
    assert f"| `{field.name}` | `{shown}` |" in document("operators.md")


# ------------------------------------------------------------------------------------------------------------ commands


def commands(parser: argparse.ArgumentParser, before: str = "stcloud") -> Iterator[str]:
    """Every whole command, with the words below it."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield before
    for action in below:
        for name, made in action.choices.items():
            yield from commands(made, f"{before} {name}")


def test_commands() -> None:
    told = {re.sub(r"( [A-Z]+)+$", "", row) for row in rows(document("users.md")) if row.startswith("stcloud ")}
    assert told - {"stcloud consent MODE"} == set(commands(build_parser()))


def test_every_command_does_something() -> None:
    """Those that the terminal alone has are in `cli`."""
    names = {command.split()[1] for command in commands(build_parser())}
    assert names - set(VERBS) == {"emulator", "openapi"}
    assert set(VERBS) <= names


def test_the_magic_has_the_same_words() -> None:
    magics = re.findall(r"`%{1,2}stcloud ([a-z]+)", document("users.md"))
    assert magics
    assert set(magics) <= {command.split()[1] for command in commands(build_parser())}
