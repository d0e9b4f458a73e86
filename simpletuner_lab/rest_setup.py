"""How providers are set up, through whichever way to the lab: `services.provider_setup` has its words on each verb."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import quote

from simpletuner_lab.core.secret import Secret
from simpletuner_lab.services.codec import decode
from simpletuner_lab.services.provider_views import Billing, ProviderConfig, Validation, Versions


class Setup(Protocol):
    """The verbs."""

    def config(self, provider_id: str) -> ProviderConfig:
        """The settings of a provider."""

    def change(self, provider_id: str, given: Mapping[str, object]) -> ProviderConfig:
        """Sets some of them."""

    def set_token(self, provider_id: str, token: Secret) -> str:
        """Keeps its token; returns the path of the file, on the lab's machine."""

    def delete_token(self, provider_id: str) -> bool:
        """Deletes that file; False where there is none."""

    def validate(self, provider_id: str) -> Validation:
        """Whether it can be used now, and by whom."""

    def versions(self, provider_id: str) -> Versions:
        """What its targets would run."""

    def billing(self, provider_id: str) -> Billing:
        """What runs there have cost."""


class RestSetup:
    """The verbs over REST. `call` takes method, path and body, and gives the answer's members."""

    def __init__(self, call: Callable[..., dict[str, Any]]) -> None:
        self._call = call

    def config(self, provider_id: str) -> ProviderConfig:
        """The settings of a provider."""
        return decode(ProviderConfig, self._call("GET", _path(provider_id)), what="answer")

    def change(self, provider_id: str, given: Mapping[str, object]) -> ProviderConfig:
        """Sets some of them."""
        return decode(ProviderConfig, self._call("PUT", _path(provider_id), json=dict(given)), what="answer")

    def set_token(self, provider_id: str, token: Secret) -> str:
        """Keeps its token; returns the path of the file, on the lab's machine."""
        answer = self._call("PUT", _path(provider_id, "/token"), json={"api_token": token.reveal()})
        return str(answer["file_path"])

    def delete_token(self, provider_id: str) -> bool:
        """Deletes that file; False where there is none."""
        return bool(self._call("DELETE", _path(provider_id, "/token"))["deleted"])

    def validate(self, provider_id: str) -> Validation:
        """Whether it can be used now, and by whom."""
        return decode(Validation, self._call("GET", _path(provider_id, "/validate")), what="answer")

    def versions(self, provider_id: str) -> Versions:
        """What its targets would run."""
        return decode(Versions, self._call("GET", _path(provider_id, "/versions")), what="answer")

    def billing(self, provider_id: str) -> Billing:
        """What runs there have cost."""
        return decode(Billing, self._call("GET", _path(provider_id, "/billing")), what="answer")


def segment(text: str) -> str:
    """An id as one segment of a path, whatever a user typed."""
    return quote(text, safe="") or "-"


def _path(provider_id: str, below: str = "") -> str:
    return f"/providers/{segment(provider_id)}{below}"
