"""Every way a run ends badly, with the exit code and what a person reads. Anything else that is raised is a bug."""

from __future__ import annotations

import importlib
import importlib.util

from simpletuner_trainer.report import Exit


class TrainerError(Exception):
    """A run cannot go on: a stable code, one sentence, what to do, and how the process ends."""

    code = "crashed"
    exit = Exit.CRASHED

    def __init__(self, message: str, hint: str = "", *, step: int | None = None) -> None:
        self.message, self.hint, self.step = message, hint, step
        super().__init__(message)


class BadSpec(TrainerError):
    """The config asks for something that this base, device or work folder cannot do."""

    code = "bad_spec"
    exit = Exit.BAD_SPEC


class BaseUnreachable(TrainerError):
    """The Hugging Face Hub was not reached, or is busy: the same run may find the base there later."""

    code = "base_unreachable"
    exit = Exit.UNREACHABLE


class BadData(TrainerError):
    """The data set cannot be trained on as it is."""

    code = "bad_data"
    exit = Exit.BAD_DATA


class MissingPackage(TrainerError):
    """What training needs is not installed, or is installed and broken."""

    code = "missing_package"


class WorkDirInUse(TrainerError):
    """Another trainer holds the work folder's lock."""

    code = "work_dir_in_use"


class DiskFull(TrainerError):
    """A file could not be written; the last checkpoint is as it was."""

    code = "disk_full"


class CacheLost(TrainerError):
    """An entry of the cache went away or was damaged while the run needed it; the next start makes it anew."""

    code = "cache_lost"


class OutOfMemory(TrainerError):
    """The device has no room for a step."""

    code = "out_of_memory"


class Diverged(TrainerError):
    """The loss or the gradient is no longer a number; the last checkpoint is from before that."""

    code = "diverged"


class Refused(TrainerError):
    """The destination answers and says no after it had said yes: credentials were revoked or have expired."""

    code = "destination_refused"
    exit = Exit.UNDELIVERED


class BadDestination(TrainerError):
    """The destination says no before any work is done: wrong credentials, no such bucket."""

    code = "destination_refused"
    exit = Exit.BAD_SPEC


class Undelivered(TrainerError):
    """The destination could not be reached for as long as was allowed; everything is on disk."""

    code = "undelivered"
    exit = Exit.UNDELIVERED


class Stopped(TrainerError):
    """Asked to end before the work was done (signal, lifeline, deadline). Not a fault: it goes on from here."""

    code = "stopped"

    def __init__(self, reason: Exit) -> None:
        self.exit = reason
        super().__init__(f"stopped: {reason.name.lower()}")


class ProcessLost(TrainerError):
    """Another process of the run is gone: without its gradients there is no step."""

    code = "process_lost"
    exit = Exit.INTERRUPTED


def missing_package(error: ImportError | RuntimeError) -> MissingPackage:
    """Say in one sentence why the training libraries cannot be imported."""
    if _torchvision_is_broken():
        message = "the installed torchvision does not fit the installed torch, which breaks diffusers and transformers"
        return MissingPackage(message, "pip uninstall torchvision: training does not need it")
    name = error.name if isinstance(error, ImportError) else None
    message = f"{name or 'a package that training needs'} cannot be imported: {error}"
    return MissingPackage(message, "pip install 'simpletuner-trainer[train]'")


def _torchvision_is_broken() -> bool:
    """Whether it is there and cannot be imported: transformers then fails in many places, each with another message."""
    if importlib.util.find_spec("torchvision") is None:
        return False
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError):
        return True
    return False
