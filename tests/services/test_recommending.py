"""The recommended destination: a repository on the Hub where its token works, else home, and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from simpletuner_lab.core import errors
from simpletuner_lab.core.consent import ConsentMode
from simpletuner_lab.core.destination import HOME, HubDestination
from simpletuner_lab.services.lab import Lab, Surroundings
from simpletuner_lab.services.recommending import enable_recommended
from simpletuner_lab.testing.hub_emulator import HubEmulator
from tests.hub_kit import READ_TOKEN, TOKEN, hub_of_ann

OWN = HubDestination(repo_id="ann/simpletuner-models")


@pytest.fixture
def hub() -> Iterator[HubEmulator]:
    with hub_of_ann() as running:
        yield running


@contextmanager
def lab_of(folder: Path, hub: str, token: str, public: str | None = None) -> Iterator[Lab]:
    environment = {"HOME": str(folder), "HF_ENDPOINT": hub, "HF_TOKEN": token}
    with Lab.open(folder / "home", Surroundings(environment=environment, public_endpoint=lambda: public)) as lab:
        yield lab


def test_the_hub_where_its_token_works(tmp_path: Path, hub: HubEmulator) -> None:
    with lab_of(tmp_path, hub.url, TOKEN) as lab:
        found = enable_recommended(lab)
        assert found.destination == lab.destination() == OWN
        assert found.destination.private
        assert found.reached is None
        assert found.message.startswith("models go to Hugging Face Hub ann/simpletuner-models (private), home first")
        assert "no public URL is set" in found.message
        assert TOKEN not in found.message
        chosen = HubDestination(repo_id="studio/loras", private=False, checkpoints=True)
        lab.set_destination(chosen)
        assert enable_recommended(lab).destination == chosen, "one that is set already stays"
        assert enable_recommended(lab, repo_id="ann/neon").destination == HubDestination(repo_id="ann/neon")
        assert "in the name of bob" in enable_recommended(lab, repo_id="bob/neon").message
        with pytest.raises(errors.InvalidRequest, match="repo_id"):
            enable_recommended(lab, repo_id="neon")
        assert lab.destination() == HubDestination(repo_id="bob/neon")


@pytest.mark.parametrize(
    ("token", "words"),
    [("", "there is no token"), (READ_TOKEN, "can only read"), ("hf_" + "Unknown0" * 4, "does not accept the token")],
)
def test_home_where_it_does_not(tmp_path: Path, hub: HubEmulator, token: str, words: str) -> None:
    with lab_of(tmp_path, hub.url, token) as lab:
        lab.set_destination(OWN)
        with pytest.raises(errors.CredentialUnusable):
            enable_recommended(lab, repo_id="ann/neon")
        assert lab.destination() == OWN, "what is named and cannot be changes nothing"
        found = enable_recommended(lab)
        assert found.destination == lab.destination() == HOME
        assert words in found.message


def test_home_where_nothing_may_leave(tmp_path: Path, hub: HubEmulator) -> None:
    with lab_of(tmp_path, hub.url, TOKEN) as lab:
        lab.set_consent_mode(ConsentMode.NEVER)
        assert enable_recommended(lab).destination == HOME
        with pytest.raises(errors.UploadsForbidden):
            enable_recommended(lab, repo_id="ann/neon")


def test_home_where_the_hub_does_not_answer(tmp_path: Path) -> None:
    with lab_of(tmp_path, "http://127.0.0.1:9", TOKEN) as lab:
        found = enable_recommended(lab)
        assert (found.destination, "does not answer" in found.message) == (HOME, True)
        named = enable_recommended(lab, repo_id="ann/neon")
        assert named.destination == HubDestination(repo_id="ann/neon")
        assert "whether its token is good is not known" in named.message
        assert enable_recommended(lab).destination == named.destination, "what is set outlasts a Hub that is away"


def test_whether_home_is_reached(tmp_path: Path, hub: HubEmulator) -> None:
    with lab_of(tmp_path, hub.url, TOKEN, "http://127.0.0.1:9/api/cloud/storage") as lab:
        found = enable_recommended(lab)
        assert (found.destination, found.reached) == (OWN, False)
        assert "home is not reached from outside: " in found.message
