"""A provider's own token: from the environment, else the system's keyring, else a file that only its owner can read."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

from simpletuner_lab.core.errors import TokenUnusable
from simpletuner_lab.core.provider import ProviderContext
from simpletuner_lab.core.secret import Secret, in_keyring, is_token

_MAX_BYTES: Final = 16 << 10


class Token:
    """Where the token of this name is found, looked up each time it is needed.

    Args:
        name: of the variable, of the keyring's entry, and of the file.
        context: whose environment and folder of secrets count.
        where_from: the page on which one is made.
    """

    def __init__(self, name: str, context: ProviderContext, *, where_from: str) -> None:
        self._name = name
        self._context = context
        self._where_from = where_from

    def find(self) -> Secret | None:
        """The token; None where there is none.

        Raises:
            TokenUnusable: it holds what no token holds, or others can read its file.
        """
        return self._in_environment() or self._in_keyring() or self._in_file()

    def require(self) -> Secret:
        """The token.

        Raises:
            TokenUnusable: there is none, or it cannot be used.
        """
        if token := self.find():
            return token
        raise TokenUnusable(f"{self._name} not set", hint=self.hint)

    @property
    def hint(self) -> str:
        """How to come by one."""
        file = f", or put it into {self._file}, readable by you alone" if self._file is not None else ""
        return f"make one at {self._where_from} and set {self._name} where the lab runs{file}"

    @property
    def _file(self) -> Path | None:
        return None if self._context.secrets is None else self._context.secrets / self._name

    def _in_environment(self) -> Secret | None:
        text = self._context.environment.get(self._name, "").strip()
        return self._token(text, f"the environment's {self._name}")

    def _in_keyring(self) -> Secret | None:
        """Only where the package `keyring` is installed; a keyring that does not answer is none."""
        return self._token(in_keyring(self._name), "the keyring")

    def _in_file(self) -> Secret | None:
        path = self._file
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(path.stat().st_mode)
                text = file.read(_MAX_BYTES).decode("utf-8", "replace").strip()
        except OSError:
            return None
        if mode & 0o077:
            raise TokenUnusable(f"{path} can be read by others", hint=f"chmod 600 {path}, or make a new token")
        return self._token(text, str(path))

    def _token(self, text: str, where: str) -> Secret | None:
        if not is_token(text):
            hint = f"{where} holds the {self._name} alone: one line, no spaces, no comment"
            raise TokenUnusable(f"{where} holds a space, a line break or a letter that no token has", hint=hint)
        return Secret(text) if text else None
