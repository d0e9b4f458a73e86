"""Text of others on a terminal."""

from __future__ import annotations

import time

import pytest

from simpletuner_lab.terminal import one_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("née 船 👩‍🎨\n", "née 船 👩‍🎨\n"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;never closed\nnext", "\nnext"),
        ("\x9b31mred", "red"),
        ("\x1bc", ""),
        ("a\x08b\x07", "a\\x08b\\x07"),
        ("lone \x1b", "lone \\x1b"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("bad \udcff", "bad \\udcff"),
        ("10%\r50%\r100%\nnext\r\n", "100%\nnext\n"),
        ("dos\r\nlines\r\n", "dos\nlines\n"),
    ],
)
def test_nothing_of_it_acts(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_line_of_others_stays_one_line() -> None:
    assert one_line("failed\n261122-aaaa  completed") == "failed 261122-aaaa completed"


def test_a_long_line_takes_no_longer_than_its_length() -> None:
    """A megabyte, and shapes on which a careless pattern would go back and forth."""
    began = time.perf_counter()
    for text in ("x" * (1 << 20), "\r" * (1 << 20), "\x1b[" * (1 << 19), "\x1b]" + "0" * (1 << 20)):
        printable(text)
    assert time.perf_counter() - began < 5
