"""The announcer on a real event loop: what is told, how often, and whose word counts."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Awaitable, Callable

import pytest

from simpletuner_lab.core.errors import StoreUnusable
from simpletuner_lab.core.event import Event, EventKind
from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.server import announcer as module
from simpletuner_lab.server.announcer import QUIET_S, Announcer, JobNews
from simpletuner_lab.services.feed import Written
from tests.services.store_kit import T0, new_job


def told_by(scene: Callable[[Announcer, list[JobNews]], Awaitable[None]]) -> list[JobNews]:
    """What an announcer emits during a scene on a loop of its own."""
    told: list[JobNews] = []

    async def play() -> None:
        announcer = Announcer(told.append)
        announcer.start()
        await scene(announcer, told)

    asyncio.run(play())
    return told


def written(version: int, state: JobState = JobState.RUNNING, *, seq: int = 0) -> tuple[Job, tuple[Event, ...]]:
    events = (Event(seq=seq, job_id="job-1", kind=EventKind.STAGE, at=T0, data={}),) if seq else ()
    return new_job(state=state, version=version), events


def deletion(version: int, seq: int) -> Event:
    return Event(seq=seq, job_id="job-1", kind=EventKind.DELETED, at=T0, data={"version": version})


async def caught_up() -> None:
    """Lets everything run that was handed to the loop so far."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def quiet_over() -> None:
    over = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(QUIET_S * 1.5, over.set_result, None)
    await over


def test_the_first_at_once_then_the_latest() -> None:
    async def scene(announcer: Announcer, told: list[JobNews]) -> None:
        for version in range(1, 6):
            announcer.publish(*written(version, seq=version if version < 4 else 0))
        await caught_up()
        assert [(news.version, news.seq) for news in told] == [(1, 1)]
        await quiet_over()
        assert [(news.version, news.seq) for news in told] == [(1, 1), (5, 3)], "the cursor of what was left out"
        announcer.publish(*written(6))
        await quiet_over()

    assert [(news.version, news.seq) for news in told_by(scene)] == [(1, 1), (5, 3), (6, 0)]


def test_an_end_and_a_deletion_do_not_wait() -> None:
    async def scene(announcer: Announcer, told: list[JobNews]) -> None:
        announcer.publish(*written(1))
        announcer.publish(*written(2, seq=7))
        announcer.publish(*written(3, JobState.COMPLETED))
        await caught_up()
        assert [(news.version, news.seq, news.is_terminal) for news in told] == [(1, 0, False), (3, 7, True)]
        announcer.publish(*written(4, JobState.COMPLETED, seq=8))
        await caught_up()
        assert len(told) == 2, "what comes after the end has time"
        announcer.publish(new_job(version=4), (deletion(5, 9),))
        await caught_up()
        assert [(news.version, news.status, news.seq) for news in told[2:]] == [(5, "deleted", 9)]
        await quiet_over()

    assert len(told_by(scene)) == 3


def test_a_late_thread_turns_nothing_back() -> None:
    async def scene(announcer: Announcer, _: list[JobNews]) -> None:
        announcer.publish(*written(3, JobState.FAILED))
        announcer.publish(*written(2, seq=5))
        announcer.publish(*written(4, JobState.FAILED))
        await quiet_over()

    assert [(news.version, news.status, news.seq) for news in told_by(scene)] == [(3, "failed", 0), (4, "failed", 5)]


def test_from_any_thread_and_also_when_the_loop_has_gone() -> None:
    told: list[JobNews] = []
    announcer = Announcer(told.append)
    announcer.publish(*written(1))  # nobody listens yet

    async def play() -> None:
        announcer.start()
        thread = threading.Thread(target=announcer.publish, args=written(2))
        thread.start()
        await asyncio.to_thread(thread.join)
        await caught_up()

    asyncio.run(play())
    announcer.publish(*written(3))
    assert [news.version for news in told] == [2]


def test_who_waits_for_a_job_is_woken_by_its_news_alone() -> None:
    async def scene(announcer: Announcer, _: list[JobNews]) -> None:
        waiting = asyncio.ensure_future(announcer.news("job-1", 30))
        await caught_up()
        announcer.publish(new_job("another", version=1), ())
        await caught_up()
        assert not waiting.done()
        announcer.publish(*written(1))
        await asyncio.wait_for(waiting, 5)
        await announcer.news("job-1", 0.01)  # nothing comes: the time-out ends it

    told_by(scene)


def test_the_store_is_followed_and_nothing_is_told_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own writes come a second time from the store; a store that fails for a while is asked again."""
    monkeypatch.setattr(module, "_LOOK_S", 0.01)
    job = written(2)[0]
    looks = iter(
        [
            Written(jobs=((job, 4),), seq=10),
            StoreUnusable("in use by another process"),
            Written(jobs=((dataclasses.replace(job, version=3), 4),), deletions=(deletion(4, 12),), seq=12),
        ]
    )
    asked: list[int] = []

    async def look(seq: int) -> Written:
        asked.append(seq)
        found = next(looks, Written(seq=seq))
        if isinstance(found, StoreUnusable):
            raise found
        return found

    async def scene(announcer: Announcer, _: list[JobNews]) -> None:
        announcer.publish(*written(2, seq=4))
        following = asyncio.ensure_future(announcer.follow(look, 8))
        await quiet_over()
        following.cancel()

    news = [(news.version, news.status, news.seq) for news in told_by(scene)]
    assert news == [(2, "running", 4), (4, "deleted", 12)]
    assert asked[:4] == [8, 10, 10, 12]
