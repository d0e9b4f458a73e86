"""The result: the trained model, how it was made, and what it paints, in one folder with its manifest last."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from simpletuner_trainer.base import identity_here
from simpletuner_trainer.card import Made, model_card, shown_base
from simpletuner_trainer.errors import BadSpec, missing_package
from simpletuner_trainer.files import Manifest, sha256_of, sync_tree, write_durably, writing
from simpletuner_trainer.publish import Parcel
from simpletuner_trainer.report import Result
from simpletuner_trainer.spec import MANIFEST_NAME, RunSpec, canonical_config
from simpletuner_trainer.unpack import unpacked

if TYPE_CHECKING:
    import torch

    from simpletuner_trainer.models import Family
    from simpletuner_trainer.workdir import WorkDir


def export(run: RunSpec, denoiser: torch.nn.Module, family: Family, folder: Path, made: Made) -> None:
    """Write the trained weights as diffusers loads them: a LoRA file, or a whole pipeline."""
    if run.train.config.model_type == "lora":
        family.save_lora(denoiser, folder, metadata_of(run, family, made))
    else:
        family.save_full(denoiser, folder)


def complete(run: RunSpec, work: WorkDir, denoiser: torch.nn.Module, family: Family, made: Made) -> Manifest:
    """Write everything of the result but the samples, which are there, then the manifest."""
    work.output.mkdir(parents=True, exist_ok=True)
    with writing("the result", made.step):
        export(run, denoiser, family, work.output, made)
        if run.train.config.model_type == "lora":
            family.save_kohya(denoiser, work.output, metadata_of(run, family, made))
        card = model_card(run, made, [path.name for path in sorted(work.samples.glob(f"step-{made.step:08d}-*.png"))])
        (work.output / "README.md").write_text(card, "utf-8")
        config = json.dumps(canonical_config(run.train), indent=2, ensure_ascii=False)
        (work.output / "config.json").write_text(config + "\n", "utf-8")
        shutil.copyfile(work.metrics, work.output / "metrics.jsonl")
        manifest = Manifest.of(work.output, kind="result", step=made.step, plan_digest=run.plan_digest)
        sync_tree(work.output)
        write_durably(work.output / MANIFEST_NAME, manifest.encode())
    return manifest


def begin(run: RunSpec, work: WorkDir, data: str, *, anew: bool) -> None:
    """Take back what an earlier start said was the result, and note what this one is trained from; `data` is its digest.

    Where training begins `anew` the pictures of an earlier one go too. `BadSpec` where it goes on from a checkpoint and
    the LoRA that it began from is another by now; one that is gone is not needed any more.
    """
    before, now = _noted(work), _sources(run, data)
    if not anew and now["init_lora"] is None:
        now["init_lora"] = before.get("init_lora")
    if not anew and before.get("init_lora") not in (None, now["init_lora"]):
        hint = "use an empty work_dir, or set resume_from_checkpoint to none to begin anew"
        raise BadSpec("the checkpoints were made from another init_lora", hint)
    (work.output / MANIFEST_NAME).unlink(missing_ok=True)
    if anew:
        shutil.rmtree(work.samples, ignore_errors=True)
    write_durably(work.sources, json.dumps(now, indent=1).encode())


def _sources(run: RunSpec, data: str) -> dict[str, str | None]:
    """What a training begins from, by its content; None for what is not on this disk."""
    config = run.train.config
    named = {"base": config.pretrained_model_name_or_path, "single_file_config": config.single_file_config,
             "init_lora": config.init_lora}  # fmt: skip
    return {"data": data} | {
        key: None if name is None else identity_here(name, run.base_dir) for key, name in named.items()
    }


def _noted(work: WorkDir) -> dict[str, str | None]:
    try:
        noted: dict[str, str | None] = json.loads(work.sources.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return noted


def finished(run: RunSpec, work: WorkDir, notice: Callable[[str], None]) -> Manifest | None:
    """The result of an earlier start, when it is whole, of this very spec, and of the data and the base as they are now.

    `notice` is told what differs; `BadData` where the images cannot be trained on any more.
    """
    try:
        manifest = Manifest.verified(work.output)
        config = json.loads((work.output / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    same_data = run.data is None or unpacked(run.data, work.data)
    same = manifest.plan_digest == run.plan_digest and config == canonical_config(run.train) and same_data
    if not same or manifest.kind != "result":
        return None
    before, now = _noted(work), _sources(run, _digest_of_data(run))
    differs = [key for key, value in now.items() if value is not None and before.get(key) != value]
    if differs:
        notice(f"warning: the result in {work.output} was trained from another {' and '.join(differs)}")
    return None if differs else manifest


def _digest_of_data(run: RunSpec) -> str:
    try:
        from simpletuner_trainer.data import take_stock
    except ImportError as error:
        raise missing_package(error) from error
    return take_stock(run).digest


def parcel(work: WorkDir, manifest: Manifest) -> Parcel:
    """The result on its way: every file, the manifest last."""
    path = work.output / MANIFEST_NAME
    total = sum(entry.bytes for entry in manifest.files)
    report = Result(key=MANIFEST_NAME, files=len(manifest.files) + 1, bytes=total + path.stat().st_size,
                    sha256=sha256_of(path))  # fmt: skip
    return Parcel(
        folder=work.output,
        names=(*(entry.path for entry in manifest.files), MANIFEST_NAME),
        reports=(report,),
        title=f"The trained model, step {manifest.step}",
    )


def metadata_of(run: RunSpec, family: Family, made: Made) -> Mapping[str, str]:
    """`modelspec.*` (github.com/Stability-AI/ModelSpec) and kohya's ``ss_*`` keys. No date: same training, same bytes."""
    config = run.train.config
    described = dict(family.describe())
    described["modelspec.architecture"] += "/lora"
    return described | {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": config.tracker_run_name or run.job_id,
        "modelspec.resolution": f"{made.size[0]}x{made.size[1]}",
        "ss_network_dim": str(config.lora_rank),
        "ss_network_alpha": f"{config.alpha:g}",
        "ss_sd_model_name": shown_base(config.pretrained_model_name_or_path)[0],
        "ss_learning_rate": f"{config.learning_rate:g}",
        "ss_lr_scheduler": config.lr_scheduler,
        "ss_optimizer": config.optimizer,
        "ss_steps": str(made.step),
        "ss_num_epochs": f"{made.epochs:.2f}",
        "ss_num_train_images": str(made.images),
        "ss_batch_size_per_device": str(config.train_batch_size),
        "ss_gradient_accumulation_steps": str(config.gradient_accumulation_steps),
        "ss_mixed_precision": config.mixed_precision,
        "ss_seed": str(config.seed),
        "simpletuner.plan_digest": run.plan_digest,
    }
