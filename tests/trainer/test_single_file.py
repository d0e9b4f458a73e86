"""A base in one file: the layout of its authors, read by diffusers with a configuration from a folder, without a network."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from simpletuner_trainer.errors import BadSpec
from simpletuner_trainer.models import find_base, open_family
from simpletuner_trainer.models.single_file import as_folder
from simpletuner_trainer.report import Exit
from simpletuner_trainer.spec import TrainConfig
from simpletuner_trainer.weights import write_safetensors
from tests.trainer.trainer_kit import Job

INNER = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
         "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}  # fmt: skip
OUTER = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
         "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}  # fmt: skip
WEIGHTS = {"unet": "diffusion_pytorch_model.safetensors", "vae": "diffusion_pytorch_model.safetensors",
           "text_encoder": "model.safetensors", "transformer": "diffusion_pytorch_model.safetensors"}  # fmt: skip


def weights(base: Path, part: str) -> dict[str, torch.Tensor]:
    return load_file(base / part / WEIGHTS[part])


def unet_name(name: str) -> str:
    """CompVis' name of a module of a U-Net with one layer a block."""
    found = re.match(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.*)", name)
    if found:
        way, block, kind, layer, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
        if kind == "downsamplers":
            return f"input_blocks.{2 * block + 2}.0.{rest.replace('conv', 'op')}"
        if kind == "upsamplers":
            return f"output_blocks.{2 * block + 1}.1.{rest}"
        place = 2 * block + layer + (way == "down")
        return f"{'input' if way == 'down' else 'output'}_blocks.{place}.{int(kind == 'attentions')}.{inner(rest)}"
    found = re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name)
    if found:
        return f"middle_block.{2 * int(found[2]) if found[1] == 'resnets' else 1}.{inner(found[3])}"
    module, _, kind = name.rpartition(".")
    return f"{OUTER[module]}.{kind}"


def inner(rest: str) -> str:
    module, _, kind = rest.rpartition(".")
    return f"{INNER.get(module, module)}.{kind}"


