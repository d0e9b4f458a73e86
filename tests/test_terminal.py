"""Text of others on a terminal."""

from __future__ import annotations

import time

import pytest

from simpletuner_lab.core.cost import Published, Rate, estimate_run
from simpletuner_lab.terminal import estimate_text, one_line, printable, rate_text


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


@pytest.mark.parametrize(
    ("price", "an_hour", "unknown", "known"),
    [
        (3.6, "$3.60 per hour, as of 2026-01-01", "cost not known, time not known (", "$1.80 to $3.60, 30 min 00 s"),
        (None, "not known", "price not known, time not known (", "price not known, 30 min 00 s"),
        (0.0, "free", "$0, time not known (", "$0, 30 min 00 s"),
    ],
)
def test_a_known_price_is_told_also_where_the_time_is_not(
    price: float | None, an_hour: str, unknown: str, known: str
) -> None:
    """What is not known is named: the time alone, or the price as well."""
    rate = Rate(hardware="gpu", label="A GPU", usd_per_hour=price, as_of="2026-01-01" if price else "")
    assert rate_text(rate) == an_hour
    assert estimate_text(estimate_run(steps=12, rate=rate, past_step_s=()), rate).startswith(unknown)
    figures = Published(seconds_low=1800.0, seconds_high=3600.0, reason="published")
    assert estimate_text(estimate_run(steps=12, rate=rate, past_step_s=(), published=figures), rate).startswith(known)
