"""The emulated Hub, driven by the real `huggingface_hub`: what goes in comes out, and it says no as the Hub does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from simpletuner_lab.testing.hub_emulator import ROUTES, Account, Fault, HubEmulator, hub_emulator

CARD = '---\nlibrary_name: diffusers\ntags:\n- lora\nwidget:\n- text: "a, \\"b\\""\n  output:\n    url: samples/0.png\n---\n# x\n'
FILES = {
    "README.md": CARD.encode(),
    "config.json": b"{}",
    "empty.txt": b"",
    "samples/0.png": b"\x89PNG\r\n\x1a\n\0\0picture",
    "pytorch_lora_weights.safetensors": bytes(range(256)) * 40,
}


@pytest.fixture
def hub() -> Iterator[HubEmulator]:
    accounts = {
        "hf_ann": Account(name="ann", organizations=("studio",)),
        "hf_read": Account(name="ann", role="read"),
        "hf_bob": Account(name="bob"),
    }
    with hub_emulator(accounts, part_bytes=4096) as running:
        yield running


def api(hub: HubEmulator, token: str = "hf_ann") -> HfApi:
    return HfApi(endpoint=hub.url, token=token)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "model"


def test_a_folder_there_and_back(hub: HubEmulator, folder: Path, tmp_path: Path) -> None:
    ann = api(hub)
    url = ann.create_repo("ann/neon", private=True)
    assert url.repo_id == "ann/neon"
    made = ann.upload_folder(repo_id="ann/neon", folder_path=folder, commit_message="all")
    assert made.oid == hub.repositories["ann/neon"].head
    assert {path: stored.content for path, stored in hub.repositories["ann/neon"].files.items()} | FILES == {
        **FILES, ".gitattributes": hub.repositories["ann/neon"].files[".gitattributes"].content
    }  # fmt: skip
    assert hub.repositories["ann/neon"].files["samples/0.png"].lfs
    assert not hub.repositories["ann/neon"].files["config.json"].lfs
    assert (hub.count("lfs_part"), hub.count("lfs_complete"), hub.count("lfs_put")) == (3, 1, 1)
    back = Path(ann.snapshot_download("ann/neon", local_dir=tmp_path / "back"))
    assert {name: (back / name).read_bytes() for name in FILES} == FILES
    one = ann.hf_hub_download("ann/neon", "pytorch_lora_weights.safetensors", cache_dir=tmp_path / "cache")
    assert Path(one).read_bytes() == FILES["pytorch_lora_weights.safetensors"]
    assert hub.count("unknown") == 0


def test_what_is_there_is_not_sent_again(hub: HubEmulator, folder: Path) -> None:
    ann = api(hub)
    ann.create_repo("studio/neon")
    ann.upload_folder(repo_id="studio/neon", folder_path=folder)
    ann.upload_folder(repo_id="studio/neon", folder_path=folder)
    (folder / "config.json").write_bytes(b'{"a": 1}')
    ann.upload_file(repo_id="studio/neon", path_or_fileobj=folder / "config.json", path_in_repo="config.json")
    assert [commit.changed for commit in hub.repositories["studio/neon"].commits][2:] == [("config.json",)]
    assert hub.count("lfs_put") == 1
    found = ann.get_paths_info("studio/neon", ["config.json", "nowhere", "samples/0.png"])
    assert {entry.path for entry in found} == {"config.json", "samples/0.png"}
    assert sorted(ann.list_repo_files("studio/neon")) == sorted([*FILES, ".gitattributes"])


def test_a_repository_is_made_once(hub: HubEmulator) -> None:
    ann = api(hub)
    ann.create_repo("ann/neon")
    with pytest.raises(HfHubHTTPError) as told:
        ann.create_repo("ann/neon")
    assert told.value.response.status_code == 409
    ann.create_repo("ann/neon", exist_ok=True)
    assert ann.whoami()["name"] == "ann"
    assert ann.repo_info("ann/neon").private is False
    ann.delete_repo("ann/neon")
    with pytest.raises(RepositoryNotFoundError):
        ann.repo_info("ann/neon")


def test_who_may_not_is_told_so(hub: HubEmulator, folder: Path) -> None:
    api(hub).create_repo("ann/neon", private=True)
    api(hub).create_repo("ann/open")
    statuses = {}
    for token in ("hf_read", "hf_bob", "hf_nobody"):
        for repo_id in ("ann/neon", "ann/open"):
            with pytest.raises(HfHubHTTPError) as told:
                api(hub, token).upload_file(
                    repo_id=repo_id, path_or_fileobj=folder / "config.json", path_in_repo="config.json"
                )
            statuses[token, repo_id] = told.value.response.status_code
    assert statuses == {
        ("hf_read", "ann/neon"): 403, ("hf_read", "ann/open"): 403,
        ("hf_bob", "ann/neon"): 404, ("hf_bob", "ann/open"): 403,
        ("hf_nobody", "ann/neon"): 401, ("hf_nobody", "ann/open"): 401,
    }  # fmt: skip
    with pytest.raises(HfHubHTTPError, match="rights to create"):
        api(hub, "hf_bob").create_repo("ann/mine")
    hub.revoke("hf_ann")
    with pytest.raises(HfHubHTTPError):
        api(hub).whoami()
    hub.repositories["ann/open"].gated = True
    with pytest.raises(GatedRepoError):
        api(hub, "hf_bob").repo_info("ann/open")
    with pytest.raises(RevisionNotFoundError):
        hub.repositories["ann/open"].gated = False
        api(hub, "hf_bob").repo_info("ann/open", revision="other")


@pytest.mark.parametrize("head", ["tags: lora", "widget:\n- text: 5", "a: [", "- list"])
def test_a_card_that_is_not_valid_is_refused(hub: HubEmulator, folder: Path, head: str) -> None:
    (folder / "README.md").write_text(f"---\n{head}\n---\n# x\n")
    api(hub).create_repo("ann/neon")
    with pytest.raises(ValueError, match=r"README\.md"):
        api(hub).upload_folder(repo_id="ann/neon", folder_path=folder)
    assert len(hub.repositories["ann/neon"].commits) == 1


def test_faults_of_every_kind(hub: HubEmulator, folder: Path, tmp_path: Path) -> None:
    ann = api(hub)
    ann.create_repo("ann/neon")
    hub.fail("whoami", Fault(status=429, retry_after_s=7))
    with pytest.raises(HfHubHTTPError) as told:
        ann.whoami()
    assert (told.value.response.status_code, told.value.response.headers["Retry-After"]) == (429, "7")
    hub.fail("preupload", Fault(status=403))
    with pytest.raises(HfHubHTTPError):
        ann.upload_folder(repo_id="ann/neon", folder_path=folder)
    hub.fail("lfs_put", Fault(cut_after=4))
    ann.upload_folder(repo_id="ann/neon", folder_path=folder)  # the client itself tries again
    assert [seen.status for seen in hub.seen if seen.route == "lfs_put"] == [0, 200]
    hub.fail("resolve", Fault(times=1))
    hub.fail("resolve", Fault(cut_after=100))
    name = "pytorch_lora_weights.safetensors"
    back = ann.hf_hub_download("ann/neon", name, local_dir=tmp_path / "back")
    assert Path(back).read_bytes() == FILES[name]
    with pytest.raises(ValueError, match="no route"):
        hub.fail("nowhere", Fault())
    assert "commit" in ROUTES


def test_an_answer_that_is_lost(hub: HubEmulator, folder: Path) -> None:
    ann = api(hub)
    ann.create_repo("ann/neon")
    hub.fail("commit", Fault(lost=True))
    with pytest.raises(Exception, match=r"(?i)disconnect|closed|reset"):
        ann.upload_folder(repo_id="ann/neon", folder_path=folder)
    assert len(hub.repositories["ann/neon"].commits) == 2, "it was done"
