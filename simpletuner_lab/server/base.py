"""The one handler base: identity and permission from Jupyter, JSON in and out, errors mapped here and nowhere else."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

from jupyter_server.base.handlers import APIHandler
from tornado import web

from simpletuner_lab.core.canonical import require_finite
from simpletuner_lab.core.errors import InvalidRequest, LabError
from simpletuner_lab.core.redact import Redactor
from simpletuner_lab.server.rooms import SETTING, Rooms
from simpletuner_lab.services.codec import decode, encode

if TYPE_CHECKING:  # it brings the store, which loads after the port listens
    from simpletuner_lab.services.front import Front

T = TypeVar("T")

_MAX_JSON_BYTES: Final = 8 << 20
_log = logging.getLogger(__name__)


class LabHandler(APIHandler):
    """Base of all routes for people. `auth_resource` is what an Authorizer is asked about."""

    auth_resource = "simpletuner_lab"

    @property
    def rooms(self) -> Rooms:
        """The lab and its executors."""
        found: Rooms = self.settings[SETTING]
        return found

    async def ask(self, verb: Callable[[Front], T], *, disk: bool = False) -> T:
        """Runs a verb of the front in the `db` executor, or in `disk` where it reads many files."""
        front = await self.rooms.front()
        executors = self.rooms.executors
        return await self.rooms.run(executors.disk if disk else executors.db, verb, front)

    def answer(self, value: Any, *, status: int = 200, **more: Any) -> None:
        """Sends a view (or a mapping) as JSON, with further members."""
        body = encode(value) if not isinstance(value, Mapping) else {k: encode(v) for k, v in value.items()}
        self.set_status(status)
        self.finish(self.rooms.redactor().known(json.dumps(body | more, allow_nan=False)))

    def body(self, cls: type[T]) -> T:
        """The request's JSON body, checked.

        Raises:
            InvalidRequest: not JSON, unknown members, wrong types: all at once.
        """
        return decode(cls, self.json(), what="body")

    def json(self) -> Any:
        """The request's body as it is.

        Raises:
            InvalidRequest: it is not JSON, holds a number that is not finite, or is over 8 MiB.
        """
        if len(self.request.body) > _MAX_JSON_BYTES:
            raise InvalidRequest("the body is over 8 MiB", hint="a config is never that large")
        try:
            found = json.loads(self.request.body or b"{}")
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"the body is not JSON: {error}") from error
        require_finite(found, "body")
        return found

    def number(self, name: str, default: int | None, *, least: int = 0, most: int = 1 << 62) -> int | None:
        """An integer of the query.

        Raises:
            InvalidRequest: it is not an integer from `least` to `most`, or given more than once.
        """
        text = ",".join(self.get_query_arguments(name))
        if not text:
            return default
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise InvalidRequest(f"{name} must be a whole number from {least} to {most}, not {text!r}")
        return int(text)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Every error as `{detail, code, hint, problems}` with its own status."""
        _answer_error(self, status_code, kwargs.get("exc_info", (None, None, None))[1])

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """A `LabError` is an answer, not a fault: one line, no trace."""
        if isinstance(value, LabError):
            _log_refusal(self, value)
        else:
            super().log_exception(typ, value, tb)


class OutsideHandler(web.RequestHandler):
    """Base of routes for callers without a login: plain tornado, so no cookie, no origin and no page of Jupyter."""

    def set_default_headers(self) -> None:
        """JSON, and no word on what runs here."""
        self.set_header("Server", "simpletuner-lab")
        self.set_header("Content-Type", "application/json")
        self.set_header("X-Content-Type-Options", "nosniff")

    def check_xsrf_cookie(self) -> None:
        """These callers are no browsers."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """As for people."""
        _answer_error(self, status_code, kwargs.get("exc_info", (None, None, None))[1])

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """As for people."""
        if isinstance(value, LabError):
            _log_refusal(self, value)
        else:
            super().log_exception(typ, value, tb)


def _log_refusal(handler: web.RequestHandler, error: LabError) -> None:
    _log.info("%s %s: %s %s", handler.request.method, handler.request.path, error.code, error.message)


def told_of(error: LabError, redactor: Redactor | None = None) -> dict[str, Any]:
    """An error as the body of an answer, without what looks like a secret."""
    plain = (redactor or Redactor()).text
    problems = [
        {"path": plain(one.path), "message": plain(one.message), "hint": plain(one.hint)} for one in error.problems
    ]
    said = plain(error.message)
    told: dict[str, Any] = {"detail": said, "code": error.code, "hint": plain(error.hint), "problems": problems}
    return told | {"message": said}


def _methods(handler: web.RequestHandler) -> str:
    """Those that it has, as the header `Allow` has them."""
    names = (name for name in handler.SUPPORTED_METHODS if _has(handler, name.lower()))
    return ", ".join(names)


def _has(handler: web.RequestHandler, method: str) -> bool:
    return getattr(type(handler), method) is not getattr(web.RequestHandler, method)


def _answer_error(handler: web.RequestHandler, status: int, error: BaseException | None) -> None:
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        handler.set_header("Allow", _methods(handler))
    rooms = handler.settings.get(SETTING)
    redactor = Redactor() if rooms is None else rooms.redactor()
    if isinstance(error, LabError):
        handler.set_status(error.status)
        body = told_of(error, redactor)
    elif isinstance(error, web.HTTPError):
        reason = error.log_message or error.reason or handler._reason  # noqa: SLF001 - tornado has no other way
        reason = redactor.text(str(reason))
        body = {"detail": str(reason), "code": f"http_{status}", "hint": "", "problems": []}
    else:
        body = {"detail": "an internal error; the server's log has it", "code": "internal", "hint": "", "problems": []}
    handler.finish(json.dumps(body | {"message": body["detail"]}))
