"""JupyterLab in Japanese: its language pack is what makes a language selectable, our words come beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.browser.kit import PATIENCE_MS, Visit, jupyterlab, notebook7, visit, write_notebook
from tests.e2e.browser.steps import open_panel, training_cell
from tests.lab_kit import dataset, quick_home, request
from tests.server.server_kit import Server

PACK = {"": {"domain": "jupyterlab", "language": "ja-JP", "plural_forms": "nplurals=1; plural=0;"}, "Other": ["その他"]}
"""What of JupyterLab's own Japanese is asked for here."""


@pytest.fixture(scope="module")
def packed(folder: Path) -> Iterator[None]:
    """A language pack as pip installs one."""
    packs = folder / "packs"
    words = packs / "tiny_pack" / "locale" / "ja_JP" / "LC_MESSAGES" / "jupyterlab.json"
    about = packs / "tiny_pack-1.dist-info"
    for path, text in (
        (packs / "tiny_pack" / "__init__.py", ""),
        (words, json.dumps(PACK)),
        (about / "METADATA", "Metadata-Version: 2.1\nName: tiny-pack\nVersion: 1\n"),
        (about / "entry_points.txt", "[jupyterlab.languagepack]\nja_JP = tiny_pack\n"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(packs))
        yield


def japanese(server: Server) -> Server:
    """As a person leaves it who chose Japanese in the settings."""
    lab = server.folder / "jupyter" / "config" / "lab" / "user-settings" / "@jupyterlab" / "translation-extension"
    lab.mkdir(parents=True, exist_ok=True)
    (lab / "plugin.jupyterlab-settings").write_text(json.dumps({"locale": "ja_JP"}))
    return server


@pytest.fixture(scope="module")
def lab(packed: None, folder: Path) -> Iterator[Server]:
    running = japanese(jupyterlab(folder, quick_home(folder).root, "/user/ann/")).start()
    yield running
    running.stop()


@pytest.fixture
def page(chromium: Browser, lab: Server) -> Iterator[Visit]:
    with visit(chromium, lab) as opened:
        yield opened


def test_a_cell_and_the_side_panel(page: Visit, lab: Server, folder: Path) -> None:
    asked = request(dataset(folder / "images"), "quick")
    client = lab.client()
    done = client.submit(asked, approve=client.plan(asked).digest)
    name = write_notebook(lab, "japanese.ipynb", f"from simpletuner_lab import job\njob({done.job_id!r})")
    page.open_notebook(name)
    page.run(0)
    place = page.cell(0).locator(".stc")
    expect(place.get_by_role("tab", name="損失", exact=True)).to_be_visible(timeout=PATIENCE_MS)
    expect(place.locator(".stc-badge")).to_have_text("完了", timeout=PATIENCE_MS)
    expect(place.locator(".stc-job-where")).to_contain_text(re.compile("投入: (たった今|\\d+ 秒前|\\d+ 分前)"))
    panel = open_panel(page.page)
    panel.get_by_role("tab", name="ジョブ", exact=True).click()
    expect(panel.locator(".stc-jobs-row")).to_contain_text("完了")
    page.shoot("japanese")
    page.execute("docmanager:save")
    page.until(lambda: "widget-view" in (folder / "jupyter" / name).read_text())
    page.page.reload()  # the saved output is drawn as soon as the notebook is there
    expect(place.get_by_role("tab", name="損失", exact=True)).to_be_visible(timeout=PATIENCE_MS)
    assert page.foreign() == []


def test_the_launcher_keeps_our_card_among_its_own(page: Visit) -> None:
    page.open_lab()
    page.execute("launcher:create")
    launcher = page.page.locator(".jp-Launcher:visible")  # the page may have opened with one of its own behind it
    section = launcher.locator(".jp-Launcher-section", has_text="その他")
    expect(section.locator(".jp-LauncherCard", has_text="新しい学習ジョブ")).to_be_visible(timeout=PATIENCE_MS)
    expect(launcher.locator(".jp-Launcher-sectionTitle", has_text="その他")).to_have_count(1)


def test_notebook_7(packed: None, chromium: Browser, folder: Path) -> None:
    server = japanese(notebook7(folder / "seven", quick_home(folder / "seven").root, "/")).start()
    try:
        cell = training_cell(dataset(folder / "seven" / "images"), "quick", "seven")
        with visit(chromium, server) as page:
            page.open_notebook(write_notebook(server, "japanese.ipynb", cell))
            page.run(0)
            expect(page.cell(0).get_by_role("heading", name="プラン: seven")).to_be_visible(timeout=PATIENCE_MS)
            expect(page.cell(0).get_by_role("button", name="ここで学習する")).to_be_enabled()
    finally:
        server.stop()
