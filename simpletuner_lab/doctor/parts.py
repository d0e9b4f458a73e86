"""The parts that Jupyter loads: server extension, side panel, widget, and what shows widgets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from jupyter_core.paths import jupyter_config_path, jupyter_path
from jupyter_server.config_manager import BaseJSONConfigManager

from simpletuner_lab.doctor.finding import Finding, ok, problem, warning

EXTENSION: Final = "simpletuner_lab"
ENABLE: Final = f"jupyter server extension enable {EXTENSION}"
PANEL: Final = "simpletuner-lab"
_PACKAGE: Final = Path(__file__).resolve().parent.parent
_BUNDLES: Final = ("static/submit.js", "static/jobs.js")
_REINSTALL: Final = "python -m pip install --force-reinstall --no-deps simpletuner-lab"
_WIDGETS: Final = ("anywidget", "@jupyter-widgets/jupyterlab-manager")


def part_findings(
    *, config: Sequence[str] | None = None, data: Sequence[str] | None = None, package: Path = _PACKAGE
) -> Iterator[Finding]:
    """Whether all parts are installed and switched on.

    Args:
        config: folders of Jupyter's configuration, the strongest first; default: Jupyter's own.
        data: folders of Jupyter's data; default: Jupyter's own.
        package: the folder of this package.
    """
    data = jupyter_path() if data is None else data
    yield _extension(jupyter_config_path() if config is None else config)
    if _labextension(PANEL, data):
        yield ok("side panel", "is installed")
    else:
        yield warning("side panel", f"JupyterLab has no {PANEL} extension in this environment", _REINSTALL)
    if missing := [str(package / name) for name in _BUNDLES if not (package / name).is_file()]:
        yield warning("widget", f"{missing[0]} is not there; cells show text alone", _REINSTALL)
    else:
        yield ok("widget", "is installed")
    yield _anywidget(data)


def _extension(config: Sequence[str]) -> Finding:
    for folder in config:
        known = BaseJSONConfigManager(config_dir=folder).get("jupyter_server_config")
        enabled = known.get("ServerApp", {}).get("jpserver_extensions", {}).get(EXTENSION)
        if enabled is not None:
            where = f"in {folder}"
            return ok("extension", f"is on, {where}") if enabled else problem("extension", f"is off, {where}", ENABLE)
    return problem("extension", "no configuration of Jupyter names it", ENABLE)


def _anywidget(data: Sequence[str]) -> Finding:
    try:
        found = ", ".join(f"{name} {version(name)}" for name in ("anywidget", "ipywidgets"))
    except PackageNotFoundError as error:
        return problem("anywidget", f"{error.name} is not installed", "python -m pip install anywidget ipywidgets")
    missing = [name for name in _WIDGETS if not _labextension(name, data)]
    if missing:
        fix = "python -m pip install --force-reinstall anywidget jupyterlab_widgets, where JupyterLab is installed"
        return warning("anywidget", f"{found}; JupyterLab has no {', '.join(missing)} in this environment", fix)
    return ok("anywidget", found)


def _labextension(name: str, data: Sequence[str]) -> bool:
    return any((Path(folder) / "labextensions" / name / "package.json").is_file() for folder in data)
