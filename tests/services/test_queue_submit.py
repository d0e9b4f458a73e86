"""A config once more by its name: the plan, the consent and the queue of any submit, and one error for what is not offered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simpletuner_lab.core import errors
from simpletuner_lab.core.job import JobState
from simpletuner_lab.services.front import Front
from simpletuner_lab.services.queue_submit import NamedSubmit, submit_named
from simpletuner_lab.services.views import JobView
from tests.lab_kit import config
from tests.services.remote_kit import Away, away_lab, elsewhere


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Away]:
    with away_lab(tmp_path) as opened:
        yield opened


def again(away: Away, name: str = "neon", **more: Any) -> JobView:
    return submit_named(Front(away.lab), NamedSubmit(config_name=name, **{"target": "elsewhere", **more}))


def first(away: Away, images: Path, name: str = "neon", how: str = "quick") -> str:
    """A job of that name, which has ended."""
    job = away.submit(images, name=name, config=config(how))
    away.lab.cancel(job.id)
    return job.id


def test_the_newest_of_the_name_is_taken(away: Away, images: Path) -> None:
    first(away, images, how="older")
    away.clock.now += 1
    wanted = first(away, images)
    away.clock.now += 1
    first(away, images, "neon-2")
    job = again(away)
    assert (job.config_name, job.provider, job.queue_position) == ("neon", "elsewhere", 1)
    assert job.digest == away.lab.store.jobs.get(wanted).digest, "so it was agreed to before"


def test_consent_is_asked_as_by_any_submit(away: Away, images: Path) -> None:
    first(away, images)
    (images / "0.txt").write_text("another caption\n")
    with pytest.raises(errors.ConsentRequired):
        again(away)
    with pytest.raises(errors.PlanChanged):
        again(away, approve="0" * 64)
    asked = elsewhere(images, name="neon")
    assert again(away, approve=away.lab.plan(asked).digest).status is JobState.PENDING


def test_what_is_not_offered(away: Away, images: Path) -> None:
    first(away, images)
    with pytest.raises(errors.InvalidRequest, match="nobody approves"):
        again(away, for_approval=True)
    for target in ("kubeflow", "worker", ""):
        with pytest.raises(errors.ProviderNotFound, match="no provider is called"):
            again(away, target=target)
    for name in ("", "neo", "neon ", "NEON"):
        with pytest.raises(errors.NotFound, match="no job of yours"):
            again(away, name)
    assert Front(away.lab).jobs().total == 1


def test_of_another_user_nothing_is_found(away: Away, images: Path) -> None:
    first(away, images)
    away.lab.owner = "bob"
    with pytest.raises(errors.NotFound):
        again(away)


def test_no_wait(away: Away, images: Path) -> None:
    first(away, images)
    front = Front(away.lab)
    job = again(away, no_wait=True, any_gpu=True)
    assert (job.queue_position, away.lab.store.jobs.get(job.job_id).waits_for_slot) == (None, False)
    again(away, no_wait=True)
    before = front.jobs().total
    with pytest.raises(errors.Conflict, match="no slot is free: me has 2 of at most 2 jobs under way"):
        again(away, no_wait=True)
    assert front.jobs().total == before, "nothing was submitted"
    assert again(away).queue_position == 1


def test_another_job_is_faster(away: Away, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slot that was free is taken while the plan is made."""
    first(away, images)
    again(away, no_wait=True)
    taken, give = [], away.lab.queue.process

    def give_to_the_other() -> object:
        if not taken:
            taken.append(away.submit(images, name="urgent", priority=50).id)
        return give()

    monkeypatch.setattr(away.lab.queue, "process", give_to_the_other)
    with pytest.raises(errors.Conflict, match="another job took the slot first") as refused:
        again(away, no_wait=True)
    job = next(one for one in Front(away.lab).jobs().jobs if one.job_id in refused.value.message)
    assert job.status is JobState.CANCELLED
    assert not away.lab.store.jobs.get(taken[0]).waits_for_slot
