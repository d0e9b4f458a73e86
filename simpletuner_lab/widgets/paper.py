"""A widget's card as an output of a notebook: written once, and written over from any thread."""

from __future__ import annotations

import secrets

from IPython import get_ipython
from IPython.display import publish_display_data


class Paper:
    """One output under a display id of its own. Where there is no notebook, nothing is written."""

    def __init__(self) -> None:
        self._display_id = secrets.token_hex(8)
        self._written: str | None = None

    def place(self, html: str, text: str) -> None:
        """Writes the card below what was displayed last."""
        self._write(html, text, update=False)

    def replace(self, html: str, text: str) -> None:
        """Writes another card over it, wherever it is shown; nothing if it is not shown, or is the same."""
        if self._written not in {None, html}:
            self._write(html, text, update=True)

    @property
    def is_placed(self) -> bool:
        """Whether a notebook has it."""
        return self._written is not None

    def _write(self, html: str, text: str, *, update: bool) -> None:
        if not hasattr(get_ipython(), "kernel"):
            return
        self._written = html
        data = {"text/html": html, "text/plain": text}
        publish_display_data(data, {}, transient={"display_id": self._display_id}, update=update)
