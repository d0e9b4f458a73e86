"""Takes what a picture tells beside its pixels out on the way: EXIF, places, XMP, IPTC, comments, text, thumbnails (SPEC K7).

Nothing is encoded anew: pieces of the file are left out, the rest stays as it is, so the same file gives the same bytes.
What stays is listed, and all else goes. Colour profiles stay. So does the orientation, as the only tag of a new EXIF
block: without it a photo would be trained lying on its side.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Generator
from typing import BinaryIO, Final

from PIL import ExifTags, Image

_CHUNK: Final = 1 << 20
_UPRIGHT: Final = 1
_ORIENTATIONS: Final = range(2, 9)
"""Those that turn or mirror a picture."""
_END_OF_SCAN: Final = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
"""A marker that ends a JPEG's packed pixels; a zero behind 0xFF is a byte of them, and so are restart marks."""
_LONGEST_WEBP: Final = 1 << 16

_PNG_KEPT: Final = frozenset([
    b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"bKGD", b"hIST", b"pHYs", b"sPLT",
    b"acTL", b"fcTL", b"fdAT",
])  # fmt: skip
"""Beside the critical ones: colour, transparency, and the frames of an animation."""
_PNG_TELLS: Final = frozenset([b"eXIf", b"iTXt", b"tEXt", b"zTXt"])
"""Where an orientation may be."""
_WEBP_KEPT: Final = frozenset([b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"])
_WEBP_EXIF: Final = 0x08
_WEBP_XMP: Final = 0x04


BROKEN_IMAGE: Final = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow raises on files that are not what they say."""


class CannotStripError(Exception):
    """Why the metadata of a picture cannot be taken out; it stays here then."""


def stripped(file: BinaryIO, kind: str | None) -> Generator[bytes]:
    """The picture without them, piece by piece, in constant memory. `kind`: as `core.withhold.image_format` has it.

    Raises:
        CannotStripError: it is of a kind, or of a build, that this cannot be done with.
    """
    match kind:
        case "JPEG":
            yield from _jpeg(file)
        case "PNG":
            yield from _png(file)
        case "WEBP":
            yield from _webp(file)
        case "BMP":  # has no place for any
            file.seek(0)
            while piece := file.read(_CHUNK):
                yield piece
        case _:
            raise CannotStripError("its metadata cannot be taken out: make it a PNG or JPEG")


def _orientation(file: BinaryIO, kind: str) -> int:
    """How training would turn it: the very look of its reader, which heeds EXIF and XMP."""
    file.seek(0)
    try:
        with Image.open(file, formats=(kind,)) as image:
            found = image.getexif().get(ExifTags.Base.Orientation)
    except BROKEN_IMAGE as error:
        raise CannotStripError("its metadata cannot be read") from error
    return found if isinstance(found, int) and found in _ORIENTATIONS else _UPRIGHT


def _exif(orientation: int) -> bytes:
    """A TIFF structure with one directory of one tag."""
    entry = struct.pack("<HHLHH", ExifTags.Base.Orientation, 3, 1, orientation, 0)
    return struct.pack("<2sHLH", b"II", 42, 8, 1) + entry + bytes(4)


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise CannotStripError("it is cut off")
    return data


def _copied(file: BinaryIO, size: int) -> Generator[bytes]:
    while size > 0:
        piece = _exactly(file, min(size, _CHUNK))
        size -= len(piece)
        yield piece


# --------------------------------------------------------------------------------------------------------------- JPEG


def _jpeg(file: BinaryIO) -> Generator[bytes]:
    """Its segments up to the end of its first picture; further pictures, films and trailers behind it go."""
    orientation = _orientation(file, "JPEG")
    file.seek(2)
    yield b"\xff\xd8"
    exif = b"" if orientation == _UPRIGHT else b"Exif\0\0" + _exif(orientation)
    while True:
        marker = _marker(file)
        if marker == 0xD9:
            yield b"\xff\xd9"
            return
        if marker in {0x00, 0x01, 0xD8} or 0xD0 <= marker <= 0xD7:
            raise CannotStripError("it is not built as a JPEG is")
        size = struct.unpack(">H", _exactly(file, 2))[0]
        if size < 2:
            raise CannotStripError("it is not built as a JPEG is")
        kept = _jpeg_segment(marker, _exactly(file, size - 2))
        if exif and marker != 0xE0:  # behind JFIF's own, which comes first
            yield _segment(0xE1, exif)
            exif = b""
        if kept is not None:
            yield _segment(marker, kept)
        if marker == 0xDA and (yield from _scan(file)):
            return


def _marker(file: BinaryIO) -> int:
    if _exactly(file, 1) != b"\xff":
        raise CannotStripError("it is not built as a JPEG is")
    while (code := _exactly(file, 1)[0]) == 0xFF:
        pass
    return code


def _segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def _jpeg_segment(marker: int, payload: bytes) -> bytes | None:
    """What of a segment stays; None: nothing."""
    if marker == 0xE0:
        return payload[:12] + b"\0\0" if payload.startswith(b"JFIF\0") and len(payload) >= 14 else None  # no thumbnail
    if marker == 0xE2:
        return payload if payload.startswith(b"ICC_PROFILE\0") else None
    if marker == 0xEE:  # says how the colours are to be read
        return payload[:12] if payload.startswith(b"Adobe") else None
    return None if 0xE0 <= marker <= 0xEF or marker == 0xFE else payload


def _scan(file: BinaryIO) -> Generator[bytes, None, bool]:
    """Packed pixels up to the next marker, before which the file then stands; true where the file ends with them."""
    held = b""
    while data := file.read(_CHUNK):
        block = held + data
        if found := _END_OF_SCAN.search(block):
            yield block[: found.start()]
            file.seek(found.start() - len(block), 1)
            return False
        held = block[len(block.rstrip(b"\xff")) :]
        if len(held) > _CHUNK:
            raise CannotStripError("it is not built as a JPEG is")
        yield block[: len(block) - len(held)]
    return True


# ---------------------------------------------------------------------------------------------------------------- PNG


def _png(file: BinaryIO) -> Generator[bytes]:
    """Its chunks up to the end mark; what comes behind it goes."""
    tells = any(
        kind in _PNG_TELLS for kind, _ in _png_chunks(file)
    )  # to look for an orientation may take a whole decode
    orientation = _orientation(file, "PNG") if tells else _UPRIGHT
    yield b"\x89PNG\r\n\x1a\n"
    for kind, size in _png_chunks(file):
        critical = not kind[0] & 0x20
        if critical or kind in _PNG_KEPT:
            yield struct.pack(">L4s", size, kind)
            yield from _copied(file, size + 4)
        if kind == b"IHDR" and orientation != _UPRIGHT:
            block = b"eXIf" + _exif(orientation)
            yield struct.pack(">L", len(block) - 4) + block + struct.pack(">L", zlib.crc32(block))


def _png_chunks(file: BinaryIO) -> Generator[tuple[bytes, int]]:
    """Kind and size of each, while the file stands before its payload."""
    at, kind = 8, b""
    while kind != b"IEND":
        file.seek(at)
        size, kind = struct.unpack(">L4s", _exactly(file, 8))
        if size > 0x7FFFFFFF:
            raise CannotStripError("it is not built as a PNG is")
        yield kind, size
        at += 12 + size


# --------------------------------------------------------------------------------------------------------------- WebP


def _webp(file: BinaryIO) -> Generator[bytes]:
    """Its chunks that make the picture, with the marks of the header set right."""
    orientation = _orientation(file, "WEBP")
    exif = b"" if orientation == _UPRIGHT else _exif(orientation)
    kept = _webp_chunks(file)
    if exif and not any(kind == b"VP8X" for kind, _, _ in kept):
        raise CannotStripError("it is not built as a WebP is")
    length = 4 + sum(8 + size + size % 2 for _, _, size in kept) + (8 + len(exif) if exif else 0)
    yield struct.pack("<4sL4s", b"RIFF", length, b"WEBP")
    for kind, at, size in kept:
        file.seek(at)
        yield struct.pack("<4sL", kind, size)
        if kind == b"VP8X":
            marks = _exactly(file, 1)[0] & ~(_WEBP_EXIF | _WEBP_XMP)
            yield bytes([marks | (_WEBP_EXIF if exif else 0)])
        yield from _copied(file, size - (kind == b"VP8X"))
        yield bytes(size % 2)
    if exif:
        yield struct.pack("<4sL", b"EXIF", len(exif)) + exif


def _webp_chunks(file: BinaryIO) -> list[tuple[bytes, int, int]]:
    """Kind, place and size of those that stay."""
    file.seek(4)
    end = 8 + struct.unpack("<L", _exactly(file, 4))[0]
    at, kept = 12, []
    while at + 8 <= end:
        file.seek(at)
        kind, size = struct.unpack("<4sL", _exactly(file, 8))
        if kind in _WEBP_KEPT:
            kept.append((kind, at + 8, size))
        at += 8 + size + size % 2
        if len(kept) > _LONGEST_WEBP or at - 1 > end:
            raise CannotStripError("it is not built as a WebP is")
    return kept
