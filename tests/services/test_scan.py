"""Data sets become a manifest: what leaves, what stays, why (SPEC K2, K3, K4, K7)."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import time
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from simpletuner_lab.core.errors import InvalidDataset
from simpletuner_lab.services.inspection import FileFacts
from tests.core.planted import SECRETS
from tests.services.dataset_kit import (
    Remembered,
    dataset,
    exif_with,
    image_bytes,
    later_ns,
    names,
    png_with_chunk,
    put,
    raw_profile,
    reasons,
    scanned,
    scanned_set,
    small_set,
)

TOKEN = dict(SECRETS)["a Hugging Face token"]


def test_every_file_is_named_with_its_size_and_digest_in_a_fixed_order(tmp_path):
    for name in ("b.png", "a.jpg", "sub/c.webp", "sub/ä.bmp", "Z.tiff"):
        put(tmp_path, name)
    caption = put(tmp_path, "a.txt", "a cat\n")
    found = scanned_set(tmp_path)
    assert names(found) == ["Z.tiff", "a.jpg", "a.txt", "b.png", "sub/c.webp", "sub/ä.bmp"]
    assert found.files[2].name == "set/a.txt"
    assert found.files[2].bytes == 6
    assert found.files[2].sha256 == hashlib.sha256(caption.read_bytes()).hexdigest()
    assert (found.images, found.captions_found) == (5, 1)
    assert found.captions_missing == ("set/Z.tiff", "set/b.png", "set/sub/c.webp", "set/sub/ä.bmp")
    assert found.root == str(tmp_path.resolve())
    assert found.withheld == ()


@pytest.mark.parametrize(
    ("options", "leaving", "missing"),
    [
        ({}, ["a.png", "a.txt", "b.png"], ["b.png"]),
        ({"caption_strategy": "filename"}, ["a.png", "b.png"], []),
        ({"caption_strategy": "instanceprompt", "instance_prompt": "x"}, ["a.png", "b.png"], []),
        ({"caption_strategy": "metadata"}, ["a.png", "b.png", "metadata.jsonl"], ["a.png"]),
        ({"only_instance_prompt": True, "instance_prompt": "x"}, ["a.png", "b.png"], []),
    ],
)
def test_only_what_the_caption_strategy_reads_leaves(tmp_path, options, leaving, missing):
    for name in ("a.png", "b.png"):
        put(tmp_path, name)
    put(tmp_path, "a.txt", "\ufeffa cat")
    put(tmp_path, "metadata.jsonl", '{"file_name": "b.png", "text": "a dog"}\n')
    for name in ("notes.txt", "train.py", "c.gif", "sub/metadata.jsonl", "a.json", "archive.zip"):
        put(tmp_path, name, b"unneeded")
    found = scanned_set(tmp_path, **options)
    assert names(found) == leaving
    assert found.captions_missing == tuple(f"set/{name}" for name in missing)
    assert set(reasons(found).values()) == {"not needed by training"}
    assert not any(entry.secret or entry.wanted for entry in found.withheld)


def test_a_blank_caption_counts_as_missing(tmp_path):
    put(tmp_path, "a.png")
    put(tmp_path, "a.txt", " \n")
    assert scanned_set(tmp_path).captions_missing == ("set/a.png",)


@pytest.mark.parametrize("text", ["", "{", '{"file_name": "a.png"}', b"\xff\xfe{\x00"])
def test_metadata_that_cannot_be_read_is_an_error(tmp_path, text):
    put(tmp_path, "a.png")
    if text:
        put(tmp_path, "metadata.jsonl", text)
    with pytest.raises(InvalidDataset, match=r"metadata\.jsonl"):
        scanned_set(tmp_path, caption_strategy="metadata")


# ----------------------------------------------------------------------------------------------------- images, captions


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("zip.png", b"PK\x03\x04" + bytes(100)),
        ("text.jpg", b"only text, really"),
        ("empty.png", b"\n"),
        ("gif.png", image_bytes(kind="GIF")),
        ("cut.png", image_bytes()[:60]),
        ("head.png", image_bytes()[:20]),
        ("head.jpg", image_bytes(kind="JPEG")[:30]),
        ("head.webp", image_bytes(kind="WEBP")[:14]),
        ("bmw.bmp", b"BMW is a car"),
        ("sum.png", image_bytes()[:45] + b"\x00\x01" + image_bytes()[47:]),
        ("tiff.tif", b"II*\x00" + bytes(3)),
    ],
)
def test_a_broken_image_stays_with_its_caption_and_a_warning(tmp_path, name, data):
    put(tmp_path, "fine.png")
    put(tmp_path, name, data)
    put(tmp_path, Path(name).stem + ".txt", "a caption")
    found = scanned_set(tmp_path)
    assert names(found) == ["fine.png"]
    stays = {entry.name: entry for entry in found.withheld}
    assert stays[f"set/{name}"].reason.startswith("broken image")
    assert stays[f"set/{name}"].wanted
    assert not stays[f"set/{name}"].secret
    assert "its image stays" in stays[f"set/{Path(name).stem}.txt"].reason


def test_an_image_with_another_image_suffix_leaves(tmp_path):
    put(tmp_path, "really-webp.jpg", image_bytes(kind="WEBP"))
    assert names(scanned_set(tmp_path)) == ["really-webp.jpg"]


@pytest.mark.parametrize("data", [b"\x00\x01\x02", b"\xff\xfe\xfd", "a cat".encode("utf-16"), b"x" * ((1 << 20) + 1)])
def test_a_caption_that_is_no_text_stays(tmp_path, data):
    put(tmp_path, "a.png")
    put(tmp_path, "a.txt", data)
    found = scanned_set(tmp_path)
    assert names(found) == ["a.png"]
    assert "text" in reasons(found)["a.txt"]


def test_photos_with_a_location_are_counted(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (47.0, 22.0, 0.0), 3: "E", 4: (8.0, 33.0, 0.0)})
    for kind, name in (("JPEG", "a.jpg"), ("PNG", "b.png"), ("WEBP", "c.webp")):
        put(tmp_path, name, image_bytes(kind=kind, exif=exif.tobytes()))
    put(tmp_path, "d.png", png_with_chunk(b"zTXt", raw_profile("exif", exif.tobytes()), at_end=True))
    put(tmp_path, "e.jpg", image_bytes(kind="JPEG", xmp=b'<r exif:GPSLatitude="47,22N"/>'))
    put(tmp_path, "f.jpg", image_bytes(kind="JPEG", exif=exif_with(ExifTags.Base.ImageDescription, "no place")))
    put(tmp_path, "g.png")
    found = scanned_set(tmp_path)
    assert (found.images, found.with_gps) == (7, 5)


# ------------------------------------------------------------------------------------------------------ links and kinds


def test_links_are_never_followed(tmp_path):
    outside = small_set(tmp_path / "outside")
    root = small_set(tmp_path / "root")
    (root / "inside.png").symlink_to(root / "sub/0.png")
    (root / "relative.png").symlink_to("sub/0.png")
    (root / "out.png").symlink_to(outside / "sub/0.png")
    (root / "up.png").symlink_to("../outside/sub/0.png")
    (root / "folder").symlink_to(outside, target_is_directory=True)
    (root / "loop").symlink_to(root, target_is_directory=True)
    (root / "nowhere.png").symlink_to("/nonexistent.png")
    (root / "self.png").symlink_to("self.png")
    found = scanned_set(root)
    assert len(found.files) == 6
    why = reasons(found)
    assert {why[name] for name in ("inside.png", "relative.png", "loop")} == {
        "a link: its target is in the data set under its own name"
    }
    assert {why[name] for name in ("out.png", "up.png", "folder")} == {"a link that leaves the data set"}
    assert why["nowhere.png"] == "a link to nothing"
    assert why["self.png"].startswith("a link")


def test_a_set_of_nothing_but_links_says_what_to_do(tmp_path):
    outside = small_set(tmp_path / "outside")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.png").symlink_to(outside / "sub/0.png")
    with pytest.raises(InvalidDataset, match="link that leaves") as caught:
        scanned_set(root)
    assert "copy" in caught.value.hint


def test_a_root_that_is_a_link_is_judged_by_where_it_points(tmp_path):
    real = small_set(tmp_path / "real")
    (tmp_path / "good").symlink_to(real)
    assert scanned_set(tmp_path / "good").root == str(real.resolve())
    (tmp_path / "bad").symlink_to("/etc")
    with pytest.raises(InvalidDataset, match="system"):
        scanned_set(tmp_path / "bad")


def test_special_files_stay_and_are_not_opened(tmp_path):
    small_set(tmp_path)
    os.mkfifo(tmp_path / "fifo.png")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket.png"))
    expected = {"fifo.png": "a FIFO, not a file", "socket.png": "a socket, not a file"}
    try:
        os.mknod(tmp_path / "device.png", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        expected["device.png"] = "a device, not a file"
    except PermissionError:  # not root: no device can be made, and none can be met
        pass
    found = scanned_set(tmp_path)
    listener.close()
    assert reasons(found) == expected
    assert len(found.files) == 6


def test_a_file_that_becomes_something_else_while_it_is_scanned_stays(tmp_path):
    small_set(tmp_path)
    secret = put(tmp_path.parent / f"{tmp_path.name}-outside", "secret.png")

    def swap(stage, done, total, size):
        if stage == "scanning" and done == 0:
            (tmp_path / "sub/0.png").unlink()
            (tmp_path / "sub/0.png").symlink_to(secret)
            (tmp_path / "sub/1.png").unlink()
            os.mkfifo(tmp_path / "sub/1.png")
            (tmp_path / "sub/2.txt").unlink()
            (tmp_path / "sub/2.txt").mkdir()

    found = scanned(dataset(tmp_path), progress=swap).datasets[0]
    assert names(found) == ["sub/2.png"]
    assert {name for name, why in reasons(found).items() if "cannot be read" in why} == {
        "sub/0.png",
        "sub/1.png",
        "sub/2.txt",
    }
    assert all(entry.wanted for entry in found.withheld if "cannot be read" in entry.reason)


# --------------------------------------------------------------------------------------------------------------- names


def test_names_that_cannot_be_unpacked_everywhere_stay(tmp_path):
    small_set(tmp_path)
    odd = ["what?.png", "a:b.png", "a\nb.png", "back\\slash.png", "con.png", "trailing ./a.png", "\u202egnp.png"]
    for name in odd:
        put(tmp_path, name)
    put(tmp_path, b"caf\xe9.png")
    put(tmp_path, b"caf\xe9/a.png", image_bytes())
    found = scanned_set(tmp_path)
    assert len(found.files) == 6
    assert len(found.withheld) == len(odd) + 2
    assert reasons(found)["caf\\xe9.png"] == "its name is not UTF-8: rename it"
    assert all("name" in entry.reason and entry.wanted and entry.name.isprintable() for entry in found.withheld)


def test_of_names_that_collide_elsewhere_one_leaves(tmp_path):
    for name in ("A.png", "A.txt", "a.png", "a.txt", "caf\u00e9.png", "cafe\u0301.png"):
        put(tmp_path, name, b"" if name.endswith("png") else "x")
    found = scanned_set(tmp_path)
    assert names(found) == ["A.png", "A.txt", "cafe\u0301.png"]
    assert all("differs only in case or accents" in why for why in reasons(found).values())


def test_hidden_files_and_folders_stay_as_the_trainer_skips_them(tmp_path):
    small_set(tmp_path)
    for name in (".hidden.png", "._a.png", ".ipynb_checkpoints/a.png", ".thumbnails/b/c.png"):
        put(tmp_path, name)
    found = scanned_set(tmp_path)
    assert set(reasons(found)) == {".hidden.png", "._a.png", ".ipynb_checkpoints/", ".thumbnails/"}
    assert not any(entry.secret for entry in found.withheld)


# ---------------------------------------------------------------------------------------------- cache, progress, cancel


def test_ten_thousand_files_are_planned_quickly_and_again_at_once(tmp_path):
    picture = image_bytes()
    for folder in range(10):
        (tmp_path / f"{folder}").mkdir()
        for index in range(500):
            (tmp_path / f"{folder}/{index}.png").write_bytes(picture)
            (tmp_path / f"{folder}/{index}.txt").write_bytes(b"a cat")
    cache = Remembered()
    first_s, second_s = [], []
    for seconds in (first_s, second_s):
        start = time.process_time()
        manifest = scanned(dataset(tmp_path), hashes=cache)
        seconds.append(time.process_time() - start)
        assert len(manifest.files) == 10_000
    assert first_s[0] < 15
    assert second_s[0] < first_s[0]


def test_a_second_plan_reads_no_file_again(tmp_path):
    small_set(tmp_path)
    put(tmp_path, "broken.png", b"nothing")
    put(tmp_path, "sub/2.txt", TOKEN)
    cache = Remembered()
    first = scanned(dataset(tmp_path), hashes=cache)
    assert len(cache) == 7
    assert scanned(dataset(tmp_path), hashes=cache) == first
    for stamp in cache:
        cache[stamp] = FileFacts("f" * 64).text
    assert {file.sha256 for file in scanned(dataset(tmp_path), hashes=cache).files} == {"f" * 64}
    for path in tmp_path.rglob("*.*"):  # the mtime stays as it was, the ctime moves on: looked at anew
        stamp = path.stat()
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert scanned(dataset(tmp_path), hashes=cache) == first


def test_files_changed_a_moment_ago_are_not_remembered(tmp_path):
    cache = Remembered()
    scanned(dataset(small_set(tmp_path)), hashes=cache, now_ns=time.time_ns)
    assert cache == {}


def test_facts_of_other_rules_are_not_used(tmp_path):
    cache = Remembered()
    first = scanned(dataset(small_set(tmp_path)), hashes=cache)
    for stamp in cache:
        cache[stamp] = '[0, "' + "f" * 64 + '", "", false, false, false]'
    assert scanned(dataset(tmp_path), hashes=cache) == first
    for text in ("", "nonsense", "[]", "5", "f" * 64):
        assert FileFacts.parse(text) is None
    assert FileFacts.parse(FileFacts("ab", "why", secret=True, gps=True).text) == FileFacts(
        "ab", "why", secret=True, gps=True
    )


def test_progress_counts_to_the_end_and_stopping_keeps_what_was_read(tmp_path):
    small_set(tmp_path, 20)
    seen = []
    found = scanned(dataset(tmp_path), progress=lambda *step: seen.append(step))
    assert seen[-1] == ("scanning", 40, 40, found.bytes)
    assert [step[1] for step in seen if step[0] == "scanning"] == list(range(41))
    cache = Remembered()

    def stop(stage, done, total, size):
        if done == 10 and stage == "scanning":
            raise InterruptedError

    with pytest.raises(InterruptedError):
        scanned(dataset(tmp_path), hashes=cache, progress=stop)
    assert len(cache) == 10


def test_scanning_changes_nothing(tmp_path):
    small_set(tmp_path)

    def state():
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")}

    before = state()
    scanned(dataset(tmp_path), now_ns=later_ns)
    assert state() == before
