"""What is trained on: images that cannot be right end the run before it starts, with their names; the rest is noted."""

from __future__ import annotations

import json
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from simpletuner_trainer import report
from simpletuner_trainer.__main__ import main
from simpletuner_trainer.buckets import Fit
from simpletuner_trainer.data import Inventory, open_image, take_stock
from simpletuner_trainer.errors import BadData
from simpletuner_trainer.report import Exit
from simpletuner_trainer.spec import DataArchive, RunSpec
from simpletuner_trainer.unpack import unpack, unpacked
from tests.trainer.trainer_kit import NONCE, Job, of_kind, sha256

Jobs = Callable[..., Job]


def picture(folder: Path, name: str, caption: str | None = "a thing", size: tuple[int, int] = (40, 40)) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = tuple(zlib.crc32(name.encode()) >> shift & 255 for shift in (0, 8, 16))
    Image.new("RGB", size, colour).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, "utf-8")
    return path


def stock(root: Path, dataset: dict[str, Any] | None = None, config: dict[str, Any] | None = None) -> Inventory:
    spec = {
        "format": "simpletuner-spec/1", "job_id": "j", "nonce": NONCE, "work_dir": "work",
        "config": {"pretrained_model_name_or_path": "builtin:tiny", "max_train_steps": 1, **(config or {})},
        "dataloader": [{"id": "set", "instance_data_dir": "set", **(dataset or {})}],
    }  # fmt: skip
    return take_stock(RunSpec.parse(spec, root))


def captions(root: Path, **dataset: Any) -> dict[str, tuple[str, ...]]:
    return {one.name: one.captions for one in stock(root, dataset).pictures}


def fault(root: Path, **dataset: Any) -> str:
    with pytest.raises(BadData) as raised:
        stock(root, dataset)
    return f"{raised.value.message} | {raised.value.hint}"


def test_each_line_of_a_text_file_is_a_caption(tmp_path: Path) -> None:
    picture(tmp_path / "set", "b/two.png", "\ufeffone\n\n two \none\n")
    picture(tmp_path / "set", "a.JPEG", "only")
    picture(tmp_path / "set", ".hidden/c.png")
    (tmp_path / "set" / "notes.md").write_text("not read")
    assert captions(tmp_path) == {"set/a.JPEG": ("only",), "set/b/two.png": ("one", "two")}
    assert captions(tmp_path, disable_multiline_split=True)["set/b/two.png"] == ("one\n\n two \none",)
    assert captions(tmp_path, instance_prompt="sks", prepend_instance_prompt=True)["set/a.JPEG"] == ("sks only",)
    assert captions(tmp_path, instance_prompt="sks", only_instance_prompt=True)["set/a.JPEG"] == ("sks",)
    assert captions(tmp_path, instance_prompt="sks", caption_strategy="instanceprompt")["set/a.JPEG"] == ("sks",)


def test_file_names_and_metadata_are_captions(tmp_path: Path) -> None:
    picture(tmp_path / "set", "red_fox-on  snow.png", None)
    assert captions(tmp_path, caption_strategy="filename") == {"set/red_fox-on  snow.png": ("red fox on snow",)}
    lines = [{"file_name": "red_fox-on  snow.png", "text": "a fox"}, {"file_name": "gone.png", "text": "nothing"}]
    (tmp_path / "set" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert captions(tmp_path, caption_strategy="metadata") == {"set/red_fox-on  snow.png": ("a fox",)}
    picture(tmp_path / "set", "plain.png", None)
    assert "without a caption: set/plain.png" in fault(tmp_path, caption_strategy="metadata")
    assert captions(tmp_path, caption_strategy="metadata", instance_prompt="x")["set/plain.png"] == ("x",)
    (tmp_path / "set" / "metadata.jsonl").write_text("{")
    assert "metadata.jsonl, line 1: not JSON" in fault(tmp_path, caption_strategy="metadata")
    (tmp_path / "set" / "metadata.jsonl").unlink()
    assert "metadata.jsonl cannot be read" in fault(tmp_path, caption_strategy="metadata")


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    picture(tmp_path / "set", "good.png")
    picture(tmp_path / "set", "silent.png", None)
    (tmp_path / "set" / "text.png").write_text("this is no image")
    (tmp_path / "set" / "empty.png").write_bytes(b"")
    picture(tmp_path / "set", "latin.png").with_suffix(".txt").write_bytes("café".encode("latin-1"))
    told = fault(tmp_path)
    for name in ("set/silent.png", "set/text.png", "set/empty.png", "set/latin.png"):
        assert name in told
    assert "good.png" not in told
    assert "replace or remove these files" in told


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_the_size_is_that_of_the_upright_image(tmp_path: Path, suffix: str) -> None:
    path = picture(tmp_path / "set", f"a.{suffix}")
    for orientation in (1, 3, 5, 6, 8):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (60, 40)).save(path, exif=exif)
        assert stock(tmp_path).pictures[0].size == open_image(path).size == ((60, 40) if orientation < 5 else (40, 60))


