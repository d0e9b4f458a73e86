"""A manifest becomes one archive, byte for byte the same, or nothing at all (SPEC K1, K3, K4, K6, C2)."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simpletuner_lab.core.errors import DiskFull, PlanChanged
from simpletuner_lab.core.manifest import DatasetManifest, FileEntry, Manifest
from simpletuner_lab.services.archive import pack, verify
from simpletuner_lab.services.spool import Spool
from tests.core.planted import SECRET_NAMES, SECRETS
from tests.services.dataset_kit import Remembered, dataset, image_bytes, put, scanned, small_set


def packed(root: Path, spool: Path) -> bytes:
    return pack(scanned(dataset(root)), spool).path.read_bytes()


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool/job.zip"


@pytest.fixture
def root(tmp_path):
    return small_set(tmp_path / "data")


def assert_nothing_left(spool: Path) -> None:
    assert list(spool.parent.iterdir()) == []


def test_the_archive_holds_what_the_manifest_says_and_nothing_else(tmp_path, root, spool):
    for name in ("p.jpg", "q.webp", "r.bmp", "s.tiff", "猫.png", "deep/er/still/t.png"):
        put(root, name)
    put(root, "notes.md", "not needed")
    other = small_set(tmp_path / "other/data", 1)
    manifest = scanned(dataset(root, "one"), dataset(other, "two"))
    archive = pack(manifest, spool)
    assert archive.path == spool
    assert archive.bytes == spool.stat().st_size
    assert archive.sha256 == hashlib.sha256(spool.read_bytes()).hexdigest()
    assert archive.files == len(manifest.files) == 14
    assert archive.content_bytes == manifest.bytes
    with zipfile.ZipFile(spool) as opened:
        assert opened.testzip() is None
        assert opened.namelist() == [file.name for file in manifest.files] == sorted(opened.namelist(), key=str.encode)
        for file in manifest.files:
            data = opened.read(file.name)
            assert (len(data), hashlib.sha256(data).hexdigest()) == (file.bytes, file.sha256)
        for info in opened.infolist():
            stored = info.filename.endswith((".png", ".jpg", ".webp"))
            assert info.compress_type == (zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED)
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert info.external_attr >> 16 == stat.S_IFREG | 0o644
            assert not info.filename.startswith("/")
    assert str(tmp_path).encode() not in spool.read_bytes()


def test_the_spool_is_ours_alone(root, spool):
    old = os.umask(0)
    try:
        pack(scanned(dataset(root)), spool)
    finally:
        os.umask(old)
    assert stat.S_IMODE(spool.stat().st_mode) == 0o600
    assert stat.S_IMODE(spool.parent.stat().st_mode) == 0o700
    assert list(spool.parent.iterdir()) == [spool]


def test_a_link_planted_where_the_spool_will_be_is_replaced_not_written_through(tmp_path, root, spool):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    spool.parent.mkdir()
    spool.symlink_to(victim)
    pack(scanned(dataset(root)), spool)
    assert victim.read_text() == "mine"
    assert not spool.is_symlink()


NAMES = st.text(alphabet=st.sampled_from("abcXYZäß猫0-_ "), min_size=1, max_size=8).map(lambda text: f"x{text}x")


@given(
    files=st.dictionaries(NAMES, st.text(max_size=40), min_size=1, max_size=6),
    order=st.randoms(use_true_random=False),
    times=st.integers(0, 2_000_000_000),
)
@settings(max_examples=15, deadline=None)
def test_order_and_times_of_the_files_do_not_matter(files, order, times):
    with tempfile.TemporaryDirectory() as scratch:
        results = set()
        for turn in range(2):
            root = Path(scratch, f"place{turn}/data")
            shuffled = list(files.items())
            order.shuffle(shuffled)
            for name, caption in shuffled:
                for path in (put(root, f"{name}.png", image_bytes()), put(root, f"{name}.txt", caption + "x")):
                    os.utime(path, (times * turn, times * turn))
                    path.chmod(0o600 if turn else 0o755)
            results.add(packed(root, Path(scratch, f"{turn}.zip")))
        assert len(results) == 1


def test_packing_again_gives_the_same_bytes_in_another_process_too(root, tmp_path):
    first = packed(root, tmp_path / "a.zip")
    code = (
        "import sys; from pathlib import Path; from tests.services.test_archive import packed;"
        "packed(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "TZ": "Asia/Tokyo",
        "PYTHONHASHSEED": "7",
    }
    subprocess.run([sys.executable, "-c", code, root, tmp_path / "b.zip"], check=True, env=environment)
    assert (tmp_path / "b.zip").read_bytes() == first


# ------------------------------------------------------------------------------------------------------------- secrets


def test_no_planted_secret_is_in_the_archive(tmp_path, spool):
    root = small_set(tmp_path / "data")
    rng = random.Random(1)
    for index, (_, secret) in enumerate(SECRETS):
        for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
            stem = f"{'d/' * rng.randrange(4)}{index}-{encoding}"
            put(root, f"{stem}.png", image_bytes(index) + b"\n" + secret.encode(encoding) + b"\n")
            put(root, f"{stem}-caption.png", image_bytes(index))
            put(root, f"{stem}-caption.txt", f"a cat, {secret}, a dog".encode(encoding))
    marker = b"MARK-OF-A-NAMED-SECRET"
    for index, name in enumerate(SECRET_NAMES):
        put(root, f"n/{index}/{name}", image_bytes() + marker)
        put(root, f"n/{index}/{name}.png", image_bytes())
        put(root, f"N/{index}/{name.upper()}", image_bytes() + marker)
    pack(scanned(dataset(root)), spool)
    with zipfile.ZipFile(spool) as opened:
        content = b"\n".join(opened.read(name) for name in opened.namelist())
        assert len(opened.namelist()) >= 6 + 3 * len(SECRETS)
    assert marker not in content
    for _, secret in SECRETS:
        for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
            assert secret.encode(encoding) not in content


# ---------------------------------------------------------------------------------------------- changed since the plan


def link_to(target):
    def change(path):
        place = target(path)
        path.unlink()
        path.symlink_to(place)

    return change


def twin_outside(path):
    """The very same bytes, elsewhere: even a link that changes nothing is not followed."""
    twin = path.parents[2] / "twin.png"
    twin.write_bytes(path.read_bytes())
    return twin


def swap_folder(path):
    moved = path.parents[2] / "moved"
    path.parent.rename(moved)
    path.parent.symlink_to(moved, target_is_directory=True)


def swap_root(path):
    moved = path.parents[2] / "moved"
    path.parents[1].rename(moved)
    path.parents[1].symlink_to(moved, target_is_directory=True)


def replace_by(make):
    def change(path):
        path.unlink()
        make(path)

    return change


def flip(path):
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    seen = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


CHANGES = {
    "another byte, same size and mtime": flip,
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "shorter": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "endless": lambda path: os.truncate(path, 1 << 40),
    "gone": Path.unlink,
    "a folder": replace_by(Path.mkdir),
    "a FIFO": replace_by(os.mkfifo),
    "a link out": link_to(lambda path: Path("/etc/passwd")),
    "a link to the same bytes": link_to(twin_outside),
    "a link inside": link_to(lambda path: path.parent / "0.png"),
    "its folder is a link": swap_folder,
    "the root is a link": swap_root,
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_file_that_changed_since_the_plan_ends_the_packing_and_nothing_is_left(root, spool, what):
    manifest = scanned(dataset(root))
    CHANGES[what](root / "sub/1.png")
    with pytest.raises(PlanChanged, match=r"nothing was sent"):
        pack(manifest, spool)
    assert_nothing_left(spool)


def test_a_swap_in_the_middle_of_packing_is_caught(root, spool):
    manifest = scanned(dataset(root))

    def swap(stage, done, total, size):
        if done == 3 and not (root / "sub/2.png").is_symlink():
            link_to(twin_outside)(root / "sub/2.png")

    with pytest.raises(PlanChanged, match=r"2\.png"):
        pack(manifest, spool, progress=swap)
    assert_nothing_left(spool)


def test_a_spool_of_an_earlier_try_survives_a_failed_one(root, spool):
    manifest = scanned(dataset(root))
    first = pack(manifest, spool)
    flip(root / "sub/1.png")
    with pytest.raises(PlanChanged):
        pack(manifest, spool)
    assert verify(spool, first.sha256)
    assert list(spool.parent.iterdir()) == [spool]


@pytest.mark.parametrize(
    "name",
    ["set/../../etc/passwd", "/etc/passwd", "set/", "set", "other/sub/0.png", "set//sub/0.png", "set/./sub/0.png"],
)
def test_a_manifest_that_was_tampered_with_reaches_no_other_file(root, spool, name):
    (found,) = scanned(dataset(root)).datasets
    files = (*found.files, FileEntry(name=name, bytes=1, sha256="0" * 64))
    with pytest.raises(PlanChanged):
        pack(Manifest(datasets=(dataclasses.replace(found, files=files),)), spool)
    assert_nothing_left(spool)


# --------------------------------------------------------------------------------------------------- disk, stop, verify


LIMITED = """
import resource, sys
from pathlib import Path
from simpletuner_lab.core.errors import DiskFull
from simpletuner_lab.services.archive import pack
from tests.services.dataset_kit import dataset, scanned

