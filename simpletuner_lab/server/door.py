"""What stands under `api/cloud`, `api/queue` and `api/webhooks` until somebody comes, so that the extension adds next to nothing to a server's start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest
from tornado.routing import PathMatches, Router, Rule


class Door(Router):
    """Has the routes mounted when the first request for one of them comes, and answers nothing itself.

    Tornado then goes on to the next rules, where the routes are now. What they need is by then imported, as a rule,
    by the thread that opens the lab.
    """

    SUPPORTED_METHODS: ClassVar[tuple[str, ...]] = ()
    """Jupyter looks here for methods that forget to authenticate; the routes behind are looked at when they come."""

    def __init__(self, mount: Callable[[], None]) -> None:
        self._mount: Callable[[], None] | None = mount

    @property
    def rule(self) -> Rule:
        """Where the door stands: under any base URL, in any spelling of it."""
        return Rule(PathMatches(r".*/api/(?:cloud|queue|webhooks)(?:/.*)?"), self)

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> HTTPMessageDelegate | None:  # noqa: ARG002
        """Called by tornado for each request that matches the rule."""
        if self._mount is not None:
            self._mount()
            self._mount = None
        return None
