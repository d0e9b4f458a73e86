"""The result: the trained model, how it was made, and what it paints, in one folder with its manifest last."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from simpletuner_trainer.card import Made, model_card, shown_base
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


def finished(run: RunSpec, work: WorkDir) -> Manifest | None:
    """The result of an earlier start, when it is whole and of this very spec and archive."""
    try:
        manifest = Manifest.verified(work.output)
        config = json.loads((work.output / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    same_data = run.data is None or unpacked(run.data, work.data)
    same = manifest.plan_digest == run.plan_digest and config == canonical_config(run.train) and same_data
    return manifest if same and manifest.kind == "result" else None


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
