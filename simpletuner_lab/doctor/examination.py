"""The whole examination, the slow part of it beside the others."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jupyter_core.paths import jupyter_runtime_dir

from simpletuner_lab._version import __version__
from simpletuner_lab.doctor.access import (
    interpreters,
    provider_findings,
    proxy_findings,
    registry_of,
    token_findings,
)
from simpletuner_lab.doctor.finding import Finding, ok, problem
from simpletuner_lab.doctor.home import database_findings, home_findings
from simpletuner_lab.doctor.packages import packages
from simpletuner_lab.doctor.parts import part_findings
from simpletuner_lab.doctor.servers import server_findings
from simpletuner_lab.services.home import Home

_OLDEST = (3, 11)


def examine(*, url: str | None = None, environment: Mapping[str, str] | None = None) -> tuple[Finding, ...]:
    """Everything that newcomers trip on, as it is now. Changes nothing; takes as long as importing torch."""
    environment = dict(os.environ if environment is None else environment)
    home = Home.find(environment)
    registry = registry_of(home, environment)
    with ThreadPoolExecutor(1) as pool:
        trained = [pool.submit(packages, python, environment) for python in interpreters(home, registry)]
        around = [
            *home_findings(home),
            *database_findings(home, environment),
            *server_findings(home, environment, Path(jupyter_runtime_dir()), url),
            *part_findings(),
            *provider_findings(registry),
            *token_findings(environment),
            *proxy_findings(environment),
        ]
        return (*_python(), *(finding for result in trained for finding in result.result()), *around)


def _python() -> Iterator[Finding]:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < _OLDEST:
        yield problem("python", f"Python {found}", "make an environment with Python 3.11 or newer")
    else:
        yield ok("python", f"Python {found}, simpletuner_lab {__version__}, in {sys.prefix}")
