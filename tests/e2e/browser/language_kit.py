"""JupyterLab in another language: a pack makes it selectable, a setting chooses it, our words come beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import simpletuner_lab
from tests.server.server_kit import Server


@contextmanager
def installed_pack(folder: Path, locale: str, words: dict[str, list[str]]) -> Iterator[None]:
    """A language pack as pip installs one, for servers that are started in the block: `words` are JupyterLab's own."""
    packs = folder / "packs"
    about = packs / "tiny_pack-1.dist-info"
    head = {"": {"domain": "jupyterlab", "language": locale.replace("_", "-"), "plural_forms": "nplurals=1; plural=0;"}}
    for path, text in (
        (packs / "tiny_pack" / "__init__.py", ""),
        (packs / "tiny_pack" / "locale" / locale / "LC_MESSAGES" / "jupyterlab.json", json.dumps(head | words)),
        (about / "METADATA", "Metadata-Version: 2.1\nName: tiny-pack\nVersion: 1\n"),
        (about / "entry_points.txt", f"[jupyterlab.languagepack]\n{locale} = tiny_pack\n"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(packs))
        yield


def speaking(server: Server, locale: str) -> Server:
    """As a person leaves it who chose the language in the settings."""
    lab = server.folder / "jupyter" / "config" / "lab" / "user-settings" / "@jupyterlab" / "translation-extension"
    lab.mkdir(parents=True, exist_ok=True)
    (lab / "plugin.jupyterlab-settings").write_text(json.dumps({"locale": locale}))
    return server


def catalogue(locale: str) -> dict[str, list[str]]:
    """Our words in it, by the English ones."""
    place = Path(simpletuner_lab.__file__).parent / "locale" / locale / "LC_MESSAGES" / "simpletuner_lab.json"
    found: dict[str, list[str]] = json.loads(place.read_text("utf-8"))
    return found
