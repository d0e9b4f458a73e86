"""The secrets that this lab holds, so that they can be taken out of whatever it writes and answers (SPEC §3)."""

from __future__ import annotations

import functools
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from simpletuner_lab.core.destination import HUB_TOKEN, S3_SECRET_KEY, S3_SESSION_TOKEN
from simpletuner_lab.core.redact import Redactor, is_secret_key
from simpletuner_lab.core.secret import Secret, in_keyring
from simpletuner_lab.core.token_shapes import shape_in

_SHORTEST: Final = 6
"""A shorter value of the environment is no secret that could be told from a word."""
_LEAST_TOLD: Final = 8
_CERTAIN: Final = 20
"""A value so long is no word that a config may well have for another reason."""
_WORD: Final = r"(?=[A-Za-z\d])[A-Za-z]{0,19}\d{0,19}"
_WORDS: Final = re.compile(rf"[/_. -]*{_WORD}(?:[/_. -]+{_WORD})*[/_. -]*")
"""A path, a name, a date: nobody draws a secret like that."""
_SECRET_NAME: Final = re.compile(r"(.*_)?(token|key|secrets?|password|passwd|passphrase|credentials?|pat|apikey)")
"""Of variables: wider than the names of config keys, since by it alone nothing is refused that could be words."""
_MAX_BYTES: Final = 16 << 10
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
"""Of a variable or a file: what reads otherwise is not repeated."""


class KnownSecrets:
    """Finds them where tokens are found: in the environment, in the folder of secrets, and once in the keyring.

    The keyring is asked for the tokens of `providers` and of destinations; without providers it is left alone.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], providers: Iterable[object] | None = None) -> None:
        self._folder = folder
        self._environment = environment
        self._providers = providers
        self._lock = threading.Lock()
        self._state: tuple[object, ...] | None = None
        self._redactor = self._certain = Redactor()

    def redactor(self) -> Redactor:
        """What takes them out; made anew where a file of the folder was changed."""
        return self._both()[0]

    def certain(self) -> Redactor:
        """The same without what may be a word, a number or a path as well: where one is found, the text is refused."""
        return self._both()[1]

    def _both(self) -> tuple[Redactor, Redactor]:
        state = tuple(_stamps(self._folder))
        with self._lock:
            if state != self._state:
                files = tuple(_of_files(self._folder))
                found = (*self._fixed, *files)
                certain = (*(secret for secret, sure in self._found if sure), *filter(_is_certain, files))
                self._redactor, self._certain = Redactor(found), Redactor(certain)
                self._state = state
            return self._redactor, self._certain

    @functools.cached_property
    def _names(self) -> tuple[str, ...]:
        """Under which tokens of ours are kept."""
        if self._providers is None:
            return ()
        tokens = (str(getattr(provider, "token_name", "")) for provider in self._providers)
        return (HUB_TOKEN, S3_SECRET_KEY, S3_SESSION_TOKEN, *filter(None, tokens))

    @functools.cached_property
    def _fixed(self) -> tuple[Secret, ...]:
        return tuple(secret for secret, _ in self._found)

    @functools.cached_property
    def _found(self) -> tuple[tuple[Secret, bool], ...]:
        """Outside of the folder: each with whether a text may be refused for it."""
        kept = [
            Secret(text, f"the value of {name} in the keyring") for name in self._names if (text := in_keyring(name))
        ]
        return (*_of_environment(self._environment, self._names), *((one, _is_certain(one)) for one in kept))

    def beside(self, more: Sequence[Secret]) -> Redactor:
        """The same with more: those of one job."""
        return Redactor((*self._fixed, *_of_files(self._folder), *more)) if more else self.redactor()


def _of_environment(environment: Mapping[str, str], names: Sequence[str]) -> Iterator[tuple[Secret, bool]]:
    """Each with whether a text may be refused for it: not for what only the end of a variable's name calls a secret."""
    for name, value in environment.items():
        text, secret = value.strip(), Secret(value.strip(), _source("the value of", name))
        if len(text) < _SHORTEST:
            continue
        has_shape = shape_in(text) is not None and "://" not in text
        if has_shape or name in names or is_secret_key(name.lower()):
            yield secret, _is_certain(secret)
        elif _SECRET_NAME.fullmatch(name.lower()):
            yield secret, _is_certain(secret) and len(text) >= _CERTAIN and _WORDS.fullmatch(text) is None
        if "://" in text and "@" in text:
            yield from ((one, _is_certain(one)) for one in _of_address(text, name))


def _is_certain(secret: Secret) -> bool:
    """`postgres`, `12345678` and `/etc/keys` may be what a variable holds whose name says it is a secret."""
    text = secret.reveal()
    if len(text) < _LEAST_TOLD or (text.startswith("/") and _is_there(text)):
        return False
    return len(text) >= _CERTAIN or (any(map(str.isdigit, text)) and any(map(str.isalpha, text)))


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def _source(what: str, name: str, where: str = "") -> str:
    return f"{what} {name}{where}" if _NAME.fullmatch(name) else ""


def _of_address(text: str, name: str) -> Iterator[Secret]:
    """The password in an address such as a proxy's, as it stands there and as it is sent."""
    try:
        password = urlsplit(text).password or ""
    except ValueError:
        return
    if len(password) >= _SHORTEST:
        source = _source("the password in", name)
        yield from (Secret(one, source) for one in {password, unquote(password)})


def _stamps(folder: Path) -> Iterator[tuple[str, int, int]]:
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                seen = entry.stat()
                yield entry.name, seen.st_mtime_ns, seen.st_size
    except OSError:
        return


def _of_files(folder: Path) -> Iterator[Secret]:
    for name, _, _ in _stamps(folder):
        try:
            with (folder / name).open("rb") as file:
                text = file.read(_MAX_BYTES).decode("utf-8", "replace").strip()
        except OSError:
            continue
        if len(text) >= _SHORTEST:
            yield Secret(text, _source("the value of", name, " in the lab's secrets"))
