"""JupyterLab in Japanese, and every screen of the panel in each language that we have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.browser.kit import PATIENCE_MS, Visit, jupyterlab, notebook7, visit, write_notebook
from tests.e2e.browser.language_kit import catalogue, installed_pack, speaking
from tests.e2e.browser.steps import open_panel, row, training_cell
from tests.lab_kit import dataset, quick_home, request
from tests.server.server_kit import Server

WORDS = {"Other": ["その他"]}
"""What of JupyterLab's own Japanese is asked for here."""
SCREENS = {"jobs": "Jobs", "form": "New job", "spend": "Spend", "settings": "Settings"}


@pytest.fixture(scope="module")
def packed(folder: Path) -> Iterator[None]:
    with installed_pack(folder, "ja_JP", WORDS):
        yield


@pytest.fixture(scope="module")
def lab(packed: None, folder: Path) -> Iterator[Server]:
    running = speaking(jupyterlab(folder, quick_home(folder).root, "/user/ann/"), "ja_JP").start()
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
    server = speaking(notebook7(folder / "seven", quick_home(folder / "seven").root, "/"), "ja_JP").start()
    try:
        cell = training_cell(dataset(folder / "seven" / "images"), "quick", "seven")
        with visit(chromium, server) as page:
            page.open_notebook(write_notebook(server, "japanese.ipynb", cell))
            page.run(0)
            expect(page.cell(0).get_by_role("heading", name="プラン: seven")).to_be_visible(timeout=PATIENCE_MS)
            expect(page.cell(0).get_by_role("button", name="ここで学習する")).to_be_enabled()
    finally:
        server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["ja_JP", "zh_CN", "es_ES", "pt_BR"])
def test_every_screen_of_the_panel_fits_its_words(chromium: Browser, tmp_path: Path, locale: str) -> None:
    """Nothing is wider than the panel, and a picture of each screen is kept."""
    words = catalogue(locale)
    with installed_pack(tmp_path, locale, {}):
        server = speaking(jupyterlab(tmp_path, quick_home(tmp_path).root, "/"), locale).start()
    try:
        asked, client = request(dataset(tmp_path / "images"), "quick"), server.client()
        client.submit(asked, approve=client.plan(asked).digest)
        with visit(chromium, server) as page:
            page.open_lab()
            panel = open_panel(page.page)
            for screen, label in SCREENS.items():
                panel.get_by_role("tab", name=words[label][0], exact=True).click()
                expect(panel.get_by_role("tabpanel")).not_to_be_empty(timeout=PATIENCE_MS)
                page.shoot(f"language-{locale}-{screen}", panel)
                assert panel.evaluate("box => box.scrollWidth <= box.clientWidth"), screen
            panel.get_by_role("tab", name=words["Jobs"][0], exact=True).click()
            row(panel, "quick").click()
            expect(panel.get_by_role("tab", name=words["Loss"][0], exact=True)).to_be_visible(timeout=PATIENCE_MS)
            page.shoot(f"language-{locale}-job", panel)
            assert panel.evaluate("box => box.scrollWidth <= box.clientWidth")
    finally:
        server.stop()
