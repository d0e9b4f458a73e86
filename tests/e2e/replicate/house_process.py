"""Our server as a process that is there in a moment and may be killed at any: forked from one that has imported all.

`python -m tests.e2e.replicate.house_process FOLDER` makes an empty home in the folder, says so, and forks a server for
each order that it reads. Time there is what an order's clock says; with a second argument `wall` it is everybody's.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from tests.e2e.replicate.house_time import Clock

HOME = "home"
"""Of the empty home, below the folder: copied for each test, since making one takes half a second."""

_AT_MOST_S = 900
"""Whatever goes wrong in a test, nothing stays longer."""


def main(folder: Path, time_of: str = "order") -> None:
    clock = Clock()
    if time_of == "order":
        clock.rule()
    from tests.e2e.replicate.house_server import serve, warm

    warm(folder / HOME)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child:
            print(child, flush=True)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.alarm(_AT_MOST_S)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(2, 1)
        order = json.loads(line)
        if time_of == "order":
            clock.read(Path(order["clock"]))
        try:
            serve(order, clock.now)
        finally:
            os._exit(0)
    os._exit(0)  # nothing here is worth a second of taking apart


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
