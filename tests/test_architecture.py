"""What no type checker holds: what an import brings, who is let in, who names a provider, how long a file may grow."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from jupyter_server.base.handlers import JupyterHandler
from tornado import web

import simpletuner_lab
import simpletuner_trainer
from simpletuner_lab.server.base import LabHandler
from simpletuner_lab.server.hooks import WebhookHandler
from simpletuner_lab.server.listener import NowhereHandler
from simpletuner_lab.server.routes import people_rules
from simpletuner_lab.server.storage.handlers import StorageHandler

ROOT = Path(__file__).resolve().parent.parent
LAB = ROOT / "simpletuner_lab"
TRAINER = ROOT / "trainer" / "simpletuner_trainer"
VERBS = ("head", "get", "post", "put", "patch", "delete", "options")
LONGEST_FILE = 400
LONGEST_FUNCTION = 60

HEAVY = frozenset(
    (
        "torch",
        "diffusers",
        "sqlalchemy",
        "alembic",
        "plotly",
        "numpy",
        "PIL",
        "boto3",
        "tornado",
        "jupyter_server",
        "httpx",
    )
)


@cache
def toml(name: str) -> dict:
    return tomllib.loads((ROOT / name).read_text("utf-8"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree(path)))


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


# -------------------------------------------------------------------------------------------------------------- imports


def modules_after(statement: str, *options: str, path: Path | None = None) -> set[str]:
    """Names of all top-level modules in a fresh interpreter after a statement."""
    first = "" if path is None else f"import sys; sys.path.insert(0, {str(path)!r})"
    last = "import json, sys; print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    code = f"{first}\n{statement}\n{last}"
    done = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_importing_the_lab_is_cheap() -> None:
    assert modules_after("import simpletuner_lab; dir(simpletuner_lab)", path=ROOT) & HEAVY == set()


def test_every_public_name_is_there() -> None:
    assert all(hasattr(simpletuner_lab, name) for name in simpletuner_lab.__all__)


def test_spec_and_report_need_nothing_installed() -> None:
    statement = "import simpletuner_trainer.spec, simpletuner_trainer.report"
    found = modules_after(statement, "-I", "-S", path=TRAINER.parent)
    assert found - set(sys.stdlib_module_names) == {"__main__", "simpletuner_trainer"}


def test_the_supervisor_needs_nothing_installed() -> None:
    imported = {
        name.partition(".")[0]
        for node in nodes(LAB / "providers" / "_supervisor.py")
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert imported - set(sys.stdlib_module_names) == set()


# --------------------------------------------------------------------------------------------------------- who is let in


def methods(handler: type[web.RequestHandler]) -> Iterator[str]:
    return (verb for verb in VERBS if getattr(handler, verb) is not getattr(web.RequestHandler, verb))


def wrapped_in(function: object) -> list[str]:
    """Files of the wrappers around a function, the outermost first, down to the function itself."""
    files = []
    while function is not None:
        files.append(Path(function.__code__.co_filename).as_posix())  # type: ignore[attr-defined]
        function = getattr(function, "__wrapped__", None)
    return files


PEOPLE = [rule[:2] for rule in people_rules("/")]


@pytest.mark.parametrize(("pattern", "handler"), PEOPLE, ids=[pattern for pattern, _ in PEOPLE])
def test_every_method_asks_who_and_whether(pattern: str, handler: type[web.RequestHandler]) -> None:
    """Tornado's `authenticated` outside, Jupyter's `authorized` within, on each verb of each route."""
    assert issubclass(handler, LabHandler)
    assert handler.auth_resource == "simpletuner_lab"
    own = [verb for verb in methods(handler) if getattr(handler, verb) is not getattr(JupyterHandler, verb, None)]
    ours = [verb for verb in own if verb not in {"head", "options"}]
    assert ours, pattern
    for verb in ours:
        method = getattr(handler, verb)
        assert not getattr(method, "__allow_unauthenticated", False), verb
        outer, inner, own_file = wrapped_in(method)
        assert outer.endswith("tornado/web.py"), verb
        assert inner.endswith("jupyter_server/auth/decorator.py"), verb
        assert Path(own_file).is_relative_to(LAB), verb


def test_the_object_endpoint_says_that_it_has_its_own_authentication() -> None:
    """Jupyter's marker on each verb; `prepare` of our own admits nobody without a signature."""
    found = list(methods(StorageHandler))
    assert set(found) == {"get", "head", "put", "post", "delete"}
    assert all(getattr(getattr(StorageHandler, verb), "__allow_unauthenticated", False) for verb in found)
    assert StorageHandler.prepare is not web.RequestHandler.prepare


def test_webhooks_say_that_they_have_their_own_authentication() -> None:
    """So do the methods of the second listener's 404, which no login guards either."""
    assert set(methods(WebhookHandler)) == {"post"}
    for handler in (WebhookHandler, NowhereHandler):
        assert not issubclass(handler, JupyterHandler)
        assert all(getattr(getattr(handler, verb), "__allow_unauthenticated", False) for verb in methods(handler))


def test_errors_become_answers_in_one_place() -> None:
    files = [path for path in python_files("simpletuner_lab/server") if re.search(r"def write_error", path.read_text())]
    assert files == [LAB / "server" / "base.py", LAB / "server" / "storage" / "handlers.py"]


# ------------------------------------------------------------------------------------------------- who names a provider


def provider_ids() -> frozenset[str]:
    return frozenset(toml("pyproject.toml")["project"]["entry-points"]["simpletuner_lab.providers"])


