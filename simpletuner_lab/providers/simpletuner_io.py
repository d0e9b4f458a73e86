"""SimpleTuner.io: announced, not open (SPEC P6). Listed as coming soon; there is nothing to call yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simpletuner_lab.core.provider import Capabilities


@dataclass(frozen=True, slots=True, kw_only=True)
class SimpleTunerIoSettings:
    """Nothing to set yet."""


class SimpleTunerIo:
    """An announced provider has no methods: the registry lists it and never builds it."""

    id: ClassVar[str] = "simpletuner_io"
    label: ClassVar[str] = "SimpleTuner.io"
    capabilities: ClassVar[Capabilities] = Capabilities(remote=True, coming_soon=True)
    Settings: ClassVar[type] = SimpleTunerIoSettings
