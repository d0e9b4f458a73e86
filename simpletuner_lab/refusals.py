"""What a server of ours refused, as the error that was raised there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from simpletuner_lab.core import errors
from simpletuner_lab.core.errors import LabError, Problem


def body_of(answer: httpx.Response) -> Any:
    """The JSON of an answer; None where it is none."""
    try:
        return answer.json()
    except ValueError:
        return None


def error_from(status: int, body: Any) -> LabError:
    """The error that a server answered, as the class it was raised as there."""
    body = body if isinstance(body, Mapping) else {}
    cls = _error_classes().get(str(body.get("code")), LabError)
    problems = [
        Problem(path=str(p.get("path", "")), message=str(p.get("message", "")), hint=str(p.get("hint", "")))
        for p in body.get("problems", ())
        if isinstance(p, Mapping)
    ]
    message = body.get("detail") or body.get("message") or f"the server answered {status}"
    return cls(str(message), hint=str(body.get("hint", "")), problems=problems)


def _error_classes() -> dict[str, type[LabError]]:
    return {cls.code: cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, LabError)}
