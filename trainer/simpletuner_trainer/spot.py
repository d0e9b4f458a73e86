"""A spot machine is told shortly before it is taken back: by a file, or by its cloud's metadata service.

Nothing is asked unless the environment names it. Sources: AWS "Spot Instance interruption notices" (instance-action over
IMDSv2), Google Cloud "Detect if a VM is preempted", Azure "Scheduled Events".
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from simpletuner_trainer.errors import BadSpec

FILE_ENV: Final = "SIMPLETUNER_SPOT_FILE"
"""A path: once there is a file, the machine is about to go."""
CLOUD_ENV: Final = "SIMPLETUNER_SPOT_CLOUD"
"""`aws`, `gcp` or `azure`: ask its metadata service."""
ENDPOINT_ENV: Final = "SIMPLETUNER_SPOT_ENDPOINT"
"""Instead of the cloud's own address, ``http://host:port``."""

_LINK_LOCAL: Final = "http://169.254.169.254"
_ENDPOINTS: Final = {"aws": _LINK_LOCAL, "gcp": "http://metadata.google.internal", "azure": _LINK_LOCAL}
_FILE_PAUSE_S: Final = 0.2
_CLOUD_PAUSE_S: Final = 5.0
_TIMEOUT_S: Final = 2.0
_MOST_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """The metadata service of a cloud. It is on the machine's own link: no proxy, no redirect, no patience."""

    name: str
    endpoint: str

    def noticed(self) -> bool:
        """Whether it says that the machine goes. False also where it says nothing."""
        try:
            match self.name:
                case "aws":
                    return self._aws()
                case "gcp":
                    return self._gcp()
                case _:
                    return self._azure()
        except (OSError, http.client.HTTPException, ValueError):
            return False

    def _aws(self) -> bool:
        status, token = self._ask("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        headers = {"X-aws-ec2-metadata-token": token.decode("ascii")} if status == 200 else {}
        return self._ask("GET", "/latest/meta-data/spot/instance-action", headers)[0] == 200

    def _gcp(self) -> bool:
        status, said = self._ask("GET", "/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
        return status == 200 and said.strip() == b"TRUE"

    def _azure(self) -> bool:
        status, said = self._ask("GET", "/metadata/scheduledevents?api-version=2020-07-01", {"Metadata": "true"})
        events = json.loads(said).get("Events", []) if status == 200 else []
        return any(event.get("EventType") == "Preempt" for event in events)

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        address = urlsplit(self.endpoint)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_TIMEOUT_S)
        try:
            connection.request(method, path, headers=dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read(_MOST_BYTES)
        finally:
            connection.close()


def watch(environment: Mapping[str, str], act: Callable[[], None]) -> None:
    """Look for what the environment names, in the background, and `act` once. `BadSpec` for a cloud that is not known."""
    if path := environment.get(FILE_ENV):
        _start(Path(path).exists, act, _FILE_PAUSE_S)
    if name := environment.get(CLOUD_ENV):
        if name not in _ENDPOINTS:
            raise BadSpec(f"{CLOUD_ENV} is {name!r}", f"one of {', '.join(_ENDPOINTS)}")
        cloud = Cloud(name=name, endpoint=environment.get(ENDPOINT_ENV) or _ENDPOINTS[name])
        _start(cloud.noticed, act, _CLOUD_PAUSE_S)


def _start(noticed: Callable[[], bool], act: Callable[[], None], pause_s: float) -> None:
    def look() -> None:
        while not noticed():
            time.sleep(pause_s)
        act()

    threading.Thread(target=look, name="spot", daemon=True).start()
