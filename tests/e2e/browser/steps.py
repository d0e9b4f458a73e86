"""What a person does on the page, and what they see: shared by the browser's tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.e2e.browser.kit import PATIENCE_MS
from tests.lab_kit import config

PANEL = "#simpletuner-lab-panel"
STEADY = 2400
"""Steps of a run that outlives its test: four minutes."""


def training_cell(images: Path, how: str, name: str, **more: Any) -> str:
    """A cell with a submit form in it, filled."""
    return f"from simpletuner_lab import submit\ntraining = submit({config(how, **more)!r}, {str(images)!r}, name={name!r})\ntraining"


def agree(place: Locator) -> None:
    """Reads the plan and presses the button."""
    expect(place.get_by_role("heading", name=re.compile("^Plan"))).to_be_visible(timeout=PATIENCE_MS)
    place.get_by_role("button", name="Train here").click()


def cancel(place: Locator, name: str) -> None:
    """Cancel, and yes."""
    place.get_by_role("button", name=f"Cancel {name}").click()
    place.get_by_role("button", name="End the run").click()


def reaches(place: Locator, state: str, *, patience_ms: int = PATIENCE_MS) -> None:
    """Waits until the job's page shows a state."""
    expect(place.locator(f".stc-job-title .stc-badge[data-state={state}]")).to_be_visible(timeout=patience_ms)


def last_step(place: Locator, *, beyond: int = 0) -> int:
    """Waits until the curve reaches beyond a step; returns the last one it has."""
    place.locator(".stc-loss").scroll_into_view_if_needed()  # a chart that nobody sees is not drawn
    summary = place.locator(".stc-loss > p.stc-hidden")
    found = 0

    def moved() -> bool:
        nonlocal found
        match = re.search(r"to step ([\d,]+)", summary.text_content() or "")
        found = int(match[1].replace(",", "")) if match else 0
        return found > beyond

    wait_until(place.page, moved)
    return found


def wait_until(page: Page, true: Any, *, patience_ms: int = PATIENCE_MS) -> None:
    """Looks again and again while the page goes on."""
    for _ in range(patience_ms // 100):
        if true():
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"it did not come true within {patience_ms / 1000} s")


def open_panel(page: Page) -> Locator:
    """The side panel, opened by its tab."""
    panel = page.locator(PANEL)
    if not panel.is_visible():
        page.locator("li.lm-TabBar-tab[data-id='simpletuner-lab-panel']").click()
    expect(panel).to_be_visible(timeout=PATIENCE_MS)
    return panel


def row(panel: Locator, name: str) -> Locator:
    """A job's row in a list."""
    return panel.locator(".stc-jobs-row", has_text=name)
