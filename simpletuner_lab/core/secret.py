"""A secret value that does not print itself."""

from __future__ import annotations

from typing import Final

MASK: Final = "********"


KEYRING_SERVICE: Final = "simpletuner_lab"


def in_keyring(name: str) -> str:
    """What the system's keyring has under a name; empty where it has nothing, does not answer, or is not installed."""
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        return ""
    try:
        return (keyring.get_password(KEYRING_SERVICE, name) or "").strip()
    except (KeyringError, RuntimeError, OSError):
        return ""


def is_token(text: str) -> bool:
    """Whether a token could read so: printable, of one line, no space. A client repeats one with a line break in its error."""
    return all("!" <= character <= "~" for character in text)


class Secret:
    """A token or key. `reveal()` is the only way to its text; repr, str and format are masked."""

    __slots__ = ("_text", "source")

    def __init__(self, text: str, source: str = "") -> None:
        """`source` says in words what it is, for people (`the value of HF_TOKEN`); empty where that is not known."""
        self._text = text
        self.source = source

    def reveal(self) -> str:
        """The text itself. Call it where it is used, never earlier."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __bool__(self) -> bool:
        return bool(self._text)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not pickled")
