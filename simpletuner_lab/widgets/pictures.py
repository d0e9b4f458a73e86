"""Delivered files as data URLs: what a cell shows without a server, and what a saved notebook keeps."""

from __future__ import annotations

import base64
import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from simpletuner_lab.core.errors import OutputNotFound, TooLarge
from simpletuner_lab.services.views import OutputsView

_LARGEST: Final = 8_000_000
_HEAD: Final = 12
_SAMPLE: Final = re.compile(r"samples/step-(\d+)-\d+\.png")
"""How the trainer names validation images: the step they were painted at, and the number of the prompt."""


def data_url(delivered: OutputsView, path: str, *, largest: int = _LARGEST) -> str:
    """A delivered file, in whole: a PNG, JPEG or WebP as such, anything else as bytes to keep.

    Raises:
        OutputNotFound: the job has no such file.
        TooLarge: over `largest` bytes.
    """
    if path not in {output.path for output in delivered.outputs}:
        raise OutputNotFound(f"job {delivered.job_id} has no output {path!r}", hint="list the outputs for their paths")
    try:
        with open(_descriptor(Path(delivered.folder, path)), "rb") as stream:
            data = stream.read(largest + 1)
    except OSError as error:
        raise OutputNotFound(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > largest:
        raise TooLarge(f"{path} has more than {largest:,} bytes", hint=f"it lies in {delivered.folder}")
    return f"data:{_media_type(data[:_HEAD])};base64,{base64.b64encode(data).decode('ascii')}"


def newest_samples(delivered: OutputsView, *, count: int, largest: int) -> Mapping[str, str]:
    """The last validation images as data URLs by their path: at most `count`, of `largest` bytes in all."""
    found = [(int(name[1]), output) for output in delivered.outputs if (name := _SAMPLE.fullmatch(output.path))]
    newest = max((step for step, _ in found), default=0)
    chosen: dict[str, str] = {}
    left = largest
    for step, output in found:
        if step == newest and len(chosen) < count and output.bytes <= left:
            with contextlib.suppress(OutputNotFound, TooLarge):  # replaced or taken away just now
                chosen[output.path] = data_url(delivered, output.path, largest=left)
                left -= output.bytes
    return chosen


def _descriptor(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)


def _media_type(head: bytes) -> str:
    """By content, whatever the name says: nothing that a browser would run."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return "application/octet-stream"
