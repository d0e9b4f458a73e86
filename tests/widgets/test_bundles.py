"""The JavaScript that a saved notebook carries: whole, and small."""

from __future__ import annotations

import gzip
import re

import pytest

from simpletuner_lab.widgets import JobsWidget, JobWidget, SpendWidget, SubmitWidget
from simpletuner_lab.widgets.base import LabWidget, bundled

LARGEST = 60_000


@pytest.mark.parametrize("widget", [SubmitWidget, JobWidget, JobsWidget, SpendWidget])
def test_a_bundle_is_small_and_needs_no_other_file(widget: type[LabWidget]) -> None:
    script, styles = bundled(f"{widget.bundle}.js"), bundled(f"{widget.bundle}.css")
    assert sum(len(gzip.compress(text.encode())) for text in (script, styles)) <= LARGEST
    assert not re.search(r"\bimport\b", script), "`imported` is the name of an event"
    assert "@import" not in styles
    assert "url(" not in styles


def test_a_widget_carries_what_it_shows_and_nothing_else() -> None:
    """The words of the form and those of the list's filters are each in one bundle."""
    assert ("Review the plan" in bundled("submit.js"), "Review the plan" in bundled("jobs.js")) == (True, False)
    assert ("stc-jobs-row" in bundled("submit.js"), "stc-jobs-row" in bundled("jobs.js")) == (False, True)
    assert ("stc-jobs-row" in bundled("submit.css"), "stc-jobs-row" in bundled("jobs.css")) == (False, True)
    assert not any("stc-settings" in bundled(name) for name in ("submit.js", "submit.css", "jobs.js", "jobs.css"))
