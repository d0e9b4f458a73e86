"""Homes that cannot be used, on real file systems."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from simpletuner_lab.core.consent import ConsentMode
from simpletuner_lab.doctor.finding import Finding, Status
from simpletuner_lab.doctor.home import database_findings, home_findings
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.lab import Lab
from simpletuner_lab.services.mounts import Mount


def named(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


@contextlib.contextmanager
def file_system(place: Path, options: str) -> Iterator[Path]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_home_that_is_not_there_yet_is_fine_and_stays_so(tmp_path: Path) -> None:
    home = Home(tmp_path / "a/b")
    findings = named(home_findings(home)) | named(database_findings(home))
    assert {finding.status for finding in findings.values()} == {Status.OK}
    assert "made at first use" in findings["home"].message
    assert list(tmp_path.iterdir()) == []


def test_a_home_in_use(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with Lab.open(home.root) as lab:
        lab.set_consent_mode(ConsentMode.NEVER)
    findings = named(home_findings(home)) | named(database_findings(home))
    assert {finding.status for finding in findings.values()} == {Status.OK}
    assert "mode never" in findings["consent"].message


def test_a_home_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    home = Home(tmp_path / "file" / "home")
    (finding,) = home_findings(home)
    assert (finding.status, "is no folder" in finding.message) == (Status.PROBLEM, True)
    assert "SIMPLETUNER_HOME" in finding.fix
    assert list(database_findings(home)) == [], "nothing is promised about its database"


def test_a_home_on_a_disk_that_cannot_be_written(tmp_path: Path) -> None:
    with file_system(tmp_path / "disk", "ro") as place:
        for root in (place, place / "home"):
            (finding,) = home_findings(Home(root))
            assert (finding.status, "Read-only file system" in finding.message) == (Status.PROBLEM, True)


@pytest.mark.parametrize(("room", "status"), [("8m", Status.PROBLEM), ("1g", Status.WARNING)])
def test_a_small_disk(tmp_path: Path, room: str, status: Status) -> None:
    with file_system(tmp_path / "disk", f"size={room}") as place:
        assert named(home_findings(Home(place)))["disk"].status is status


def test_a_home_that_others_can_read(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").prepare()
    home.state.chmod(0o755)
    finding = named(home_findings(home))["home"]
    assert (finding.status, finding.fix) == (Status.WARNING, f"chmod 700 {home.state}")


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_home_of_another_user(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").prepare()
    os.chown(home.root, 12345, -1)
    finding = named(home_findings(home))["home"]
    assert (finding.status, finding.fix) == (Status.PROBLEM, f'sudo chown -R "$(id -un)" {home.root}')


def test_a_home_on_a_network_file_system(tmp_path: Path) -> None:
    mounts = [Mount(point="/", kind="ext4"), Mount(point=str(tmp_path), kind="nfs4")]
    finding = named(home_findings(Home(tmp_path / "home"), mounts))["home"]
    assert (finding.status, "nfs4" in finding.message) == (Status.PROBLEM, True)


def test_a_database_that_is_none(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").prepare()
    home.database.write_text("not a database, but a shopping list")
    (finding,) = database_findings(home)
    assert (finding.status, "is not a database" in finding.message) == (Status.PROBLEM, True)
    assert "put it aside" in finding.fix
