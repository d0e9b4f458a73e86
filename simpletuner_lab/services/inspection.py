"""Looks into one file that training would read: its digest, is it sound, and may it leave (SPEC K2, K3)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import stat
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from typing import BinaryIO, Final

from PIL import ExifTags, Image

from simpletuner_lab.core.withhold import RULES, Role, content_rule, image_format, overlapping
from simpletuner_lab.services.stripping import BROKEN_IMAGE, CannotStripError, stripped

CHUNK: Final = 1 << 20
"""Bytes read at a time, here and when packing."""

_FILE: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_FOLDER: Final = _FILE | getattr(os, "O_DIRECTORY", 0)
_MAX_CAPTION_BYTES: Final = 1 << 20
_MAX_JSONL_BYTES: Final = 1 << 26
_MAX_CHUNK_BYTES: Final = 1 << 24
"""Of metadata in a PNG, packed or not."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What one look into a file gave. `text` is kept in the hash cache, so that a second plan reads nothing twice."""

    sha256: str
    problem: str = ""
    """Why it stays here; empty: it may leave."""
    secret: bool = False
    gps: bool = False
    blank: bool = False
    """A caption that says nothing."""
    stripped_sha256: str = ""
    """Of the picture without its metadata; empty where nobody has asked for it."""
    stripped_bytes: int = 0
    strip_problem: str = ""
    """Why they cannot be taken out."""

    @property
    def tells_stripped(self) -> bool:
        """Whether they say what would leave of a picture without its metadata."""
        return bool(self.problem or self.stripped_sha256 or self.strip_problem)

    @property
    def text(self) -> str:
        """These facts and the version of the rules they rest on."""
        return json.dumps([RULES, *dataclasses.astuple(self)])

    @classmethod
    def parse(cls, text: str) -> FileFacts | None:
        """From `text`; None where it is not of these rules, so that the file is looked at again."""
        try:
            rules, *facts = json.loads(text)
            return cls(*facts) if rules == RULES else None
        except (ValueError, TypeError):
            return None


def open_folder(path: str) -> int:
    """A descriptor of a data set's root, from which `open_beneath` starts."""
    return os.open(path, _FOLDER)


