"""Which folders may be data sets at all (SPEC K3)."""

from __future__ import annotations

from pathlib import Path

import pytest

from simpletuner_lab.core.errors import InvalidDataset
from tests.core.planted import SECRETS
from tests.services.dataset_kit import (
    dataset,
    put,
    reasons,
    scanned,
    small_set,
)

TOKEN = dict(SECRETS)["a Hugging Face token"]


# --------------------------------------------------------------------------------------------------------------- roots


@pytest.mark.parametrize(
    "root", ["/", "/etc", "/etc/ssl", "/usr", "/usr/lib", "/proc", "/proc/self", "/sys", "/dev", "/var", "/home"]
)
def test_system_folders_are_refused(root):
    if Path(root).is_dir():
        with pytest.raises(InvalidDataset, match=r"refused|cannot be read"):
            scanned(dataset(Path(root)))


def test_the_home_folder_and_what_holds_it_are_refused_and_folders_in_it_are_not(tmp_path):
    home = tmp_path / "people/me"
    small_set(home / "pictures")
    for root in (home, home.parent, tmp_path):
        with pytest.raises(InvalidDataset, match="home folder"):
            scanned(dataset(root), home=home)
    assert scanned(dataset(home / "pictures"), home=home).datasets[0].images == 3


def test_the_users_own_home_is_refused_by_default(tmp_path, monkeypatch):
    small_set(tmp_path / "pictures")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InvalidDataset, match="home folder"):
        scanned(dataset(Path("~")))
    assert scanned(dataset(Path("~/pictures"))).datasets[0].images == 3


@pytest.mark.parametrize("name", [".ssh", ".aws/x", "repo/.git", ".config/gcloud", ".gnupg", "x/.kube"])
def test_credential_folders_are_refused(tmp_path, name):
    small_set(tmp_path / name)
    with pytest.raises(InvalidDataset, match="credentials"):
        scanned(dataset(tmp_path / name))


def test_temporary_folders_and_folders_called_venv_are_fine(tmp_path):
    assert scanned(dataset(small_set(tmp_path / "venv/node_modules/var"))).datasets[0].images == 3


def test_all_wrong_data_sets_are_reported_at_once(tmp_path):
    (tmp_path / "empty").mkdir()
    file = put(tmp_path, "file.png")
    small_set(tmp_path / "good")
    wrong = {"missing": tmp_path / "nothing", "file": file, "sys": Path("/etc"), "nul": Path("a\0b")}
    with pytest.raises(InvalidDataset) as caught:
        scanned(dataset(tmp_path / "good", "good"), *(dataset(path, name) for name, path in wrong.items()))
    assert [problem.path for problem in caught.value.problems] == [
        f"dataloader.{name}.instance_data_dir" for name in wrong
    ]
    with pytest.raises(InvalidDataset, match="no image"):
        scanned(dataset(tmp_path / "good", "good"), dataset(tmp_path / "empty", "empty"))


def test_two_data_sets_with_one_folder_name_do_not_collide_and_two_with_one_id_are_refused(tmp_path):
    one, two = small_set(tmp_path / "one/images"), small_set(tmp_path / "two/images")
    found = scanned(dataset(one, "a"), dataset(two, "b"))
    assert len({file.name for file in found.files}) == 12
    with pytest.raises(InvalidDataset, match="id"):
        scanned(dataset(one, "a"), dataset(two, "A"))


def test_an_unreadable_folder_stays_with_a_warning(tmp_path):
    small_set(tmp_path)
    put(tmp_path, "gone/a.png")
    deep = tmp_path / "gone"

    def take_away(stage, done, total, size):
        if stage == "listing" and deep.is_dir():  # the root is listed, the folder in it is not
            deep.rename(tmp_path.parent / f"{tmp_path.name}-moved")

    found = scanned(dataset(tmp_path), progress=take_away).datasets[0]
    assert "cannot be read" in reasons(found)["gone/"]
