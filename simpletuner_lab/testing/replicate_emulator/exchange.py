"""One request and its answer: faults, identity, allowances and errors in one place."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from tornado import web

from simpletuner_lab.testing.replicate_emulator.faults import Fault
from simpletuner_lab.testing.replicate_emulator.records import Account, Refusal, Seen, Shape
from simpletuner_lab.testing.replicate_emulator.requests import invalid
from simpletuner_lab.testing.replicate_emulator.state import Parts

UNKNOWN: Final = "unknown"
_LONGEST_HOLD_S: Final = 60.0
_LARGEST_JSON: Final = 10 << 20
_PAGE: Final = "<!DOCTYPE html><html><head><title>Error</title></head><body><h1>Something went wrong</h1></body></html>"
_ONLY_DETAIL: Final = frozenset({413, 429})


class Handler(web.RequestHandler):
    """Of one route for each of its methods: `routes` has their names."""

    routes: ClassVar[Mapping[str, str]] = {}
    needs_token: ClassVar[bool] = True
    creates: ClassVar[bool] = False
    """Counts to the smaller allowance when it is posted to."""

    def initialize(self, parts: Parts) -> None:
        """Before anything of the request is looked at."""
        self.parts = parts
        self.fault: Fault | None = None
        self.account = Account(username="")
        self._lost = False

    @property
    def route(self) -> str:
        """The name of what was asked for."""
        return self.routes.get(self.request.method or "", UNKNOWN)

    @property
    def shape(self) -> Shape:
        """Of what is told of predictions."""
        if self.fault is not None and self.fault.shape is not None:
            return self.fault.shape
        return self.parts.conduct.shape

    async def prepare(self) -> None:
        """What every request has to pass: the fault that waits for it, its token, its allowance."""
        await self.parts.timeline.tick()
        self.fault = fault = self.parts.faults.take(self.route)
        if fault is not None and fault.held:
            fault.reached.set()
            await asyncio.get_running_loop().run_in_executor(None, fault.released.wait, _LONGEST_HOLD_S)
        if fault is not None and fault.status:
            self._fail(fault)
            return
        if self.route == UNKNOWN:
            raise Refusal(404, "The requested resource could not be found.", "Not found")
        if self.needs_token:
            self.account = self._identify()
            self._count()
        if len(self.request.body or b"") > _LARGEST_JSON:
            raise invalid("- the request is too large")

    def body(self) -> Any:
        """What was sent as JSON.

        Raises:
            Refusal: 415 or 400, it is none.
        """
        if self.request.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
            raise Refusal(415, "Content-Type must be application/json", "Unsupported media type")
        try:
            return json.loads(self.request.body)
        except ValueError as error:
            raise Refusal(400, f"The request body is not JSON: {error}", "Bad request") from error

    def no_body(self) -> None:
        """Nothing was sent.

        Raises:
            Refusal: 422, something was.
        """
        if self.request.body not in {b"", b"{}"}:
            raise invalid("- the request has no body")

    def answer(self, value: Any, status: int = 200) -> None:
        """JSON, unless it is to be spoiled."""
        text = json.dumps(self._altered(value)).encode()
        kind = "application/json"
        if self.fault is not None:
            if self.fault.lost:
                self._hang_up()
                return
            if self.fault.html:
                status, text, kind = 200, _PAGE.encode(), "text/html; charset=utf-8"
            if self.fault.truncated:
                text = text[: len(text) // 2]
        self.set_status(status)
        self.set_header("Content-Type", kind)
        self.finish(text)

    def answer_nothing(self) -> None:
        """204, unless it is to be lost."""
        if self.fault is not None and self.fault.lost:
            self._hang_up()
            return
        self.clear_header("Content-Type")
        self.set_status(204)
        self.finish()

    def finish(self, chunk: Any = None) -> Any:
        """Notes the answer before it is on its way."""
        seen = Seen(
            route=self.route, method=self.request.method or "", path=self.request.path,
            status=0 if self._lost else self.get_status(),
        )  # fmt: skip
        self.parts.seen.append(seen)
        return super().finish(chunk)

    def refuse(self, refusal: Refusal) -> None:
        """The answer that is no success."""
        told: dict[str, Any] = {"title": refusal.title} if refusal.title else {}
        told["detail"] = refusal.detail
        if refusal.status not in _ONLY_DETAIL:
            told["status"] = refusal.status
        self.set_status(refusal.status)
        self.set_header("Content-Type", "application/problem+json")
        self.finish(json.dumps(told))

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """A refusal has its own status, and keeps the headers that are set."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, Refusal) and not self._headers_written:
            self.refuse(error)
        else:
            super().send_error(status_code, **kwargs)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Every error is a problem in JSON."""
        if status_code == 405:  # no method of a route, so no route
            self.refuse(Refusal(404, "The requested resource could not be found.", "Not found"))
        else:
            self.refuse(Refusal(status_code, f"the emulator: {kwargs.get('exc_info', (None, None, None))[1]}"))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """A refusal is no fault of the emulator."""
        if not isinstance(value, Refusal):
            super().log_exception(typ, value, tb)

    def _identify(self) -> Account:
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        found = self.parts.accounts.get(token.strip()) if scheme == "Bearer" else None
        if found is None:
            raise Refusal(401, "You did not pass a valid authentication token", "Unauthenticated")
        return found

    def _count(self) -> None:
        conduct = self.parts.conduct
        creates = self.creates and self.request.method == "POST"
        kind, per_min = ("creates", conduct.creates_per_min) if creates else ("others", conduct.others_per_min)
        left = self.parts.allowances.take(self.account.username, kind, per_min, self.parts.timeline.now())
        self.set_header("ratelimit-remaining", str(left.remaining))
        self.set_header("ratelimit-reset", str(left.reset_s))
        if not left.granted:
            wait_s = math.ceil(60 / per_min)
            self.set_header("Retry-After", str(wait_s))
            raise Refusal(429, f"Request was throttled. Your rate limit resets in ~{wait_s}s.")

    def _fail(self, fault: Fault) -> None:
        """The fault's own answer; the body may be unread."""
        self.set_header("Connection", "close")
        if fault.retry_after_s is not None:
            self.set_header("Retry-After", str(fault.retry_after_s))
        if fault.status == 429 and fault.ratelimit:
            self.set_header("ratelimit-remaining", "0")
            self.set_header("ratelimit-reset", str(fault.retry_after_s or 30))
        if fault.html:
            self.set_status(fault.status)
            self.set_header("Content-Type", "text/html; charset=utf-8")
            self.finish(_PAGE)
        elif fault.status == 429:
            seconds = fault.retry_after_s or 30
            self.refuse(Refusal(429, f"Request was throttled. Your rate limit resets in ~{seconds}s."))
        elif fault.status == 401:
            self.refuse(Refusal(401, "You did not pass a valid authentication token", "Unauthenticated"))
        else:
            self.refuse(Refusal(fault.status, "an injected fault"))

    def _altered(self, value: Any) -> Any:
        """An answer about predictions, as the fault has it."""
        if self.fault is None or not isinstance(value, dict):
            return value
        if "results" in value:
            return value | {"results": [self._altered(one) for one in value["results"]]}
        if self.fault.shown_status is not None and "status" in value:
            value = value | {"status": self.fault.shown_status}
        if self.fault.logs_tail is not None and value.get("logs"):
            value = value | {"logs": value["logs"][-self.fault.logs_tail :] if self.fault.logs_tail else ""}
        return value

    def _hang_up(self) -> None:
        self._lost = True
        connection = self.request.connection
        if connection is not None:
            stream = connection.stream  # type: ignore[attr-defined]
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.close()
        raise web.Finish
