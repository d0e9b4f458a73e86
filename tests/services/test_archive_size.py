"""Archives of any size in constant memory."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile

import pytest

from simpletuner_lab.services.archive import least_bytes, pack
from tests.services.dataset_kit import dataset, image_bytes, put, scanned, small_set


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool/job.zip"


MEMORY = """
import resource, sys
from pathlib import Path
from simpletuner_lab.services.archive import pack
from tests.services.dataset_kit import dataset, scanned

def peak_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

manifest = scanned(dataset(Path(sys.argv[1]) / "small"))
pack(manifest, Path(sys.argv[2]))
before = peak_kib()
pack(scanned(dataset(Path(sys.argv[1]) / "large")), Path(sys.argv[2]))
print(peak_kib() - before)
"""


def test_memory_does_not_grow_with_the_files(tmp_path, spool):
    small_set(tmp_path / "small")
    with put(tmp_path / "large", "big.jpg", image_bytes(kind="JPEG")).open("ab") as file:
        file.truncate(64 << 20)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", MEMORY, tmp_path, spool]
    grown_kib = int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)
    assert grown_kib < 20 << 10
    assert spool.stat().st_size > 64 << 20


def test_the_least_size_is_the_size_of_what_is_stored(tmp_path, spool):
    for name in ("a.jpg", "née 船.jpg"):
        put(tmp_path / "set", name, image_bytes(kind="JPEG"))
    manifest = scanned(dataset(tmp_path / "set"))
    assert least_bytes(manifest) == pack(manifest, spool).bytes
    put(tmp_path / "set", "a.txt", b"a caption")
    manifest = scanned(dataset(tmp_path / "set"))
    assert 0 < pack(manifest, spool).bytes - least_bytes(manifest) < 100


@pytest.mark.slow
def test_archives_beyond_four_gibibytes_are_sound(tmp_path, spool):
    root = small_set(tmp_path / "data")
    for name in ("a.jpg", "b.jpg"):
        with put(root, name, image_bytes(kind="JPEG")).open("ab") as file:
            file.truncate((4 << 30) + 1 if name == "a.jpg" else 1000)
    archive = pack(scanned(dataset(root)), spool)
    with zipfile.ZipFile(spool) as opened:
        assert opened.read("set/b.jpg") == (root / "b.jpg").read_bytes()
        assert opened.getinfo("set/a.jpg").file_size == (4 << 30) + 1
        assert opened.getinfo("set/b.jpg").header_offset > 4 << 30
    assert archive.bytes > 4 << 30
