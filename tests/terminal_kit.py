"""A terminal for tests: a program on a real pseudo-terminal, and what it wrote there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


class Terminal:
    """`stcloud` with a person before it."""

    def __init__(self, *words: str, columns: int = 100, **environment: str) -> None:
        self.text = ""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        given = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "simpletuner_lab", *words], stdin=theirs, stdout=theirs, stderr=theirs,
            env=given | {"TERM": "xterm-256color"} | environment, cwd=Path(__file__).parent.parent,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - so that ^C is a signal; no threads yet
        )  # fmt: skip
        os.close(theirs)
        self._ours = ours

    def until(self, pattern: str, patience_s: float = 40) -> re.Match[str]:
        """Reads on until the text (without its escapes) has this."""
        end, going = time.monotonic() + patience_s, True
        while not (found := re.search(pattern, self.plain)):
            assert going, f"ended without {pattern!r}:\n{self.plain}"
            assert time.monotonic() < end, f"no {pattern!r} in:\n{self.plain}"
            going = self._read(0.2)
        return found

    def type(self, text: str) -> None:
        """As from a keyboard."""
        os.write(self._ours, text.encode())

    def interrupt(self) -> int:
        """Ctrl-C, and again where Python was just about to read and saw the first only once a key came; the exit code."""
        going = True
        while going:
            self.type("\x03")
            end = time.monotonic() + 5  # a busy machine takes a while to leave, and a second one then would kill it
            while going and time.monotonic() < end:
                going = self._read(0.2)
        return self.end()

    def end(self) -> int:
        """Reads to the end; the exit code."""
        while self._read(40):
            pass
        os.close(self._ours)
        return self.process.wait(20)

    @property
    def plain(self) -> str:
        """What it wrote, without escapes."""
        return ESCAPE.sub("", self.text)

    def _read(self, patience_s: float) -> bool:
        """False at the end."""
        if not select.select([self._ours], [], [], patience_s)[0]:
            return True
        with contextlib.suppress(OSError):
            piece = os.read(self._ours, 1 << 16)
            self.text += piece.decode(errors="replace")
            return bool(piece)
        return False
