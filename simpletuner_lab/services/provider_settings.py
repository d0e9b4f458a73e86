"""Settings of each provider, one JSON file a provider, drawn from its `Settings` dataclass (SPEC §3, P5)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from simpletuner_lab.services.codec import encode, loads
from simpletuner_lab.services.files import write_atomically


class ProviderSettings:
    """The folder of settings files. A missing file means defaults."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, provider_id: str, settings: Any) -> None:
        """Keeps what is not as a default; a reader finds the old file or the new one."""
        usual = encode(type(settings)())
        kept = {name: value for name, value in encode(settings).items() if value != usual[name]}
        write_atomically(self._folder / f"{provider_id}.json", json.dumps(kept, indent=2, allow_nan=False).encode())

    def read(self, provider_id: str, cls: type[Any]) -> Any:
        """The settings of a provider as an instance of `cls`.

        Raises:
            InvalidRequest: the file is not JSON, or holds unknown keys or wrong types; each is named.
        """
        path = self._folder / f"{provider_id}.json"
        try:
            text = path.read_text("utf-8")
        except FileNotFoundError:
            return cls()
        return loads(cls, text, what=str(path))
