"""Every sentence of the front-ends is in every catalogue, with its placeholders; and no catalogue has one that is gone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from jupyterlab_server.translation_utils import get_installed_packages_locale

ROOT = Path(__file__).resolve().parent.parent
LOCALES = ("es_ES", "ja_JP", "pt_BR", "zh_CN")
PLACEHOLDER = re.compile(r"\{\w+\}|%\d")


@cache
def sources() -> dict:
    """What `js/scripts/words.mjs` finds. Node.js is on PATH, or beside this Python."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    node = shutil.which("node", path=path)
    assert node, "no Node.js: `make js` brings one"
    done = subprocess.run([node, "scripts/words.mjs"], cwd=ROOT / "js", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def catalogue(locale: str) -> dict:
    """A language's words as JupyterLab reads them, from the installed package."""
    found, message = get_installed_packages_locale(locale)
    assert "simpletuner_lab" in found, f"{locale}: {message}"
    return found["simpletuner_lab"]


def test_every_word_can_be_found() -> None:
    """A key that is put together when the page runs could not be translated by anybody."""
    assert sources()["unclear"] == []
    assert "Train here" in sources()["words"]


def test_these_are_the_languages() -> None:
    assert sorted(path.name for path in (ROOT / "simpletuner_lab" / "locale").iterdir()) == list(LOCALES)


@pytest.mark.parametrize("locale", LOCALES)
def test_a_catalogue_has_what_the_sources_say_and_nothing_else(locale: str) -> None:
    words = {key for key in catalogue(locale) if key}
    asked = sources()["words"]
    assert {key: asked[key] for key in asked.keys() - words} == {}, "missing"
    assert words - asked.keys() == set(), "stale"


@pytest.mark.parametrize("locale", LOCALES)
def test_a_catalogue_has_the_form_that_jupyterlab_reads(locale: str) -> None:
    """One form a sentence, as it looks up those without a plural; the language as the page names it."""
    found = catalogue(locale)
    about = found.pop("")
    assert about["domain"] == "simpletuner_lab"
    assert about["language"] == locale.replace("_", "-")
    assert re.fullmatch(r"nplurals=\d; plural=[\d()n !=>]+;", about["plural_forms"])
    assert [
        key for key, forms in found.items() if len(forms) != 1 or forms[0] != forms[0].strip() or not forms[0]
    ] == []
    assert list(found) == sorted(found)


@pytest.mark.parametrize("locale", LOCALES)
def test_placeholders_are_those_of_the_english(locale: str) -> None:
    found = catalogue(locale)
    other = {
        key: forms[0]
        for key, forms in found.items()
        if key and Counter(PLACEHOLDER.findall(key)) != Counter(PLACEHOLDER.findall(forms[0]))
    }
    assert other == {}
