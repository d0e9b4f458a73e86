"""No secret gets into a manifest: by its name, in a caption, in the metadata of a picture (SPEC K3)."""

from __future__ import annotations

import zlib

import pytest
from PIL import ExifTags

from tests.core.planted import SECRET_NAMES, SECRETS
from tests.services.dataset_kit import (
    exif_with,
    image_bytes,
    names,
    png_text,
    png_with_chunk,
    put,
    raw_profile,
    reasons,
    scanned_set,
    small_set,
)

TOKEN = dict(SECRETS)["a Hugging Face token"]


def test_secret_names_stay_at_any_depth_and_in_any_case(tmp_path):
    small_set(tmp_path)
    for index, name in enumerate(SECRET_NAMES):
        for depth in ("", "deep/er/"):
            put(tmp_path, f"{index}/{depth}{name}", image_bytes())
            put(tmp_path, f"up{index}/{depth}{name.upper()}", image_bytes())
    found = scanned_set(tmp_path)
    assert names(found) == [f"sub/{index}.{end}" for index in range(3) for end in ("png", "txt")]
    for entry in found.withheld:
        assert entry.secret, entry
    assert len(found.withheld) >= 4 * 60


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
def test_captions_that_hold_a_secret_stay_and_their_images_leave(tmp_path, encoding):
    for index, (_, secret) in enumerate(SECRETS):
        put(tmp_path, f"{index:02}.png", image_bytes(index))
        put(tmp_path, f"{index:02}.txt", f"a cat {secret}".encode(encoding))
    found = scanned_set(tmp_path)
    assert names(found) == [f"{index:02}.png" for index in range(len(SECRETS))]
    assert len(found.captions_missing) == len(SECRETS)
    assert all(entry.secret and entry.wanted for entry in found.withheld)
    assert not any(secret in repr(found) for _, secret in SECRETS)


METADATA = {
    "jpeg exif": ("a.jpg", lambda s: image_bytes(kind="JPEG", exif=exif_with(ExifTags.Base.ImageDescription, s))),
    "jpeg exif utf-16": (
        "a.jpg",
        lambda s: image_bytes(kind="JPEG", exif=exif_with(ExifTags.Base.XPComment, s.encode("utf-16-le"))),
    ),
    "jpeg comment": ("a.jpg", lambda s: image_bytes(kind="JPEG", comment=s.encode())),
    "jpeg xmp": ("a.jpg", lambda s: image_bytes(kind="JPEG", xmp=f"<x>{s}</x>".encode())),
    "jpeg behind the end": ("a.jpg", lambda s: image_bytes(kind="JPEG") + s.encode()),
    "png text": ("a.png", lambda s: image_bytes(**png_text("parameters", f"cat, {s}", compress=False))),
    "png ztxt": ("a.png", lambda s: image_bytes(**png_text("parameters", f"cat, {s}", compress=True))),
    "png itxt": ("a.png", lambda s: image_bytes(**png_text("prompt", f"猫 {s}", compress=False))),
    "png itxt compressed": ("a.png", lambda s: image_bytes(**png_text("prompt", f"猫 {s}", compress=True))),
    "png ztxt behind the picture": (
        "a.png",
        lambda s: png_with_chunk(b"zTXt", b"k\0\0" + zlib.compress(s.encode()), at_end=True),
    ),
    "png icc profile": ("a.png", lambda s: png_with_chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"acsp " + s.encode()))),
    "png raw profile": ("a.png", lambda s: png_with_chunk(b"zTXt", raw_profile("iptc", f"8BIM {s}".encode()))),
    "png exif": ("a.png", lambda s: image_bytes(exif=exif_with(ExifTags.Base.ImageDescription, s))),
    "webp exif": ("a.webp", lambda s: image_bytes(kind="WEBP", exif=exif_with(ExifTags.Base.ImageDescription, s))),
    "webp xmp": ("a.webp", lambda s: image_bytes(kind="WEBP", xmp=f"<x>{s}</x>".encode())),
    "tiff tag": ("a.tif", lambda s: image_bytes(kind="TIFF", description=s)),
    "bmp behind the end": ("a.bmp", lambda s: image_bytes(kind="BMP") + s.encode("utf-16-be")),
}  # fmt: skip


@pytest.mark.parametrize("where", METADATA)
def test_images_with_a_secret_in_their_metadata_stay(tmp_path, where):
    name, make = METADATA[where]
    put(tmp_path, "fine.png")
    put(tmp_path, name, make(TOKEN))
    put(tmp_path, f"sub/{name}", make("a sunny day, nothing to hide"))
    found = scanned_set(tmp_path)
    assert names(found) == ["fine.png", f"sub/{name}"], reasons(found)
    assert found.withheld[0].secret
    assert "a Hugging Face token" in found.withheld[0].reason


def test_packed_metadata_that_is_too_large_to_look_into_stays(tmp_path):
    put(tmp_path, "fine.png")
    put(tmp_path, "bomb.png", png_with_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(20 << 20))))
    assert "cannot be looked into" in reasons(scanned_set(tmp_path))["bomb.png"]
