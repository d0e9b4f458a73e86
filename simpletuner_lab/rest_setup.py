"""How providers are set up, through whichever way to the lab: `services.provider_setup` has its words on each verb."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import quote

from simpletuner_lab.core.provider import ServiceStatus
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.services.codec import decode
from simpletuner_lab.services.provider_views import (
    Billing,
    ProviderConfig,
    TokenDeleted,
    TokenStored,
    Validation,
    Versions,
)


class Setup(Protocol):
    """The verbs."""

    def config(self, provider_id: str) -> ProviderConfig:
        """The settings of a provider."""

    def change(self, provider_id: str, given: Mapping[str, object]) -> ProviderConfig:
        """Sets some of them."""

    def set_token(self, provider_id: str, token: Secret) -> TokenStored:
        """Keeps its token."""

    def delete_token(self, provider_id: str) -> TokenDeleted:
        """Deletes that file."""

    def validate(self, provider_id: str) -> Validation:
        """Whether it can be used now, and by whom."""

    def versions(self, provider_id: str) -> Versions:
        """What its targets would run."""

    def billing(self, provider_id: str) -> Billing:
        """What runs there have cost."""

    def status(self, provider_id: str) -> ServiceStatus:
        """How its service stands by its own status page."""


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

    def set_token(self, provider_id: str, token: Secret) -> TokenStored:
        """Keeps its token."""
        answer = self._call("PUT", _path(provider_id, "/token"), json={"api_token": token.reveal()})
        return decode(TokenStored, _members(answer), what="answer")

    def delete_token(self, provider_id: str) -> TokenDeleted:
        """Deletes that file."""
        return decode(TokenDeleted, _members(self._call("DELETE", _path(provider_id, "/token"))), what="answer")

    def validate(self, provider_id: str) -> Validation:
        """Whether it can be used now, and by whom."""
        return decode(Validation, self._call("GET", _path(provider_id, "/validate")), what="answer")

    def versions(self, provider_id: str) -> Versions:
        """What its targets would run."""
        return decode(Versions, self._call("GET", _path(provider_id, "/versions")), what="answer")

    def billing(self, provider_id: str) -> Billing:
        """What runs there have cost."""
        return decode(Billing, self._call("GET", _path(provider_id, "/billing")), what="answer")

    def status(self, provider_id: str) -> ServiceStatus:
        """How its service stands."""
        return decode(ServiceStatus, self._call("GET", _path(provider_id, "/status")), what="answer")


def segment(text: str) -> str:
    """An id as one segment of a path, whatever a user typed."""
    return quote(text, safe="") or "-"


def _members(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "success"}


def _path(provider_id: str, below: str = "") -> str:
    return f"/providers/{segment(provider_id)}{below}"
