"""What a spec may say, and that everything wrong with one is told at once, each with its path and a way out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from simpletuner_trainer.spec import (
    DataArchive,
    FolderDestination,
    RunSpec,
    S3Destination,
    SpecError,
    TrainConfig,
    canonical_config,
    config_hash,
    parse,
    parse_metadata_jsonl,
)

CONFIG = {"pretrained_model_name_or_path": "builtin:tiny", "max_train_steps": 100}
DATA = {"id": "neon", "type": "local", "instance_data_dir": "neon"}
SPEC: dict[str, Any] = {
    "format": "simpletuner-spec/1", "job_id": "j-1", "attempt": 1, "nonce": "0123456789abcdef", "work_dir": "work",
    "config": CONFIG, "dataloader": [DATA],
}  # fmt: skip


def problems_of(config: Any = CONFIG, dataloader: Any = (DATA,)) -> dict[str, str]:
    with pytest.raises(SpecError) as raised:
        parse(config, list(dataloader) if isinstance(dataloader, tuple) else dataloader)
    return {problem.path: f"{problem.message} {problem.hint}" for problem in raised.value.problems}


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        ("learning_rate", "1e-4", 1e-4),
        ("--learning_rate", 1, 1.0),
        ("train_batch_size", "8", 8),
        ("train_batch_size", 8.0, 8),
        ("checkpointing_steps", 50, 50),
        ("gradient_checkpointing", "true", True),
        ("lora_alpha", "none", None),
        ("lora_alpha", 8, 8.0),
        ("snr_gamma", None, None),
        ("validation_prompt", "a cat", ("a cat",)),
        ("validation_prompt", ["a", "b"], ("a", "b")),
        ("validation_prompt", "", ()),
        ("validation_resolution", 64, (64, 64)),
        ("validation_resolution", "512x768", (512, 768)),
        ("model_family", "sd1x", "sd"),
        ("mixed_precision", "fp32", "no"),
        ("resume_from_checkpoint", "", None),
        ("report_to", "none", None),
        ("optimizer", "bnb-adamw8bit", "bnb-adamw8bit"),
        ("use_dora", "true", True),
        ("init_lora", "none", None),
        ("--init_lora", "~/begin.safetensors", "~/begin.safetensors"),
        ("peft_lora_target_modules", ["to_q", "to_k"], ("to_q", "to_k")),
        ("peft_lora_target_modules", '["to_q", "to_k"]', ("to_q", "to_k")),
        ("peft_lora_target_modules", "[a-z]+_block.*", "[a-z]+_block.*"),
        ("peft_lora_target_modules", "", None),
        ("output_dir", None, ""),
    ],
)
def test_values_are_read(key: str, value: Any, read: Any) -> None:
    config = parse({**CONFIG, key: value}, [DATA]).config
    name = {"checkpointing_steps": "checkpoint_step_interval"}.get(key, key).removeprefix("--")
    assert getattr(config, name) == read
    assert type(getattr(config, name)) is type(read)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("lora_rnak", 4, "did you mean 'lora_rank'?"),
        ("--lora_rnak", 4, "did you mean 'lora_rank'?"),
        ("entirely_other", 4, "is not a known key"),
        ("validation_prompt", ["a", "x \udfff"], "holds half a character"),
        ("tracker_run_name", "x \ud800", "holds half a character"),
        ("lora_rank", 1.5, "not a whole number"),
        ("lora_rank", 10**400, "not a number"),
        ("lora_rank", True, "a boolean, not a number"),
        ("lora_rank", 0, "at least 1"),
        ("learning_rate", "fast", "'fast', not a number"),
        ("learning_rate", 0, "more than 0"),
        ("learning_rate", float("nan"), "not a finite number"),
        ("gradient_checkpointing", 1, "not true or false"),
        ("lr_scheduler", "cosin", "did you mean 'cosine'?"),
        ("optimizer", "adamw_bf16", "supported: adamw"),
        ("optimizer", "prodgy", "did you mean 'prodigy'?"),
        ("optimizer", "torch-adafactor", "did you mean 'adafactor'?"),
        ("peft_lora_target_modules", [], "an empty list"),
        ("peft_lora_target_modules", ["to_q", 1], "a number, not a string"),
        ("peft_lora_target_modules", "mid_block(", "not a regular expression: missing )"),
        ("peft_lora_target_modules", 1, "a number, not a string"),
        ("use_rslora", 1, "not true or false"),
        ("init_lora", 3, "not a string"),
        ("model_family", "sd3", "supported: sd"),
        ("pretrained_model_name_or_path", "", "is blank"),
        ("push_to_hub", True, "not supported yet"),
        ("lycoris_config", "config.json", "not supported yet"),
        ("publishing_config", [{"provider": "s3"}], "not supported yet"),
        ("resume_from_checkpoint", "checkpoint-500", "supported: latest"),
        ("report_to", "wandb", "supported: none"),
        ("resolution", 0.5, "counts whole pixels"),
        ("validation_resolution", "64x", "or WIDTHxHEIGHT"),
        ("validation_resolution", "64x65", "multiples of 8"),
        ("validation_prompt", [1], "a number, not a string"),
        ("caption_dropout_probability", 2, "at most 1"),
        ("lr_warmup_steps", 100, "would never be reached"),
        ("lr_end", 1, "at most learning_rate"),
        ("optimizer_config", "amsgrad", "name=value"),
        ("optimizer_config", {"amsgrad": "perhaps"}, "not a number"),
        ("optimizer_config", "betas=0.9", "it takes amsgrad"),
        ("optimizer_config", 3, "not settings"),
        ("resume_despite", ["config", "weather"], "supported: config, data, threads, world_size"),
        ("grad_clip_method", "norms", "did you mean 'norm'"),
        ("num_train_epochs", 3, "both set"),
    ],
)
def test_wrong_values_are_told(key: str, value: Any, says: str) -> None:
    found = problems_of({**CONFIG, key: value})
    path = "config.max_train_steps" if key == "num_train_epochs" else f"config.{key}"
    assert says in found.pop(path)
    assert not found


@pytest.mark.parametrize(
    ("changes", "keys", "says"),
    [
        ({"optimizer": "prodigy"}, ["learning_rate"], "1 is usual"),
        ({"optimizer": "prodigy", "learning_rate": 1e-3}, ["learning_rate"], "1 is usual"),
        (
            {"optimizer": "adamw_schedulefree", "lr_scheduler": "cosine", "use_ema": True, "adam_beta1": 0},
            ["lr_scheduler", "use_ema", "adam_beta1"],
            "optimizer is adamw_schedulefree",
        ),
        (
            {"model_type": "full", "init_lora": "x", "use_dora": True, "use_rslora": True,
             "peft_lora_target_modules": "x"},
            ["init_lora", "use_dora", "use_rslora", "peft_lora_target_modules"],
            "of a LoRA and model_type is full",
        ),
        ({"lora_target": "all", "peft_lora_target_modules": "x"}, ["peft_lora_target_modules"], "beside lora_target all"),
    ],
)  # fmt: skip
def test_contradictions_are_told_at_once(changes: dict[str, Any], keys: list[str], says: str) -> None:
    found = problems_of({**CONFIG, **changes})
    assert sorted(found) == sorted(f"config.{key}" for key in keys)
    assert all(says in message for message in found.values())


def test_everything_wrong_is_told_at_once() -> None:
    found = problems_of(
        {"max_train_steps": 0, "sed": 1, "--seed": "x"},
        ({"id": "-", "caption_strategy": "textfil"}, {"id": "a", "instance_data_dir": "a", "crop": "maybe"}, 7),
    )
    assert set(found) == {
        "config.sed", "config.--seed", "config.pretrained_model_name_or_path", "config.max_train_steps",
        "dataloader[0].id", "dataloader[0].caption_strategy", "dataloader[0].instance_data_dir", "dataloader[1].crop",
        "dataloader[2]",
    }  # fmt: skip


@pytest.mark.parametrize(
    "written", ["d_coef=0.5, d0=1e-5", {"d0": "0.00001", "d_coef": 0.5}, ["d0=1e-05", "d_coef=0.5"]]
)
def test_settings_of_the_optimizer_are_one_whatever_their_form(written: Any) -> None:
    config = {**CONFIG, "optimizer": "prodigy", "learning_rate": 1, "optimizer_config": written}
    assert parse(config, [DATA]).config.optimizer_config == ("d0=1e-05", "d_coef=0.5")
    assert parse({**CONFIG, "optimizer_config": {"amsgrad": True}}, [DATA]).config.optimizer_config == ("amsgrad=true",)


@pytest.mark.parametrize("second", ["--seed", "seed"])
def test_a_key_in_both_spellings_is_refused(second: str) -> None:
    first = "seed" if second == "--seed" else "--seed"
    assert "keep one of the two" in problems_of({**CONFIG, first: 1, second: 1})[f"config.{second}"]


def test_a_key_and_its_alias_are_the_same_key() -> None:
    assert problems_of({**CONFIG, "checkpointing_steps": 1, "checkpoint_step_interval": 1})


@pytest.mark.parametrize("off", [False, None, "", "none", 0, [], "false"])
def test_what_is_not_done_yet_may_be_off(off: Any) -> None:
    assert parse({**CONFIG, "push_to_hub": off, "lycoris_config": off}, [DATA]).config == parse(CONFIG, [DATA]).config


@pytest.mark.parametrize(
    ("changes", "path", "says"),
    [
        ({"id": "../a"}, "id", "1 to 64"),
        ({"id": "a" * 65}, "id", "1 to 64"),
        ({"id": "a b"}, "id", "1 to 64"),
        ({"type": "aws"}, "type", "supported: local"),
        ({"dataset_type": "video"}, "dataset_type", "supported: image"),
        (
            {"caption_strategy": "parquet"},
            "caption_strategy",
            "supported: textfile, filename, instanceprompt, metadata",
        ),
        ({"caption_strategy": "instanceprompt"}, "instance_prompt", "is missing"),
        ({"only_instance_prompt": True}, "instance_prompt", "is missing"),
        ({"crop_style": "face"}, "crop_style", "supported: center, random"),
        ({"repeats": -1}, "repeats", "at least 0"),
        ({"resolution_type": "pixel"}, "resolution", "set both or neither"),
        ({"resolution": 512, "resolution_type": "area"}, "resolution", "megapixels"),
        ({"probability": 0}, "probability", "more than 0"),
        ({"probability": 1e308}, "probability", "at most 1e+06"),
        ({"maximum_image_size": 900}, "target_downsample_size", "is missing beside maximum_image_size"),
        ({"target_downsample_size": 900}, "maximum_image_size", "set both or neither"),
        ({"maximum_image_size": 800, "target_downsample_size": 900}, "target_downsample_size", "or less"),
        (
            {"minimum_image_size": 900, "maximum_image_size": 800, "target_downsample_size": 800},
            "minimum_image_size",
            "is 900",
        ),
        ({"minimum_aspect_ratio": 2, "maximum_aspect_ratio": 1}, "minimum_aspect_ratio", "no image would be left"),
        ({"crop": True, "crop_aspect": "closest"}, "crop_aspect_buckets", "a list of width by height"),
        ({"crop_aspect_buckets": [1, 0]}, "crop_aspect_buckets", "more than 0"),
        ({"crop_aspect_buckets": 1}, "crop_aspect_buckets", "not a list of numbers"),
        ({"caption_shuffle": {"enable": True}}, "caption_shuffle", "not supported yet"),
        ({"instance_dta_dir": "x"}, "instance_dta_dir", "did you mean 'instance_data_dir'?"),
    ],
)
def test_wrong_data_sets_are_told(changes: dict[str, Any], path: str, says: str) -> None:
    found = problems_of(dataloader=({**DATA, **changes},))
    assert says in found.pop(f"dataloader[0].{path}")
    assert not found


def test_a_probability_is_on_every_set_or_on_none() -> None:
    other = {**DATA, "id": "other"}
    problems = problems_of(dataloader=(DATA, {**other, "probability": 0.5}))
    assert "has a probability on other alone" in problems["dataloader"]
    mixed = parse(
        CONFIG, [{**DATA, "probability": "0.25"}, {**other, "probability": 0.75}, {**DATA, "id": "x", "disabled": True}]
    )
    assert [dataset.probability for dataset in mixed.datasets] == [0.25, 0.75]


def test_ids_differ_beyond_case() -> None:
    assert "as dataloader[0]" in problems_of(dataloader=(DATA, {**DATA, "id": "NEON"}))["dataloader[1].id"]


def test_text_embeds_are_accepted_and_dropped() -> None:
    texts = {"id": "t", "type": "local", "dataset_type": "text_embeds", "default": True, "cache_dir": "cache/text"}
    assert parse(CONFIG, [DATA, texts]).datasets == parse(CONFIG, [DATA]).datasets
    assert problems_of(dataloader=(DATA, {**texts, "id": "neon"}))
    assert "no image data set" in problems_of(dataloader=(texts,))["dataloader"]
    assert "no image data set" in problems_of(dataloader=({**DATA, "disabled": True},))["dataloader"]
    assert "not a list" in problems_of(dataloader={"id": "x"})["dataloader"]


def test_the_canonical_config_is_a_fixed_point() -> None:
    config = {**CONFIG, "--learning_rate": "1e-3", "validation_resolution": "64x32", "validation_prompt": "a",
              "peft_lora_target_modules": ["to_q"]}  # fmt: skip
    spec = parse(config, [{**DATA, "repeats": "2"}])
    document = json.loads(json.dumps(canonical_config(spec)))
    assert parse(document["config"], document["dataloader"]) == spec
    assert canonical_config(parse(document["config"], document["dataloader"])) == document


def test_the_hash_is_of_what_shapes_the_weights() -> None:
    base = config_hash(parse(CONFIG, [DATA]))
    for same in ({"output_dir": "x"}, {"validation_prompt": "x"}, {"checkpoint_step_interval": 1}, {"lora_dropout": 0},
                 {"torch_num_threads": 2}, {"resume_despite": "data"}):  # fmt: skip
        assert config_hash(parse({**CONFIG, **same}, [DATA])) == base
    for other in ({"seed": 1}, {"lora_rank": 8}, {"learning_rate": 1e-5},
                  {"optimizer": "adafactor"}, {"use_dora": True}, {"init_lora": "x"},
                  {"peft_lora_target_modules": ["to_q"]}):  # fmt: skip
        assert config_hash(parse({**CONFIG, **other}, [DATA])) != base
    assert config_hash(parse(CONFIG, [{**DATA, "instance_data_dir": "elsewhere"}])) == base
    assert config_hash(parse(CONFIG, [{**DATA, "repeats": 1}])) != base


def test_defaults_are_simpletuners_where_it_has_them() -> None:
    config = parse(CONFIG, [DATA]).config
    assert config == TrainConfig(pretrained_model_name_or_path="builtin:tiny", max_train_steps=100)
    assert (config.lora_rank, config.alpha, config.train_batch_size, config.caption_dropout_probability) == (
        16,
        16,
        4,
        0.1,
    )
    assert (config.checkpoint_step_interval, config.checkpoints_total_limit) == (500, 5)
    assert (config.validation_step_interval, config.validation_guidance) == (100, 7.5)


def test_a_whole_spec(tmp_path: Path) -> None:
    run = RunSpec.parse(
        {
            **SPEC,
            "data": {"archive": "data.zip", "sha256": "a" * 64, "files": 4, "bytes": 100},
            "destination": {"kind": "s3", "bucket": "outputs", "prefix": "j-1/", "endpoint_url": "http://127.0.0.1:1/s"},
            "plan_digest": "p", "deadline_s": 60,
        },
        tmp_path,
    )  # fmt: skip
    assert run.work_dir == tmp_path / "work"
    assert run.data_root == tmp_path / "work" / "data"
    assert run.data == DataArchive(archive=str(tmp_path / "data.zip"), sha256="a" * 64, files=4, bytes=100)
    assert isinstance(run.destination, S3Destination)
    assert run.destination.access_key_env == "SIMPLETUNER_S3_ACCESS_KEY"
    assert (run.plan_digest, run.deadline_s) == ("p", 60.0)
    bare = RunSpec.parse({**SPEC, "destination": {"kind": "folder", "path": "out"}}, tmp_path)
    assert bare.data_root == tmp_path
    assert bare.destination == FolderDestination(path=str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"format": "simpletuner-spec/2"}, "spec.format"),
        ({"job_id": "../x"}, "spec.job_id"),
        ({"nonce": "short"}, "spec.nonce"),
        ({"nonce": "with space 123"}, "spec.nonce"),
        ({"attempt": 0}, "spec.attempt"),
        ({"deadline_s": 0}, "spec.deadline_s"),
        ({"work_dri": "x"}, "spec.work_dri"),
        ({"data": {"archive": "a", "sha256": "A" * 64, "files": 1, "bytes": 1}}, "spec.data.sha256"),
        ({"data": {"archive": "a", "sha256": "a" * 64, "files": -1, "bytes": 1}}, "spec.data.files"),
        ({"destination": {"kind": "ftp"}}, "spec.destination.kind"),
        ({"destination": {"kind": "hub"}}, "spec.destination.repo_id"),
        ({"destination": {"bucket": "b"}}, "spec.destination.kind"),
        ({"destination": "s3://x"}, "spec.destination"),
        ({"destination": {"kind": "s3", "bucket": "outputs", "prefix": "/x/"}}, "spec.destination.prefix"),
        ({"destination": {"kind": "s3", "bucket": "outputs", "prefix": "a/../"}}, "spec.destination.prefix"),
        ({"destination": {"kind": "s3", "bucket": "outputs", "prefix": "x"}}, "spec.destination.prefix"),
        ({"destination": {"kind": "s3", "bucket": "outputs", "secret_key": "s"}}, "spec.destination.secret_key"),
        (
            {"destination": {"kind": "s3", "bucket": "outputs", "secret_key_env": "A/B=="}},
            "spec.destination.secret_key_env",
        ),
        ({"config": [1]}, "config"),
    ],
)
def test_wrong_specs_are_told(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(SpecError) as raised:
        RunSpec.parse({**SPEC, **changes}, Path("/"))
    assert path in [problem.path for problem in raised.value.problems]


def test_a_spec_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text("{")
    with pytest.raises(SpecError, match="is not JSON"):
        RunSpec.load(tmp_path / "spec.json")
    with pytest.raises(SpecError, match="cannot be read"):
        RunSpec.load(tmp_path / "absent.json")
    (tmp_path / "spec.json").write_text("[]")
    with pytest.raises(SpecError, match="not an object"):
        RunSpec.load(tmp_path / "spec.json")


def test_metadata_jsonl() -> None:
    lines = '{"file_name": "a.png", "text": "one"}\n\n{"file_name": "./a.png", "text": "two", "more": 1}\n'
    assert parse_metadata_jsonl(lines) == {"a.png": ("one", "two")}
    with pytest.raises(ValueError, match="line 1: not JSON"):
        parse_metadata_jsonl("nonsense")
    with pytest.raises(ValueError, match="line 2: needs"):
        parse_metadata_jsonl('{"file_name": "a", "text": "b"}\n{"file_name": "a"}')


def test_spec_and_report_need_nothing_installed() -> None:
    code = "import sys, simpletuner_trainer.spec, simpletuner_trainer.report; print(*sys.modules, sep='\\n')"
    ran = subprocess.run([sys.executable, "-I", "-c", _with_trainer(code)], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in ran.stdout.split()}
    assert loaded - sys.stdlib_module_names - {"simpletuner_trainer", "__main__"} <= _SITE


_SITE = {"_distutils_hack", "sitecustomize", "usercustomize", "_virtualenv"}


def _with_trainer(code: str) -> str:
    import simpletuner_trainer

    return f"import sys; sys.path.insert(0, {str(Path(simpletuner_trainer.__file__).parents[1])!r}); {code}"