def vae_name(name: str) -> str:
    """CompVis' name of a module of an AutoencoderKL with three levels."""
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets", r"encoder.down.\1.block", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda found: f"up.{2 - int(found[1])}.block", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda found: f"up.{2 - int(found[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
    for ours, theirs in {
        "mid_block.attentions.0": "mid.attn_1", "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v",
        "to_out.0": "proj_out", "conv_norm_out": "norm_out", "conv_shortcut": "nin_shortcut",
    }.items():  # fmt: skip
        name = name.replace(ours, theirs)
    return name


def write_original(base: Path, path: Path) -> Path:
    """The weights of a tiny Stable Diffusion as one file in CompVis' layout."""
    made = {f"model.diffusion_model.{unet_name(name)}": tensor for name, tensor in weights(base, "unet").items()}
    for name, tensor in weights(base, "vae").items():
        square = "attentions" in name and tensor.ndim == 2
        made[f"first_stage_model.{vae_name(name)}"] = tensor[:, :, None, None] if square else tensor
    for name, tensor in weights(base, "text_encoder").items():
        made[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = tensor
    write_safetensors(path, made, {})
    return path


def rewrite(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Another file of the same name: what was loaded from the old one is still mapped."""
    path.unlink()
    write_safetensors(path, tensors, {})


def bare(base: Path, folder: Path) -> Path:
    """A base's configuration alone."""
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


def config_of(**keys: Any) -> TrainConfig:
    return TrainConfig(pretrained_model_name_or_path="x", **keys)


def same(first: Path, second: Path, part: str) -> bool:
    one, two = (
        {name.removeprefix("text_model."): tensor for name, tensor in weights(base, part).items()}
        for base in (first, second)
    )
    return one.keys() == two.keys() and all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_a_file_trains_as_its_folder_does(job: Callable[..., Job], micro_base: Path) -> None:
    made = job(config={"max_train_steps": 1, "checkpoint_step_interval": 0, "pretrained_model_name_or_path":
                       "../base.safetensors", "single_file_config": "../bare"})  # fmt: skip
    write_original(micro_base, made.folder.parent / "base.safetensors")
    bare(micro_base, made.folder.parent / "bare")
    assert made.run() == Exit.DONE
    (folder,) = (made.work / "cache" / "bases").iterdir()
    assert [same(folder, micro_base, part) for part in ("unet", "vae", "text_encoder")] == [True] * 3
    whole = job("whole", config={"max_train_steps": 1, "checkpoint_step_interval": 0})
    assert whole.run() == Exit.DONE
    assert made.metrics()[0]["loss"] == whole.metrics()[0]["loss"]


def test_it_is_made_once_and_anew_for_another_file(micro_base: Path, tmp_path: Path) -> None:
    path, config = write_original(micro_base, tmp_path / "b.safetensors"), config_of(single_file_config="bare")
    bare(micro_base, tmp_path / "bare")
    first = as_folder(path, config, tmp_path, tmp_path / "cache")
    stamp = (first / "model_index.json").stat().st_mtime_ns
    assert as_folder(path, config, tmp_path, tmp_path / "cache") == first
    assert (first / "model_index.json").stat().st_mtime_ns == stamp
    changed = load_file(path)
    changed["model.diffusion_model.out.2.bias"] += 1
    rewrite(path, changed)
    second = as_folder(path, config, tmp_path, tmp_path / "cache")
    assert second != first
    assert not same(first, second, "unet")
    assert sorted((tmp_path / "cache").iterdir()) == sorted([first, second]), "nothing half-made is left"


def test_a_transformer_of_flux_takes_the_rest_from_a_whole_folder(flux_base: Path, tmp_path: Path) -> None:
    """Under diffusers' names, which it reads too: its converter for the authors' names counts on the real width."""
    changed = {name: tensor + 1 for name, tensor in weights(flux_base, "transformer").items()}
    write_safetensors(tmp_path / "t.safetensors", changed, {})
    config = config_of(model_family="flux", single_file_config=str(flux_base))
    folder = as_folder(tmp_path / "t.safetensors", config, tmp_path, tmp_path / "cache")
    found = weights(folder, "transformer")
    assert all(torch.equal(tensor, found[name]) for name, tensor in changed.items())
    assert same(folder, flux_base, "vae")
    assert same(folder, flux_base, "text_encoder")
    assert open_family("flux", folder, device=torch.device("cpu")).encode_prompt("ring").shape == (513, 12)
    with pytest.raises(BadSpec, match="has the denoiser alone"):
        as_folder(tmp_path / "t.safetensors", config_of(model_family="flux"), tmp_path, tmp_path / "cache")


def test_files_that_cannot_be_a_base(micro_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BadSpec, match=r"the file .*none\.safetensors is not there"):
        find_base("none.safetensors", tmp_path)
    path = write_original(micro_base, tmp_path / "b.safetensors")
    assert find_base("b.safetensors", tmp_path) == path

    def refused(config: TrainConfig) -> BadSpec:
        with pytest.raises(BadSpec) as wrong:
            as_folder(path, config, tmp_path, tmp_path / "cache")
        assert "\n" not in wrong.value.message
        assert not list((tmp_path / "cache").glob("*"))
        return wrong.value

    assert "single_file_config: the folder" in refused(config_of(single_file_config="./nowhere")).message
    assert "set single_file_config to" in refused(config_of()).hint
    lacking = {name: tensor for name, tensor in load_file(path).items() if not name.startswith("cond_stage")}
    rewrite(path, lacking)
    bare(micro_base, tmp_path / "bare")
    assert "is no sd that diffusers can read" in refused(config_of(single_file_config="bare")).message
    content = path.read_bytes()[:-100]
    path.unlink()
    path.write_bytes(content)
    assert "cannot be read" in refused(config_of(single_file_config="bare")).message