def test_half_characters_are_told_by_file(tmp_path: Path) -> None:
    picture(tmp_path / "set", "a.png")
    (tmp_path / "set" / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "bad \\ud800"}\n')
    assert "metadata.jsonl, line 1: holds half a character" in fault(tmp_path, caption_strategy="metadata")
    (tmp_path / "set" / "a.png").rename(tmp_path / "set" / os.fsdecode(b"caf\xe9.png"))
    told = fault(tmp_path, caption_strategy="filename")
    assert "is not UTF-8: set/caf\\udce9.png" in told
    assert "without a caption: set/caf\\udce9.png" in fault(tmp_path)
    assert told.isascii()


def test_long_strips_are_noted(tmp_path: Path) -> None:
    picture(tmp_path / "set", "strip.png", size=(400, 4))
    picture(tmp_path / "set", "wide.png", size=(160, 40))
    (note,) = [note for note in stock(tmp_path).notes if "as long as wide" in note]
    assert note == "more than 4 times as long as wide, and trained at such a size: set/strip.png"
    assert not any("as long as wide" in note for note in stock(tmp_path, {"crop": True}).notes)


def test_many_faults_are_counted(tmp_path: Path) -> None:
    for number in range(12):
        picture(tmp_path / "set", f"{number:02}.png", None)
    assert "00.png" in (told := fault(tmp_path))
    assert "and 4 more" in told


def test_no_images_and_no_folder(tmp_path: Path) -> None:
    assert "data set 'set' is absent" in fault(tmp_path)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.gif").write_bytes(b"GIF89a")
    assert "has no images" in (told := fault(tmp_path))
    assert ".webp" in told


def test_small_images_are_left_out_and_repeated_ones_noted(tmp_path: Path) -> None:
    picture(tmp_path / "set", "large.png", size=(64, 50))
    picture(tmp_path / "set", "small.png", size=(64, 20))
    shutil.copy(tmp_path / "set" / "large.png", tmp_path / "set" / "again.png")
    (tmp_path / "set" / "again.txt").write_text("again")
    edge = {"resolution": 64, "resolution_type": "pixel"}
    found = stock(tmp_path, {"minimum_image_size": 32, **edge})
    assert [one.name for one in found.pictures] == ["set/again.png", "set/large.png"]
    assert any("minimum_image_size" in note and "small.png" in note for note in found.notes)
    assert any("more than once" in note for note in found.notes)
    assert "only images below minimum_image_size" in fault(tmp_path, minimum_image_size=60)