def other_meanings(path: Path) -> set[int]:
    """Ids of the nodes in which "local" is a data set's type, or beside "cloud" a job's."""
    found: set[int] = set()
    for node in nodes(path):
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            found |= {id(value) for key, value in pairs if isinstance(key, ast.Constant) and key.value == "type"}
        if not isinstance(node, ast.keyword | ast.IfExp | ast.Set):
            continue
        parts = list(ast.walk(node))
        words = {part.value for part in parts if isinstance(part, ast.Constant)}
        if "cloud" in words or (isinstance(node, ast.keyword) and node.arg == "type"):
            found |= set(map(id, parts))
    return found


def test_nobody_names_a_provider() -> None:
    """DESIGN §2.4: none outside providers/ and testing/, but for the one default, `SubmitRequest.provider`."""
    ids, named = provider_ids(), []
    assert "local" in ids
    for path in python_files("simpletuner_lab"):
        if {"providers", "testing"} & set(path.relative_to(LAB).parts):
            continue
        allowed = other_meanings(path)
        named += [
            where(path, node.lineno)
            for node in nodes(path)
            if isinstance(node, ast.Constant) and node.value in ids and id(node) not in allowed
        ]
    assert [place.partition(":")[0] for place in named] == ["simpletuner_lab/core/plan.py"], named


# --------------------------------------------------------------------------------------------------------- distributions


def test_versions_and_pins_agree() -> None:
    project = toml("pyproject.toml")["project"]
    version = simpletuner_trainer.__version__
    assert toml("trainer/pyproject.toml")["project"]["version"] == version
    assert f"simpletuner-trainer=={version}" in project["dependencies"]
    assert f"simpletuner-trainer[train]=={version}" in project["optional-dependencies"]["local"]
    assert simpletuner_lab.__version__ == version
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    for name in ("package.json", "package-lock.json"):
        assert json.loads((ROOT / "js" / name).read_text("utf-8"))["version"] == version, name


def test_the_lock_of_js_names_no_registry_and_every_platform() -> None:
    """`npm ci` refuses a lock from which a package for another platform is missing; `npm run lock` makes it whole."""
    packages = json.loads((ROOT / "js" / "package-lock.json").read_text("utf-8"))["packages"]
    assert [name for name, package in packages.items() if "resolved" in package] == []
    optional = {name for package in packages.values() for name in package.get("optionalDependencies", {})}
    assert sorted(name for name in optional if f"node_modules/{name}" not in packages) == []


def test_the_trainer_installs_without_dependencies() -> None:
    assert toml("trainer/pyproject.toml")["project"]["dependencies"] == []


def test_what_the_distributions_name_is_there() -> None:
    project = toml("pyproject.toml")["project"]
    for entry in (*project["scripts"].values(), *project["entry-points"]["simpletuner_lab.providers"].values()):
        module, _, name = entry.partition(":")
        path = ROOT / (module.replace(".", "/") + ".py")
        assert any(getattr(node, "name", "") == name for node in tree(path).body), entry
    shared = toml("pyproject.toml")["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    server = ROOT / "jupyter-config" / "server-config" / "simpletuner_lab.json"
    assert json.loads(server.read_text())["ServerApp"]["jpserver_extensions"] == {"simpletuner_lab": True}
    assert {(ROOT / path).exists() for path in shared} == {True}
    for distribution in (ROOT, TRAINER.parent):
        assert (distribution / "README.md").stat().st_size


def test_what_says_it_is_typed_is() -> None:
    for project, package in (("pyproject.toml", LAB), ("trainer/pyproject.toml", TRAINER)):
        typed = "Typing :: Typed" in toml(project)["project"]["classifiers"]
        assert (package / "py.typed").is_file() == typed, package


def test_no_file_enters_a_wheel_twice() -> None:
    """Hatchling refuses to build one: what lies in a package is in the wheel already."""
    for project in ("pyproject.toml", "trainer/pyproject.toml"):
        wheel = toml(project)["tool"]["hatch"]["build"]["targets"]["wheel"]
        forced = [name for name in wheel.get("force-include", {}) if name.startswith(tuple(wheel["packages"]))]
        assert forced == [], project


# ---------------------------------------------------------------------------------------------------------------- style

CODE = ("simpletuner_lab", "trainer", "tests", "scripts")


def test_files_stay_readable() -> None:
    lengths = {path.relative_to(ROOT): path.read_text("utf-8").count("\n") for path in python_files(*CODE)}
    assert {str(path): lines for path, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_functions_stay_readable() -> None:
    long = {
        where(path, node.lineno): node.end_lineno - node.lineno + 1
        for path in python_files(*CODE)
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION
    }
    assert long == {}


def test_no_global() -> None:
    found = [
        where(path, node.lineno) for path in python_files(*CODE) for node in nodes(path) if isinstance(node, ast.Global)
    ]
    assert found == []


def test_no_mocks() -> None:
    mocks = re.compile(r"\b(unittest\.mock|from mock|import mock|MagicMock|mocker)\b")
    mine = Path(__file__)
    assert [str(path) for path in python_files("tests") if path != mine and mocks.search(path.read_text("utf-8"))] == []


def test_broad_excepts_are_where_one_fault_must_not_take_others_down() -> None:
    allowed = {"services/watcher.py", "services/registry.py", "services/provider_looks.py",
               "widgets/follower.py", "providers/_service_thread.py"}  # fmt: skip
    found = {
        path.relative_to(LAB).as_posix()
        for path in python_files("simpletuner_lab")
        for node in nodes(path)
        if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name) and node.type.id == "Exception"
    }
    assert found - allowed == set()
