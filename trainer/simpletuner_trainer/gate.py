"""Bases whose owners ask everybody to accept a licence first: told in words, and asked about before anything is paid for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simpletuner_trainer.base import is_path
from simpletuner_trainer.errors import BadSpec, BaseUnreachable, TrainerError
from simpletuner_trainer.hub import AGAIN, response_of
from simpletuner_trainer.spec import BUILTIN_TINY, RunSpec


def gated_base(name: str) -> BadSpec:
    """The sentence for a base that the Hub does not give to this account."""
    message = f"the base {name!r} is gated: its owner asks everybody to accept a licence first"
    hint = f"accept it at https://huggingface.co/{name} and set HF_TOKEN to a token of the account that did"
    return BadSpec(message, hint)


def not_had(what: str, error: Exception, hint: str) -> TrainerError:
    """Why `what` did not come from the Hub: `BaseUnreachable` where trying again can help, else `BadSpec` with `hint`."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    network: Any = (HfHubHTTPError.__bases__[0], ConnectionError, TimeoutError, LocalEntryNotFoundError)
    response, last = response_of(error), _first_cause(error)
    if isinstance(last, OfflineModeIsEnabled):
        return BadSpec(f"{what} is not on this disk, and HF_HUB_OFFLINE is set", hint)
    if response is None:
        lost = isinstance(error, network) or isinstance(last, network)
    else:
        lost = response.status_code in AGAIN or response.status_code >= 500
    if not lost:
        return BadSpec(f"{what}: {_first_line(error)}", hint)
    says = f"it answers {response.status_code}" if response is not None else _first_line(last)
    return BaseUnreachable(f"{what}: the Hugging Face Hub cannot be reached: {says}", "try again later")


def access_to_base(run: RunSpec) -> str:
    """Ask the Hub for a base that is there; a note where nothing can be known, empty where all is well or nothing to ask.

    `BadSpec` when this account may not have it, or there is no such repository.
    """
    name = run.train.config.pretrained_model_name_or_path
    here = name == BUILTIN_TINY or is_path(name)
    if here or (run.base_dir / Path(name).expanduser()).exists():
        return ""
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import (
            EntryNotFoundError,
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            RepositoryNotFoundError,
        )
    except ImportError:
        return "huggingface_hub is not installed: whether the base may be had is not known"
    network: Any = HfHubHTTPError.__bases__  # of whichever HTTP library this release is built on
    try:
        get_hf_file_metadata(hf_hub_url(name, "model_index.json"))
    except GatedRepoError as error:
        raise gated_base(name) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        hint = "check pretrained_model_name_or_path; a private base needs HF_TOKEN"
        raise BadSpec(f"the Hugging Face Hub shows no {name!r} to this account", hint) from error
    except EntryNotFoundError as error:
        raise BadSpec(f"the repository {name!r} has no model_index.json", "it must hold a diffusers folder") from error
    except (*network, OSError, RuntimeError) as error:
        return f"the Hub could not be asked for {name}: {_first_line(error)}"
    return ""


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