@pytest.mark.parametrize(
    ("bounds", "kept"),
    [
        ({"minimum_image_size": 50, "resolution": 64, "resolution_type": "pixel"}, ["square"]),
        ({"minimum_image_size": 50, "resolution": 64, "resolution_type": "pixel_area"}, ["flat", "square", "tall"]),
        ({"minimum_image_size": 51, "resolution": 64, "resolution_type": "pixel_area"}, ["square", "tall"]),
        ({"minimum_image_size": 0.0026, "resolution": 0.01, "resolution_type": "area"}, ["square", "tall"]),
        ({"minimum_aspect_ratio": 0.5}, ["flat", "square"]),
        ({"maximum_aspect_ratio": 3.9}, ["square", "tall"]),
        ({"minimum_aspect_ratio": 1, "maximum_aspect_ratio": 1}, ["square"]),
    ],
)
def test_bounds_of_size_and_aspect(tmp_path: Path, bounds: dict[str, Any], kept: list[str]) -> None:
    for name, size in (("flat", (100, 25)), ("tall", (40, 120)), ("square", (60, 60))):
        picture(tmp_path / "set", f"{name}.png", size=size)
    found = stock(tmp_path, bounds)
    assert [one.path.stem for one in found.pictures] == kept
    assert any("are left out" in note for note in found.notes) == (len(kept) < 3)


def test_the_digest_is_of_content(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "set", "x.png")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert stock(tmp_path / "a").digest == stock(tmp_path / "b").digest
    (tmp_path / "b" / "set" / "x.txt").write_text("other")
    assert stock(tmp_path / "a").digest != stock(tmp_path / "b").digest


