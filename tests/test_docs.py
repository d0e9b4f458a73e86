"""What the documents must have: every route, error, command, setting, key and target, and links that lead somewhere."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import unquote

import pytest
from tornado import web

from simpletuner_lab import cli
from simpletuner_lab.commands.tree import build_parser
from simpletuner_lab.core import errors
from simpletuner_lab.core.errors import LabError
from simpletuner_lab.providers._replicate_settings import ReplicateSettings
from simpletuner_lab.providers.local import LocalSettings
from simpletuner_lab.server.app import SimpleTunerLabApp
from simpletuner_lab.server.handlers import MissingHandler
from simpletuner_lab.server.openapi import document as description
from simpletuner_lab.server.queueing import NoRouteHandler
from simpletuner_lab.server.routes import API, described_rules, people_rules
from simpletuner_lab.server.storage.errors import STATUS
from simpletuner_lab.services.grants import ServerKeyUnusable
from simpletuner_trainer import errors as trainer_errors
from simpletuner_trainer.config import TrainConfig
from simpletuner_trainer.dataloader import DatasetConfig
from simpletuner_trainer.errors import TrainerError
from simpletuner_trainer.fields import options_of

ROOT = Path(__file__).resolve().parent.parent
VERBS = ("get", "post", "put", "patch", "delete")
LONGEST_DECISION = 30
MOST_PICTURE_BYTES = 400_000
NOT_OURS = {".venv", ".git", "demo", "build", "dist"}

LINK = re.compile(r"(?<!\\)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


@cache
def document(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def documents() -> list[Path]:
    folders = [folder for folder in ROOT.iterdir() if folder.is_dir() and folder.name not in NOT_OURS]
    found = [*ROOT.glob("*.md"), *(path for folder in folders for path in folder.rglob("*.md"))]
    return sorted(path for path in found if "node_modules" not in path.parts)


def missing(name: str, wanted: Iterable[str]) -> list[str]:
    """Those texts that the document does not have."""
    return [text for text in wanted if text not in document(name)]


# ------------------------------------------------------------------------------------------------------------- surfaces


def routes() -> Iterator[str]:
    """`GET /jobs/{id}` and so on: each method of each rule, as docs/rest.md writes it."""
    for whole, handler, *_ in people_rules("/"):
        if handler in {MissingHandler, NoRouteHandler}:  # whatever is no route
            continue
        pattern = re.sub(r"/\?$", "/", whole.removeprefix(f"/{API}"))
        path = (
            pattern.replace("(?!storage/)", "")
            .replace(r"([A-Za-z0-9._-]{1,128})", "{id}")
            .replace("([^/]{1,128})", "{id}")
            .replace("(.+)", "{path}")
            .replace(r"\.", ".")
        )
        stem, _, optional = path.partition("(?:/(")
        paths = [stem, *(f"{stem}/{word}" for word in optional.removesuffix("))?").split("|") if word)]
        methods = [verb for verb in VERBS if getattr(handler, verb) is not getattr(web.RequestHandler, verb)]
        yield from (f"{verb.upper()} {path}" for verb, path in itertools.product(methods, paths))


def test_every_route_is_in_rest() -> None:
    found = list(routes())
    assert not any(set(route) & set("()[]?|\\") for route in found), "a pattern that this test cannot read"
    assert missing("docs/rest.md", (f"### `{route}`\n" for route in found)) == []


def test_rest_has_no_route_that_is_not_there() -> None:
    told = re.findall(r"^### `(.+)`$", document("docs/rest.md"), re.MULTILINE)
    assert sorted(told) == sorted(routes())


def test_the_description_has_the_same_routes() -> None:
    told = {
        re.sub(r"\{(?!path)\w+\}", "{id}", f"{verb.upper()} {path.removeprefix(f'/{API}')}")
        for path, verbs in description(described_rules())["paths"].items()
        for verb in verbs
        if verb != "head"
    }
    assert told - {"POST /api/webhooks/{id}"} == set(routes())
    assert "## Webhooks: `POST /api/webhooks/PROVIDER`" in document("docs/rest.md")


def test_every_section_of_rest_has_an_example() -> None:
    sections = document("docs/rest.md").split("\n### ")[1:]
    assert [section.splitlines()[0] for section in sections if "curl " not in section] == []


def error_codes() -> Iterator[tuple[str, int]]:
    for found in (*vars(errors).values(), ServerKeyUnusable):
        if isinstance(found, type) and issubclass(found, LabError):
            yield found.code, found.status


def test_every_error_is_told_with_its_status() -> None:
    assert missing("docs/errors.md", (f"| `{code}` | {status} |" for code, status in error_codes())) == []


def test_every_error_of_the_trainer_is_told() -> None:
    found = [cls for cls in vars(trainer_errors).values() if isinstance(cls, type) and issubclass(cls, TrainerError)]
    assert missing("docs/errors.md", (f"`{cls.code}`" for cls in found)) == []


def test_every_code_of_the_object_endpoint_is_told() -> None:
    assert missing("docs/errors.md", (f"`{code}`" for code in STATUS)) == []


def commands() -> dict[str, argparse.ArgumentParser]:
    actions = build_parser()._actions
    return next(dict(action.choices) for action in actions if isinstance(action, argparse._SubParsersAction))


def test_every_command_and_option_is_told() -> None:
    assert missing("docs/users.md", (f"`stcloud {name}" for name in commands())) == []
    storage = next(a for a in commands()["storage"]._actions if isinstance(a, argparse._SubParsersAction)).choices
    assert missing("docs/users.md", (f"`stcloud storage {name}" for name in storage)) == []
    webhook = next(a for a in commands()["webhook"]._actions if isinstance(a, argparse._SubParsersAction)).choices
    assert missing("docs/users.md", (f"`stcloud webhook {name}" for name in webhook)) == []
    shown = {
        action.option_strings[0]
        for command in (*commands().values(), storage["grant"], storage["grants"], *webhook.values())
        for action in command._actions
        if action.option_strings and action.dest != "help"
    }
    assert {"--yes", "--watch", "-f", "--outputs", "--data"} <= shown
    assert missing("docs/users.md", (f"`{option}" for option in shown)) == []


def test_every_exit_code_is_told() -> None:
    codes = {cli.OK, cli.FAULT, cli.CONSENT, cli.JOB_FAILED, cli.INTERRUPTED, 2}
    assert missing("docs/users.md", (f"| {code} | " for code in codes)) == []


def test_every_trait_is_told_with_its_default() -> None:
    for name, trait in SimpleTunerLabApp.class_own_traits(config=True).items():
        default = trait.default()
        shown = "empty" if default in ("", []) else default
        assert f"| `SimpleTunerLabApp.{name}` | {shown} |" in document("docs/operators.md")


@pytest.mark.parametrize("settings", [LocalSettings, ReplicateSettings])
def test_every_setting_of_a_provider_is_told_with_its_default(settings: type) -> None:
    told = document("docs/operators.md")
    for field in dataclasses.fields(settings):
        shown = str(field.default) or '""'
        assert f"| `{field.name}` | `{shown}` |" in told, f"{settings.__name__}.{field.name}"


@pytest.mark.parametrize("cls", [TrainConfig, DatasetConfig])
def test_every_config_key_is_told_with_its_default(cls: type) -> None:
    part = document("docs/config.md").split("\n## Dataloader\n")[cls is DatasetConfig]
    for field in dataclasses.fields(cls):
        made = options_of(cls)[field.name]
        assert f"| `{field.name}` | {_shown(field.default, required=made.required)} |" in part
        assert all(f"`{alias}`" in part for alias in made.aliases), made.aliases


def _shown(default: object, *, required: bool) -> str:
    if required:
        return "required"
    if default in (None, "", ()):
        return "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def test_every_make_target_is_told() -> None:
    targets = re.findall(r"^([a-z0-9-]+):.*## ", document("Makefile"), re.MULTILINE)
    assert "demo" in targets
    assert missing("CONTRIBUTING.md", (f"`make {target}`" for target in targets)) == []
    phony = next(line for line in document("Makefile").splitlines() if line.startswith(".PHONY:"))
    assert set(phony.split()[1:]) == set(targets)


def test_every_tiny_configuration_has_its_picture() -> None:
    names = re.findall(r'Configuration\(\s*name="([a-z0-9-]+)"', document("scripts/pictures.py"))
    assert "tiny-lora" in names
    pictures = {f"{name}.png": ROOT / "docs/images/training" / f"{name}.png" for name in names}
    assert missing("docs/training-pictures.md", (f"](images/training/{name})" for name in pictures)) == []
    assert sum(path.stat().st_size for path in pictures.values()) < MOST_PICTURE_BYTES


# ---------------------------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    dead = []
    for link in LINK.findall(FENCE.sub("", path.read_text("utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_decisions_are_short_and_numbered() -> None:
    decisions = sorted((ROOT / "docs/adr").glob("*.md"))
    assert [path.name[:5] for path in decisions] == [f"{number:04d}-" for number in range(1, len(decisions) + 1)]
    assert {path.name for path in decisions if len(path.read_text("utf-8").splitlines()) > LONGEST_DECISION} == set()


def test_the_first_screen_of_the_readme() -> None:
    """Title, one sentence, the picture, the two commands."""
    assert re.match(
        r"# simpletuner_lab\n\n[^\n]+\.\n\n!\[[^\]]+\]\(docs/images/before_after\.png\)\n\n"
        r"```bash\nmake demo[^\n]*\nmake test[^\n]*\n```\n",
        document("README.md"),
    )


def test_the_readme_has_every_provider_that_works() -> None:
    (works,) = re.findall(r"^\| providers \| (.*) \|$", document("README.md"), re.MULTILINE)
    (missing_yet,) = re.findall(r"^Not yet: (.*?)\.$", document("README.md"), re.MULTILINE | re.DOTALL)
    for point in entry_points(group="simpletuner_lab.providers"):
        if not point.load().capabilities.coming_soon:
            assert f"`{point.name}`" in works
            assert point.name not in missing_yet.lower()


def test_python_in_the_documents_compiles() -> None:
    for path in documents():
        for number, block in enumerate(
            re.findall(r"^```python\n(.*?)^```$", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
        ):
            compile(block, f"{path.name}#{number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
