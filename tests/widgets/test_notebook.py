"""What a saved notebook keeps: the view, a sentence, and a card with the curve, in nbconvert too."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from simpletuner_lab.services.home import Home
from tests.lab_kit import config
from tests.widgets.widget_kit import ROOT, surroundings

VIEW = "application/vnd.jupyter.widget-view+json"
NAME = "<script>alert(1)</script> & co"


@pytest.fixture(scope="module")
def page(folder: Path, home: Home, images: Path) -> Path:
    """A notebook, executed and converted as `jupyter nbconvert --execute --to html` does; the executed one beside it."""
    steady = config("steady", max_train_steps=20)
    cells = [
        f"import simpletuner_lab as st\ntraining = st.submit({steady!r}, {str(images)!r}, name={NAME!r})\ntraining",
        "training.submit(approve=training.plan.digest).status",
        "job = await training\njob.status",
        "st.jobs()",
        "st.submit()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    environment = os.environ | surroundings(folder, home.root) | {"PYTHONPATH": str(ROOT)}
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(folder)}}).execute(env=environment)
    nbformat.write(notebook, folder / "executed.ipynb")
    (folder / "page.html").write_text(HTMLExporter().from_filename(str(folder / "executed.ipynb"))[0], "utf-8")
    return folder / "page.html"


def test_the_page_has_the_curve_and_the_picture(page: Path) -> None:
    html = page.read_text("utf-8")
    assert len(re.findall(r'<svg [^>]*viewbox="0 0 640 220"', html, re.IGNORECASE)) == 1
    assert 'aria-label="Loss over 20 steps' in html
    assert re.search(r'<img [^>]*src="data:image/png;base64,', html)
    assert "step 20/20" in html
    assert "<script>alert(1)</script>" not in html


def test_the_notebook_has_a_view_and_a_card_apart(page: Path) -> None:
    cells = nbformat.read(page.parent / "executed.ipynb", as_version=4).cells
    view, card = cells[0].outputs
    assert set(view.data) == {VIEW, "text/plain"}
    assert set(card.data) == {"text/html", "text/plain"}
    assert card.data["text/plain"].startswith(f"<{NAME}: completed, step 20/20, loss ")
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in card.data["text/html"]
    assert cells[2].outputs[0].data["text/plain"] == "<JobState.COMPLETED: 'completed'>"
    assert "<td>completed</td>" in cells[3].outputs[1].data["text/html"]
    assert "not submitted" in cells[4].outputs[1].data["text/html"]
