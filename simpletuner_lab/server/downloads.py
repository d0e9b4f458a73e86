"""Delivered files for people: `GET` and `HEAD` of one output, ranged and resumable, and of all of them as one zip.

Rules: RFC 9110 (conditions, ranges), RFC 6266 and 8187 (the name). Nothing that is sent runs in a browser. A file that
changes on the way cuts the connection, so that no client takes what it has for the whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import unicodedata
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import BinaryIO, Final, TypeVar
from urllib.parse import quote

from jupyter_server.auth.decorator import authorized
from tornado import iostream, web

from simpletuner_lab.core.errors import JobNotFound, LabError, OutputNotFound
from simpletuner_lab.server.base import LabHandler
from simpletuner_lab.server.operations import ANY, Operation, Operations, flag, in_header
from simpletuner_lab.services import zipped
from simpletuner_lab.services.front import Front
from simpletuner_lab.services.steady import identity, read_steadily

T = TypeVar("T")

_log = logging.getLogger(__name__)

_RANGE: Final = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", re.ASCII | re.IGNORECASE)

PICTURES: Final = MappingProxyType(
    {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif"}
)
"""Types that a browser may show where it stands (`?inline=1`): pixels, and nothing that runs."""

_TYPES: Final = PICTURES | {
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".log": "text/plain; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".yaml": "application/yaml",
    ".zip": "application/zip",
}
_BYTES: Final = "application/octet-stream"
"""Of safetensors, which have no type of their own, and of everything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """`size` bytes from `offset`; `partial` where they were asked for as a range."""

    offset: int
    size: int
    partial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """One output, open, with what tells it from any other version of itself."""

    stream: BinaryIO
    name: str
    bytes: int
    modified_at: float
    etag: str


def extent(header: str, size: int) -> Extent | None:
    """What a Range header selects: one range. One that cannot be read, or several, are ignored; None: none of it is there."""
    found = _RANGE.fullmatch(header.strip())
    first, last = (found[1], found[2]) if found else ("", "")
    if (not first and not last) or (first and last and int(last) < int(first)):
        return Extent(offset=0, size=size)
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    return None if start >= size else Extent(offset=start, size=end - start + 1, partial=True)


def disposition(name: str, *, inline: bool = False) -> str:
    """`Content-Disposition` for a name of any characters: a plain one for old clients, and the true one."""
    shown = "".join("_" if character in "/\\" or _unseen(character) else character for character in name) or "file"
    plain = unicodedata.normalize("NFKD", shown).encode("ascii", "ignore").decode()
    plain = re.sub(r'["%\\]', "_", plain)
    if not PurePosixPath(plain).stem.strip(" ."):
        plain = "file" + PurePosixPath(plain).suffix
    kind = "inline" if inline else "attachment"
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(shown, safe='', errors='replace')}"


def media_type(name: str) -> str:
    """By the name's end; what is not known is bytes."""
    return _TYPES.get(PurePosixPath(name).suffix.lower(), _BYTES)


class DownloadHandler(LabHandler):
    """What both routes share: headers that keep a browser from running anything, and a body that is whole or cut."""

    def head_for(self, name: str, size: int, *, inline: bool = False) -> None:
        """Name, type and size of what follows."""
        self._transforms: list[
            type[web.OutputTransform]
        ] = []  # a packed answer has no length that was told before, and no ranges
        self.set_header("Content-Type", media_type(name))
        self.set_header("Content-Length", str(size))
        self.set_header("Content-Disposition", disposition(name, inline=inline))
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", "default-src 'none'; sandbox")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        self.set_header("Cache-Control", "private, no-cache")

    def compute_etag(self) -> None:
        """Ours is of the file, and set by hand."""

    async def send(self, blocks: Generator[bytes], name: str) -> None:
        """Writes the body as fast as the reader takes it. A fault cuts the connection: the length told was another."""
        disk = self.rooms.executors.disk
        try:
            while (block := await self.rooms.run(disk, _next, blocks)) is not None:
                self.write(block)
                await self.flush()
        except iostream.StreamClosedError:
            return  # the reader has gone
        except (LabError, OSError) as error:
            _log.warning("the download of %s was cut: %s", name, error)
            self.detach().close()
            return
        finally:
            blocks.close()
        await self.finish(set_content_type=media_type(name))

    def done(self, status: int) -> None:
        """An answer without a body."""
        self.set_status(status)
        for header in ("Content-Length", "Content-Type", "Content-Disposition"):
            self.clear_header(header)
        web.RequestHandler.finish(self)

    async def with_front(self, verb: Callable[[Front], T]) -> T:
        """Runs a verb where files are read."""
        return await self.ask(verb, disk=True)


