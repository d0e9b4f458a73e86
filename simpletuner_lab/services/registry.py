"""Which providers there are: every entry point of the group `simpletuner_lab.providers`, built-in or a stranger's.

One that cannot be loaded is reported and leaves the others alone (SPEC P5); one that is announced is listed and never
built (SPEC P6).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, TypeAlias, cast

from simpletuner_lab.core.errors import LabError, ProviderFailure, ProviderNotFound, ProviderUnavailable
from simpletuner_lab.core.provider import ENTRY_POINTS, Capabilities, Provider, ProviderContext

ContextFor: TypeAlias = Callable[[str], ProviderContext]
"""What the provider with this id is given."""

SettingsFor: TypeAlias = Callable[[str, type[Any]], object]
"""The settings of the provider with this id, as an instance of its `Settings`."""

_OURS: Final = "simpletuner_lab."
_DATA: Final = ("id", "label", "capabilities", "Settings")
_METHODS: Final = ("check", "options", "upload", "start", "find", "list", "poll", "cancel", "discard", "webhook")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """A provider that is coming soon: to be shown, not to be chosen."""

    id: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """An entry point that gave no provider, and why."""

    id: str
    reason: str


class Registry:
    """The providers of this process, by id. Iterates over them in the order of their ids, this machine's own first."""

    def __init__(
        self,
        providers: Sequence[Provider],
        announced: Sequence[Announced] = (),
        broken: Sequence[Broken] = (),
        *,
        classes: Mapping[str, type[Any]] | None = None,
        context_for: ContextFor | None = None,
    ) -> None:
        self._providers = {provider.id: provider for provider in sorted(providers, key=_order)}
        self.announced = tuple(announced)
        self.broken = tuple(broken)
        self._classes = {provider.id: type(provider) for provider in providers} | dict(classes or {})
        self._context_for = context_for
        self._lock = threading.Lock()

    @classmethod
    def load(cls, context_for: ContextFor, settings_for: SettingsFor) -> Registry:
        """Builds every provider that is installed. Raises nothing: what fails is in `broken`."""
        providers: list[Provider] = []
        announced: list[Announced] = []
        broken: list[Broken] = []
        taken: dict[str, str] = {}
        classes: dict[str, type[Any]] = {}
        for point in sorted(entry_points(group=ENTRY_POINTS), key=_precedence):
            if point.name in taken:
                if taken[point.name] != point.value:
                    broken.append(Broken(id=point.name, reason=f"{point.value}: {taken[point.name]} has this name"))
                continue
            taken[point.name] = point.value
            try:
                found = _checked(point)
                if found.capabilities.coming_soon:
                    announced.append(Announced(id=found.id, label=found.label))
                    continue
                classes[found.id] = found
                providers.append(found(settings_for(found.id, found.Settings), context_for(found.id)))
            except Exception as error:  # noqa: BLE001 - a stranger's code; it must not take the others down
                _log.warning("provider %s (%s) cannot be loaded", point.name, point.value, exc_info=True)
                broken.append(Broken(id=point.name, reason=f"{point.value}: {_told(error)}"))
        return cls(providers, announced, broken, classes=classes, context_for=context_for)

    def __iter__(self) -> Iterator[Provider]:
        return iter(self._providers.values())

    def __contains__(self, provider_id: object) -> bool:
        return provider_id in self._providers

    def get(self, provider_id: str) -> Provider:
        """The provider with this id.

        Raises:
            ProviderNotFound: none is installed under this name.
            ProviderUnavailable: it is coming soon, or it could not be loaded.
        """
        if provider_id in self._providers:
            return self._providers[provider_id]
        for soon in self.announced:
            if soon.id == provider_id:
                raise ProviderUnavailable(f"{soon.label} is coming soon", hint=f"one of: {self._names()}")
        for failed in self.broken:
            if failed.id == provider_id:
                raise ProviderUnavailable(
                    f"{provider_id} cannot be loaded: {failed.reason}", hint="mend its settings, or reinstall it"
                )
        raise ProviderNotFound(f"no provider is called {provider_id!r}", hint=f"one of: {self._names()}")

    def class_of(self, provider_id: str) -> type[Any]:
        """The class of a provider, also of one that could not be made with the settings that it has.

        Raises:
            ProviderNotFound, ProviderUnavailable: as `get`.
        """
        return self._classes.get(provider_id) or type(self.get(provider_id))

    def build(self, provider_id: str, settings: object) -> Provider:
        """A provider with other settings, not yet in use.

        Raises:
            LabError: it refuses them.
        """
        if self._context_for is None:
            raise ProviderUnavailable(f"{provider_id} cannot be made anew here", hint="start again")
        return cast("Provider", self.class_of(provider_id)(settings, self._context_for(provider_id)))

    def replace(self, provider: Provider) -> None:
        """Puts it in the place of the one with its id. Whoever works with that one just now goes on with it."""
        with self._lock:
            others = [one for one in self._providers.values() if one.id != provider.id]
            self._providers = {one.id: one for one in sorted([*others, provider], key=_order)}
            self.broken = tuple(one for one in self.broken if one.id != provider.id)

    def _names(self) -> str:
        return ", ".join(self._providers) or "none is installed"


def require_ready(provider: Provider) -> None:
    """Whether a run may be started there now.

    Raises:
        ProviderUnavailable: it cannot be used.
    """
    check = provider.check()
    if not check.ready:
        raise ProviderUnavailable(f"{provider.label} cannot be used: {check.message}", hint=check.hint)


def usable_elsewhere(registry: Registry) -> list[Provider]:
    """Every provider on others' machines that can be used now."""
    return [provider for provider in registry if provider.capabilities.remote and provider.check().ready]


def _order(provider: Provider) -> tuple[bool, str]:
    return provider.capabilities.remote, provider.id


def _precedence(point: EntryPoint) -> tuple[bool, str, str]:
    """Ours come first, so that no stranger takes the name of one; then by name, the same on every start."""
    return not point.value.startswith(_OURS), point.name, point.value


def _checked(point: EntryPoint) -> type[Any]:
    found: type[Any] = point.load()
    _require(found, _DATA)
    if found.id != point.name:
        raise ProviderFailure(f"it calls itself {found.id!r}, its entry point {point.name!r}")
    capabilities: Capabilities = found.capabilities
    if not capabilities.coming_soon:
        _require(found, _METHODS)
    return found


def _told(error: Exception) -> str:
    """What an error says, with each problem that it lists."""
    problems = error.problems if isinstance(error, LabError) else ()
    listed = "; ".join(f"{problem.path}: {problem.message}" for problem in problems)
    return f"{error} ({listed})" if listed else str(error) or type(error).__name__


def _require(found: type[Any], names: Sequence[str]) -> None:
    missing = [name for name in names if not hasattr(found, name)]
    if missing:
        raise ProviderFailure(f"it has no {', '.join(missing)}")
