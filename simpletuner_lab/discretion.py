"""Log records and crash traces without secrets: a filter on the handlers of a process, where its parts are put together."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from simpletuner_lab.core.redact import Redactor


class Discretion(logging.Filter):
    """Writes each record out, trace and all, and takes the secrets out of that. Lets every record pass."""

    def __init__(self, redactor: Callable[[], Redactor]) -> None:
        super().__init__()
        self._redactor = redactor
        self._handlers: list[logging.Handler] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Changes the record in place; others of its handlers see it so as well."""
        redactor = self._redactor()
        try:
            record.msg, record.args = redactor.text(record.getMessage()), ()
        except (TypeError, ValueError):
            return True  # the handler says what is wrong with it
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = redactor.text("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
            record.exc_info = None
        if record.stack_info:
            record.stack_info = redactor.text(record.stack_info)
        return True

    def watch(self, *loggers: logging.Logger) -> None:
        """Stands at every handler that these loggers have or pass their records on to, until `leave`."""
        for handler in dict.fromkeys(found for logger in loggers for found in _handlers_of(logger)):
            handler.addFilter(self)
            self._handlers.append(handler)

    def leave(self) -> None:
        """The handlers are as they were."""
        while self._handlers:
            self._handlers.pop().removeFilter(self)


def _handlers_of(logger: logging.Logger | None) -> Iterator[logging.Handler]:
    found = False
    while logger is not None:
        for handler in logger.handlers:
            found = True
            yield handler
        logger = logger.parent if logger.propagate else None
    if not found and logging.lastResort is not None:
        yield logging.lastResort


def trace_hook(redactor: Callable[[], Redactor]) -> Callable[..., Any]:
    """For `sys.excepthook`: what ends a process is told without secrets."""

    def told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.stderr.write(redactor().text("".join(traceback.format_exception(kind, error, trace))))

    return told
