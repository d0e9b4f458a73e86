"""Train diffusion models from a notebook on a GPU elsewhere, and get the model back.

Public names load when they are first used (PEP 562), so importing the package stays cheap and brings no torch,
SQLAlchemy or plotly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from simpletuner_lab._version import __version__

if TYPE_CHECKING:
    from simpletuner_lab.client import LabClient, connect
    from simpletuner_lab.core.errors import LabError
    from simpletuner_lab.core.plan import SubmitRequest
    from simpletuner_lab.services.lab import Lab

__all__ = ["Lab", "LabClient", "LabError", "SubmitRequest", "__version__", "connect"]

_HOMES = {
    "Lab": "simpletuner_lab.services.lab",
    "LabClient": "simpletuner_lab.client",
    "LabError": "simpletuner_lab.core.errors",
    "SubmitRequest": "simpletuner_lab.core.plan",
    "connect": "simpletuner_lab.client",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from simpletuner_lab.server.app import SimpleTunerLabApp

    return [{"module": "simpletuner_lab", "app": SimpleTunerLabApp}]
