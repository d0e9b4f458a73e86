"""What every widget of the lab is: traits that the browser sees, questions that it asks, a card for paper.

Nothing here needs the kernel's main thread: messages may come in on a subshell, are answered on threads of the line,
and traits are set by the follower, while a cell of the user's runs.
"""

from __future__ import annotations

import contextlib
import threading
from importlib import resources
from typing import Any, ClassVar, Final

import anywidget
import traitlets as t
from IPython.display import publish_display_data

from simpletuner_lab.client import Client
from simpletuner_lab.core.errors import LabError
from simpletuner_lab.widgets.follower import Glance
from simpletuner_lab.widgets.line import line_to
from simpletuner_lab.widgets.paper import Paper
from simpletuner_lab.widgets.questions import Questions

CHANGING: Final = frozenset({"submit", "cancel", "resolve", "delete", "set_limits"})
"""Verbs after which what is shown is old."""


class BundleMissing(LabError):
    """The widgets' JavaScript is not part of this installation."""

    code: ClassVar[str] = "bundle_missing"


def bundled(name: str) -> str:
    """A file of the front-end, as it was built.

    Raises:
        BundleMissing: it was not built.
    """
    try:
        return resources.files("simpletuner_lab").joinpath("static", name).read_text("utf-8")
    except OSError as error:
        raise BundleMissing(
            f"simpletuner_lab/static/{name} is not there, so widgets cannot be shown",
            hint="install the package anew; in a checkout, run make js",
        ) from error


class LabWidget(anywidget.AnyWidget):
    """A widget with the state that `js/src/model.ts` describes. No trait ever holds a token."""

    bundle: ClassVar[str]
    """Which of the bundles in `static/` shows it."""

    lab = t.Unicode().tag(sync=True)
    """Which lab the kernel sees: the browser talks to its own server only if that one runs the same."""
    job_id = t.Unicode().tag(sync=True)
    request = t.Dict(default_value=None, allow_none=True).tag(sync=True)
    key = t.Unicode().tag(sync=True)
    digest = t.Unicode().tag(sync=True)
    job = t.Dict(default_value=None, allow_none=True).tag(sync=True)
    curve = t.Dict(default_value=None, allow_none=True).tag(sync=True)
    catalogue = t.Dict().tag(sync=True)

    trouble = t.Unicode(read_only=True)
    """Why the lab cannot be asked just now; empty while it can."""

    def __init__(self, client: Client | None = None, **state: Any) -> None:
        self._esm, self._css = bundled(f"{self.bundle}.js"), bundled(f"{self.bundle}.css")
        self._lock = threading.RLock()
        self._line = line_to(client)
        self._paper = Paper()
        super().__init__(lab=self._line.lab_id, **state)
        self.on_msg(Questions(self._line, self.send, self._answered).take)

    def open(self) -> None:
        """Opens the comm. What arrives on it is handled where the browser sent it: on a subshell, if it says so.

        ipykernel 7.4 would route it to the shell that last used the comm, which a cell may block.
        """
        super().open()
        if hasattr(self.comm, "_reply_subshell_for"):
            self.comm._reply_subshell_for = lambda _data, asked_for: asked_for  # noqa: SLF001

    def close(self) -> None:
        """Takes the widget down, and follows nothing any more. A job goes on."""
        line = getattr(self, "_line", None)
        if line is not None:  # else it never came to be
            line.follower.forget(self)
        super().close()

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Takes what the browser changed; one thread at a time changes traits."""
        with self._lock:
            super().set_state(sync_data)

    def look(self, glance: Glance) -> float | None:
        """Looks once (`follower.Watched`)."""
        raise NotImplementedError

    def complain(self, error: LabError | None) -> None:
        """Shows in `trouble` whether the lab can be asked."""
        with self._lock:
            self.set_trait("trouble", "" if error is None else error.message)

    def _follow(self) -> None:
        self._line.follower.follow(self)

    def _tell(self, job_id: str | None, version: int) -> None:
        """News for the browser: what it shows of this job, or of any, is old."""
        self.send({"news": {"job_id": job_id, "version": version}})

    def _answered(self, verb: str, _value: Any) -> None:
        """The browser was given an answer."""
        if verb in CHANGING:
            self._follow()

    def _card(self) -> str:
        """The widget as a piece of HTML that stands alone."""
        raise NotImplementedError

    def _ipython_display_(self, **_: Any) -> None:
        """The live view, and below it the card, which hides itself while the view is alive."""
        shown = self._repr_mimebundle_() if self.comm is not None else None
        data, metadata = shown or ({"text/plain": repr(self)}, {})
        publish_display_data(data, metadata)
        card = ""
        with contextlib.suppress(LabError):  # the follower shows it in `trouble`, and writes the card when it can
            card = self._card()
        self._paper.place(card, repr(self))
        self._follow()
