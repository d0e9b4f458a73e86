"""What pictures tell beside their pixels is taken out on the way, and their pixels are not touched (SPEC K7)."""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable

import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps

from simpletuner_lab.core.errors import PlanChanged
from simpletuner_lab.core.manifest import FileEntry
from simpletuner_lab.core.withhold import image_format
from simpletuner_lab.services.archive import pack
from simpletuner_lab.services.stripping import CannotStripError, stripped
from tests.services.dataset_kit import (
    Remembered,
    dataset,
    image_bytes,
    names,
    png_text,
    png_with_chunk,
    put,
    raw_profile,
    reasons,
    scanned,
    small_set,
)

MARK = "Villa Rosa 41.9028 12.4964"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    f'<rdf:Description tiff:Orientation="{{}}" exif:GPSLatitude="41,54N" dc:title="{MARK}"/></rdf:RDF></x:xmpmeta>'
)


def exif(orientation: int = 1) -> Image.Exif:
    made = Image.Exif()
    made[ExifTags.Base.ImageDescription] = MARK
    made[ExifTags.Base.Make] = "Villa Rosa cameras"
    if orientation != 1:
        made[ExifTags.Base.Orientation] = orientation
    made.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (41.0, 54.0, 10.0), 3: "E", 4: (12.0, 29.0, 47.0)})
    return made


def jpeg(**options: object) -> bytes:
    return image_bytes(kind="JPEG", size=48, **options)


def with_segment(picture: bytes, marker: int, payload: bytes) -> bytes:
    return picture[:2] + struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload + picture[2:]


def webp(**options: object) -> bytes:
    return image_bytes(kind="WEBP", size=47, **options)


def _cmyk() -> bytes:
    out = io.BytesIO()
    Image.open(io.BytesIO(jpeg())).convert("CMYK").save(out, "JPEG", exif=exif())
    return out.getvalue()


def _between_scans() -> bytes:
    whole = jpeg(progressive=True)
    second = whole.rfind(b"\xff\xc4")
    return whole[:second] + struct.pack(">BBH", 0xFF, 0xFE, len(MARK) + 2) + MARK.encode() + whole[second:]


PICTURES: dict[str, Callable[[], bytes]] = {
    "jpeg exif, gps, comment, profile": lambda: jpeg(exif=exif(), comment=MARK.encode(), icc_profile=PROFILE),
    "jpeg on its side": lambda: jpeg(exif=exif(6), icc_profile=PROFILE),
    "jpeg on its side by xmp alone": lambda: jpeg(xmp=XMP.format(8).encode()),
    "jpeg progressive, restarts": lambda: jpeg(exif=exif(3), progressive=True, restart_marker_blocks=1),
    "jpeg in cmyk": _cmyk,
    "jpeg iptc": lambda: with_segment(jpeg(), 0xED, b"Photoshop 3.0\x008BIM" + MARK.encode()),
    "jpeg thumbnail": lambda: with_segment(jpeg(), 0xE0, b"JFXX\0\x10" + MARK.encode()),
    "jpeg with another behind it": lambda: jpeg() + jpeg(exif=exif()) + MARK.encode(),
    "jpeg comment between scans": _between_scans,
    "png text": lambda: image_bytes(exif=exif(), **png_text("Comment", MARK, compress=False)),
    "png on its side": lambda: image_bytes(size=33, exif=exif(7), icc_profile=PROFILE),
    "png on its side behind the picture": lambda: png_with_chunk(b"eXIf", exif(6).tobytes()[6:], at_end=True),
    "png on its side by xmp alone": lambda: image_bytes(**png_text("XML:com.adobe.xmp", XMP.format(5), compress=False)),
    "png raw profile": lambda: png_with_chunk(b"zTXt", raw_profile("exif", exif(8).tobytes())),
    "png packed text": lambda: png_with_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(MARK.encode()), at_end=True),
    "png time and a chunk of its maker": lambda: png_with_chunk(b"prVt", MARK.encode()),
    "png behind the end": lambda: image_bytes() + MARK.encode(),
    "webp exif, profile": lambda: webp(exif=exif(), icc_profile=PROFILE, xmp=XMP.format(1).encode()),
    "webp on its side": lambda: webp(exif=exif(6), lossless=True),
    "webp behind the end": lambda: webp() + MARK.encode(),
    "bmp": lambda: image_bytes(kind="BMP"),
    "nothing to take out": jpeg,
}


def without(picture: bytes) -> bytes:
    return b"".join(stripped(io.BytesIO(picture), image_format(picture[:12])))


