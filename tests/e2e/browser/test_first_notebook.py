"""Notebook 01 from top to bottom, as a person runs it: JupyterLab, the real trainer, a click to agree, a saved notebook."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, expect

from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.services.home import Home
from tests.e2e.browser.kit import ROOT, jupyterlab, visit
from tests.e2e.browser.steps import agree, cancel, last_step, open_panel, reaches, row
from tests.server.server_kit import Server

NOTEBOOK = ROOT / "notebooks/01_first_training.ipynb"
NEON = ROOT / "trainer/simpletuner_trainer/assets/styles/neon/train"
FORM, FIGURE, FILES, PAINTED = 2, 5, 7, 9
"""Numbers of the notebook's cells."""
STEPS = 300
"""That the notebook as it ships trains: a minute on two cores of their own, five with other tests beside it."""
FEWER_STEPS = 40
TRAINING_MS = 400_000


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    running = jupyterlab(folder, Home(folder / "home").prepare().root, "/user/ann/").start()
    yield running
    running.stop()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("steps", [FEWER_STEPS, pytest.param(STEPS, marks=pytest.mark.slow)])
def test_a_first_training(chromium: Browser, server: Server, folder: Path, steps: int) -> None:
    source = NOTEBOOK.read_text("utf-8")
    assert f'max_train_steps\\": {STEPS}' in source
    (folder / "jupyter" / NOTEBOOK.name).write_text(
        source.replace(f'max_train_steps\\": {STEPS}', f'max_train_steps\\": {steps}'), "utf-8"
    )
    with visit(chromium, server) as page:
        page.open_notebook(NOTEBOOK.name)
        page.execute("notebook:run-all-cells")
        form = page.cell(FORM).locator(".jp-OutputArea")
        agree(form)
        step = last_step(form)
        assert last_step(form, beyond=step) > step
        panel = open_panel(page.page)
        other = to_be_cancelled(server)
        cancel(row(panel, "other"), "other")
        reaches(form, "completed", patience_ms=TRAINING_MS)
        assert last_step(form, beyond=steps - 1) == steps
        for name, state in (("first training", "completed"), ("other", "cancelled")):
            expect(row(panel, name).locator(f".stc-badge[data-state={state}]")).to_be_visible()
        assert server.client().job(other).status == "cancelled"
        painted = page.cell(PAINTED).locator(".jp-OutputArea img[src^='data:image/png']")
        expect(painted).to_be_visible(timeout=TRAINING_MS)
        painted.scroll_into_view_if_needed()
        page.shoot("first-notebook-painted")
        expect(page.cell(FIGURE).locator(".js-plotly-plot .scatterlayer .trace").first).to_be_attached()
        page.printed(FILES, "pytorch_lora_weights.safetensors")
        form.scroll_into_view_if_needed()
        page.shoot_both("first-notebook")
        page.execute("docmanager:save")
        saved = folder / "jupyter" / NOTEBOOK.name
        page.until(lambda: "stc-card" in saved.read_text("utf-8"))
        assert page.foreign() == []
        assert page.errors == []
    check_the_saved_notebook(saved)


def to_be_cancelled(server: Server) -> str:
    """A second training, submitted by a script: long, and to be cancelled in the panel."""
    client = server.client()
    request = SubmitRequest(
        name="other",
        config={
            "model_family": "sd", "pretrained_model_name_or_path": "builtin:tiny", "max_train_steps": 100_000,
            "learning_rate": 1e-3, "resolution": 64, "resolution_type": "pixel", "torch_num_threads": 1,
        },
        dataloader=({"id": "neon", "type": "local", "instance_data_dir": str(NEON), "caption_strategy": "textfile"},),
    )  # fmt: skip
    return client.submit(request, approve=client.plan(request).digest).job_id


def check_the_saved_notebook(saved: Path) -> None:
    """nbconvert, with no kernel, no server and no network, shows the run and its curve as a picture."""
    book = nbformat.read(saved, as_version=4)
    html = "".join(output.get("data", {}).get("text/html", "") for output in book.cells[FORM].outputs)
    assert "first training" in html
    assert re.search(r"<svg.*<(path|polyline)", html, re.DOTALL)
    assert os.environ.get("JUPYTER_TOKEN", "test-token") not in saved.read_text("utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "nbconvert", "--to", "html", "--output", "saved.html", str(saved)],
        env=os.environ | {"HOME": str(saved.parent)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    page = saved.with_name("saved.html").read_text("utf-8")
    assert "first training" in page
    assert re.search(r"<svg.*<(path|polyline)", page, re.DOTALL)