def open_beneath(root: int, relative_parts: Sequence[str]) -> BufferedReader:
    """Opens a regular file below the folder `root` (a descriptor), following no link on the way.

    Raises:
        OSError: it is not there, or a part of the path is a link, or it is a device, socket, FIFO or folder.
    """
    folder = os.dup(root)
    try:
        for part in relative_parts[:-1]:
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        descriptor = os.open(relative_parts[-1], _FILE, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a regular file any more", relative_parts[-1])
    return os.fdopen(descriptor, "rb")


def inspect(root: int, relative_parts: Sequence[str], role: Role, *, strip_exif: bool = False) -> FileFacts:
    """Reads a file once, whole, in constant memory; a picture twice where its metadata are to be taken out.

    Raises:
        OSError: it cannot be read.
    """
    with open_beneath(root, relative_parts) as file:
        if role is not Role.IMAGE:
            return _inspect_text(file, role)
        facts = _inspect_image(file)
        return _with_stripped(file, facts) if strip_exif and not facts.problem else facts


def leaving(file: BinaryIO) -> Iterator[bytes]:
    """A picture as it leaves without its metadata.

    Raises:
        CannotStripError: they cannot be taken out.
    """
    kind = image_format(file.read(12))
    return stripped(file, kind)


def _with_stripped(file: BinaryIO, facts: FileFacts) -> FileFacts:
    digest, size = hashlib.sha256(), 0
    file.seek(0)
    try:
        for piece in leaving(file):
            digest.update(piece)
            size += len(piece)
    except CannotStripError as error:
        return dataclasses.replace(facts, strip_problem=f"its metadata stay: {error}"[:200])
    return dataclasses.replace(facts, stripped_sha256=digest.hexdigest(), stripped_bytes=size)


# --------------------------------------------------------------------------------------------------------------- text


def _inspect_text(file: BinaryIO, role: Role) -> FileFacts:
    limit = _MAX_CAPTION_BYTES if role is Role.CAPTION else _MAX_JSONL_BYTES
    data = file.read(limit + 1)
    if len(data) > limit:
        return FileFacts("", f"more than {limit:,} bytes of text")
    sha256 = hashlib.sha256(data).hexdigest()
    if reason := content_rule(data):
        return FileFacts(sha256, reason, secret=True)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\x00"
    problem = "not UTF-8 text: training cannot read it" if "\x00" in text else ""
    return FileFacts(sha256, problem, blank=not text.strip())


# -------------------------------------------------------------------------------------------------------------- image


def _inspect_image(file: BinaryIO) -> FileFacts:
    digest = hashlib.sha256()
    kind = image_format(file.read(12))
    file.seek(0)
    reason, gps = None, False
    for block in overlapping(_chunks(file, digest)):
        reason = reason or content_rule(block)
        gps = gps or b"GPSLatitude" in block  # XMP
    sha256 = digest.hexdigest()
    if reason:
        return FileFacts(sha256, reason, secret=True)
    if kind is None:
        return FileFacts(sha256, "broken image: its content is not that of an image which training reads")
    try:
        blobs = list(_png_metadata(file)) if kind == "PNG" else []
    except (_OpaqueError, zlib.error):
        return FileFacts(sha256, "its metadata cannot be looked into", secret=True)
    for _, blob in blobs:
        if reason := content_rule(blob):
            return FileFacts(sha256, f"{reason}, in its metadata", secret=True)
        gps = gps or b"GPSLatitude" in blob
    try:
        gps = _check_image(file, kind, [blob for is_exif, blob in blobs if is_exif]) or gps
    except BROKEN_IMAGE as error:
        return FileFacts(sha256, f"broken image: {str(error).replace(repr(file), 'the file')[:200]}")
    return FileFacts(sha256, gps=gps)


def _check_image(file: BinaryIO, kind: str, exif_blobs: Sequence[bytes]) -> bool:
    """Reads a PNG's checksums, and decodes all else; whether the EXIF part holds a location."""
    file.seek(0)
    with Image.open(file, formats=(kind,)) as image:
        if kind == "PNG":  # Pillow would decode the whole picture to look for EXIF behind it
            blocks = [Image.Exif() for _ in exif_blobs]
            for exif, blob in zip(blocks, exif_blobs, strict=True):
                exif.load(blob)
            gps = any(map(_has_location, blocks))
        else:
            gps = _has_location(image.getexif())
            image.draft("RGB", (1, 1))  # a JPEG is decoded at an eighth of its size: enough to find it cut off
            image.load()
            return gps
        image.verify()
    return gps


def _has_location(exif: Image.Exif) -> bool:
    location = exif.get_ifd(ExifTags.IFD.GPSInfo)
    return ExifTags.GPS.GPSLatitude in location or ExifTags.GPS.GPSLongitude in location


class _OpaqueError(Exception):
    """Metadata that is too large to be looked into. Fails closed."""


def _png_metadata(file: BinaryIO) -> Iterator[tuple[bool, bytes]]:
    """What a PNG's chunks hold that a look at the raw bytes does not show, unpacked; True for EXIF blocks."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        if kind not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf"):
            file.seek(size + 4, os.SEEK_CUR)
            continue
        if size > _MAX_CHUNK_BYTES:
            raise _OpaqueError
        payload = file.read(size)
        file.seek(4, os.SEEK_CUR)
        if kind == b"eXIf":
            yield True, b"Exif\x00\x00" + payload
            continue
        keyword, text = _png_text(kind, payload)
        yield False, text
        if keyword.startswith(b"Raw profile type "):  # as ImageMagick writes EXIF, IPTC and XMP: hexadecimal text
            profile = _from_hex(text)
            yield keyword.endswith((b" exif", b" APP1")) and profile.startswith(b"Exif"), profile


def _png_text(kind: bytes, payload: bytes) -> tuple[bytes, bytes]:
    keyword, _, rest = payload.partition(b"\x00")
    if kind == b"tEXt":
        return keyword, rest
    if kind == b"iTXt":
        packed, rest = rest[:1] == b"\x01", rest[2:]
        text = rest.split(b"\x00", 2)[-1]
        return keyword, _inflate(text) if packed else text
    return keyword, _inflate(rest[1:])


def _inflate(packed: bytes) -> bytes:
    unpack = zlib.decompressobj()
    text = unpack.decompress(packed, _MAX_CHUNK_BYTES)
    if unpack.unconsumed_tail:
        raise _OpaqueError
    return text


def _from_hex(text: bytes) -> bytes:
    try:
        return bytes.fromhex(b"".join(text.split()[2:]).decode("ascii"))
    except ValueError:
        return b""


def _chunks(file: BinaryIO, digest: hashlib._Hash) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        yield chunk
