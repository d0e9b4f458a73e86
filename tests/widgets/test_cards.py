"""The still pictures: numbers in, SVG and HTML out."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from simpletuner_lab.core.errors import OutputNotFound, SecretInConfig, TooLarge
from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.services.money_views import JobSpend, SpendView
from simpletuner_lab.services.views import JobView, MetricsView, OutputsView, OutputView
from simpletuner_lab.widgets import BundleMissing, submit
from simpletuner_lab.widgets.base import bundled
from simpletuner_lab.widgets.card import job_card, jobs_card, spend_card
from simpletuner_lab.widgets.chart import draw_curve
from simpletuner_lab.widgets.pictures import data_url, newest_samples
from simpletuner_lab.widgets.saved import saved, saved_request
from tests.lab_kit import png


def curve(*loss: float | None, first: int = 1) -> MetricsView:
    unknown = (None,) * len(loss)
    steps = tuple(range(first, first + len(loss)))
    return MetricsView(job_id="j", total=len(loss), step=steps, loss=loss, lr=unknown, grad_norm=unknown)


def words(svg: str) -> list[str]:
    return [node.text or "" for node in ET.fromstring(svg).iter() if node.tag.endswith("text")]


def drawn(svg: str) -> str:
    return next(node.attrib["d"] for node in ET.fromstring(svg).iter() if "stroke-width" in node.attrib)


@pytest.mark.parametrize(
    ("values", "moves", "lines"),
    [
        ((1.0, 0.5, 0.25), 1, 2),
        ((1.0, None, 0.5, 0.4), 2, 1),
        ((1.0, math.inf, 0.5), 2, 0),
        ((0.5,), 1, 0),
        ((0.0, 0.0), 1, 1),
        ((-1.0, 1e12), 1, 1),
    ],
)
def test_a_curve_is_drawn_within_its_frame(values: tuple[float | None, ...], moves: int, lines: int) -> None:
    path = drawn(draw_curve(curve(*values)))
    assert (path.count("M"), path.count("L")) == (moves, lines)
    for x, y in re.findall(r"[ML](\S+) ([\d.-]+)", path):
        assert 0 <= float(x) <= 640
        assert 0 <= float(y) <= 220


def test_ticks_are_few_and_round() -> None:
    svg = draw_curve(curve(*(1 / step for step in range(1, 301))))
    found = words(svg)
    assert {"50", "100", "300", "0.2", "1"} <= set(found)
    assert len(found) <= 14


@pytest.mark.parametrize("empty", [curve(), curve(None, None), curve(math.nan)])
def test_without_a_loss_nothing_is_drawn(empty: MetricsView) -> None:
    assert draw_curve(empty) == ""


def outputs(folder: Path, **files: bytes) -> OutputsView:
    for name, data in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    listed = sorted(path for path in folder.rglob("*") if path.is_file())
    return OutputsView(
        job_id="j", folder=str(folder), verified=True,
        outputs=tuple(OutputView(path=p.relative_to(folder).as_posix(), bytes=p.stat().st_size, modified_at="", sha256="") for p in listed),
    )  # fmt: skip


def test_pictures_become_data_urls_and_all_else_is_bytes_to_keep(tmp_path: Path) -> None:
    found = outputs(tmp_path, a=png(), b=b"\xff\xd8\xff\xe0", c=b"RIFF1234WEBP", d=b"<svg onload='alert(1)'/>", e=b"")
    kept = "data:application/octet-stream"
    assert [data_url(found, name).partition(";")[0] for name in "abcde"] == [
        "data:image/png", "data:image/jpeg", "data:image/webp", kept, kept,
    ]  # fmt: skip
    for name in ("f", "../a", "/etc/passwd", ""):
        with pytest.raises(OutputNotFound):
            data_url(found, name)
    with pytest.raises(TooLarge):
        data_url(found, "a", largest=10)


def test_the_newest_samples_are_few_and_small(tmp_path: Path) -> None:
    names = {f"samples__step-{step:08d}-{index}.png": png(index) for step in (5, 10) for index in range(6)}
    found = outputs(tmp_path, **names)
    assert list(newest_samples(found, count=4, largest=200_000)) == [f"samples/step-00000010-{i}.png" for i in range(4)]
    assert len(newest_samples(found, count=4, largest=2 * len(png()))) == 2
    (tmp_path / "samples/step-00000010-0.png").unlink()
    assert list(newest_samples(found, count=2, largest=200_000)) == [f"samples/step-00000010-{i}.png" for i in (1, 2)]


def test_what_is_saved_says_nothing_of_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    text = "/home/ann/x is not /data/home/ann/x nor /home/annabel, but /home/ann: hf_" + "a" * 34
    view = OutputView(path=text, bytes=1, modified_at="", sha256="")
    assert saved(view)["path"] == "~/x is not /data/home/ann/x nor /home/annabel, but ~: ********"
    asked = SubmitRequest(
        config={"note": 1.0},
        dataloader=({"id": "a", "instance_data_dir": "/home/ann/pics"}, {"instance_data_dir": "/b"}),
    )
    assert [entry["instance_data_dir"] for entry in saved_request(asked)["dataloader_config"]] == ["~/pics", "/b"]
    with pytest.raises(SecretInConfig):
        saved_request(SubmitRequest(config={"hub_token": "hf_" + "a" * 34}, dataloader=()))


def test_the_card_of_what_was_spent_counts_the_jobs_that_it_leaves_out() -> None:
    def card(count: int) -> str:
        jobs = tuple(
            JobSpend(
                job_id=f"j{n}", config_name="", provider="p", owner="", cost_usd=1.0, runs=1, unpriced=0, metered_s=1.0
            )
            for n in range(count)
        )
        return spend_card(
            SpendView(
                days=30, time_zone="UTC", since="2026-10-30", total_usd=12.0, runs=12, unpriced=0, by_day=(), by_provider=(),
                by_user=(), by_job=jobs, limits=(),
            )
        )  # fmt: skip

    assert "<div>... and 2 more</div>" in card(12)
    assert "more" not in card(10)


def test_a_card_says_of_a_job_that_it_waits_for_its_user() -> None:
    asks = JobView.of(
        Job(
            id="j", owner="me", name="cats", provider="p", target="t", hardware="h", remote=True, state=JobState.QUEUED,
            created_at=1.0, updated_at=2.0, digest="0" * 64, nonce="n", uncertain=True,
        )
    )  # fmt: skip
    assert "needs you" in jobs_card([asks], 1)
    assert "needs you" in job_card(asks, None, {})
    assert "needs you" not in jobs_card([replace(asks, uncertain=False)], 1)


def test_a_keyword_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(TypeError, match="no 'provder'; did you mean 'provider'"):
        submit({}, provder="x")


def test_a_bundle_that_was_not_built_says_how() -> None:
    with pytest.raises(BundleMissing) as caught:
        bundled("nothing.js")
    assert "make js" in caught.value.hint


def test_numbers_that_json_lacks_are_null() -> None:
    assert saved(curve(math.nan, math.inf, 1.0))["loss"] == [None, None, 1.0]
