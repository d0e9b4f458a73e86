"""What the extension adds to the start of a notebook server, and the package to that of an interpreter.

Run: python tests/bench/bench_start.py
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.server.server_kit import TOKEN, free_port

ROUNDS = 11
INITIALIZE = """
import time
from jupyter_server.serverapp import ServerApp
server = ServerApp()
began = time.process_time()
server.initialize(["--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", "--allow-root"])
print(time.process_time() - began)
"""
OTHERS = ("jupyterlab", "jupyter_lsp", "jupyter_server_terminals", "notebook", "notebook_shim")


def environment(folder: Path, *, ours: bool, others: bool) -> dict[str, str]:
    """Folders of its own, and which extensions are on."""
    (folder / "config").mkdir()
    on = dict.fromkeys(OTHERS, others) | {"simpletuner_lab": ours}
    settings = {"ServerApp": {"jpserver_extensions": on}}
    (folder / "config/jupyter_server_config.json").write_text(json.dumps(settings))
    return os.environ | {
        "HOME": str(folder), "SIMPLETUNER_HOME": str(folder / "lab"), "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"), "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"), "JUPYTER_TOKEN": TOKEN,
    }  # fmt: skip


def start(*, ours: bool, others: bool) -> dict[str, float]:
    """Milliseconds from the start of the process: port listening, first answer, first answer of the lab."""
    with tempfile.TemporaryDirectory() as made:
        folder, port = Path(made), free_port()
        command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
                   f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}"]  # fmt: skip
        began = time.perf_counter()
        process = subprocess.Popen(
            command, env=environment(folder, ours=ours, others=others), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )  # fmt: skip
        try:
            while not listens(port):
                time.sleep(0.0005)
            times = {"port listens": (time.perf_counter() - began) * 1e3}
            ask(port, "/api")
            times["first answer"] = (time.perf_counter() - began) * 1e3
            if ours:
                ask(port, "/api/cloud/jobs")
                times["lab answers"] = (time.perf_counter() - began) * 1e3
        finally:
            process.terminate()
            process.wait()
        return times


def work(*, ours: bool, others: bool) -> dict[str, float]:
    """Milliseconds of the processor from a loaded Jupyter to a listening port: not lengthened by a busy machine."""
    with tempfile.TemporaryDirectory() as made:
        own = environment(Path(made), ours=ours, others=others)
        command = [sys.executable, "-c", INITIALIZE]
        said = subprocess.run(command, env=own, capture_output=True, text=True, check=True).stdout
        return {"work until then": float(said.splitlines()[-1]) * 1e3}


def listens(port: int) -> bool:
    """Whether somebody else does: a connection from a free port to itself succeeds now and then."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            return connection.getsockname() != connection.getpeername()
    except OSError:
        return False


def ask(port: int, path: str) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"token {TOKEN}"})
    with urllib.request.urlopen(request) as answer:
        answer.read()


def interpreter(statement: str) -> dict[str, float]:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return {"process": (time.perf_counter() - began) * 1e3}


def compare(what: str, floor: Callable[[], Mapping[str, float]], ours: Callable[[], Mapping[str, float]]) -> None:
    """Rounds in turn, so that a busy machine is busy for both; the difference is the median of the rounds' own."""
    floor(), ours()
    rounds = [(floor(), ours()) for _ in range(ROUNDS)]
    for name in rounds[0][1]:
        mine = statistics.median(after[name] for _, after in rounds)
        if name not in rounds[0][0]:
            print(f"{what + ': ' + name:<52}{mine:9.1f} ms")
            continue
        bare = statistics.median(before[name] for before, _ in rounds)
        added = statistics.median(after[name] - before[name] for before, after in rounds)
        print(
            f"{what + ': ' + name:<52}{mine:9.1f} ms   bare {bare:9.1f} ms   ratio {mine / bare:5.2f}   +{added:.1f} ms"
        )


def main() -> None:
    compare("bare server", lambda: start(ours=False, others=False), lambda: start(ours=True, others=False))
    compare("as installed", lambda: start(ours=False, others=True), lambda: start(ours=True, others=True))
    compare("bare server", lambda: work(ours=False, others=False), lambda: work(ours=True, others=False))
    compare("as installed", lambda: work(ours=False, others=True), lambda: work(ours=True, others=True))
    floor = "import json, argparse"
    compare("import simpletuner_lab", lambda: interpreter(floor), lambda: interpreter("import simpletuner_lab"))


if __name__ == "__main__":
    main()
