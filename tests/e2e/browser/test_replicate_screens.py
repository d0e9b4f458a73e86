"""A training at Replicate as people see it, in a notebook and in the side panel: set up, agreed to, waiting, running, failed.

Replicate is the emulator, in this process; the lab, its provider and the page are the real ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.services.home import Home
from simpletuner_lab.testing.replicate_emulator import (
    MODELS,
    Account,
    Job,
    ReplicateEmulator,
    ScaledClock,
    Step,
    replicate_emulator,
)
from tests.e2e.browser.kit import PATIENCE_MS, Visit, jupyterlab, visit, write_notebook
from tests.e2e.browser.steps import PANEL, cancel, open_panel, reaches, row
from tests.lab_kit import config, dataset, request
from tests.providers.replicate_kit import IMAGE, OURS, TOKEN
from tests.server.server_kit import Server

STEPS = 400
LAST_WORDS = "OutOfMemoryError: CUDA out of memory. Tried to allocate 512.00 MiB"
SEND = re.compile(r"^Send 6 files \(.*\) to Replicate$")


def play(job: Job) -> Iterator[Step]:
    """Trains without end, a few steps at a time; the one that is called `too-large` fails at its first."""
    spec = json.loads(job.input["spec"])

    def said(kind: str, **members: object) -> str:
        return f"::st {spec['nonce']} {json.dumps({'kind': kind, **members})}\n"

    yield Step(log="loading the base model\n" + said("stage", stage="train", label="training lora"))
    if spec["config"]["tracker_run_name"] == "too-large":
        yield Step(log=f"Traceback (most recent call last):\n{LAST_WORDS}\n", error=f"Prediction failed: {LAST_WORDS}")
    for last in range(8, STEPS, 8):
        steps = list(range(last - 7, last + 1))
        yield Step(
            after_s=0.3,
            log=said(
                "steps", step=steps, loss=[0.08 + 1 / (step + 4) + 0.02 * (step * 7919 % 13) / 13 for step in steps],
                lr=[1e-3] * 8, grad_norm=[0.5] * 8, total=STEPS, epoch=last / 40, step_s=0.04, images_per_s=25.0,
                eta_s=(STEPS - last) * 0.04,
            ),
        )  # fmt: skip
    yield Step(after_s=600)


@pytest.fixture(scope="module")
def emulator() -> Iterator[ReplicateEmulator]:
    with replicate_emulator(
        {TOKEN: Account(username="ann")}, clock=ScaledClock(), models=(*MODELS, OURS), plays={IMAGE: play}
    ) as running:
        yield running


@pytest.fixture(scope="module")
def server(folder: Path, emulator: ReplicateEmulator) -> Iterator[Server]:
    """A lab that knows where Replicate is, and no token; what it is called from is its own address."""
    home = Home(folder / "home").prepare()
    (home.provider_settings / "replicate.json").write_text(json.dumps({"base_url": emulator.url, "image": IMAGE}))
    running = jupyterlab(folder, home.root, "/user/ann/")
    running.options = (*running.options, f"--SimpleTunerLabApp.public_url={running.url.rstrip('/')}")
    running.start()
    yield running
    running.stop()


def asked(folder: Path, how: str = "steady") -> SubmitRequest:
    return replace(request(dataset(folder / "images"), how, max_train_steps=STEPS), provider="replicate")


def wide(page: Visit, share: float = 1.2) -> None:
    """The side area as wide as a person who reads would have it; the launcher comes late and takes the focus."""
    page.page.evaluate(
        "share => { const split = window.jupyterapp.shell._hsplitPanel; split.setRelativeSizes([1, share, 0]); }",
        share,
    )


def card(panel: Locator) -> Locator:
    """Replicate's, of the settings."""
    return panel.locator(".stc-providers > li", has_text="Replicate").first


