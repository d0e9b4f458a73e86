"""Secrets in other clothes: as base64, hexadecimal, URL-quoted, escaped and wide text, as they get into logs and answers."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from simpletuner_lab.core.withhold import content_rule

_LEAST: Final = 8
"""Shorter secrets are looked for as they are: in other clothes they would be found everywhere."""
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{24,}={0,2}")
_HEX: Final = re.compile(r"[0-9A-Fa-f]{40,}")
_WORDS: Final = re.compile(rb"[\t\n\r -~]{16,}")
"""What of decoded bytes is a text that something may be encoded in; chance hardly makes so long a one."""
_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_DEEPEST: Final = 4
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
_STANDARD: Final = str.maketrans("-_", "+/")


def forms_of(secret: str) -> tuple[str, ...]:
    """A secret as it is and as it may read in other encodings, the longest first.

    Of base64, what is the same whatever stands before and behind it, for each of the three places it may begin at.
    """
    forms = {secret}
    if len(secret) >= _LEAST:
        data = secret.encode("utf-8", "surrogatepass")
        quoted = {quote(data, safe=""), quote(data), quote_plus(data)}
        escaped = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
        wide = ("\0".join(secret),)
        forms |= {*quoted, *map(_lower_escapes, quoted), *escaped, *wide, data.hex(), data.hex().upper()}
        for text in (data, secret.encode("utf-16-le", "surrogatepass"), secret.encode("utf-16-be", "surrogatepass")):
            forms |= set(_base64_forms(text))
    return tuple(sorted(forms - {""}, key=lambda form: (-len(form), form)))


def hides_shape(text: str) -> bool:
    """Whether a run of base64 or hexadecimal digits, wherever it was cut, is a token when it is read."""
    return any(content_rule(data) is not None for data in _readings(text))


def without_hidden(text: str, mask: Callable[[str], str], masked: str) -> str:
    """The text without tokens in other clothes. `mask` takes secrets out of plain text; `masked` takes their place."""
    text = _HEX.sub(lambda run: masked if hides_shape(run[0]) else run[0], text)
    text = _BASE64.sub(lambda run: masked if hides_shape(run[0]) else run[0], text)
    if "\\" in text:
        text = _by_line(text, "\\", _unescaped, mask, lambda line: json.dumps(line, ensure_ascii=False)[1:-1])
    if "%" in text:
        for read in (unquote, unquote_plus):
            text = _by_line(text, "%", read, mask, lambda line: line)
    return text


def layers(text: str) -> Iterator[str]:
    """The text, and what it reads as with one encoding after the other taken off, where they lie in each other.

    Time in proportion to the text: no layer is longer than the one before, and there are a few of them.
    """
    seen, now = {text}, [text]
    yield text
    for _ in range(_DEEPEST - 1):
        now = list({below for one in now for below in _below(one)} - seen)
        seen.update(now)
        yield from now


def _below(text: str) -> Iterator[str]:
    if "%" in text:
        yield unquote(text)
    if "\\" in text:
        yield _unescaped(text)
    runs = itertools.chain(_HEX.finditer(text), _BASE64.finditer(text))
    words = (word for run in runs for data in _readings(run[0]) for word in _WORDS.findall(data))
    if read := b"\n".join(words).decode("ascii"):
        yield read


def _by_line(
    text: str, sign: str, read: Callable[[str], str], mask: Callable[[str], str], write: Callable[[str], str]
) -> str:
    """Reads each line as it is meant, again and again where encodings lie in each other, and masks what comes to light."""
    lines = text.split("\n")
    for index, line in enumerate(lines):
        plain = line
        for _ in range(_DEEPEST):
            if sign not in plain or (meant := read(plain)) == plain:
                break
            plain = meant
            if (left := mask(plain)) != plain:
                lines[index] = write(left)
                break
    return "\n".join(lines)


def _unescaped(line: str) -> str:
    def char(found: re.Match[str]) -> str:
        code = found[1] or found[2]
        return chr(int(code, 16)) if code else _ESCAPED.get(found[3], found[3])

    return _ESCAPE.sub(char, line)


def _lower_escapes(quoted: str) -> str:
    return re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), quoted)


def _base64_forms(data: bytes) -> Iterator[str]:
    for before in range(3):
        text = base64.b64encode(bytes(before) + data).decode()
        same = text[(8 * before + 5) // 6 : 8 * (before + len(data)) // 6]
        yield same
        yield same.replace("+", "-").replace("/", "_")


def _readings(run: str) -> Iterator[bytes]:
    if _HEX.fullmatch(run):
        for start in range(2):
            digits = run[start:]
            yield bytes.fromhex(digits[: len(digits) // 2 * 2])
    plain = run.rstrip("=").translate(_STANDARD)
    for start in range(4):
        digits = plain[start:]
        if len(digits) % 4 == 1:
            digits = digits[:-1]
        try:
            yield binascii.a2b_base64(digits + "=" * (-len(digits) % 4))
        except binascii.Error:
            continue
