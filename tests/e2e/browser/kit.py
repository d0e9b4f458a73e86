"""A real JupyterLab or Notebook 7 in a real Chromium: open a notebook, run cells, look, and count who was asked."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.server.server_kit import TOKEN, Server

ROOT = Path(__file__).resolve().parents[3]
ARTIFACTS = Path(os.environ.get("ARTIFACTS", ROOT / "artifacts"))
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
QUIET = [
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.extension_manager=readonly",
    "--LabApp.expose_app_in_browser=True",
]  # fmt: skip
NOTEBOOK_QUIET = ["--JupyterNotebookApp.expose_app_in_browser=True"]
NO_NEWS = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}

PATIENCE_MS = 60_000
"""A machine of two cores starts a kernel, a browser and a trainer at once."""


def jupyterlab(folder: Path, home: Path, base: str, *options: str, ours: bool = True) -> Server:
    """JupyterLab with nothing of its own that asks the network; without `ours` our extension is off."""
    return quiet(Server(folder, home, base, *QUIET, *options, app="jupyterlab", ours=ours))


def notebook7(folder: Path, home: Path, base: str, *options: str) -> Server:
    """Notebook 7, likewise."""
    return quiet(Server(folder, home, base, *NOTEBOOK_QUIET, *options, app="notebook"))


def quiet(server: Server) -> Server:
    """Asks nobody whether they want news."""
    file = server.folder / "jupyter" / "config" / "labconfig" / "page_config.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(NO_NEWS))
    return server


def write_notebook(server: Server, name: str, *cells: str) -> str:
    """A notebook in the server's folder, of these code cells; returns its name."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = server.folder / "jupyter" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)
    return name


class Visit:
    """One browser page on one server; knows every request and every error of the console."""

    def __init__(self, context: BrowserContext, server: Server) -> None:
        self.server = server
        self.page: Page = context.new_page()
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))

    def open_notebook(self, name: str) -> None:
        """Opens a notebook, in whichever of the two this server runs, and waits until its kernel answers."""
        where = "notebooks/" if self.server.app == "notebook" else "lab/tree/"
        reset = "" if self.server.app == "notebook" else "&reset"
        with self.page.expect_websocket(lambda socket: "/channels" in socket.url, timeout=PATIENCE_MS) as socket:
            self.page.goto(f"{self.server.url}{where}{name}?token={TOKEN}{reset}")
        socket.value.wait_for_event("framereceived", timeout=PATIENCE_MS)
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=PATIENCE_MS)
        self.idle()

    def open_lab(self) -> None:
        """Opens JupyterLab with no notebook."""
        self.page.goto(f"{self.server.url}lab?token={TOKEN}&reset")
        self.page.wait_for_selector("#jp-main-dock-panel", timeout=PATIENCE_MS)

    def idle(self) -> None:
        """Waits until the kernel is idle."""
        if self.server.app == "notebook":
            self.page.wait_for_selector(
                ".jp-Notebook-ExecutionIndicator[data-status=idle]", state="attached", timeout=PATIENCE_MS
            )
        else:
            self.page.wait_for_selector("text=/\\| Idle/", timeout=PATIENCE_MS)

    def execute(self, command: str) -> None:
        """Gives JupyterLab a command, and does not wait for what comes of it."""
        self.page.evaluate("command => { window.jupyterapp.commands.execute(command); }", command)

    def until(self, true: Callable[[], bool], *, patience_ms: int = PATIENCE_MS) -> None:
        """Looks again and again while the page goes on."""
        for _ in range(patience_ms // 100):
            if true():
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(f"it did not come true within {patience_ms / 1000} s")

    def cell(self, number: int) -> Locator:
        """A cell of the notebook."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(number)

    def run(self, number: int) -> Locator:
        """Runs a cell; returns its outputs."""
        self.cell(number).locator(".cm-content").focus()  # a click could miss: cells above still grow
        self.page.keyboard.press("Shift+Enter")
        return self.cell(number).locator(".jp-OutputArea")

    def printed(self, number: int, words: str | re.Pattern[str], *, patience_ms: int = PATIENCE_MS) -> None:
        """Waits until a cell has printed some words."""
        expect(self.cell(number).locator(".jp-OutputArea")).to_contain_text(words, timeout=patience_ms)

    def press_until(self, key: str, wanted: Locator, *, most: int = 80) -> None:
        """Presses a key until an element has the focus."""
        for _ in range(most):
            if wanted.evaluate("element => element === document.activeElement"):
                return
            self.page.keyboard.press(key)
        raise AssertionError(f"{key} never came to {wanted}")

    def dark(self, dark: bool = True) -> None:
        """Changes JupyterLab's theme."""
        theme = "JupyterLab Dark" if dark else "JupyterLab Light"
        self.page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
        self.page.wait_for_function(
            """dark => {
                const [r, g, b] = getComputedStyle(document.querySelector(".jp-Notebook, #main")).backgroundColor
                    .match(/\\d+/g).map(Number);
                const splash = document.querySelector("#jupyterlab-splash");
                return !splash && document.body.dataset.jpThemeLight === String(!dark) && (r + g + b < 384) === dark;
            }""",
            arg=dark,
        )

    def shoot(self, name: str, element: Locator | None = None) -> None:
        """Keeps a picture of the page, or of one element of it."""
        path = ARTIFACTS / "screenshots" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        (element or self.page).screenshot(path=path)

    def shoot_both(self, name: str, element: Locator | None = None) -> None:
        """A picture in each theme."""
        for dark in (False, True):
            self.dark(dark)
            self.shoot(f"{name}-{'dark' if dark else 'light'}", element)
        self.dark(False)

    def findings(self, selector: str) -> list[str]:
        """What axe-core finds that is serious or worse, below a selector."""
        source = (ROOT / "js/node_modules/axe-core/axe.min.js").read_text("utf-8")
        self.page.evaluate(source)
        found = self.page.evaluate(
            "selector => axe.run(selector, { resultTypes: ['violations'] }).then(r => r.violations)", selector
        )
        return [
            f"{one['id']}: {one['help']}: {json.dumps([node['target'] for node in one['nodes']][:5])}"
            for one in found
            if one["impact"] in {"serious", "critical"}
        ]

    def foreign(self) -> list[str]:
        """Requests to any other host."""
        ours = urlsplit(self.server.url).netloc
        return [
            url
            for url in self.asked
            if urlsplit(url).scheme in {"http", "https", "ws"} and urlsplit(url).netloc != ours
        ]


@contextmanager
def visit(browser: Browser, server: Server, *, height: int = 950) -> Iterator[Visit]:
    """A page of its own, with its own cookies."""
    context = browser.new_context(viewport={"width": 1400, "height": height})
    opened = Visit(context, server)
    try:
        yield opened
    finally:
        opened.shoot("last")  # of a test that fails, what it looked at
        context.close()
