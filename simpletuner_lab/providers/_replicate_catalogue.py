"""Who the account is and what there is to run: asked rarely, kept for each token, and old rather than absent."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from simpletuner_lab.core.errors import ProviderUnavailable, SettingUnusable
from simpletuner_lab.core.provider import Options, Target
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.providers._http import NotThere, reading
from simpletuner_lab.providers._replicate_inputs import cog_target, simpletuner_target
from simpletuner_lab.providers._replicate_settings import ReplicateSettings

if TYPE_CHECKING:
    from replicate.client import Client
    from replicate.model import Model

T = TypeVar("T")

_FRESH_S: Final = 120.0
_STALE_S: Final = 3600.0
"""So long an old answer stands in where Replicate cannot be reached."""


class Kept(Generic[T]):
    """The last answer for each token, never one of another."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._found: dict[str, tuple[float, T]] = {}
        self._lock = threading.Lock()

    def get(self, token: Secret, ask: Callable[[], T]) -> T:
        """A fresh answer; an older one where the provider cannot be reached.

        Raises:
            LabError: what `ask` raises, if there is no such.
        """
        key = hashlib.sha256(token.reveal().encode()).hexdigest()
        with self._lock:
            at, known = self._found.get(key, (0.0, None))
            age_s = self._now() - at
            if known is not None and 0 <= age_s <= _FRESH_S:
                return known
            try:
                found = ask()
            except ProviderUnavailable:
                if known is not None and 0 <= age_s <= _STALE_S:
                    return known
                raise
            self._found[key] = (self._now(), found)
            return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    version: str
    private: bool


class Catalogue:
    """Account and options of a token."""

    def __init__(
        self, settings: ReplicateSettings, client: Callable[[Secret], Client], now: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._client = client
        self._accounts: Kept[str] = Kept(now)
        self._options: Kept[Options] = Kept(now)

    def account(self, token: Secret) -> str:
        """The name of the account.

        Raises:
            LabError: it cannot be told.
        """
        return self._accounts.get(token, lambda: self._account(token))

    def options(self, token: Secret) -> Options:
        """Targets with the versions that would run, the price of the hardware, the endpoint.

        Raises:
            LabError: it cannot be told.
        """
        return self._options.get(token, lambda: self._offered(token))

    def newest(self, token: Secret, name: str, *, key: str) -> str:
        """The newest version of a model that the setting `key` names.

        Raises:
            SettingUnusable: it is not there, or has none.
            LabError: it cannot be told.
        """
        return self._model(token, name, "", key=key).version

    def _account(self, token: Secret) -> str:
        client = self._client(token)
        with reading("Replicate"):
            return str(client.accounts.current().username)

    def _offered(self, token: Secret) -> Options:
        settings = self._settings
        doubts = settings.doubts
        targets: list[Target] = []
        if settings.image:
            ours = self._model(token, settings.image_model, settings.image_version, key="image")
            targets.append(cog_target(ours.version, (*_private(ours, settings.image_model), *doubts)))
        try:
            theirs = self._model(token, settings.model, settings.version, key="model")
            targets.append(
                simpletuner_target(settings.model, theirs.version, (*_private(theirs, settings.model), *doubts))
            )
        except SettingUnusable:
            if not targets:  # where your own image is there, the published model may be gone
                raise
        return Options(
            targets=tuple(targets), rates=(settings.price_list[settings.hardware].rate(),), endpoint=settings.host,
            run_limit_s=settings.run_limit_s,
        )  # fmt: skip

    def _model(self, token: Secret, name: str, version: str, *, key: str) -> _Found:
        client = self._client(token)
        try:
            with reading("Replicate"):
                model = client.models.get(name)
        except NotThere as error:
            raise SettingUnusable(
                f"Replicate has no model {name}, or it is not yours to see", hint=f"see the setting {key}"
            ) from error
        if version:
            _require_version(model, name, version, key)
        elif model.latest_version is None:
            raise SettingUnusable(f"{name} has no version yet", hint="push one with cog push")
        else:
            version = str(model.latest_version.id)
        return _Found(version=version, private=model.visibility == "private")


def _require_version(model: Model, name: str, version: str, key: str) -> None:
    try:
        with reading("Replicate"):
            model.versions.get(version)
    except NotThere as error:
        raise SettingUnusable(
            f"{name} has no version {version}", hint=f"see the setting {'version' if key == 'model' else key}"
        ) from error


def _private(found: _Found, name: str) -> tuple[str, ...]:
    if not found.private:
        return ()
    return (f"{name} is private: its set-up and idle time cost too, and no figure here has them",)
