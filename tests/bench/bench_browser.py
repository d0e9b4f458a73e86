"""What a person waits for, in a real JupyterLab and Chromium, beside the least that it could be in the same page.

From a trainer's line to the screen beside reading the log by REST every 20 ms; a curve of 100,000 points, its first
paint and its frames while it grows, beside the frames of the idle page; pages of a list of 10,000 jobs beside fetching
them. Run: python tests/bench/bench_browser.py.
"""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import bench_lists

sys.path.insert(0, str(Path(__file__).parents[2]))

from playwright.sync_api import Browser, Locator, sync_playwright

from simpletuner_lab.client import LabClient
from simpletuner_lab.services.views import JobView
from tests.e2e.browser.kit import CHROMIUM, FLAGS, PATIENCE_MS, Visit, jupyterlab, visit, write_notebook
from tests.e2e.browser.steps import last_step
from tests.lab_kit import dataset, quick_home, request
from tests.server.server_kit import Server

SECONDS = 20
POINTS = 100_000
TICK = re.compile(r"step (\d+) of \d+ at (\d+)")

WATCH_LINES = """element => {
    window.seen = new Map();
    const read = () => requestAnimationFrame(() => {
        for (const [, step, at] of element.textContent.matchAll(/step (\\d+) of \\d+ at (\\d+)/g))
            if (!window.seen.has(step)) window.seen.set(step, Date.now() - Number(at));
    });
    new MutationObserver(read).observe(element, { childList: true, characterData: true, subtree: true });
}"""
WATCH_CURVE = """() => {
    window.drawn = new Map();
    new MutationObserver(() => {
        const words = document.querySelector(".stc-loss > p.stc-hidden")?.textContent ?? "";
        const step = words.match(/to step ([\\d,]+)/)?.[1].replaceAll(",", "");
        if (step && !window.drawn.has(step)) window.drawn.set(step, Date.now());
    }).observe(document.body, { childList: true, characterData: true, subtree: true });
}"""
FRAMES = """seconds => new Promise(done => {
    const frames = [], tasks = [];
    const observer = new PerformanceObserver(list => tasks.push(...list.getEntries().map(entry => entry.duration)));
    observer.observe({ type: "longtask" });
    const start = performance.now();
    let last = start;
    const tick = now => {
        frames.push(now - last);
        last = now;
        if (now - start < seconds * 1000) return requestAnimationFrame(tick);
        observer.disconnect();
        done({ frames: frames.slice(1), tasks });
    };
    requestAnimationFrame(tick);
})"""
FETCH = """async limit => {
    const base = JSON.parse(document.getElementById("jupyter-config-data").textContent).baseUrl;
    const start = performance.now();
    await (await fetch(`${base}api/cloud/jobs?limit=${limit}`)).json();
    return performance.now() - start;
}"""


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Median and 95th percentile."""
    cut = statistics.quantiles(values, n=20, method="inclusive")
    return statistics.median(values), cut[18]


def told(what: str, ours: Sequence[float], floor: Sequence[float], beside: str) -> None:
    """One line: ours, the floor, and their ratio."""
    (p50, p95), (least50, least95) = spread(ours), spread(floor)
    print(
        f"{what:<44} p50 {p50:7.1f} ms  p95 {p95:7.1f} ms   {beside} p50 {least50:7.1f}  p95 {least95:7.1f}   "
        f"ratio {p50 / least50:5.2f}, {p95 / least95:5.2f}  (n={len(ours)})"
    )


def submitted(client: LabClient, images: Path, how: str) -> JobView:
    asked = request(images, how, max_train_steps=100_000)
    return client.submit(asked, approve=client.plan(asked).digest)


def shown(page: Visit, server: Server, code: str) -> Locator:
    """The output of a cell in a new notebook."""
    page.open_notebook(write_notebook(server, f"bench{time.monotonic_ns()}.ipynb", code))
    return page.run(0)


def poll_log(client: LabClient, job: JobView, late: dict[str, float], stop: threading.Event) -> None:
    """The floor: reads the log by REST as fast as it makes sense."""
    offset = client.job(job.job_id).log_bytes
    while not stop.wait(0.02):
        chunk = client.log(job.job_id, offset=offset)
        now = time.time() * 1000
        offset = chunk.next_offset
        for step, at in TICK.findall(chunk.logs):
            late[step] = now - float(at)


def line_to_screen(browser: Browser, server: Server, images: Path) -> None:
    client = server.client()
    job = submitted(client, images, "steady")
    with visit(browser, server) as page:
        place = shown(page, server, f"from simpletuner_lab import job\njob({job.job_id!r})")
        last_step(place)
        page.page.evaluate(WATCH_CURVE)
        page.page.wait_for_timeout(SECONDS * 1000)
        drawn: dict[str, float] = page.page.evaluate("Object.fromEntries(window.drawn)")
        assert len(drawn) > SECONDS, drawn
        place.get_by_role("tab", name="Logs").click()
        box = place.get_by_role("log")
        box.get_by_text("step ").first.wait_for(timeout=PATIENCE_MS)
        page.page.wait_for_timeout(2000)
        late: dict[str, float] = {}
        stop = threading.Event()
        reader = threading.Thread(target=poll_log, args=(server.client(), job, late, stop))
        reader.start()
        box.evaluate(WATCH_LINES)
        page.page.wait_for_timeout(SECONDS * 1000)
        seen: dict[str, float] = page.page.evaluate("Object.fromEntries(window.seen)")
        stop.set()
        reader.join()
    both = sorted(set(seen) & set(late))
    told("a line, from print to screen", [seen[s] for s in both], [late[s] for s in both], "by REST")
    printed = {step: float(at) for step, at in TICK.findall(client.log(job.job_id).logs)}
    told("a step, from print to the curve", late_on_curve(drawn, printed), [late[s] for s in both], "by REST")
    client.cancel(job.job_id)


def late_on_curve(drawn: dict[str, float], printed: dict[str, float]) -> list[float]:
    """For each step, how long after its line the curve first reached it, or a later one."""
    reached = sorted((int(step), at) for step, at in drawn.items())
    first, last = reached[0][0], reached[-1][0]
    return [
        min(at for step, at in reached if step >= wanted) - printed[str(wanted)]
        for wanted in range(first + 1, last + 1)
    ]


def long_curve(browser: Browser, server: Server, images: Path) -> None:
    client = server.client()
    job = submitted(client, images, "flood")
    while client.job(job.job_id).progress.step < POINTS:
        time.sleep(0.2)
    with visit(browser, server) as page:
        page.open_notebook(write_notebook(server, "idle.ipynb", "1"))
        page.page.wait_for_timeout(3000)
        idle = page.page.evaluate(FRAMES, 5)["frames"]
        notebook = write_notebook(server, "curve.ipynb", f"from simpletuner_lab import job\njob({job.job_id!r})")
        page.open_notebook(notebook)
        page.page.evaluate(
            """() => {
                const draw = CanvasRenderingContext2D.prototype.stroke;
                CanvasRenderingContext2D.prototype.stroke = function (...path) {
                    window.painted ??= performance.now();
                    return draw.apply(this, path);
                };
                new MutationObserver((_, self) => {
                    if (!document.querySelector(".stc-loss")) return;
                    window.placed = performance.now();
                    self.disconnect();
                }).observe(document.body, { childList: true, subtree: true });
            }"""
        )
        place = page.run(0)
        last_step(place, beyond=POINTS - 1)
        loaded = page.page.evaluate(FRAMES, 3)
        streamed = page.page.evaluate(FRAMES, 10)
        first = page.page.evaluate("window.painted - window.placed")
        print(f"{'a curve of 100,000 points, first paint':<44} {first:11.1f} ms after the chart was placed")
        for what, seen in (("its frames while all of it is fetched", loaded), ("its frames while it grows", streamed)):
            told(what, seen["frames"], idle, "idle page")
            print(f"{'':<44} long tasks: {len(seen['tasks'])}, longest {max(seen['tasks'], default=0):.0f} ms")
    client.cancel(job.job_id)


def long_list(browser: Browser, server: Server) -> None:
    with visit(browser, server, height=1400) as page:
        place = shown(page, server, "from simpletuner_lab import jobs\njobs()")
        place.locator(".stc-jobs-row").first.wait_for(timeout=PATIENCE_MS)
        turns, floor = [], []
        for number in range(2, 22):
            floor.append(page.page.evaluate(FETCH, 50))
            turns.append(turn(page, place, number))
        told("10,000 jobs: the next page of 50", turns, floor, "fetch")


def turn(page: Visit, place: Locator, number: int) -> float:
    """Milliseconds from a click on "Next" to the frame that shows the page's first row."""
    return float(
        place.evaluate(
            """(place, number) => new Promise(done => {
                const first = () => place.querySelector(".stc-jobs-row")?.textContent;
                const before = first();
                const button = [...place.querySelectorAll("button")].find(one => one.textContent === "Next");
                const start = performance.now();
                const look = () => (first() !== before ? done(performance.now() - start) : requestAnimationFrame(look));
                button.click();
                requestAnimationFrame(look);
            })""",
            number,
        )
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        home = quick_home(folder)
        images = dataset(folder / "images")
        server = jupyterlab(folder, home.root, "/user/ann/").start().slots(4)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        try:
            line_to_screen(browser, server, images)
            long_curve(browser, server, images)
        finally:
            server.stop()
        listed = Path(name, "listed")
        listed.mkdir()
        home = quick_home(listed)
        bench_lists.fill(home.database)
        server = jupyterlab(listed, home.root, "/user/ann/").start()
        try:
            long_list(browser, server)
        finally:
            browser.close()
            server.stop()


if __name__ == "__main__":
    main()
