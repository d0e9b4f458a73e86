"""What the trainer's tests share: a base of a few thousand parameters, small pictures, and jobs that are really run."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from PIL import Image, ImageDraw

from simpletuner_trainer import report
from simpletuner_trainer.__main__ import main
from simpletuner_trainer.report import Report

NONCE = "9f2c0d6b5a7e4f31"
CONFIG = {
    "model_family": "sd",
    "max_train_steps": 6,
    "train_batch_size": 4,
    "learning_rate": "1e-2",
    "lora_rank": 4,
    "checkpoint_step_interval": 2,
    "torch_num_threads": 1,
    "seed": 7,
}


def make_base(folder: Path) -> Path:
    """A whole StableDiffusionPipeline with random weights: 32 px, f4, a tokenizer of single letters."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789,"]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    tokenizer = CLIPTokenizer(
        vocab={token: number for number, token in enumerate(vocabulary)}, merges=[], model_max_length=12,
        bos_token="<|startoftext|>", eos_token="<|endoftext|>", pad_token="<|endoftext|>", unk_token="<|endoftext|>",
    )  # fmt: skip
    text = CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=12, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8, attention_head_dim=2, norm_num_groups=4,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 8), latent_channels=4, norm_num_groups=2, layers_per_block=1, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3, scaling_factor=0.5,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", rescale_betas_zero_snr=True,
        timestep_spacing="trailing", clip_sample=False, steps_offset=1,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(text), tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


def make_pictures(folder: Path, count: int = 10) -> Path:
    """Circles of two aspects, each with two captions."""
    folder.mkdir(parents=True)
    drawn = random.Random(0)
    for number in range(count):
        image = Image.new("RGB", (48, 32) if number % 3 == 0 else (40, 40), (12, 12, 46))
        corner = drawn.randint(0, 10)
        ImageDraw.Draw(image).ellipse((corner, corner, corner + 20, corner + 18), outline=(0, 240, 255))
        image.save(folder / f"p{number}.png")
        (folder / f"p{number}.txt").write_text(f"circle {number}\nring {number}\n", "utf-8")
    return folder


def make_xl_base(folder: Path, base: Path) -> Path:
    """A whole StableDiffusionXLPipeline with random weights; VAE and tokenizer are those of `make_base`."""
    import torch
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    torch.manual_seed(1)
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")

    def text(**widths: int) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=len(tokenizer), intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=12, bos_token_id=0, eos_token_id=1, pad_token_id=1, **widths,
        )  # fmt: skip

    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=20, attention_head_dim=2, norm_num_groups=4, use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=10 + 6 * 4,
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
    )
    pipeline = StableDiffusionXLPipeline(
        vae=AutoencoderKL.from_pretrained(base / "vae"), text_encoder=CLIPTextModel(text(hidden_size=8)),
        text_encoder_2=CLIPTextModelWithProjection(text(hidden_size=12, projection_dim=10)),
        tokenizer=tokenizer, tokenizer_2=tokenizer, unet=unet, scheduler=scheduler, add_watermarker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


def make_flux_base(folder: Path, base: Path, *, guided: bool = True) -> Path:
    """A whole FluxPipeline with random weights; its CLIP and tokenizer are those of `make_base`."""
    import torch
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

    torch.manual_seed(2)
    letters = [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz0123456789,"]
    tokenizer = T5TokenizerFast(
        vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *letters], extra_ids=0,
        model_max_length=512,
    )  # fmt: skip
    text = T5Config(vocab_size=len(tokenizer), d_model=12, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    transformer = FluxTransformer2DModel(
        in_channels=16, num_layers=2, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=12, pooled_projection_dim=8, guidance_embeds=guided, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 8), latent_channels=4, norm_num_groups=2, layers_per_block=1, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0 if guided else 1.0, use_dynamic_shifting=guided)
    pipeline = FluxPipeline(
        vae=vae, text_encoder=CLIPTextModel.from_pretrained(base / "text_encoder"), tokenizer_2=tokenizer,
        tokenizer=CLIPTokenizer.from_pretrained(base / "tokenizer"), text_encoder_2=T5EncoderModel(text),
        transformer=transformer, scheduler=scheduler,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


@dataclass(slots=True)
class Job:
    """A spec file in a folder of its own, and the ways to run it."""

    folder: Path
    base: Path
    config: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def output(self) -> Path:
        return self.work / "output"

    def write(self) -> Path:
        """The spec file as it is now."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "pictures").exists() and "instance_data_dir" not in self.dataset:
            make_pictures(self.folder / "pictures")
        dataset = {"id": "pictures", "type": "local", "instance_data_dir": "pictures", **self.dataset}
        spec = {
            "format": "simpletuner-spec/1", "job_id": "j-1", "attempt": 1, "nonce": NONCE, "work_dir": "work",
            "config": {**CONFIG, "pretrained_model_name_or_path": str(self.base), **self.config},
            "dataloader": [dataset], "data": None, "destination": None, "plan_digest": "d" * 64, "deadline_s": None,
            **self.more,
        }  # fmt: skip
        path = self.folder / "spec.json"
        path.write_text(json.dumps(spec), "utf-8")
        return path

    def run(self) -> int:
        """Run it in this process, through the same entry; the exit code."""
        return main([str(self.write())])

    def run_until(self, steps: int, act: Callable[[], None]) -> int:
        """Run it in this process and `act` (in another thread) once so many steps are done; the exit code."""
        over = threading.Event()

        def watch() -> None:
            path = self.work / "metrics.jsonl"
            while not over.wait(0.002):
                if path.is_file() and path.read_bytes().count(b"\n") >= steps:
                    act()
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            return self.run()
        finally:
            over.set()
            watcher.join()

    def start(self, **options: Any) -> Started:
        """Run it as a process of its own."""
        environment = {**os.environ, **self.environment, "PYTHONFAULTHANDLER": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "simpletuner_trainer", str(self.write())],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
        )  # fmt: skip
        return Started(process)

    def metrics(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.work / "metrics.jsonl").read_text("utf-8").splitlines()]


class Started:
    """A trainer that runs; its lines are read as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.errors = ""
        self._drain = threading.Thread(target=self._read_errors, args=(process.stderr,), daemon=True)
        self._drain.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def until(self, kind: type[Report], **members: Any) -> Report:
        """Read lines up to the first report of this kind and these members."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            found = report.parse_line(self.lines[-1], nonce=NONCE)
            if isinstance(found, kind) and all(getattr(found, name) == value for name, value in members.items()):
                return found
        raise AssertionError(f"no such report; exit {self.process.wait()}\n{self.log()}")

    def wait(self) -> int:
        """Read to the end; the exit code."""
        assert self.process.stdout is not None
        self.lines += [line.rstrip("\n") for line in self.process.stdout]
        code = self.process.wait()
        self._drain.join()
        return code

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.wait()

    def log(self) -> str:
        return "\n".join([*self.lines, self.errors])

    def _read_errors(self, stream: IO[str]) -> None:
        self.errors = stream.read()


def reports(text: str) -> list[Report]:
    """Every report of a log."""
    found = (report.parse_line(line, nonce=NONCE) for line in text.splitlines())
    return [one for one in found if one is not None]


def of_kind(text: str, kind: type[Any]) -> list[Any]:
    return [one for one in reports(text) if isinstance(one, kind)]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tree(folder: Path) -> Iterator[str]:
    return (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
