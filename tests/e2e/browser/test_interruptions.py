"""A run is under way, and something breaks: the page, the kernel, the server, or the kernel is just busy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.browser.kit import PATIENCE_MS, Visit, jupyterlab, visit, write_notebook
from tests.e2e.browser.steps import STEADY, agree, cancel, last_step, open_panel, reaches, row, training_cell
from tests.lab_kit import dataset, quick_home
from tests.server.server_kit import Server

BLOCK = "from pathlib import Path\nimport time\nwhile not Path('go').exists(): time.sleep(0.05)\nprint('unblocked')"


@pytest.fixture(scope="module")
def images(folder: Path) -> Path:
    return dataset(folder / "images")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    running = jupyterlab(folder, quick_home(folder).root, "/user/ann/").start().slots(4)
    yield running
    running.stop()


@pytest.fixture
def page(chromium: Browser, server: Server) -> Iterator[Visit]:
    with visit(chromium, server) as opened:
        yield opened


def started(page: Visit, server: Server, images: Path, name: str, *more: str, steps: int = STEADY) -> str:
    """A notebook whose first cell trains; returns its name."""
    notebook = write_notebook(
        server, f"{name}.ipynb", training_cell(images, "steady", name, max_train_steps=steps), *more
    )
    page.open_notebook(notebook)
    place = page.run(0)
    agree(place)
    last_step(place)
    return notebook


def test_the_page_is_loaded_again(page: Visit, server: Server, images: Path) -> None:
    """The cell shows the run again, live, with no cell run; so does the panel, at the job it was at."""
    started(page, server, images, "reloaded", "'hello'")
    panel = open_panel(page.page)
    row(panel, "reloaded").get_by_role("button", name="reloaded", exact=True).click()
    reaches(panel, "running")
    page.execute("docmanager:save")
    page.page.wait_for_timeout(1500)  # JupyterLab writes its workspace a second after the last change
    page.page.reload()
    page.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=PATIENCE_MS)
    place = page.cell(0).locator(".jp-OutputArea")
    step = last_step(place)
    assert last_step(place, beyond=step) > step
    panel = open_panel(page.page)
    reaches(panel, "running")
    cancel(panel, "reloaded")
    reaches(place, "cancelled")


def test_the_kernel_is_restarted(page: Visit, server: Server, images: Path) -> None:
    """The job knows nothing of it: the panel goes on, and so does the cell once it asks for the job."""
    started(
        page,
        server,
        images,
        "survivor",
        "from simpletuner_lab import connect, job\njob(connect().jobs().jobs[0].job_id)",
    )
    page.execute("kernelmenu:restart")
    page.page.get_by_role("button", name="Confirm Kernel Restart").click()
    page.idle()
    place = page.run(1)
    step = last_step(place)
    assert last_step(place, beyond=step) > step
    cancel(place, "survivor")
    reaches(place, "cancelled")


def test_the_server_is_killed_and_started_again(page: Visit, server: Server, images: Path) -> None:
    """The page says that nobody answers, then goes on where it was: nothing is loaded again, nothing is missing."""
    started(page, server, images, "patient", steps=200)
    place = page.cell(0).locator(".jp-OutputArea")
    server.kill()
    expect(place.get_by_text("The server does not answer")).to_be_visible(timeout=PATIENCE_MS)
    step = last_step(place)
    server.start()
    expect(place.get_by_text("The server does not answer")).to_be_hidden(timeout=PATIENCE_MS)
    assert last_step(place, beyond=step) > step
    reaches(place, "completed")
    assert last_step(place, beyond=199) == 200


def test_cancel_while_a_cell_blocks_the_kernel(page: Visit, server: Server, images: Path) -> None:
    """The page's own server answers: the kernel is not asked."""
    started(page, server, images, "blocked", BLOCK)
    blocked(page, server, "blocked")


def test_cancel_while_a_cell_blocks_the_kernel_and_there_is_no_server(
    chromium: Browser, tmp_path: Path, images: Path
) -> None:
    """With the extension off, the lab lives in the kernel: a subshell of it answers."""
    alone = jupyterlab(tmp_path, quick_home(tmp_path).root, "/", ours=False).start()
    try:
        with visit(chromium, alone) as page:
            started(page, alone, images, "subshell", BLOCK)
            blocked(page, alone, "subshell")
            assert not [url for url in page.asked if "/api/cloud/jobs" in url]
    finally:
        alone.stop()


def blocked(page: Visit, server: Server, name: str) -> None:
    """Blocks the kernel, sees the curve move and a cancel click arrive, and lets it go."""
    place = page.cell(0).locator(".jp-OutputArea")
    page.run(1)
    expect(page.cell(1).locator(".jp-InputPrompt")).to_contain_text("[*]")
    step = last_step(place)
    assert last_step(place, beyond=step) > step
    cancel(place, name)
    reaches(place, "cancelled")
    expect(page.cell(1).locator(".jp-InputPrompt")).to_contain_text("[*]")
    (server.folder / "jupyter" / "go").touch()
    page.printed(1, "unblocked")
    (server.folder / "jupyter" / "go").unlink()
