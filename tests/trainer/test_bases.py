"""Bases that cannot be trained as they are, or cannot be had: told by `check` and before any work, never as a fault."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from simpletuner_trainer import report
from simpletuner_trainer.__main__ import main
from simpletuner_trainer.base import schedule_fault, torn
from simpletuner_trainer.errors import BadSpec, BaseUnreachable, TrainerError
from simpletuner_trainer.models import find_base, open_family
from simpletuner_trainer.report import Exit
from tests.trainer.trainer_kit import Job, of_kind

Jobs = Callable[..., Job]
CPU = torch.device("cpu")
WEIGHTS = "diffusion_pytorch_model.safetensors"


def with_scheduler(base: Path, copy: Path, **scheduler: Any) -> Path:
    shutil.copytree(base, copy)
    (copy / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler), "utf-8")
    return copy


def of(name: str, **changes: Any) -> dict[str, Any]:
    """What diffusers writes of a scheduler."""
    found: dict[str, Any] = json.loads(getattr(diffusers, name)(**changes).to_json_string())
    return found


@pytest.mark.parametrize(
    "name",
    [
        "DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler", "KDPM2DiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler", "TCDScheduler", "LCMScheduler",
    ],
)  # fmt: skip
def test_schedulers_with_betas_noise_as_ddpm_does(name: str) -> None:
    known = of(name, num_train_timesteps=50)
    assert schedule_fault(known) == ""
    noising = diffusers.DDPMScheduler.from_config(known)
    painting = getattr(diffusers, name).from_config(known)
    assert torch.allclose(noising.alphas_cumprod, painting.alphas_cumprod)


WRONG = [
    (lambda: of("FlowMatchEulerDiscreteScheduler"), "is of flow matching"),
    (lambda: of("DPMSolverMultistepScheduler", use_flow_sigmas=True, prediction_type="flow_prediction"), "is of flow"),
    (lambda: of("UniPCMultistepScheduler", use_flow_sigmas=True), "is of flow matching"),
    (lambda: of("EDMEulerScheduler"), "as EDM does"),
    (lambda: of("CogVideoXDDIMScheduler"), "snr_shift_scale"),
    (lambda: {"_class_name": "DDIMScheduler", "beta_schedule": "linear"}, "has no beta_start"),
    (lambda: {**of("DDIMScheduler"), "beta_schedule": "cubic"}, "'cubic', which DDPM does not know"),
]


@pytest.mark.parametrize(("scheduler", "says"), WRONG)
def test_other_schedulers_are_refused(scheduler: Callable[[], dict[str, Any]], says: str) -> None:
    assert says in schedule_fault(scheduler())


def test_a_base_that_noises_otherwise_is_refused(
    job: Jobs, micro_base: Path, xl_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = of("UniPCMultistepScheduler", use_flow_sigmas=True)
    for family, base in (("sd", micro_base), ("sdxl", xl_base)):
        other = with_scheduler(base, tmp_path / family, **wrong)
        with pytest.raises(BadSpec, match="is of flow matching"):
            open_family(family, other, device=CPU)
        made = job(family + "-job", config={"model_family": family, "pretrained_model_name_or_path": str(other)})
        assert main(["check", str(made.write())]) == Exit.BAD_SPEC
        assert "is of flow matching (a base of this family noises by betas" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["unet/" + WEIGHTS, "vae/" + WEIGHTS, "text_encoder/model.safetensors"])
def test_a_file_that_is_cut_short_is_named(
    job: Jobs, micro_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    base = shutil.copytree(micro_base, tmp_path / "torn")
    content = (base / part).read_bytes()
    made = job(config={"pretrained_model_name_or_path": str(base)})
    for cut in (len(content) - 1, 100, 0):
        (base / part).write_bytes(content[:cut])
        assert main(["check", str(made.write())]) == Exit.BAD_SPEC
        assert f"is damaged: {part} " in capsys.readouterr().out
    assert made.run() == Exit.BAD_SPEC
    (failure,) = of_kind(capsys.readouterr().out, report.Failure)
    assert part in failure.message
    assert (failure.code, failure.hint) == ("bad_spec", "download or copy it anew")


def test_weights_of_other_shapes_or_none_are_no_fault_of_the_trainer(micro_base: Path, tmp_path: Path) -> None:
    base = shutil.copytree(micro_base, tmp_path / "other")
    assert torn(base / "unet" / WEIGHTS) == ""
    unet = {name: torch.zeros(3) for name in load_file(base / "unet" / WEIGHTS)}
    save_file(unet, base / "unet" / WEIGHTS)
    (base / "vae" / WEIGHTS).unlink()
    family = open_family("sd", base, device=CPU)
    with pytest.raises(BadSpec, match="unet cannot be loaded"):
        family.load_denoiser(torch.float32)
    with pytest.raises(BadSpec, match="vae cannot be loaded"):
        family.encode_image(torch.zeros(3, 32, 32))


def test_a_single_file_that_is_cut_short_is_named(
    job: Jobs, micro_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "base.safetensors"
    path.write_bytes((micro_base / "unet" / WEIGHTS).read_bytes()[:-8])
    made = job(config={"pretrained_model_name_or_path": str(path)})
    assert main(["check", str(made.write())]) == Exit.BAD_SPEC
    assert "is damaged: base.safetensors has" in capsys.readouterr().out


ANSWERS = {"busy": (503, ""), "crowded": (429, ""), "absent": (404, "RepoNotFound"), "gated": (403, "GatedRepo"),
           "hidden": (401, "RepoNotFound")}  # fmt: skip


class Hub(BaseHTTPRequestHandler):
    """Answers to each repository as its name says."""

    def do_GET(self) -> None:
        status, code = next(answer for name, answer in ANSWERS.items() if f"bases-of-ann/{name}" in self.path)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Not said."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def refusal(name: str) -> TrainerError:
    with pytest.raises(TrainerError) as raised:
        find_base(f"bases-of-ann/{name}", Path("/nowhere"))
    assert "\n" not in raised.value.message
    return raised.value


def test_a_hub_that_is_away_is_asked_again_later(
    job: Jobs, hub: ThreadingHTTPServer, capsys: pytest.CaptureFixture[str]
) -> None:
    made = job(config={"pretrained_model_name_or_path": "bases-of-ann/busy"})
    assert made.run() == Exit.UNREACHABLE
    assert Exit.UNREACHABLE.resumable
    (failure,) = of_kind(capsys.readouterr().out, report.Failure)
    assert failure.code == "base_unreachable"
    assert failure.message.endswith("the Hugging Face Hub cannot be reached: it answers 503")
    assert isinstance(refusal("crowded"), BaseUnreachable)
    for name in ("absent", "hidden", "gated"):
        assert isinstance(refusal(name), BadSpec)
    assert "accept it at https://huggingface.co/bases-of-ann/gated" in refusal("gated").hint
    hub.server_close()  # from here on nobody listens
    assert isinstance(refusal("away"), BaseUnreachable)