manifest = scanned(dataset(Path(sys.argv[1])))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    pack(manifest, Path(sys.argv[2]))
except DiskFull as error:
    print("full:", error.hint)
"""


@pytest.mark.parametrize("limit", [100, 199_000])
def test_a_disk_that_fills_up_while_packing_is_a_clean_error(root, spool, limit):
    put(root, "big.bmp", image_bytes(kind="BMP", size=260))  # 203 kB of noise
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", LIMITED, root, spool, str(limit)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.stdout.startswith("full: free some space"), result.stderr
    assert_nothing_left(spool)


def test_the_disk_is_checked_before_anything_is_written(root, spool):
    entry = FileEntry(name="set/huge.png", bytes=1 << 60, sha256="0" * 64)
    manifest = Manifest(
        datasets=(
            DatasetManifest(
                id="set", root=str(root), files=(entry,), withheld=(), images=1, captions_found=0, captions_missing=()
            ),
        )
    )
    with pytest.raises(DiskFull, match="needs"):
        pack(manifest, spool)
    assert_nothing_left(spool)


@pytest.mark.parametrize("at", [0, 1, 5, 6])
def test_packing_can_be_stopped_at_any_file(root, spool, at):
    def stop(stage, done, total, size):
        assert (stage, total) == ("packaging", 6)
        if done == at:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        pack(scanned(dataset(root)), spool, progress=stop)
    assert_nothing_left(spool)


def test_progress_counts_every_byte(root, spool):
    seen = []
    put(root, "big.png", image_bytes(size=1000))  # some 3 MB: several pieces
    manifest = scanned(dataset(root))
    pack(manifest, spool, progress=lambda *step: seen.append(step))
    assert seen[0] == ("packaging", 0, 7, 0)
    assert seen[-1] == ("packaging", 7, 7, manifest.bytes)
    assert len(seen) == 2 + 6 + 3
    assert [step[3] for step in seen] == sorted(step[3] for step in seen)


def test_verify_tells_a_whole_spool_from_any_other(tmp_path, root, spool):
    archive = pack(scanned(dataset(root)), spool)
    assert verify(spool, archive.sha256)
    assert not verify(spool, "0" * 64)
    assert not verify(spool.with_name("missing.zip"), archive.sha256)
    assert not verify(tmp_path / "nowhere/job.zip", archive.sha256)
    (tmp_path / "link.zip").symlink_to(spool)
    assert not verify(tmp_path / "link.zip", archive.sha256)
    os.mkfifo(tmp_path / "fifo.zip")
    assert not verify(tmp_path / "fifo.zip", archive.sha256)
    os.truncate(spool, archive.bytes - 1)
    assert not verify(spool, archive.sha256)


def test_no_descriptor_is_left_open(root, spool):
    def descriptors():
        return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0

    manifest = scanned(dataset(root))
    pack(manifest, spool)
    before = descriptors()
    for _ in range(3):
        pack(scanned(dataset(root), hashes=Remembered()), spool)
    (root / "sub/1.png").unlink()
    for _ in range(3):
        with pytest.raises(PlanChanged):
            pack(manifest, spool)
    assert descriptors() == before


def test_what_a_killed_packing_left_goes_with_its_job(tmp_path, root):
    """A child is killed in the middle of it; another job's archive stays."""
    folder = tmp_path / "spool"
    folder.mkdir()
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom simpletuner_lab.services.archive import pack\n"
        "from tests.services.dataset_kit import dataset, scanned\n"
        "pack(scanned(dataset(Path(sys.argv[1]))), Path(sys.argv[2]), progress=lambda *_: os.kill(os.getpid(), 9))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root), str(folder / "one.zip")], check=False)
    assert done.returncode == -9
    Spool(folder).pack("other", scanned(dataset(root)))
    assert any(path.name.startswith(".one.zip.") for path in folder.iterdir())
    Spool(folder).remove("one")
    assert sorted(path.name for path in folder.iterdir()) == ["other.json", "other.zip"]
