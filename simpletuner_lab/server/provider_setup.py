"""Routes about how a provider is set up (contract §2.3). A token goes in and never comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from jupyter_server.auth.decorator import authorized
from tornado import web

from simpletuner_lab.core.errors import (
    Conflict,
    InvalidRequest,
    ProviderFailure,
    ProviderNotFound,
    ProviderUnavailable,
    SecretInConfig,
    SettingUnusable,
    TokenUnusable,
)
from simpletuner_lab.core.provider import ServiceStatus
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.server.answers import TokenGone, TokenKept
from simpletuner_lab.server.base import LabHandler
from simpletuner_lab.server.operations import Operation, Operations
from simpletuner_lab.services.credentials import CredentialList, credentials
from simpletuner_lab.services.network_settings import NetworkSettings, change_network, network_settings
from simpletuner_lab.services.original_names import change_config
from simpletuner_lab.services.provider_views import Billing, ProviderConfig, Validation, Versions


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBody:
    """Body of a token that is set."""

    api_token: str


class ProviderHandler(LabHandler):
    """`GET` and `PUT /providers/{id}`: its settings."""

    @web.authenticated
    @authorized
    async def get(self, provider: str) -> None:
        """Answers a `ProviderConfig`."""
        self.answer(await self.ask(lambda front: front.setup.config(provider)))

    @web.authenticated
    @authorized
    async def put(self, provider: str) -> None:
        """Sets those that are given; answers all."""
        given = _settings_of(self)
        self.answer(await self.ask(lambda front: front.setup.change(provider, given), disk=True))


class ConfigHandler(LabHandler):
    """`GET` and `PUT /providers/{id}/config`: the same, under the name that the original has for it."""

    get = ProviderHandler.get

    @web.authenticated
    @authorized
    async def put(self, provider: str) -> None:
        """Sets those that are given, under our names or the original's; answers all."""
        given = _settings_of(self)
        self.answer(await self.ask(lambda front: change_config(front.setup, provider, given), disk=True))


def _settings_of(handler: LabHandler) -> dict[str, object]:
    given = handler.json() if handler.request.body else None
    if not isinstance(given, dict):
        raise InvalidRequest("the body must be a JSON object of settings")
    return given


class AdvancedHandler(LabHandler):
    """`GET` and `PATCH /providers/{id}/advanced`: the part of its settings that is about the network."""

    @web.authenticated
    @authorized
    async def get(self, provider: str) -> None:
        """Answers `NetworkSettings`."""
        self.answer(await self.ask(lambda front: network_settings(front.setup, provider)))

    @web.authenticated
    @authorized
    async def patch(self, provider: str) -> None:
        """Sets those that are given; answers all."""
        if not self.request.body:
            raise InvalidRequest("the body must be a JSON object of settings")
        given = self.body(NetworkSettings)
        names = frozenset(self.json())
        self.answer(await self.ask(lambda front: change_network(front.setup, provider, given, names), disk=True))


class TokenHandler(LabHandler):
    """`PUT` and `DELETE /providers/{id}/token`."""

    @web.authenticated
    @authorized
    async def put(self, provider: str) -> None:
        """Keeps it, and answers where."""
        token = Secret(self.body(TokenBody).api_token)
        kept = await self.ask(lambda front: front.setup.set_token(provider, token), disk=True)
        self.answer(TokenKept(file_path=kept.file_path, warning=kept.warning))

    @web.authenticated
    @authorized
    async def delete(self, provider: str) -> None:
        """Deletes that file."""
        gone = await self.ask(lambda front: front.setup.delete_token(provider), disk=True)
        self.answer(TokenGone(deleted=gone.deleted, warning=gone.warning))


class CredentialsHandler(LabHandler):
    """`GET /settings/credentials`: which tokens and keys there are, where, and how old. Never a part of one."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers a `CredentialList`."""
        self.answer(await self.ask(lambda front: credentials(front.lab.registry, front.lab.tokens), disk=True))


class ValidateHandler(LabHandler):
    """`GET /providers/{id}/validate`: the provider is asked."""

    @web.authenticated
    @authorized
    async def get(self, provider: str) -> None:
        """Answers a `Validation`."""
        front, rooms = await self.rooms.front(), self.rooms
        self.answer(await rooms.run(rooms.executors.net, front.setup.validate, provider))


