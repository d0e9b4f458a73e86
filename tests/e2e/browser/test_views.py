"""Each view as it looks, in both themes, kept as a picture; and what axe-core finds on it: nothing serious."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from simpletuner_lab.core.errors import IllegalTransition
from simpletuner_lab.services.views import JobView
from simpletuner_lab.testing import eventually
from tests.e2e.browser.kit import PATIENCE_MS, Visit, jupyterlab, visit, write_notebook
from tests.e2e.browser.steps import PANEL, STEADY, last_step, open_panel, training_cell
from tests.lab_kit import dataset, quick_home, request
from tests.server.server_kit import Server

TABS = ("Loss", "Images", "Logs", "Timeline", "Files", "Plan and cost")
PANEL_TABS = ("Jobs", "New job", "Settings")
FORM, PLAN, RUNNING, DONE, FAILED, LIST = range(6)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    running = jupyterlab(folder, quick_home(folder).root, "/user/ann/").start().slots(2)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def page(chromium: Browser, server: Server, folder: Path) -> Iterator[Visit]:
    """A notebook that shows everything: forms, and a job in each state that has a face of its own."""
    images = dataset(folder / "images", 40)
    (images / ".env").write_text("A=1\n")
    running = submitted(server, images, "steady", max_train_steps=STEADY, validation_prompt="a red boat on a lake")
    done = ended(
        server, submitted(server, images, "steady", max_train_steps=60, validation_prompt="a red boat on a lake")
    )
    failed = ended(server, submitted(server, images, "crash"))
    shown = [f"from simpletuner_lab import job\njob({one.job_id!r})" for one in (running, done, failed)]
    name = write_notebook(
        server,
        "views.ipynb",
        "from simpletuner_lab import submit\nsubmit()",
        training_cell(images, "quick", "a plan"),
        *shown,
        "from simpletuner_lab import jobs\njobs()",
    )
    with visit(chromium, server, height=2600) as opened:
        opened.open_notebook(name)
        opened.execute("application:toggle-left-area")
        opened.execute("notebook:run-all-cells")
        expect(opened.cell(LIST).locator(".stc-jobs-row").first).to_be_visible(timeout=PATIENCE_MS)
        yield opened
        with suppress(IllegalTransition):  # on a slow machine it came to its end by itself
            server.client().cancel(running.job_id)


def submitted(server: Server, images: Path, how: str, **more: object) -> JobView:
    client = server.client()
    asked = request(images, how, **more)
    return client.submit(asked, approve=client.plan(asked).digest)


def ended(server: Server, job: JobView) -> JobView:
    client = server.client()
    return eventually(lambda: client.job(job.job_id), lambda seen: seen.is_terminal, patience_s=60)


def look(page: Visit, name: str, place: Locator, selector: str) -> None:
    """Pictures in both themes, and no serious finding in either."""
    place.scroll_into_view_if_needed()
    for dark in (False, True):
        page.dark(dark)
        page.shoot(f"{name}-{'dark' if dark else 'light'}", place)
        assert page.findings(selector) == [], f"{name}, {'dark' if dark else 'light'}"
    page.dark(False)


def view(page: Visit, number: int) -> tuple[Locator, str]:
    """A cell's view, and the selector that only it fits."""
    place = page.cell(number).locator(".stc")
    expect(place).to_be_visible(timeout=PATIENCE_MS)
    place.evaluate("(element, number) => { element.dataset.shown = number; }", str(number))
    return place, f".stc[data-shown='{number}']"


@pytest.mark.parametrize(("name", "number"), [("form", FORM), ("plan", PLAN), ("failed", FAILED), ("list", LIST)])
def test_a_view_in_a_cell(page: Visit, name: str, number: int) -> None:
    look(page, name, *view(page, number))


@pytest.mark.parametrize("tab", TABS)
def test_a_job_that_is_done(page: Visit, tab: str) -> None:
    place, selector = view(page, DONE)
    place.get_by_role("tab", name=tab, exact=True).click()
    expect(place.get_by_role("tabpanel", name=tab)).to_be_visible()
    if tab == "Loss":
        assert last_step(place, beyond=59) == 60
    look(page, f"job-{tab.lower()}", place, selector)


def test_a_job_that_runs(page: Visit) -> None:
    place, selector = view(page, RUNNING)
    last_step(place)
    look(page, "job-running", place, selector)


@pytest.mark.parametrize("tab", PANEL_TABS)
def test_the_side_panel(page: Visit, tab: str) -> None:
    panel = open_panel(page.page)
    panel.get_by_role("tab", name=tab, exact=True).click()
    look(page, f"panel-{tab.lower().replace(' ', '-')}", panel, PANEL)


def test_a_job_in_the_side_panel(page: Visit) -> None:
    panel = open_panel(page.page)
    panel.get_by_role("tab", name="Jobs", exact=True).click()
    panel.locator("button.stc-jobs-open").first.click()
    expect(panel.get_by_role("button", name="All jobs")).to_be_visible()
    look(page, "panel-job", panel, PANEL)


def test_the_launcher(page: Visit) -> None:
    page.execute("launcher:create")
    card = page.page.locator(".jp-LauncherCard", has_text="New training job")
    expect(card.first).to_be_visible()
    page.shoot("launcher")


def test_nobody_else_was_asked(page: Visit) -> None:
    assert page.foreign() == []
    assert page.errors == []
