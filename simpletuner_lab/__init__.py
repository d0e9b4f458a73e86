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
    from simpletuner_lab.results import JobFailed
    from simpletuner_lab.services.lab import Lab
    from simpletuner_lab.spending import spend_figure
    from simpletuner_lab.widgets import JobsWidget, JobWidget, SpendWidget, SubmitWidget, job, jobs, spend, submit

__all__ = [
    "JobFailed",
    "JobWidget",
    "JobsWidget",
    "Lab",
    "LabClient",
    "LabError",
    "SpendWidget",
    "SubmitRequest",
    "SubmitWidget",
    "__version__",
    "connect",
    "job",
    "jobs",
    "spend",
    "spend_figure",
    "submit",
]

_HOMES = {
    "JobFailed": "simpletuner_lab.results",
    "JobWidget": "simpletuner_lab.widgets",
    "JobsWidget": "simpletuner_lab.widgets",
    "Lab": "simpletuner_lab.services.lab",
    "LabClient": "simpletuner_lab.client",
    "LabError": "simpletuner_lab.core.errors",
    "SpendWidget": "simpletuner_lab.widgets",
    "SubmitRequest": "simpletuner_lab.core.plan",
    "SubmitWidget": "simpletuner_lab.widgets",
    "connect": "simpletuner_lab.client",
    "job": "simpletuner_lab.widgets",
    "jobs": "simpletuner_lab.widgets",
    "spend": "simpletuner_lab.widgets",
    "spend_figure": "simpletuner_lab.spending",
    "submit": "simpletuner_lab.widgets",
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


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "simpletuner-lab"}]


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext simpletuner_lab`: adds `%stcloud` and its completion."""
    from simpletuner_lab.magics import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """`%unload_ext simpletuner_lab`: takes them away again."""
    from simpletuner_lab.magics import unload

    unload(shell)