def test_images_are_upright_opaque_and_eight_bit(tmp_path: Path) -> None:
    halves = Image.new("RGB", (8, 4), "red")
    halves.paste("blue", (0, 0, 4, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    halves.save(tmp_path / "turned.png", exif=exif)
    turned = np.asarray(open_image(tmp_path / "turned.png"))
    assert turned.shape == (8, 4, 3)
    assert turned[0, 0].tolist() == [0, 0, 255]
    picture(tmp_path / "set", "x.png").unlink()
    shutil.copy(tmp_path / "turned.png", tmp_path / "set" / "x.png")
    assert stock(tmp_path).pictures[0].size == (4, 8)

    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert np.asarray(open_image(tmp_path / "clear.png")).min() == 255
    Image.fromarray(np.full((2, 2), 32768, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert np.asarray(open_image(tmp_path / "deep.png"))[0, 0].tolist() == [128, 128, 128]
    Image.new("P", (2, 2), 0).save(tmp_path / "palette.png", transparency=0)
    assert np.asarray(open_image(tmp_path / "palette.png")).min() == 255
    cut = open_image(tmp_path / "turned.png", Fit(scaled=(8, 16), corner=(0, 8), size=(8, 8)))
    assert np.asarray(cut)[4:].reshape(-1, 3).mean(axis=0).tolist() == pytest.approx([255, 0, 0], abs=1)


def test_a_broken_image_ends_the_run_before_it_starts(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    made = job()
    made.write()
    torn = made.folder / "pictures" / "p3.png"
    torn.write_bytes(torn.read_bytes()[:-40])
    assert made.run() == Exit.BAD_DATA
    said = capsys.readouterr().out
    (failure,) = of_kind(said, report.Failure)
    assert "pictures/p3.png" in failure.message
    assert "p2.png" not in failure.message
    assert not of_kind(said, report.Steps)


def test_check_tells_what_training_would(job: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    """Broken, too small, repeated and without a caption: all four before anything is loaded."""
    made = job(dataset={"minimum_image_size": 30})
    spec, pictures = str(made.write()), made.folder / "pictures"
    picture(pictures, "tiny.png", size=(8, 8))
    shutil.copy(pictures / "p1.png", pictures / "again.png")
    (pictures / "again.txt").write_text("again")
    assert main(["check", spec]) == Exit.DONE
    said = capsys.readouterr().out
    assert "1 images below minimum_image_size are left out: pictures/tiny.png" in said
    assert "the same image more than once, so it counts more: pictures/again.png" in said
    (pictures / "p1.txt").unlink()
    assert main(["check", spec]) == Exit.BAD_DATA
    assert "without a caption: pictures/p1.png" in capsys.readouterr().out
    (pictures / "p1.txt").write_text("back")
    (pictures / "p3.png").write_bytes((pictures / "p3.png").read_bytes()[:-40])
    assert main(["check", spec]) == Exit.BAD_DATA
    assert "pictures/p3.png (image file is truncated" in capsys.readouterr().out
    assert not made.work.exists()


# ------------------------------------------------------------------------------------------------------------ archive


def archive(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in entries:
            opened.writestr(name, content)
    return path


def described(path: Path, files: int = 10, size: int = 10_000) -> DataArchive:
    return DataArchive(archive=str(path), sha256=sha256(path), files=files, bytes=size)


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


def test_an_archive_is_unpacked_once(tmp_path: Path) -> None:
    path = archive(tmp_path / "data.zip", ("neon/", b""), ("neon/a.txt", b"a"), ("neon/deep/b.txt", b"b"))
    data, target = described(path), tmp_path / "work" / "data"
    target.parent.mkdir()
    unpack(data, target)
    assert (target / "neon" / "deep" / "b.txt").read_bytes() == b"b"
    assert unpacked(data, target)
    path.unlink()
    unpack(data, target)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([("../out.txt", b"x")], "not a plain file inside it"),
        ([("a/../../out.txt", b"x")], "not a plain file inside it"),
        ([("/etc/out.txt", b"x")], "not a plain file inside it"),
        ([("a\\..\\out.txt", b"x")], "not a plain file inside it"),
        ([("C:out.txt", b"x")], "not a plain file inside it"),
        ([(link("a/link"), b"/etc/passwd")], "not a plain file inside it"),
        ([("a", b"x"), ("a/b", b"x")], "twice"),
        ([(f"{number}.txt", b"") for number in range(11)], "holds 11 files; the spec allows 10"),
        ([("bomb.txt", b"\0" * 1_000_000)], "more bytes than the spec allows"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_archive_is_not_trusted(tmp_path: Path, entries: list[Any], says: str) -> None:
    path = archive(tmp_path / "data.zip", *entries)
    (tmp_path / "work").mkdir()
    with pytest.raises(BadData, match=says):
        unpack(described(path), tmp_path / "work" / "data")
    assert not (tmp_path / "work" / "data").exists()
    assert not (tmp_path / "out.txt").exists()
    assert not (tmp_path / "work" / "out.txt").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "data.zip", ("a.txt", b"1"), ("a.txt", b"2"))
    with pytest.raises(BadData, match="twice"):
        unpack(described(path), tmp_path / "data")


def test_a_header_that_lies_about_its_size_gains_nothing(tmp_path: Path) -> None:
    path = archive(tmp_path / "data.zip", ("a.txt", b"\0" * 50_000))
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        start = content.index(signature) + offset
        content[start : start + 4] = (10).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(BadData):
        unpack(described(path), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_another_archive_and_a_damaged_one(tmp_path: Path) -> None:
    path = archive(tmp_path / "data.zip", ("a.txt", b"a" * 500))
    data = described(path)
    content = bytearray(path.read_bytes())
    content[40] ^= 255
    path.write_bytes(content)
    with pytest.raises(BadData, match="SHA-256 differs"):
        unpack(data, tmp_path / "data")
    with pytest.raises(BadData, match="damaged"):
        unpack(described(path), tmp_path / "data")
    path.unlink()
    with pytest.raises(BadData, match="is not there"):
        unpack(data, tmp_path / "data")


def test_a_run_from_an_archive(job: Jobs) -> None:
    made = job()
    made.write()
    pictures = made.folder / "pictures"
    entries = [(f"pictures/{path.name}", path.read_bytes()) for path in sorted(pictures.iterdir())]
    path = archive(made.folder / "data.zip", *entries)
    made.more["data"] = {"archive": "data.zip", "sha256": sha256(path), "files": 20, "bytes": 100_000}
    shutil.rmtree(pictures)
    pictures.mkdir()  # the data set beside the spec is not what is read
    assert made.run() == Exit.DONE
    made.dataset["instance_data_dir"] = "../../pictures"
    shutil.rmtree(made.output)
    assert made.run() == Exit.BAD_DATA
