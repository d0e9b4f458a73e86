"""Messages of a widget's JavaScript: questions, each answered once, off the thread that brought it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from simpletuner_lab.core.errors import LabError
from simpletuner_lab.widgets.answers import SLOW, answer, error_view
from simpletuner_lab.widgets.line import Line

_FAULT: Final = LabError("the kernel could not answer", hint="see the kernel's log")

_log = logging.getLogger(__name__)


class Questions:
    """Takes `{id, verb, args}` and sends `{id, value}` or `{id, error}`. Nothing is raised into the kernel."""

    def __init__(
        self, line: Line, send: Callable[[dict[str, Any]], None], answered: Callable[[str, Any], None]
    ) -> None:
        self._line = line
        self._send = send
        self._answered = answered

    def take(self, _widget: object, content: object, _buffers: object) -> None:
        """A message, whatever it is. Returns at once."""
        if not isinstance(content, dict) or not isinstance(content.get("id"), str):
            return
        verb, args = content.get("verb"), content.get("args")
        slow = isinstance(verb, str) and verb in SLOW
        asked = self._line.later(lambda client: answer(client, verb, args), slow=slow)
        asked.add_done_callback(lambda done: self._reply(content["id"], verb, done))

    def _reply(self, question_id: str, verb: Any, done: Future[Any]) -> None:
        error = done.exception()
        if error is None:
            self._answered(verb, done.result())
            self._send({"id": question_id, "value": done.result()})
        elif isinstance(error, LabError):
            self._send({"id": question_id, "error": error_view(error)})
        else:
            _log.error("the question %s was not answered", verb, exc_info=error)
            self._send({"id": question_id, "error": error_view(_FAULT)})
