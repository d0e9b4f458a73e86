"""A provider elsewhere that has webhooks, installed for a server of its own: runs are local, asked for once an hour."""

from __future__ import annotations

from pathlib import Path

CODE = '''
import dataclasses
import os
from pathlib import Path

from simpletuner_lab.core.errors import Forbidden
from simpletuner_lab.providers.local import LocalProvider
from simpletuner_lab.testing import eventually


class Elsewhere(LocalProvider):
    """Looks at a run when it is told to, and otherwise once an hour."""

    id = "elsewhere"
    label = "Elsewhere"
    capabilities = dataclasses.replace(LocalProvider.capabilities, remote=True, poll_s=3600.0)

    def webhook(self, headers, body):
        if headers.get("webhook-signature") != "right":
            raise Forbidden("the signature of the webhook is not right")
        if body == b"slow":
            Path(os.environ["STARTED"]).touch()
            eventually(Path(os.environ["GO_ON"]).exists)
        return body.decode()
'''


def installed_elsewhere(folder: Path, python: str) -> tuple[str, str]:
    """Puts the provider on a path of its own; returns that path, and the provider's settings as JSON."""
    site = folder / "elsewhere"
    info = site / "elsewhere-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[simpletuner_lab.providers]\nelsewhere = elsewhere:Elsewhere\n")
    (site / "elsewhere.py").write_text(CODE)
    return str(site), f'{{"python": "{python}", "grace_s": 5.0}}'
