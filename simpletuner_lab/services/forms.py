"""A request to train as it travels: the fields of `POST /jobs/plan`, of a widget's state and of its questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simpletuner_lab.core.destination import Destination
from simpletuner_lab.core.job_queue import DEFAULT_PRIORITY, priority_of
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
    priority: int | str | None = None
    """0 to 50, or a name of one."""
    snapshot_name: str = ""
    snapshot_message: str = ""
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
            priority=DEFAULT_PRIORITY if self.priority is None else priority_of(self.priority),
            snapshot_name=self.snapshot_name,
            snapshot_message=self.snapshot_message,
            strip_exif=self.strip_exif,
        )


def form_of(request: SubmitRequest) -> dict[str, Any]:
    """A request as JSON in the fields of `RequestForm`."""
    words = {"snapshot_name": request.snapshot_name, "snapshot_message": request.snapshot_message}
    return {
        "config": dict(request.config),
        "dataloader_config": [dict(entry) for entry in request.dataloader],
        "provider": request.provider,
        "target": request.target,
        "hardware_profile": request.hardware,
        "config_name": request.name,
        "destination": None if request.destination is None else encode(request.destination),
        "priority": request.priority,
        **{key: text for key, text in words.items() if text},
        "strip_exif": request.strip_exif,
    }
