"""A base from one .safetensors file in its authors' layout: turned once into a diffusers folder, which families open.

diffusers knows the layouts. How the parts are put together (widths, scheduler, tokenizer) is not in the file: it comes from
`single_file_config`, a diffusers folder or a Hub id, else from the repository that diffusers takes the file for. Parts that
the file has no weights of, as files of Flux often have none but the transformer's, come from that folder too.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from simpletuner_trainer.base import PIPELINES, folder_identity
from simpletuner_trainer.cache import key_of
from simpletuner_trainer.errors import BadSpec
from simpletuner_trainer.files import sha256_of, sync_tree, writing
from simpletuner_trainer.gate import not_had
from simpletuner_trainer.models import find_base

if TYPE_CHECKING:
    from simpletuner_trainer.spec import RunSpec, TrainConfig

_VAE: Final = ("first_stage_model.", "vae.", "encoder.", "decoder.")
"""What keys of a VAE begin with, in any layout."""
_HINT: Final = "set single_file_config to a diffusers folder of the same kind of base, or to its id on the Hub"


def base_folder(run: RunSpec, cache: Path) -> Path:
    """The diffusers folder of a run's base; in `cache` where the base is one file."""
    base = find_base(run.train.config.pretrained_model_name_or_path, run.base_dir)
    return as_folder(base, run.train.config, run.base_dir, cache) if base.is_file() else base


def as_folder(path: Path, config: TrainConfig, base_dir: Path, cache: Path) -> Path:
    """The diffusers folder in `cache` that was made of the file; made now where there is none.

    `BadSpec` for a file that cannot be read, is of another kind, or whose configuration is not at hand.
    """
    import diffusers
    from diffusers.loaders.single_file_utils import SingleFileComponentError
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as opened:
            names = list(opened.keys())
        content = sha256_of(path)
    except (OSError, SafetensorError) as error:
        raise BadSpec(f"the base {path} cannot be read: {error}", "it must be a whole safetensors file") from error
    source = _source(config, base_dir)
    by = [str(source.resolve()), folder_identity(source, [""])] if isinstance(source, Path) else source
    made = cache / key_of("base/1", diffusers.__version__, config.model_family, content, by)
    if made.is_dir():
        return made
    partial = made.with_name(f".{made.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with writing("the base as a diffusers folder"):
            if any(name.startswith(_VAE) for name in names):
                _whole(path, config, source).save_pretrained(partial)
            else:
                _denoiser_alone(path, source, partial)
            sync_tree(partial)
            partial.rename(made)
    except (LocalEntryNotFoundError, HfHubHTTPError) as error:
        what = f"the base {path.name} needs a configuration that is not at hand"
        if isinstance(source, Path):
            raise BadSpec(f"{what}: {_first_line(error)}", _HINT) from error
        raise not_had(what, error, _HINT) from error
    except (SingleFileComponentError, OSError, ValueError, KeyError, RuntimeError) as error:
        message = f"the base {path.name} is no {config.model_family} that diffusers can read: {_first_line(error)}"
        raise BadSpec(message, _HINT) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return made


def _source(config: TrainConfig, base_dir: Path) -> Path | str | None:
    """A folder, a Hub id, or None: diffusers' own guess."""
    named = config.single_file_config
    if named is None:
        return None
    folder = base_dir / Path(named).expanduser()
    if folder.is_dir():
        return folder
    if named.startswith((".", "/", "~")):
        raise BadSpec(f"single_file_config: the folder {folder} is not there")
    return named


def _whole(path: Path, config: TrainConfig, source: Path | str | None) -> Any:
    """The pipeline of a file that has every part."""
    import diffusers

    offline = isinstance(source, Path) or os.environ.get("HF_HUB_OFFLINE") == "1"
    options = {} if source is None else {"config": str(source)}
    without = {"safety_checker": None, "feature_extractor": None} if config.model_family == "sd" else {}
    return getattr(diffusers, PIPELINES[config.model_family]).from_single_file(
        str(path), local_files_only=offline, **options, **without
    )


def _denoiser_alone(path: Path, source: Path | str | None, folder: Path) -> None:
    """Write the folder of a file that has no part but the denoiser; all others are links to `source`."""
    import diffusers

    if not isinstance(source, Path):
        message = f"the base {path.name} has the denoiser alone"
        raise BadSpec(
            message, "set single_file_config to a whole diffusers folder of that base: the rest is taken from it"
        )
    index = json.loads((source / "model_index.json").read_text("utf-8"))
    denoiser = "transformer" if "transformer" in index else "unet"
    kind = getattr(diffusers, index[denoiser][1])
    model = kind.from_single_file(str(path), config=str(source), subfolder=denoiser, local_files_only=True)
    model.save_pretrained(folder / denoiser)
    shutil.copyfile(source / "model_index.json", folder / "model_index.json")
    for part in index.keys() - {denoiser}:
        if (source / part).is_dir():
            (folder / part).symlink_to((source / part).resolve(), target_is_directory=True)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
