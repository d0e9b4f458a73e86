"""What an answer means that is not the one that was meant: of a proxy, a login page, another server, another path."""

from __future__ import annotations

import re
from html import unescape
from typing import Final

from simpletuner_lab.services.reach.report import Look, Step, failed
from simpletuner_lab.services.reach.wire import Answer

_PROXY_STATUS: Final = frozenset({502, 503, 504, 521, 522, 523, 530})
_LOGIN: Final = re.compile(r"jupyterhub|/hub/login|/login|sign in|log in", re.IGNORECASE)
_NOWHERE: Final = '"nothing is served at '


def stranger(answer: Answer) -> Look:
    """Somebody else answered."""
    if answer.status in _PROXY_STATUS:
        fix = "is the notebook server up, with the second listener at the port that the proxy sends to?"
        return failed(Step.PATH, f"the proxy answers {answer.status}: it does not reach the server behind it", fix)
    where = answer.headers.get("location", "")
    if 300 <= answer.status < 400 and not _LOGIN.search(where):
        fix = f"use the URL that it leads to: {where}"
        return failed(Step.PATH, f"the request is sent elsewhere ({answer.status}), and uploads do not follow", fix)
    if _LOGIN.search(where) or ("html" in answer.headers.get("content-type", "") and _LOGIN.search(answer.text)):
        return failed(
            Step.PATH,
            "a login page answers, that of a Hub or of a proxy in front",
            "on JupyterHub public_url has the server's base URL in it (https://HUB/user/NAME) and the server is up; "
            "a proxy must let this path through without a login, since requests are signed",
        )
    kind = answer.headers.get("content-type", "").partition(";")[0] or "nothing"
    return failed(
        Step.PATH,
        f"another server answers: {answer.status} with {kind}",
        "is this the URL of the second listener, and does its path lead there?",
    )


def arrived_at(answer: Answer) -> str:
    """The path at which our server was asked for what it does not serve; empty where it is another's answer."""
    return resource(answer) if answer.is_ours else answer.text.partition(_NOWHERE)[2].partition('"')[0]


def resource(answer: Answer) -> str:
    """The path as it arrived at our object endpoint, which its errors tell."""
    return element(answer, "Resource")


def element(answer: Answer, name: str) -> str:
    """The text of an element of an XML answer; empty where there is none."""
    found = re.search(rf"<{name}>(.*?)</{name}>", answer.text, re.DOTALL)
    return unescape(found[1]) if found else ""


def changed(sent: str, arrived: str, prefix: str) -> Look:
    """The proxy did something to the path, of which `prefix` is what it should take off."""
    return failed(
        Step.PATH,
        f"the proxy changes the path: {sent} arrives as {arrived}",
        f"what comes after {prefix or '/'} must arrive as it is, from /api on and with its percent-encoding "
        "(nginx: proxy_pass without a path, not even a slash; docs/exposing.md has how to take a prefix off)",
    )
