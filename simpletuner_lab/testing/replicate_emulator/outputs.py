"""What runs have made, at the place that stands for `replicate.delivery`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simpletuner_lab.testing.replicate_emulator.engine import OutputFile
from simpletuner_lab.testing.replicate_emulator.records import Refusal


class Outputs:
    """Files on disk, in a folder for each run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    def told(self, value: Any, prediction_id: str, place: str) -> Any:
        """An output with its files kept, and an address under `place` for each."""
        if isinstance(value, OutputFile):
            folder = self._folder / prediction_id
            folder.mkdir(exist_ok=True)
            name = Path(value.name).name
            (folder / name).write_bytes(value.content)
            return f"{place}{prediction_id}/{name}"
        if isinstance(value, list | tuple):
            return [self.told(one, prediction_id, place) for one in value]
        if isinstance(value, Mapping):
            return {key: self.told(one, prediction_id, place) for key, one in value.items()}
        return value

    def find(self, prediction_id: str, name: str) -> Path:
        """A file that a run has made.

        Raises:
            Refusal: 404, it is not there, or not any more.
        """
        path = self._folder / prediction_id / name
        if not path.is_file():
            raise Refusal(404, "The requested resource could not be found.", "Not found")
        return path

    def drop(self, prediction_id: str) -> None:
        """Removes all that a run has made."""
        shutil.rmtree(self._folder / prediction_id, ignore_errors=True)