class VersionsHandler(LabHandler):
    """`GET /providers/{id}/versions`: what its targets would run."""

    @web.authenticated
    @authorized
    async def get(self, provider: str) -> None:
        """Answers `Versions`."""
        front, rooms = await self.rooms.front(), self.rooms
        self.answer(await rooms.run(rooms.executors.net, front.setup.versions, provider))


class BillingHandler(LabHandler):
    """`GET /providers/{id}/billing`: what runs there have cost."""

    @web.authenticated
    @authorized
    async def get(self, provider: str) -> None:
        """Answers a `Billing`."""
        front, rooms = await self.rooms.front(), self.rooms
        self.answer(await rooms.run(rooms.executors.net, front.setup.billing, provider))


class StatusHandler(LabHandler):
    """`GET /providers/{id}/status`: what its own status page says."""

    @web.authenticated
    @authorized
    async def get(self, provider: str) -> None:
        """Answers a `ServiceStatus`."""
        front, rooms = await self.rooms.front(), self.rooms
        self.answer(await rooms.run(rooms.executors.net, front.setup.status, provider))


class OriginalStatusHandler(LabHandler):
    """`GET /{id}/status`: the same, under the path that the original has for it."""

    get = StatusHandler.get


class SystemStatusHandler(LabHandler):
    """`GET /system-status`: the same of all providers that have such a page."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers a `ServiceStatus`."""
        front, rooms = await self.rooms.front(), self.rooms
        self.answer(await rooms.run(rooms.executors.net, front.setup.system_status))


def setup_rules(provider: str) -> list[tuple[str, type[LabHandler]]]:
    """Paths below the API's; `provider` is that of one."""
    return [
        (provider, ProviderHandler),
        (provider + r"/config", ConfigHandler),
        (provider + r"/advanced", AdvancedHandler),
        (provider + r"/token", TokenHandler),
        (provider + r"/validate", ValidateHandler),
        (provider + r"/versions", VersionsHandler),
        (provider + r"/billing", BillingHandler),
        (provider + r"/status", StatusHandler),
        (r"/settings/credentials", CredentialsHandler),
        (r"/system-status", SystemStatusHandler),
    ]


def original_status_rule() -> tuple[str, type[LabHandler]]:
    """After all others that end so, for a provider may have any id; a bucket of the object endpoint too."""
    return (r"/(?!storage/)([A-Za-z0-9._-]{1,128})/status", OriginalStatusHandler)


_ASKED: Final = (ProviderNotFound, TokenUnusable, SettingUnusable, ProviderFailure, ProviderUnavailable)

OPERATIONS: Final[Operations] = {
    ProviderHandler.get: Operation(answer=ProviderConfig, errors=(ProviderNotFound, InvalidRequest)),
    ProviderHandler.put: Operation(
        answer=ProviderConfig, body=Mapping[str, object], errors=(ProviderNotFound, SecretInConfig)
    ),
    ConfigHandler.put: Operation(
        answer=ProviderConfig, body=Mapping[str, object], errors=(ProviderNotFound, SecretInConfig)
    ),
    AdvancedHandler.get: Operation(answer=NetworkSettings, errors=(ProviderNotFound, InvalidRequest, Conflict)),
    AdvancedHandler.patch: Operation(
        answer=NetworkSettings, body=NetworkSettings, errors=(ProviderNotFound, SecretInConfig, Conflict)
    ),
    TokenHandler.put: Operation(answer=TokenKept, body=TokenBody, errors=(ProviderNotFound, Conflict)),
    TokenHandler.delete: Operation(answer=TokenGone, errors=(ProviderNotFound, Conflict)),
    CredentialsHandler.get: Operation(answer=CredentialList),
    ValidateHandler.get: Operation(answer=Validation, errors=(ProviderNotFound,)),
    VersionsHandler.get: Operation(answer=Versions, errors=_ASKED),
    BillingHandler.get: Operation(answer=Billing, errors=(ProviderNotFound,)),
    StatusHandler.get: Operation(answer=ServiceStatus, errors=(ProviderNotFound,)),
    SystemStatusHandler.get: Operation(answer=ServiceStatus),
}