class OutputHandler(DownloadHandler):
    """`GET` and `HEAD /jobs/{id}/outputs/{path}`: one file, whole or a range of it."""

    @web.authenticated
    @authorized
    async def get(self, job_id: str, path: str) -> None:
        """Streams the file."""
        opened = await self.with_front(lambda front: _open(front, job_id, path))
        with contextlib.closing(opened.stream):
            part = self._begin(opened)
            if part is not None:
                blocks = read_steadily(opened.stream, path, offset=part.offset, size=part.size)
                await self.send(blocks, opened.name)

    @web.authenticated
    @authorized
    async def head(self, job_id: str, path: str) -> None:
        """The same headers."""
        opened = await self.with_front(lambda front: _open(front, job_id, path))
        with contextlib.closing(opened.stream):
            if self._begin(opened) is not None:
                await self.finish(set_content_type=media_type(opened.name))

    def _begin(self, opened: Opened) -> Extent | None:
        """Status and headers; None: they are the whole answer."""
        headers = self.request.headers
        inline = self.get_query_argument("inline", "") == "1" and media_type(opened.name) in PICTURES.values()
        self.head_for(opened.name, opened.bytes, inline=inline)
        self.set_header("ETag", opened.etag)
        self.set_header("Last-Modified", _http_date(opened.modified_at))
        self.set_header("Accept-Ranges", "bytes")
        if not _is_the_one(headers.get("If-Match"), opened):
            self.done(412)
            return None
        if _is_known(headers.get("If-None-Match"), headers.get("If-Modified-Since"), opened):
            self.done(304)
            return None
        asked = headers.get("Range", "") if self.request.method == "GET" else ""
        if not _same_version(headers.get("If-Range"), opened):
            asked = ""
        part = extent(asked, opened.bytes)
        if part is None:
            self.set_header("Content-Range", f"bytes */{opened.bytes}")
            self.done(416)
            return None
        if part.partial:
            self.set_status(206)
            self.set_header("Content-Range", f"bytes {part.offset}-{part.offset + part.size - 1}/{opened.bytes}")
            self.set_header("Content-Length", str(part.size))
        return part


class ArchiveHandler(DownloadHandler):
    """`GET` and `HEAD /jobs/{id}/outputs.zip`: every file of a job as one zip, made while it is sent."""

    @web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """Streams the zip."""
        front = await self.rooms.front()
        name, entries = await self.with_front(lambda front: _entries(front, job_id))
        self._begin(name, entries)

        def read(entry: zipped.Entry) -> Generator[bytes]:
            with front.lab.outputs.open(job_id, entry.path) as stream:
                if os.fstat(stream.fileno()).st_size != entry.bytes:
                    raise OutputNotFound(f"{entry.path} is not the file that was listed")
                yield from read_steadily(stream, entry.path)

        await self.send(zipped.stream(entries, read), name)

    @web.authenticated
    @authorized
    async def head(self, job_id: str) -> None:
        """The same headers."""
        name, entries = await self.with_front(lambda front: _entries(front, job_id))
        self._begin(name, entries)
        await self.finish(set_content_type=media_type(name))

    def _begin(self, name: str, entries: list[zipped.Entry]) -> None:
        self.head_for(name, zipped.length(entries))
        self.set_header("Accept-Ranges", "none")


def _open(front: Front, job_id: str, path: str) -> Opened:
    job = front.lab.store.jobs.get(job_id)
    stream = front.lab.outputs.open(job_id, path)
    try:
        status = os.fstat(stream.fileno())
        sha256 = front.lab.outputs.known(job_id, front.arrivals(job)).sha256(path, status)
    except BaseException:
        stream.close()
        raise
    etag = sha256 or "-".join(f"{number:x}" for number in identity(status))
    name = path.rsplit("/", 1)[-1]
    return Opened(stream=stream, name=name, bytes=status.st_size, modified_at=status.st_mtime, etag=f'"{etag}"')


def _entries(front: Front, job_id: str) -> tuple[str, list[zipped.Entry]]:
    """The zip's own name, and what is in it."""
    job = front.lab.store.jobs.get(job_id)
    files = front.lab.outputs.list(job_id)
    if not files:
        raise OutputNotFound(f"job {job_id} has no outputs", hint="they come while the job runs")
    folder = job.name.strip(" .") or job_id
    names = zipped.safe_names([file.path for file in files], folder)
    entries = [
        zipped.Entry(path=file.path, name=name, bytes=file.bytes, modified_at=file.modified_at)
        for file, name in zip(files, names, strict=True)
    ]
    return f"{folder}.zip", entries


def _next(blocks: Iterator[bytes]) -> bytes | None:
    return next(blocks, None)


def _unseen(character: str) -> bool:
    """Control characters, and those that turn the reading round."""
    return unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}


def _http_date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(int(seconds), tz=UTC), usegmt=True)


def _tags(header: str) -> set[str]:
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}


def _is_the_one(if_match: str | None, opened: Opened) -> bool:
    """Weak tags never match here (RFC 9110 §13.1.1)."""
    return if_match is None or bool({"*", opened.etag} & {tag.strip() for tag in if_match.split(",")})


def _is_known(if_none_match: str | None, since: str | None, opened: Opened) -> bool:
    if if_none_match is not None:
        return bool({"*", opened.etag} & _tags(if_none_match))
    at = _time(since)
    return at is not None and int(opened.modified_at) <= at


def _same_version(if_range: str | None, opened: Opened) -> bool:
    """A date counts only where it is the very one that was told."""
    if if_range is None:
        return True
    value = if_range.strip()
    return value == opened.etag or value == _http_date(opened.modified_at)


def _time(header: str | None) -> float | None:
    try:
        return parsedate_to_datetime(header).timestamp() if header else None
    except ValueError:
        return None


_ASKED: Final = (flag("inline"), in_header("If-Match"), in_header("If-None-Match"))
_FILE: Final = Operation(
    answer=None, media=ANY, query=_ASKED, errors=(JobNotFound, OutputNotFound), others={304: None, 412: None}
)
_PIECE: Final = dataclasses.replace(
    _FILE,
    query=(*_ASKED, in_header("Range"), in_header("If-Range")),
    others={**_FILE.others, 206: None, 416: None},
)
_ZIP: Final = Operation(answer=None, media=ANY, errors=(JobNotFound, OutputNotFound))

OPERATIONS: Final[Operations] = {
    OutputHandler.get: _PIECE,
    OutputHandler.head: _FILE,
    ArchiveHandler.get: _ZIP,
    ArchiveHandler.head: _ZIP,
}
