"""How tokens and keys stand: where each is found, how old its file is, and never a part of one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from simpletuner_lab.core.destination import HUB_TOKEN, S3_ACCESS_KEY, S3_SECRET_KEY
from simpletuner_lab.services.codec import dumps
from simpletuner_lab.services.credentials import CredentialState, KnownCredential, credentials
from simpletuner_lab.services.registry import Broken, Registry
from simpletuner_lab.services.tokens import Tokens
from tests.services.remote_kit import START, Elsewhere

NAME = "ELSEWHERE_TOKEN"
TEXT = "e_ThisIsATokenOfNobody"
DAY_S = 24 * 3600.0


def seen(folder: Path, environment: Mapping[str, str] | None = None) -> dict[str, KnownCredential]:
    """Those of a provider whose settings cannot be read, which has a token all the same."""
    broken = Broken(id="elsewhere", reason="its settings")
    strange = Broken(id="strange", reason="no module")
    registry = Registry((), (), (broken, strange), classes={"elsewhere": Elsewhere})
    tokens = Tokens(folder, {"HOME": str(folder), **(environment or {})}, lambda: START)
    found = credentials(registry, tokens)
    assert (found.stale_after_days, found.early_warning_percent) == (90, 75)
    assert TEXT not in dumps(found)
    return {one.name: one for one in found.credentials}


def kept(folder: Path, name: str = NAME, *, days: float = 0, mode: int = 0o600, text: str = TEXT) -> None:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    os.utime(path, (START - days * DAY_S,) * 2)


def test_what_is_missing(tmp_path: Path) -> None:
    found = seen(tmp_path)
    assert list(found) == [NAME, "HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]
    assert {one.state for one in found.values()} == {CredentialState.MISSING}
    assert {(one.source, one.age_days, one.is_stale, one.problem) for one in found.values()} == {
        (None, None, False, "")
    }
    assert (found[NAME].provider, found[NAME].used_for, found[HUB_TOKEN].provider) == ("elsewhere", "Elsewhere", None)


@pytest.mark.parametrize(
    ("days", "early", "stale"),
    [(0, False, False), (67.4, False, False), (67.5, True, False), (89.9, True, False), (90, False, True), (400, False, True), (-5, False, False)],
)  # fmt: skip
def test_how_old_a_file_is(tmp_path: Path, days: float, early: bool, stale: bool) -> None:
    kept(tmp_path, days=days)
    found = seen(tmp_path)[NAME]
    assert (found.state, found.source, found.age_days) == (CredentialState.SET, "file", max(0.0, days))
    assert (found.is_early_warning, found.is_stale) == (early, stale)


def test_the_environment_comes_first_and_tells_no_age(tmp_path: Path) -> None:
    kept(tmp_path, days=400)
    found = seen(tmp_path, {NAME: TEXT})[NAME]
    assert (found.state, found.source, found.age_days, found.is_stale) == (
        CredentialState.SET, "environment", None, False
    )  # fmt: skip


def test_a_file_that_others_can_read(tmp_path: Path) -> None:
    kept(tmp_path, mode=0o644)
    found = seen(tmp_path)[NAME]
    assert (found.state, found.source) == (CredentialState.UNUSABLE, "file")
    assert "can be read by others" in found.problem


def test_what_no_token_holds_is_not_repeated(tmp_path: Path) -> None:
    found = seen(tmp_path, {NAME: f"{TEXT} and more"})[NAME]
    assert (found.state, found.source) == (CredentialState.UNUSABLE, "environment")
    assert found.problem


def test_the_login_of_the_hub(tmp_path: Path) -> None:
    (tmp_path / ".cache" / "huggingface").mkdir(parents=True)
    kept(tmp_path / ".cache" / "huggingface", "token", days=100)
    found = seen(tmp_path)[HUB_TOKEN]
    assert (found.state, found.source, found.age_days, found.is_stale) == (CredentialState.SET, "login", 100.0, True)
    kept(tmp_path, HUB_TOKEN, days=1)
    assert (seen(tmp_path)[HUB_TOKEN].source, seen(tmp_path)[HUB_TOKEN].is_stale) == ("file", False)


def test_keys_of_s3_count_where_both_are(tmp_path: Path) -> None:
    kept(tmp_path, S3_SECRET_KEY)
    alone = seen(tmp_path, {S3_ACCESS_KEY: "AKIAIOSFODNN7EXAMPLE"})
    assert [alone[name].state for name in (S3_ACCESS_KEY, S3_SECRET_KEY)] == [CredentialState.UNUSABLE] * 2
    assert "not both in one place" in alone[S3_ACCESS_KEY].problem
    kept(tmp_path, S3_ACCESS_KEY, days=70)
    both = seen(tmp_path, {S3_ACCESS_KEY: "AKIAIOSFODNN7EXAMPLE"})
    assert [(both[name].state, both[name].source) for name in (S3_ACCESS_KEY, S3_SECRET_KEY)] == [
        (CredentialState.SET, "file")
    ] * 2
    assert both[S3_ACCESS_KEY].is_early_warning, "that of the file, which is the one that counts"
