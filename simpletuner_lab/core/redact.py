"""Secrets in configs become references, never values (SPEC K3); secrets in any text for people become a mask.

All that takes secrets out of logs, errors, events and answers is here. It takes time in proportion to the text, whatever
the text is.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from simpletuner_lab.core.canonical import Json
from simpletuner_lab.core.disguises import forms_of, layers, without_hidden
from simpletuner_lab.core.errors import Problem
from simpletuner_lab.core.secret import MASK, Secret
from simpletuner_lab.core.token_shapes import SHAPES, shape_in

_SECRET_KEY: Final = re.compile(
    r"""(.*_)? (password|passwd|passphrase|secret|secrets|credential|credentials
        |(api|access|secret|private|account|auth|signing|encryption|shared|hub|hf|wandb|replicate)_?key(_id)?
        |(api|access|auth|hf|hub|hugging_?face(_hub)?|bearer|refresh|session|upload|replicate|wandb|git(hub|lab)|user
          |security|s3|service|webhook|bot)_?token
        |apikey|accesskey|secretkey)
        | token | use_auth_token | authorization""",
    re.VERBOSE,
)
"""Names of config keys that carry a secret, in snake case."""

_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENV_PREFIX: Final = "env:"
_PEM_BLOCK: Final = re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL)
_TOGETHER: Final = 256
"""So many texts of a value are looked at as one."""
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def find_secrets(value: Json, path: str = "", known: Redactor | None = None) -> tuple[Problem, ...]:
    """Every place in a JSON value that holds a secret itself; none of them is repeated in what it says.

    A key that is known to carry one must be null, true, false, empty, or a reference: `{"env": "HF_TOKEN"}` or
    `"env:HF_TOKEN"`. Nothing may have the shape of a token, or be a secret that `known` has, as it is or in another
    encoding: what passes is what a `Redactor` leaves as it is.
    """
    return tuple(_problems(list(_places(value, (path,), secret_key=False)), known or Redactor()))


def reference_name(value: Json) -> str | None:
    """The environment variable that a reference names; None where the value is no reference."""
    name: Json = None
    if isinstance(value, str) and value.startswith(_ENV_PREFIX):
        name = value.removeprefix(_ENV_PREFIX)
    elif isinstance(value, Mapping) and set(value) == {"env"}:
        name = value["env"]
    if isinstance(name, str) and _ENV_NAME.fullmatch(name) and shape_in(name) is None:
        return name
    return None


def find_references(value: Json, path: str = "") -> Iterator[str]:
    """The path of every reference in a JSON value."""
    if reference_name(value) is not None:
        yield path
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from find_references(item, f"{path}.{mask(str(key))}".removeprefix("."))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, item in enumerate(value):
            yield from find_references(item, f"{path}[{index}]")


def mask(text: str, secrets: Iterable[Secret] = ()) -> str:
    """The text without these secrets, and without anything else that has the shape of a token, in any usual encoding."""
    return Redactor(secrets).text(text)


def bare_url(url: str) -> str:
    """An address without a user, a signature or a key in it; empty where it is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class Redactor:
    """Takes secrets out of texts: those that are known, and whatever has the shape of a token.

    Both go as they are, and as base64, hexadecimal, URL-quoted or escaped text.
    """

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        found: dict[str, str] = {}
        for secret in filter(None, secrets):
            for form in forms_of(secret.reveal()):
                found[form] = found.get(form) or secret.source
        self._sources = found
        self._forms = sorted(found, key=lambda form: (-len(form), form))

    def known(self, text: str) -> str:
        """The text without the known secrets."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text

    def text(self, text: str) -> str:
        """The text without them, and without tokens of known shapes."""
        return without_hidden(self._plain(text), self._plain, MASK)

    def what_in(self, text: str) -> str:
        """What a text holds that would be taken out of it, however deep it is encoded; empty where nothing.

        Of a secret that is known that is where it came from, and never a part of it.
        """
        what = self._kind_in(text)
        return (what and self._source_in(text)) or what

    def _source_in(self, text: str) -> str:
        forms = (form for one in layers(text) for form in self._forms if form in one)
        sources = filter(None, (self._sources[form] for form in forms))
        return next((source for source in sources if self.text(source) == source), "")

    def _kind_in(self, text: str) -> str:
        if shape := shape_in(text):
            return shape.label
        if self.known(text) != text:
            return "a secret of this lab"
        return "a secret in another encoding" if any(self.text(one) != one for one in layers(text)) else ""

    def _plain(self, text: str) -> str:
        return _without_shapes(self.known(text))

    def log(self, log: bytes, report: bytes) -> bytes:
        """Whole lines of a log without them. Lines that begin with `report` lose known secrets alone: programs read them."""
        begin = report.decode()
        lines = log.decode("utf-8", "surrogateescape").split("\n")
        clean = []
        for is_report, group in itertools.groupby(lines, lambda line: line.startswith(begin)):
            part = "\n".join(group)
            clean.append(self.known(part) if is_report else self.text(part))
        return "\n".join(clean).encode("utf-8", "surrogateescape")


def _without_shapes(text: str) -> str:
    lowered = text.lower()
    if "-----begin" in lowered:
        text = _PEM_BLOCK.sub(MASK, text)
    for marks, pattern in _PATTERNS:
        if any(mark in lowered for mark in marks):
            text = pattern.sub(MASK, text)
    return text


_PATTERNS: Final = tuple((tuple(shape.marks.split()), shape.in_text) for shape in SHAPES)


@dataclass(frozen=True, slots=True)
class _Place:
    """A text in a JSON value: to be looked at, or a literal where none may be."""

    parts: tuple[str | int, ...]
    text: str
    key: bool = False
    literal: bool = False


def _places(value: Json, parts: tuple[str | int, ...], *, secret_key: bool) -> Iterator[_Place]:
    if (name := reference_name(value)) is not None:
        yield _Place(parts, name)
    elif isinstance(value, str):
        yield _Place(parts, value, literal=secret_key and bool(value.strip()))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield _Place((*parts, key), key, key=True)
            yield from _places(item, (*parts, key), secret_key=secret_key or is_secret_key(key))
    elif isinstance(value, Sequence):
        for index, item in enumerate(value):
            yield from _places(item, (*parts, index), secret_key=secret_key)
    elif secret_key and isinstance(value, int | float) and not isinstance(value, bool):
        yield _Place(parts, "", literal=True)


def _problems(places: Sequence[_Place], redactor: Redactor) -> Iterator[Problem]:
    """Many short texts are looked at as one: next to always there is nothing in them."""
    for start in range(0, len(places), _TOGETHER):
        some = places[start : start + _TOGETHER]
        suspect = bool(redactor.what_in("\n".join(place.text for place in some if not place.literal)))
        for place in some:
            if place.literal:
                yield _literal(_path(place.parts, redactor))
            elif suspect and (what := redactor.what_in(place.text)):
                message = f"is a key that holds {what}" if place.key else f"holds {what}"
                yield Problem(path=_path(place.parts, redactor), message=message, hint=_hint("NAME"))


def _path(parts: tuple[str | int, ...], redactor: Redactor) -> str:
    first, *rest = parts
    shown = (f"[{part}]" if isinstance(part, int) else f".{_shown(part, redactor)}" for part in rest)
    return f"{first}{''.join(shown)}".removeprefix(".")


def _shown(key: str, redactor: Redactor) -> str:
    left = redactor.text(key)
    return MASK if left == key and redactor.what_in(key) else left


def _literal(path: str) -> Problem:
    key = re.sub(r"[^A-Za-z0-9]+", "_", path.rsplit(".", 1)[-1]).strip("_").upper() or "NAME"
    return Problem(path=path, message="must be a reference, not the secret itself", hint=_hint(key))


def _hint(name: str) -> str:
    return f"keep it in the environment as {name}; a config never holds the secret itself"


def is_secret_key(key: str) -> bool:
    """Whether what stands under a key, in any spelling, is a secret by the key's name."""
    snake = _HUMP.sub("_", key.lstrip("-")).replace("-", "_").replace(".", "_").lower()
    return _SECRET_KEY.fullmatch(snake) is not None