def test_set_up_in_the_panel(chromium: Browser, server: Server) -> None:
    with visit(chromium, server, height=2100) as page:
        page.open_lab()
        page.page.wait_for_selector(".jp-Launcher", timeout=PATIENCE_MS)
        wide(page)
        panel = open_panel(page.page)
        panel.get_by_role("tab", name="Settings").click()
        own = card(panel)
        expect(own).to_contain_text("REPLICATE_API_TOKEN not set", timeout=PATIENCE_MS)
        own.get_by_role("button", name="Set up Replicate").click()
        own.get_by_label("Token (REPLICATE_API_TOKEN)").fill(TOKEN)
        page.page.keyboard.press("Enter")
        expect(own.locator(".stc-provider-state")).to_have_text("Ready", timeout=PATIENCE_MS)
        own.get_by_role("button", name="Check Replicate").click()
        expect(own).to_contain_text("It can be used by ann", timeout=PATIENCE_MS)
        own.get_by_label("timeout_s").fill("0")
        own.get_by_role("button", name="Save the settings").click()
        expect(own).to_contain_text("is not between 0 and 600 seconds", timeout=PATIENCE_MS)
        own.get_by_label("timeout_s").fill("20")
        own.get_by_role("button", name="Save the settings").click()
        expect(own).to_contain_text("They are in force now", timeout=PATIENCE_MS)
        page.shoot_both("replicate-settings", own)
        own.get_by_role("button", name="Set up Replicate").click()
        own.get_by_role("button", name="Prices and costs of Replicate").click()
        expect(own.get_by_role("row", name=re.compile("L40S"))).to_contain_text("per hour", timeout=PATIENCE_MS)
        own.get_by_role("button", name="Webhooks of Replicate").click()
        own.get_by_role("button", name="Test from here").click()
        expect(own.locator(".stc-steps > li[data-status=ok]").first).to_be_visible(timeout=PATIENCE_MS)
        page.shoot("replicate-costs", own)
        assert page.findings(PANEL) == []
        assert TOKEN not in page.page.content()
        assert page.foreign() == []


def test_agreed_to_then_running_then_cancelled(
    chromium: Browser, server: Server, emulator: ReplicateEmulator, folder: Path
) -> None:
    client = server.client()
    with visit(chromium, server, height=1500) as page:
        code = f"""from simpletuner_lab import submit
training = submit({config("steady", max_train_steps=STEPS)!r}, {str(dataset(folder / "images"))!r}, name="neon",
                  provider="replicate")
training"""
        page.open_notebook(write_notebook(server, "replicate.ipynb", code))
        out = page.run(0)
        button = out.get_by_role("button", name=SEND)
        expect(button).to_be_enabled(timeout=PATIENCE_MS)
        for words in ("Stays there", "storage grant", "per hour, as of", "ann"):
            expect(out).to_contain_text(words)
        assert not emulator.predictions, "nothing has left before the button"
        page.shoot_both("replicate-consent", out)
        assert page.findings(".jp-Notebook .stc") == []
        button.click()
        reaches(out, "running")
        waiting = client.submit(asked(folder), approve=client.plan(asked(folder)).digest).job_id
        expect(out.locator(".stc-job-figures")).to_contain_text("/ 400", timeout=PATIENCE_MS)
        expect(out.locator(".stc-job-where")).to_contain_text("Cost so far: ", timeout=PATIENCE_MS)
        page.shoot_both("replicate-running", out)
        wide(page)
        panel = open_panel(page.page)
        row(panel, "steady").get_by_role("button").first.click()
        expect(panel).to_contain_text("Replicate has not begun it", timeout=PATIENCE_MS)
        expect(panel.get_by_role("link", name="Status page")).to_be_visible()
        page.shoot_both("replicate-waiting", panel)
        assert page.findings(PANEL) == []
        cancel(panel, "steady")
        reaches(panel, "cancelled")
        cancel(out, "neon")
        reaches(out, "cancelled")
        out.get_by_role("tab", name="Plan and cost").click()
        expect(out.get_by_role("table").first).to_contain_text("gpu-l40s", timeout=PATIENCE_MS)
        page.shoot("replicate-cancelled", out)
        panel.get_by_role("button", name="All jobs").click()
        page.shoot("replicate-jobs", panel)
    assert client.job(waiting).cost_usd in (None, 0.0)


def test_failed(chromium: Browser, server: Server, folder: Path) -> None:
    client = server.client()
    made = client.submit(asked(folder, "too-large"), approve=client.plan(asked(folder, "too-large")).digest)
    with visit(chromium, server) as page:
        page.open_lab()
        page.page.wait_for_selector(".jp-Launcher", timeout=PATIENCE_MS)
        wide(page)
        panel = open_panel(page.page)
        panel.get_by_role("tab", name="New job").click()
        panel.get_by_role("radio", name=re.compile("Replicate")).click(timeout=PATIENCE_MS)
        panel.get_by_label("What runs there").select_option("simpletuner")
        expect(panel).to_contain_text("a longer job is not taken")
        panel.get_by_label("What runs there").scroll_into_view_if_needed()
        page.shoot("replicate-form")
        panel.get_by_role("tab", name="Jobs").click()
        row(panel, made.config_name).get_by_role("button").first.click()
        reaches(panel, "failed")
        expect(panel.get_by_role("region", name="What is wrong")).to_contain_text(LAST_WORDS)
        page.shoot_both("replicate-failed", panel)
        assert page.findings(PANEL) == []
