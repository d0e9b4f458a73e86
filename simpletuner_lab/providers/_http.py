"""Questions to a provider's HTTP API, and the kinds of answer that are none. How they get there is `_door`'s.

Nothing here is imported that takes time: httpx comes with the first question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from simpletuner_lab.core.errors import ProviderFailure, ProviderUnavailable
from simpletuner_lab.core.secret import Secret

if TYPE_CHECKING:
    from httpx import Response

    from simpletuner_lab.providers._door import Door

HIDE: Final = "hide"
"""Extension of a request: secrets that stand in its body, which no error may repeat."""


class NotThere(ProviderFailure):
    """404: it has no such thing, or not any more."""


class NotDone(ProviderUnavailable):
    """It could not be asked, or would not listen now: nothing came of it."""


class Unreadable(ProviderFailure):
    """It answered, and what it said is not what its API says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """How a provider is reached (SPEC P7)."""

    who: str
    """What errors call it."""
    base_url: str
    proxy: str
    ca_bundle: str
    timeout_s: float
    verify_tls: bool


class Api:
    """Questions in JSON through a door, each with the token that it is asked with."""

    def __init__(self, network: Network, door: Callable[[], Door]) -> None:
        self._network = network
        self._door = door

    def get(self, path: str, token: Secret, **query: str) -> Any:
        """What is there.

        Raises:
            LabError: no answer, or not one of 2xx in JSON.
        """
        return self._read(self.ask("GET", path, token, params=query))

    def post(
        self, path: str, token: Secret, body: Any = None, *, headers: Mapping[str, str] | None = None,
        hide: tuple[Secret, ...] = (),
    ) -> Any:  # fmt: skip
        """What came of it; `hide` are the secrets in the body.

        Raises:
            LabError: as of `get`.
        """
        given = {} if body is None else {"json": body}
        return self._read(self.ask("POST", path, token, headers=headers, extensions={HIDE: hide}, **given))

    def delete(self, path: str, token: Secret) -> None:
        """It is to go.

        Raises:
            LabError: it is not there, or it stays.
        """
        self.ask("DELETE", path, token)

    def ask(
        self, method: str, path: str, token: Secret, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> Response:
        """One request."""
        sent = {**(headers or {}), "Authorization": f"Bearer {token.reveal()}", "Accept": "application/json"}
        return self._door().ask(method, path, headers=sent, **more)

    def _read(self, response: Response) -> Any:
        with reading(self._network.who):
            return response.json()


@contextmanager
def reading(who: str) -> Iterator[None]:
    """Turns what a parser says of an answer into an error for a person.

    Raises:
        Unreadable: the answer is not what it should be.
    """
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Unreadable(
            f"{who} gave an answer that cannot be read", hint="is base_url its API? a proxy may answer in its place"
        ) from error