def upright(picture: bytes) -> Image.Image:
    """As the trainer sees it."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(picture)))
    image.load()
    return image


@pytest.mark.parametrize("which", PICTURES)
def test_all_it_tells_is_gone_and_it_looks_the_same(which):
    picture = PICTURES[which]()
    left = without(picture)
    assert (left == picture) is (which in {"bmp", "nothing to take out"})
    before, after = upright(picture), upright(left)
    assert (after.size, after.mode, after.tobytes()) == (before.size, before.mode, before.tobytes())
    assert before.info.get("icc_profile") == after.info.get("icc_profile")
    for hidden in (MARK.encode(), b"Villa", b"GPSLatitude", b"xmpmeta", b"8BIM", zlib.compress(MARK.encode())):
        assert hidden not in left
    opened = Image.open(io.BytesIO(left))
    opened.load()
    assert set(opened.getexif()) <= {ExifTags.Base.Orientation}
    assert not opened.getexif().get_ifd(ExifTags.IFD.GPSInfo)
    assert not {"xmp", "comment", "Comment", "photoshop", "XML:com.adobe.xmp"} & set(opened.info)
    assert without(left) == left  # nothing more to take out, and the same bytes each time


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_marker_on_the_border_of_two_reads_is_seen(monkeypatch, size):
    monkeypatch.setattr("simpletuner_lab.services.stripping._CHUNK", size)
    for make in PICTURES.values():
        picture = make()
        with monkeypatch.context() as whole:
            whole.setattr("simpletuner_lab.services.stripping._CHUNK", 1 << 20)
            expected = without(picture)
        assert without(picture) == expected


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("which", PICTURES)
def test_a_file_that_is_cut_or_damaged_is_refused_or_ends(which):
    """Whatever the bytes are: an end, or one kind of error; and no more than went in."""
    picture = PICTURES[which]()
    for at in range(12, len(picture), max(1, len(picture) // 60)):
        for broken in (picture[:at], picture[:at] + b"\xff" + picture[at + 1 :], picture[:at] + b"\0\0" + picture[at:]):
            with contextlib.suppress(CannotStripError):
                assert len(without(broken)) <= len(broken) + 64


def test_a_plan_has_the_digests_of_what_leaves_and_the_archive_holds_it(tmp_path):
    root, cache = small_set(tmp_path / "set"), Remembered()
    put(root, "a.jpg", jpeg(exif=exif(6)))
    put(root, "b.tif", image_bytes(kind="TIFF"))
    plain = scanned(dataset(root), hashes=cache)
    found = scanned(dataset(root), hashes=cache, strip_exif=True)
    (of_plain,), (of_stripped,) = plain.datasets, found.datasets
    assert (of_plain.with_gps, of_stripped.with_gps) == (1, 1)
    assert (of_plain.strip_exif, of_stripped.strip_exif) == (False, True)
    assert "b.tif" in names(of_plain)
    assert "cannot be taken out" in reasons(of_stripped)["b.tif"]
    archive = pack(found, tmp_path / "spool" / "a.zip")
    with zipfile.ZipFile(archive.path) as zipped:
        for entry in found.files:
            data = zipped.read(entry.name)
            assert (entry.bytes, entry.sha256) == (len(data), hashlib.sha256(data).hexdigest())
            assert b"Villa" not in data
        assert upright(zipped.read("set/a.jpg")).size == upright((root / "a.jpg").read_bytes()).size
    assert pack(found, tmp_path / "spool" / "b.zip").sha256 == archive.sha256
    pack(plain, tmp_path / "spool" / "c.zip")


def test_the_cache_keeps_both_and_mixes_neither(tmp_path, monkeypatch):
    root, cache = tmp_path / "set", Remembered()
    put(root, "a.jpg", jpeg(exif=exif(6)))
    seen = [scanned(dataset(root), hashes=cache, strip_exif=strip) for strip in (False, True, False, True)]
    assert seen[0] == seen[2]
    assert seen[1] == seen[3]
    assert seen[0].files != seen[1].files
    monkeypatch.setattr("simpletuner_lab.services.scan.inspect", _never)
    assert scanned(dataset(root), hashes=cache, strip_exif=True) == seen[1]
    assert scanned(dataset(root), hashes=cache) == seen[0]


def _never(*_: object, **__: object) -> None:
    raise AssertionError("looked again")


def test_a_picture_that_changed_after_the_plan_is_not_packed(tmp_path):
    root = tmp_path / "set"
    path = put(root, "a.jpg", jpeg(exif=exif()))
    found = scanned(dataset(root), strip_exif=True)
    path.write_bytes(jpeg()[:300])
    with pytest.raises(PlanChanged):
        pack(found, tmp_path / "a.zip")
    path.write_bytes(jpeg(exif=exif(6)))
    with pytest.raises(PlanChanged):
        pack(found, tmp_path / "a.zip")
    path.write_bytes(jpeg(exif=exif(), comment=b"another"))  # what does not leave may change
    assert [type(file) for file in found.files] == [FileEntry]
    pack(found, tmp_path / "a.zip")


def test_memory_stays_small_whatever_the_size(tmp_path):
    path = tmp_path / "large.jpg"
    with path.open("wb") as file:
        picture = jpeg()
        start = picture.find(b"\xff\xda") + 14
        file.write(picture[:start])
        for _ in range(12):
            file.write(b"\x12\xff\x00\x34" * (1 << 18))
        file.write(b"\xff\xd9")
    tracemalloc.start()
    with path.open("rb") as file:
        size = sum(map(len, stripped(file, "JPEG")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 12 << 20
    assert peak < 6 << 20
