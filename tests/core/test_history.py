"""Records of the original's job history, as different versions wrote them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simpletuner_lab.core.history import HistoricJob, historic_job, records_of
from simpletuner_lab.core.job import TERMINAL, JobState


def job(**record: Any) -> HistoricJob:
    found = historic_job({"job_id": "one"} | record)
    assert found is not None
    return found


def test_a_whole_record() -> None:
    found = job(
        job_id="c4d8a0c2-1111", job_type="cloud", provider="replicate", status="completed", config_name="neon",
        created_at="2025-11-03T10:00:00+00:00", started_at="2025-11-03T10:01:00Z", completed_at="2025-11-03T11:01:00",
        cost_usd=3.5, hardware_type="L40S (48GB)", output_url="https://user:pass@host.example/out.zip?sig=abc#x",
        upload_token="a-token-of-an-upload", user_id=7, metadata={"prediction_id": "xyz", "model": "simpletuner/x"},
    )  # fmt: skip
    assert found == HistoricJob(
        id="c4d8a0c2-1111", name="neon", provider="replicate", remote=True, status="completed", hardware="L40S (48GB)",
        target="simpletuner/x", run_ref="xyz", error="", output_url="https://host.example/out.zip",
        created_at=1762164000.0, started_at=1762164060.0, completed_at=1762167660.0, cost_usd=3.5,
    )  # fmt: skip
    assert (found.state, found.ended) == (JobState.COMPLETED, True)


@pytest.mark.parametrize(
    ("word", "state", "ended"),
    [
        ("completed", "completed", True),
        ("SUCCEEDED", "completed", True),
        ("failed", "failed", True),
        ("error", "failed", True),
        ("cancelled", "cancelled", True),
        ("canceled", "cancelled", True),
        ("aborted", "cancelled", True),
        *((word, "failed", False) for word in ("pending", "uploading", "queued", "running", "training", "", "what?")),
    ],
)
def test_every_status_is_an_end(word: str, state: str, ended: bool) -> None:
    found = job(status=word)
    assert (found.state, found.ended) == (state, ended)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (1762164000, 1762164000.0),
        (1762164000.5, 1762164000.5),
        (1762164000500, 1762164000.5),
        ("1762164000", 1762164000.0),
        ("2025-11-03T10:00:00", 1762164000.0),
        ("2025-11-03 11:00:00+01:00", 1762164000.0),
        ("2025-11-03T10:00:00.000Z", 1762164000.0),
        *((wrong, None) for wrong in ("", "yesterday", None, True, -1, 0, float("nan"), 10**400, [], {}, "1e999")),
    ],
)
def test_times(written: Any, seconds: float | None) -> None:
    assert job(created_at=written).created_at == seconds


def test_an_older_name_of_the_end() -> None:
    assert job(finished_at=1762164000).completed_at == 1762164000


@pytest.mark.parametrize("cost", ["free", -1, True, None, float("inf"), []])
def test_a_cost_that_is_none(cost: Any) -> None:
    assert job(cost_usd=cost).cost_usd is None


def test_no_token_is_taken() -> None:
    found = job(
        upload_token="tok-0123456789",
        error_message="PUT with tok-0123456789 and r8_" + "a" * 37,
        config_name="tok-0123456789",
    )
    assert "tok-0123456789" not in repr(found)
    assert "r8_a" not in repr(found)


def test_ids() -> None:
    assert job(job_id="a/b").id == job(job_id="a/b").id != job(job_id="a/c").id
    nameless = historic_job({"config_name": "x"})
    assert nameless is not None
    assert nameless == historic_job({"config_name": "x"})
    assert all(job(job_id=odd).id.startswith("h-") for odd in ("..", "x" * 65, "", "../../etc", "\ud800"))


def test_forms_of_the_file() -> None:
    one = {"job_id": "one"}
    assert list(records_of([one])) == list(records_of({"jobs": [one]})) == [one]
    assert list(records_of({"jobs": {"one": {}}})) == list(records_of({"one": {}})) == [one]
    assert list(records_of([])) == list(records_of({})) == []
    for wrong in ("text", 1, None, {"jobs": "none"}, {"jobs": {"a": 1}}):
        with pytest.raises(ValueError, match="neither"):
            list(records_of(wrong))
    assert [historic_job(entry) for entry in ("text", 1, None, [], {})] == [None] * 5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = [
    "job_id",
    "status",
    "created_at",
    "completed_at",
    "cost_usd",
    "metadata",
    "output_url",
    "upload_token",
    "job_type",
]


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(NAMES), JSON, min_size=1))
def test_whatever_stands_there_is_a_job_that_has_ended(record: dict[str, Any]) -> None:
    found = historic_job(record)
    assert found is not None
    assert found.state in TERMINAL
    assert 0 < len(found.id) <= 64
    repr(found).encode()
