"""Where things live on this machine (SPEC §3)."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simpletuner_lab.core.errors import StoreUnusable
from simpletuner_lab.core.secret import Secret

VARIABLE: Final = "SIMPLETUNER_HOME"
DATABASE_URL: Final = "SIMPLETUNER_DATABASE_URL"


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of everything the lab keeps; created 0700 on first use."""

    root: Path

    @property
    def id(self) -> str:
        """Sixteen characters that stand for this folder on this machine and say nothing about either.

        Two processes with the same id have the same lab before them.
        """
        place = socket.gethostname().encode() + b"\0" + os.fsencode(self.root.resolve())
        return hashlib.sha256(place).hexdigest()[:16]

    @classmethod
    def find(cls, environment: Mapping[str, str]) -> Home:
        """`SIMPLETUNER_HOME`, else `~/.simpletuner`."""
        named = environment.get(VARIABLE)
        return cls(Path(named or "~/.simpletuner").expanduser().resolve())

    def prepare(self) -> Home:
        """Makes every folder, for its owner alone.

        Raises:
            StoreUnusable: it cannot be made or written.
        """
        for folder in (
            self.root,
            self.state,
            self.logs,
            self.spool,
            self.secrets,
            self.pushes,
            self.provider_settings,
            self.outputs,
            self.providers,
        ):
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise StoreUnusable(
                    f"{folder} cannot be made: {error.strerror}", hint=f"set {VARIABLE} to a folder of your own"
                ) from error
        return self

    @property
    def state(self) -> Path:
        """Database, logs, keys, runs."""
        return self.root / "cloud"

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.state / "lab.db"

    def database_of(self, environment: Mapping[str, str]) -> Path | Secret:
        """Where the store is: the URL in `SIMPLETUNER_DATABASE_URL`, else the SQLite file."""
        named = environment.get(DATABASE_URL)
        return Secret(named) if named else self.database

    @property
    def job_history(self) -> Path:
        """What the original kept of its jobs; it is read, never written."""
        return self.state / "job_history.json"

    @property
    def logs(self) -> Path:
        """One append-only file per job."""
        return self.state / "logs"

    @property
    def spool(self) -> Path:
        """Packed archives on their way, 0600 each."""
        return self.state / "spool"

    @property
    def snapshots(self) -> Path:
        """A bare git repository of what each job was submitted with; made by the first snapshot."""
        return self.state / "snapshots"

    @property
    def secrets(self) -> Path:
        """A file for each of the user's own tokens and keys, 0600 each."""
        return self.state / "secrets"

    @property
    def pushes(self) -> Path:
        """Locks of pushes under way, and notes of uploads that were begun."""
        return self.state / "pushes"

    @property
    def server_key(self) -> Path:
        """32 random bytes from which grants' secrets are derived."""
        return self.state / "server.key"

    @property
    def provider_settings(self) -> Path:
        """One JSON file of settings per provider."""
        return self.state / "provider_configs"

    @property
    def outputs(self) -> Path:
        """Received models, as the buckets of the object endpoint."""
        return self.root / "cloud_outputs"

    @property
    def providers(self) -> Path:
        """Each provider's own files."""
        return self.state / "providers"

    def provider_state(self, provider_id: str) -> Path:
        """A folder for one provider's own files."""
        return self.providers / provider_id
