"""How a provider is set up: refused as a whole or in force at once, and a token that goes in and never comes out."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest

from simpletuner_lab.commands.answers import provider_answer
from simpletuner_lab.core import errors
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.providers._replicate_settings import ReplicateSettings
from simpletuner_lab.services.codec import decode, dumps
from simpletuner_lab.services.lab import Lab
from tests.services.remote_kit import away_lab


def test_settings_are_merged_and_in_force_at_once(tmp_path: Path) -> None:
    with away_lab(tmp_path, price=1.0) as away:
        setup, file = away.lab.setup, away.lab.home.provider_settings / "elsewhere.json"
        before = away.lab.registry.get("elsewhere")
        found = setup.change("elsewhere", {"run_limit_s": 1800, "hosts": ["a", "b"]})
        limit = {key: value for key, value in found.config.items() if key.startswith("cost_limit_")}
        own = {"run_limit_s": 1800.0, "price": 1.0, "hosts": ["a", "b"], "host": "elsewhere.example"}
        assert found.config == own | limit
        assert set(limit.values()) == {False, "monthly", "warn"}
        assert away.lab.registry.get("elsewhere").options().run_limit_s == 1800.0
        assert before.options().run_limit_s is None, "who works with the old one goes on with it"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert json.loads(file.read_text()) == {"run_limit_s": 1800.0, "price": 1.0, "hosts": ["a", "b"]}
        setup.change("elsewhere", {"run_limit_s": None, "price": 3.6})
        assert json.loads(file.read_text()) == {"hosts": ["a", "b"]}, "what is as a default is not kept"
        assert setup.config("elsewhere").config["run_limit_s"] is None


def test_everything_that_is_wrong_is_told_and_nothing_changes(tmp_path: Path) -> None:
    with away_lab(tmp_path, price=1.0) as away:
        setup, file = away.lab.setup, away.lab.home.provider_settings / "elsewhere.json"
        before = file.read_bytes()
        with pytest.raises(errors.InvalidRequest) as refused:
            setup.change("elsewhere", {"run_limit_s": "long", "hosts": [1], "colour": "red"})
        told = " ".join(f"{problem.path} {problem.message}" for problem in refused.value.problems)
        assert all(word in told for word in ("run_limit_s", "hosts", "colour"))
        with pytest.raises(errors.InvalidRequest) as refused:
            setup.change("elsewhere", {"run_limit_s": 0.5})
        assert [problem.message for problem in refused.value.problems] == ["run_limit_s is at least a second"]
        with pytest.raises(errors.InvalidRequest) as refused:
            setup.change("elsewhere", {"run_limit_s": 0.5, "hosts": [1], "bogus": 1})
        told = " ".join(f"{problem.path} {problem.message}" for problem in refused.value.problems)
        assert all(word in told for word in ("run_limit_s is at least a second", "hosts", "bogus")), told
        with pytest.raises(errors.InvalidRequest) as refused:
            wrong = {"webhook_allowed_ips": ["10.0.0.0/8", "x"], "timeout_s": 9999, "bogus": 1}
            decode(ReplicateSettings, wrong, what="settings")
        told = " ".join(f"{problem.path} {problem.message}" for problem in refused.value.problems)
        assert all(word in told for word in ("webhook_allowed_ips", "timeout_s", "bogus")), told
        with pytest.raises(errors.SecretInConfig):
            setup.change("elsewhere", {"hosts": ["hf_" + "Ab1" * 12]})
        assert file.read_bytes() == before
        assert away.lab.registry.get("elsewhere").options().run_limit_s is None


@pytest.mark.parametrize("price", [float("nan"), float("inf"), 10**400], ids=["nan", "inf", "too much"])
def test_what_is_no_number_is_never_kept(tmp_path: Path, price: float) -> None:
    """A limit is not above NaN, so it would let every job pass."""
    with away_lab(tmp_path, price=1.0) as away:
        setup, file = away.lab.setup, away.lab.home.provider_settings / "elsewhere.json"
        before = file.read_bytes()
        with pytest.raises(errors.InvalidRequest, match=r"settings\.price: .*finite number"):
            setup.change("elsewhere", {"price": price})
        assert file.read_bytes() == before
        for text in ('{"price": NaN}', '{"price": 1e999}'):
            file.write_text(text)
            with pytest.raises(errors.InvalidRequest, match=r"elsewhere\.json\.price must be a finite number"):
                setup.config("elsewhere")


def test_a_wrong_value_is_named_beside_what_is_expected(tmp_path: Path) -> None:
    with away_lab(tmp_path) as away:
        with pytest.raises(errors.InvalidRequest) as refused:
            away.lab.setup.change("elsewhere", {"run_limit_s": "long"})
        assert all(
            word in refused.value.message
            for word in ("run_limit_s", "'long'", "must be a number", "nothing was changed")
        )


def test_one_text_is_a_list_of_one(tmp_path: Path) -> None:
    with away_lab(tmp_path) as away:
        assert away.lab.setup.change("elsewhere", {"hosts": "10.0.0.1"}).config["hosts"] == ["10.0.0.1"]


@pytest.mark.parametrize("text", ['{"host": "other", "colour": "red"}', '{"host": "oth'])
def test_a_file_that_cannot_be_read_is_not_replaced(tmp_path: Path, text: str) -> None:
    """With a default in the place of an address that was set, a token would go to somebody else."""
    with away_lab(tmp_path) as away:
        path = away.lab.home.provider_settings / "elsewhere.json"
        path.write_text(text)
        for act in (
            lambda: away.lab.setup.config("elsewhere"),
            lambda: away.lab.setup.change("elsewhere", {"price": 2}),
        ):
            with pytest.raises(errors.InvalidRequest):
                act()
        assert path.read_text() == text
        path.unlink()
        assert away.lab.setup.change("elsewhere", {"price": 2}).config["price"] == 2.0


def test_a_text_in_a_file_by_hand_is_no_list(tmp_path: Path) -> None:
    """It would be one address a letter."""
    with away_lab(tmp_path) as away:
        (away.lab.home.provider_settings / "elsewhere.json").write_text('{"hosts": "10.0.0.1"}')
        with pytest.raises(errors.InvalidRequest) as refused:
            away.lab.setup.config("elsewhere")
        (problem,) = refused.value.problems
        assert problem.path.endswith("elsewhere.json.hosts")
        assert problem.message == 'must be a list: ["..."], not a text'


def test_a_token_is_kept_for_its_owner_and_counts_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "e_bob"
    with away_lab(tmp_path) as away:
        setup = away.lab.setup
        assert not setup.config("elsewhere").token_set
        path = Path(setup.set_token("elsewhere", Secret(f"  {text}\n")).file_path)
        assert (path, path.read_text()) == (away.lab.home.secrets / "ELSEWHERE_TOKEN", text)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert setup.validate("elsewhere").user_info == "bob"
        found = setup.config("elsewhere")
        assert (found.token_name, found.token_set) == ("ELSEWHERE_TOKEN", True)
        assert text not in dumps(found) + caplog.text
        assert setup.delete_token("elsewhere").deleted
        assert not setup.delete_token("elsewhere").deleted
        assert setup.validate("elsewhere").user_info == "ann"


def test_a_token_that_others_can_read_is_told_and_hides_no_settings(tmp_path: Path) -> None:
    with away_lab(tmp_path) as away:
        setup = away.lab.setup
        path = Path(setup.set_token("elsewhere", Secret("e_bob")).file_path)
        path.chmod(0o644)
        found = setup.change("elsewhere", {"price": 2})
        assert (found.config["price"], found.token_set) == (2.0, False)
        assert f"{path} can be read by others: chmod 600 {path}" in found.token_problem
        text = provider_answer(found, setup.validate("elsewhere")).text
        assert f"ELSEWHERE_TOKEN cannot be used: {path} can be read by others" in text
        path.chmod(0o600)
        assert (setup.config("elsewhere").token_set, setup.config("elsewhere").token_problem) == (True, "")


def test_a_file_or_program_that_is_not_there_is_no_setting(lab: Lab, tmp_path: Path) -> None:
    """What would fail with the first job is told while the setting is typed."""
    empty, program = tmp_path / "empty.pem", tmp_path / "python"
    empty.touch()
    program.touch()
    for provider, name, value, told in (
        ("replicate", "ca_bundle", str(tmp_path / "no.pem"), "No such file"),
        ("replicate", "ca_bundle", str(empty), "has no certificates in it"),
        ("replicate", "ca_bundle", str(tmp_path), "Is a directory"),
        ("replicate", "ca_bundle", "relative.pem", "is not an absolute path"),
        ("local", "python", "/nope", "is no program"),
        ("local", "python", str(program), "is no program"),
        ("local", "nice", 20, "is not 0 to 19"),
        ("local", "grace_s", -1, "is not 0 to 86400"),
    ):
        before = lab.setup.config(provider).config
        with pytest.raises(errors.InvalidRequest, match=told) as refused:
            lab.setup.change(
                provider, {name: value, "base_url": "http://nowhere.invalid"} if name == "ca_bundle" else {name: value}
            )
        assert [problem.path for problem in refused.value.problems] == [f"settings.{name}"]
        assert lab.setup.config(provider).config == before
    assert lab.setup.change("local", {"python": sys.executable}).config["python"] == sys.executable


def test_what_is_unsafe_is_said_beside_the_settings(lab: Lab) -> None:
    assert lab.setup.config("replicate").warning == ""
    found = lab.setup.change("replicate", {"base_url": "http://gateway.example", "verify_tls": False})
    assert "plain http" in found.warning
    assert "verify_tls is off" in lab.setup.config("replicate").warning


KEYRING = """
from keyring import errors


