"""A request to train as it travels: the fields of `POST /jobs/plan`, of a widget's state and of its questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simpletuner_lab.core.destination import Destination
from simpletuner_lab.core.plan import DEFAULT_PROVIDER, SubmitRequest
from simpletuner_lab.services.codec import encode


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestForm:
    """A request in the fields that users of the original know."""

    config: Mapping[str, object]
    dataloader_config: tuple[Mapping[str, object], ...]
    provider: str = ""
    target: str = ""
    hardware_profile: str = ""
    config_name: str = ""
    destination: Destination | None = None
    """None: what the config asks for, else the default."""
    strip_exif: bool = False

    def request(self, provider: str = "") -> SubmitRequest:
        """The request in it; a provider that is named here wins."""
        return SubmitRequest(
            config=self.config,
            dataloader=self.dataloader_config,
            provider=provider or self.provider or DEFAULT_PROVIDER,
            target=self.target,
            hardware=self.hardware_profile,
            name=self.config_name,
            destination=self.destination,
            strip_exif=self.strip_exif,
        )


def form_of(request: SubmitRequest) -> dict[str, Any]:
    """A request as JSON in the fields of `RequestForm`."""
    return {
        "config": dict(request.config),
        "dataloader_config": [dict(entry) for entry in request.dataloader],
        "provider": request.provider,
        "target": request.target,
        "hardware_profile": request.hardware,
        "config_name": request.name,
        "destination": None if request.destination is None else encode(request.destination),
        "strip_exif": request.strip_exif,
    }
