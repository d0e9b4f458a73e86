"""Getting the model: files of a finished job in the side panel, downloads, where models go; seen in both themes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from simpletuner_lab.testing import eventually
from tests.e2e.browser.kit import PATIENCE_MS, Visit, jupyterlab, visit
from tests.e2e.browser.steps import PANEL, open_panel, row
from tests.lab_kit import dataset, quick_home, request
from tests.server.server_kit import Server

LORA = "pytorch_lora_weights.safetensors"
BIG = bytes(range(256)) * 8192


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    running = jupyterlab(folder, quick_home(folder).root, "/user/ann/").start().slots(4)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def job_id(server: Server, folder: Path) -> str:
    client = server.client()
    asked = request(dataset(folder / "images"), "steady", max_train_steps=40)
    made = client.submit(asked, approve=client.plan(asked).digest).job_id
    eventually(lambda: client.job(made), lambda seen: seen.status == "completed", patience_s=60)
    own = Path(client.outputs(made).folder)
    for step in (20, 40):
        there = own / "checkpoints" / f"step-{step:08d}"
        there.mkdir(parents=True)
        (there / LORA).write_bytes(BIG)
    return made


def opened(page: Visit) -> Locator:
    """The files of the one job."""
    panel = open_panel(page.page)
    row(panel, "steady").get_by_role("button").first.click()
    panel.get_by_role("tab", name="Files").click()
    expect(panel.get_by_role("heading", name="Model")).to_be_visible(timeout=PATIENCE_MS)
    return panel


def wide(page: Visit) -> None:
    """The side area as wide as a person who reads would have it; the launcher comes late and takes the focus."""
    page.page.wait_for_selector(".jp-Launcher", timeout=PATIENCE_MS)
    page.page.evaluate(
        "() => { const split = window.jupyterapp.shell._hsplitPanel; split.setRelativeSizes([1, 1.2, 0]); }"
    )


def test_a_file_and_all_of_them_arrive(chromium: Browser, server: Server, job_id: str) -> None:
    with visit(chromium, server) as page:
        page.open_lab()
        panel = opened(page)
        with page.page.expect_download(timeout=PATIENCE_MS) as one:
            panel.get_by_role("button", name=f"Download {LORA}", exact=True).click()
        assert one.value.suggested_filename == LORA
        assert Path(one.value.path()).read_bytes() == b"lora"
        with page.page.expect_download(timeout=PATIENCE_MS) as big:
            panel.get_by_role("button", name=f"Download checkpoints/step-00000040/{LORA}", exact=True).click()
        assert Path(big.value.path()).read_bytes() == BIG
        with page.page.expect_download(timeout=PATIENCE_MS) as every:
            panel.get_by_role("button", name="Download all").click()
        assert every.value.suggested_filename == "steady.zip"
        with zipfile.ZipFile(io.BytesIO(Path(every.value.path()).read_bytes())) as packed:
            assert packed.testzip() is None
            assert packed.read(f"steady/{LORA}") == b"lora"
        assert page.foreign() == []


def test_files_and_push_look_right(chromium: Browser, server: Server, job_id: str) -> None:
    with visit(chromium, server, height=1250) as page:
        page.open_lab()
        wide(page)
        panel = opened(page)
        page.shoot_both("files")
        panel.get_by_role("button", name="Push to…").click()
        panel.get_by_role("textbox", name="Repository").fill("ann/neon")
        page.shoot_both("push")
        assert page.findings(PANEL) == []
        panel.get_by_role("button", name="Send it there").click()
        expect(panel.locator(".stc-confirm-error")).to_contain_text("HF_TOKEN", timeout=PATIENCE_MS)


def test_a_place_is_chosen_by_keyboard_and_shown_in_the_plan(
    chromium: Browser, server: Server, job_id: str, folder: Path
) -> None:
    with visit(chromium, server, height=1400) as page:
        page.open_lab()
        wide(page)
        panel = open_panel(page.page)
        panel.get_by_role("tab", name="New job").click()
        expect(panel.get_by_role("radio", name="This lab")).to_be_checked(timeout=PATIENCE_MS)
        page.press_until("Tab", panel.get_by_role("textbox", name="Folder").first)
        page.page.keyboard.type(str(folder / "images"))
        expect(panel.get_by_role("textbox", name="Folder").first).to_have_value(str(folder / "images"))
        page.press_until("Tab", panel.get_by_label("Base model"))
        page.page.keyboard.type("builtin:tiny")
        page.press_until("Tab", panel.get_by_role("radio", name="This lab"))
        page.page.keyboard.press("ArrowRight")
        page.page.keyboard.press("ArrowRight")
        expect(panel.get_by_role("radio", name="S3 bucket")).to_be_checked()
        page.press_until("Tab", panel.get_by_role("textbox", name="Bucket"))
        page.page.keyboard.type("Models!")
        panel.get_by_role("radio", name="S3 bucket").scroll_into_view_if_needed()
        page.shoot_both("destination")
        assert page.findings(PANEL) == []
        page.page.reload()
        expect(panel.get_by_role("textbox", name="Bucket")).to_have_value("Models!", timeout=PATIENCE_MS)


def test_settings_look_right(chromium: Browser, server: Server) -> None:
    with visit(chromium, server, height=1500) as page:
        page.open_lab()
        wide(page)
        panel = open_panel(page.page)
        panel.get_by_role("tab", name="Settings").click()
        panel.get_by_role("radio", name="Hugging Face Hub").click(timeout=PATIENCE_MS)
        panel.get_by_role("textbox", name="Repository").fill("ann/loras")
        panel.get_by_role("button", name="Remember as default").click()
        expect(panel.get_by_text("Saved: later jobs begin with it.")).to_be_visible(timeout=PATIENCE_MS)
        assert server.client().destination().kind == "hub"
        page.shoot_both("settings-destination")
        assert page.findings(PANEL) == []