def get_password(service, name):
    return "r8_of-the-keyring" if (service, name) == ("simpletuner_lab", "REPLICATE_API_TOKEN") else None
"""


def test_a_token_in_the_keyring_is_there(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider that uses it is the one that looks."""
    assert not lab.setup.config("replicate").token_set
    package = tmp_path / "site" / "keyring"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(KEYRING)
    (package / "errors.py").write_text("class KeyringError(Exception):\n    pass\n")
    for name in ("keyring", "keyring.errors"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(package.parent)
    try:
        found = lab.setup.config("replicate")
    finally:
        for name in ("keyring", "keyring.errors"):
            sys.modules.pop(name, None)
    assert (found.token_name, found.token_set) == ("REPLICATE_API_TOKEN", True)
    assert "of-the-keyring" not in dumps(found)


@pytest.mark.parametrize("text", ["", "x_bob", "e_b ob", "e_b\nob", "e_" + "a" * 20_000])
def test_what_is_no_token_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    with away_lab(tmp_path) as away:
        with pytest.raises(errors.InvalidRequest) as refused:
            away.lab.setup.set_token("elsewhere", Secret(text))
        assert len(text) < 3 or text not in str(refused.value) + refused.value.hint
        assert list(away.lab.home.secrets.iterdir()) == []


def test_what_there_is_to_know(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        job = away.started(images)
        away.place.change("run-1", metered_s=10.0, cost_usd=0.5)
        away.on(job)
        away.started(images)
        bill = away.lab.setup.billing("elsewhere")
        assert (bill.balance, bill.spent_usd, bill.runs, bill.runs_without_price, bill.metered_s) == (
            None,
            0.5,
            2,
            1,
            10,
        )
        assert "does not tell" in bill.balance_note
        found = away.lab.setup.versions("elsewhere")
        assert (found.current_version, [one.model_id for one in found.versions]) == (
            "1",
            ["trainer", "plain", "theirs"],
        )
        for ask in (away.lab.setup.config, away.lab.setup.validate, away.lab.setup.versions, away.lab.setup.billing):
            with pytest.raises(errors.ProviderNotFound):
                ask("nowhere")


def test_one_without_a_token_has_none_to_set(lab) -> None:
    (own,) = [provider.id for provider in lab.registry if not provider.capabilities.remote]
    with pytest.raises(errors.Conflict):
        lab.setup.set_token(own, Secret("x"))
    assert lab.setup.config(own).token_name == ""
