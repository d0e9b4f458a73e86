"""Limits, priorities and the forecast of the queue: tables of cases."""

from __future__ import annotations

import pytest

from simpletuner_lab.core.errors import InvalidRequest
from simpletuner_lab.core.job_queue import Held, Limits, Turn, forecast, priority_name, priority_of, standing


def turn(provider: str = "cloud", seconds: float | None = None, owner: str = "ann", *, remote: bool = True) -> Turn:
    return Turn(owner=owner, provider=provider, remote=remote, seconds=seconds)


@pytest.mark.parametrize(
    ("word", "priority"),
    [("viewer", 0), ("researcher", 10), ("lead", 20), ("admin", 30), ("Critical", 40), ("0", 0), ("50", 50), (7, 7)],
)
def test_a_priority_is_a_number_or_a_name(word: str | int, priority: int) -> None:
    assert priority_of(word) == priority


@pytest.mark.parametrize("word", ["51", "-1", "", "boss", "1.5", "٣", "1" * 99, 51, -1, True, False])
def test_what_is_no_priority(word: str | int) -> None:
    with pytest.raises(InvalidRequest, match="0 to 50"):
        priority_of(word)


@pytest.mark.parametrize(
    ("priority", "name"), [(0, "viewer"), (9, "viewer"), (10, "researcher"), (39, "admin"), (50, "critical")]
)
def test_the_name_of_a_priority_is_the_one_it_has_reached(priority: int, name: str) -> None:
    assert priority_name(priority) == name


def test_limits_are_checked_all_at_once() -> None:
    Limits(total=100, user=20, local=10, providers={"cloud": 100})
    with pytest.raises(InvalidRequest) as raised:
        Limits(total=0, user=21, local=11, providers={"cloud": 101})
    assert [problem.path for problem in raised.value.problems] == [
        "max_concurrent", "user_max_concurrent", "local_job_max_concurrent", "providers.cloud",
    ]  # fmt: skip
    assert raised.value.message.startswith("max_concurrent must be 1 to 100, not 0; user_max_concurrent must be")


@pytest.mark.parametrize(
    ("held", "wants", "bar"),
    [
        ([], turn(), ""),
        ([turn(remote=False)], turn(remote=False), "cloud has 1 of at most 1 job under way"),
        ([turn(), turn()], turn(), "ann has 2 of at most 2 jobs under way"),
        ([turn(), turn()], turn(owner="bob"), ""),
        ([turn("b"), turn("b", owner="bob")], turn("b", owner="eve"), "b has 2 of at most 2 jobs under way"),
        (
            [turn(owner=name) for name in "abcde"],
            turn(owner="bob"),
            "this lab has 5 of at most 5 jobs under way",
        ),
    ],
)
def test_what_keeps_a_job_from_its_slot(held: list[Turn], wants: Turn, bar: str) -> None:
    limits = Limits(providers={"b": 2})
    assert Held.by(held).bar(limits, wants) == bar
    assert standing(3, bar).why.startswith("number 3 in the queue: " + bar)


@pytest.mark.parametrize(
    ("held", "waiting", "waits"),
    [
        ([], [turn(seconds=9)] * 3, (0, 0, 9)),
        ([turn(seconds=5)], [turn(seconds=9)] * 3, (0, 5, 9)),
        ([turn(seconds=None)], [turn(seconds=9)] * 3, (0, 9, 18)),
        ([turn(seconds=None)] * 2, [turn(seconds=9)] * 2, (None, None)),
        ([turn(seconds=5), turn(seconds=None)], [turn(seconds=9)] * 2, (5, 14)),
        ([], [turn(seconds=None)] * 3, (0, 0, None)),
        # who is held up by a limit of his own holds up nobody behind him
        ([turn("here", 7, remote=False)], [turn("here", 7, remote=False), turn(seconds=9)], (7, 0)),
        ([turn(seconds=5, owner=name) for name in "abcde"], [turn(seconds=1), turn(seconds=1, owner="bob")], (5, 5)),
        ([turn(seconds=5)], [], ()),
    ],
)
def test_the_forecast(held: list[Turn], waiting: list[Turn], waits: tuple[float | None, ...]) -> None:
    assert forecast(Limits(), held, waiting) == waits
