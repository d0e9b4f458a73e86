"""The description of the API (OpenAPI 3.1), made of the routes, the types of what they read and answer, and their words."""

from __future__ import annotations

import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from jupyter_server.auth.decorator import authorized
from tornado import web

from simpletuner_lab._version import __version__
from simpletuner_lab.core.errors import InvalidRequest, JobNotFound, LabError
from simpletuner_lab.server import handlers_api
from simpletuner_lab.server.answers import Error
from simpletuner_lab.server.base import LabHandler
from simpletuner_lab.server.operations import JSON, Operation, Operations
from simpletuner_lab.server.schemas import Schemas, words_of

Rule: TypeAlias = tuple[Any, ...]
"""As tornado has them: a pattern, a handler, and perhaps its settings."""

VERSION: Final = "3.1.0"
VERBS: Final = ("get", "head", "post", "put", "patch", "delete")

_ALWAYS: Final = (403, 500, 503)
"""Any route may answer these: nobody is logged in or may not, a fault of ours, the lab is still opening."""

_ABOUT: Final = (
    "Training jobs of simpletuner_lab on a notebook server. docs/rest.md tells the same with examples. The object endpoint "
    "`api/cloud/storage` speaks S3, which has a description of its own."
)
_TOKEN: Final = "Jupyter's own: `token` and a space before it. A browser's cookie with the XSRF header will do as well."  # noqa: S105
_GROUP: Final = re.compile(r"\((?!\?)[^()]*\)")
_EXCEPT: Final = re.compile(r"\(\?![^()]*\)")
_OPTIONAL: Final = re.compile(r"\(\?:/\(([\w|]+)\)\)\?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One path and one verb, with what it is said to do."""

    path: str
    verb: str
    handler: type[web.RequestHandler]
    arguments: tuple[tuple[str, str], ...]
    """Name and pattern of each part of the path that a caller fills in."""
    operation: Operation

    @property
    def name(self) -> str:
        """The same as long as the route is."""
        return self.operation.name or "_".join(
            [self.verb, *(part.strip("{}").replace("-", "_").replace(".", "_") for part in self.parts)]
        )

    @property
    def parts(self) -> list[str]:
        """Those of the path that tell it from others."""
        return [part for part in self.path.removeprefix("/api").removeprefix("/cloud").split("/") if part]

    @property
    def method(self) -> Callable[..., Any]:
        """What of the handler answers it."""
        found: Callable[..., Any] = getattr(self.handler, self.verb)
        return found


class DescriptionHandler(LabHandler):
    """`GET /openapi.json`: this description."""

    def initialize(self, rules: Callable[[], Sequence[Rule]]) -> None:
        """Called by tornado with the settings of the route."""
        self._rules = rules

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers an OpenAPI 3.1 document."""
        base_url = str(self.settings["base_url"])
        self.answer(await self.rooms.run(self.rooms.executors.db, document, self._rules(), base_url=base_url))


OPERATIONS: Final[Operations] = {DescriptionHandler.get: Operation(answer=Mapping[str, object])}


def document(rules: Sequence[Rule], *, base_url: str = "/") -> dict[str, Any]:
    """The description of some rules, whose patterns begin without a base URL."""
    schemas, paths = Schemas(), dict[str, Any]()
    for route in routes(rules):
        paths.setdefault(route.path, {})[route.verb] = _described(route, schemas)
    schemas.of(Error)
    return {
        "openapi": VERSION,
        "info": {"title": "simpletuner_lab", "version": __version__, "description": _ABOUT},
        "servers": [{"url": base_url.rstrip("/") or "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "Authorization", "description": _TOKEN}
            },
        },
    }


def routes(rules: Sequence[Rule]) -> Iterator[Route]:
    """Every verb of every rule that a module tells of; a rule without any is no route.

    Raises:
        LookupError: a verb of a route is not told of.
    """
    for pattern, handler, *_ in rules:
        known: Operations = {**vars(sys.modules[handler.__module__]).get("OPERATIONS", {}), **handlers_api.OPERATIONS}
        own = {verb: getattr(handler, verb) for verb in VERBS if verb in vars(handler)}
        if not any(method in known for method in own.values()):
            continue
        for path, (verb, method) in itertools.product(_paths(pattern), own.items()):
            if method not in known:
                raise LookupError(f"OPERATIONS of {handler.__module__} does not tell of {handler.__name__}.{verb}")
            arguments = _arguments(path, method)
            filled = iter(arguments)
            shown = _GROUP.sub(lambda _, filled=filled: "{" + next(filled)[0] + "}", path).replace("\\", "")  # type: ignore[misc]
            yield Route(path=shown, verb=verb, handler=handler, arguments=arguments, operation=known[method])


def _paths(pattern: str) -> list[str]:
    """A rule whose last part may be missing, or one of some words, has a path for each. A slash that may be missing is told."""
    pattern = _EXCEPT.sub("", re.sub(r"/\?$", "/", pattern))
    found = _OPTIONAL.search(pattern)
    if not found:
        return [pattern]
    stem = pattern[: found.start()]
    return [stem, *(f"{stem}/{word}" for word in found[1].split("|"))]


def _arguments(path: str, method: Callable[..., Any]) -> tuple[tuple[str, str], ...]:
    """By the names of the method's own arguments, in their order."""
    names = list(inspect.signature(method).parameters)[1:]
    return tuple(zip(names, (group[0][1:-1] for group in _GROUP.finditer(path)), strict=False))


def _described(route: Route, schemas: Schemas) -> dict[str, Any]:
    operation = route.operation
    about = words_of(route.handler).partition(": ")[2] or words_of(route.method)
    told: dict[str, Any] = {
        "operationId": route.name,
        "tags": route.parts[:1],
        "summary": about[:1].upper() + about[1:].rstrip("."),
        "description": words_of(route.method),
        "parameters": [
            *(_part(name, pattern) for name, pattern in route.arguments),
            *(
                {"name": one.name, "in": one.where, "required": one.needed, "schema": dict(one.schema)}
                for one in operation.query
            ),
        ],
        "responses": _responses(route, schemas),
    }
    if operation.body is not None:
        body = schemas.of(operation.body, given=True)
        told["requestBody"] = {"required": schemas.asks(body), "content": {JSON: {"schema": body}}}
    return told | ({"security": []} if operation.open else {})


def _part(name: str, pattern: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": f"^{pattern}$"}}


def _responses(route: Route, schemas: Schemas) -> dict[str, Any]:
    operation = route.operation
    content = {operation.media: {"schema": schemas.of(operation.answer)} if operation.answer is not None else {}}
    found: dict[int, Any] = {operation.status: _response(operation.status, {} if route.verb == "head" else content)}
    for status, answer in operation.others.items():
        same = content if status == HTTPStatus.PARTIAL_CONTENT else {}
        found[status] = _response(status, same if answer is None else {JSON: {"schema": schemas.of(answer)}})
    for status, codes in _refusals(route).items():
        schema: dict[str, Any] = {"$ref": f"#/components/schemas/{Error.__name__}"}
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            schema |= {"properties": {"code": {"enum": [*codes, f"http_{status}"]}}}
        told = {} if route.verb == "head" else {JSON: {"schema": schema}}
        if status in found:
            told = {JSON: {"schema": {"anyOf": [found[status]["content"][JSON]["schema"], schema]}}}
        found[status] = _response(status, told) | ({"description": ", ".join(codes)} if codes else {})
    return {str(status): found[status] for status in sorted(found)}


def _response(status: int, content: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    return told | ({"content": dict(content)} if content else {})


def _refusals(route: Route) -> dict[int, list[str]]:
    """The codes of each status, in the order in which they are told."""
    operation = route.operation
    found: dict[int, list[str]] = {status: [] for status in _ALWAYS}
    reads = not operation.open and (operation.query or operation.body is not None)
    errors: tuple[type[LabError], ...] = (*((InvalidRequest,) if reads else ()), *operation.errors)
    of_all_jobs = len(route.arguments) < len(inspect.signature(route.method).parameters) - 1
    for error in dict.fromkeys(errors):
        if error is not JobNotFound or not of_all_jobs:
            found.setdefault(error.status, []).append(error.code)
    return found
