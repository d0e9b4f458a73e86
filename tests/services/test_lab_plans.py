"""Plans and consent in this process: what is asked, what is refused, and what a digest covers."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from simpletuner_lab.core import errors
from simpletuner_lab.core.consent import ConsentMode, ConsentState
from simpletuner_lab.core.destination import Destination, HubDestination, S3Destination
from simpletuner_lab.core.event import EventKind
from simpletuner_lab.core.job import Job, JobFilter, JobState
from simpletuner_lab.services.lab import Lab, Surroundings
from tests.lab_kit import dataset, png, quick_home, request, settled, submitted
from tests.services.remote_kit import LACK, away_lab, elsewhere


def test_a_plan_changes_nothing(lab: Lab, images: Path) -> None:
    plan = lab.plan(request(images))
    assert plan.consent is ConsentState.NEEDED
    assert plan.digest == lab.plan(request(images)).digest
    assert lab.store.jobs.page(JobFilter()).total == 0
    assert list(lab.home.spool.iterdir()) == []


def test_nothing_happens_without_consent(lab: Lab, images: Path) -> None:
    with pytest.raises(errors.ConsentRequired):
        lab.submit(request(images))
    with pytest.raises(errors.PlanChanged):
        lab.submit(request(images), approve="0" * 64)
    with pytest.raises(errors.PlanChanged):
        lab.submit(request(images), approve="")
    assert lab.store.jobs.page(JobFilter()).total == 0


def test_nothing_of_what_is_no_digest_is_repeated(lab: Lab, images: Path) -> None:
    for pasted in ("r8_" + "aB3dE6gH9jK2" * 3, "a" * 63):
        with pytest.raises(errors.PlanChanged, match="approved was no digest, but the plan is now") as told:
            lab.submit(request(images), approve=pasted)
        assert pasted[:6] not in told.value.message
    with pytest.raises(errors.PlanChanged, match="approved was 000000000000, but"):
        lab.submit(request(images), approve="0" * 64)


def test_consent_is_for_one_digest(lab: Lab, images: Path) -> None:
    submitted(lab, images)
    assert lab.plan(request(images)).consent is ConsentState.GIVEN
    (images / "0.txt").write_text("another caption")
    assert lab.plan(request(images)).consent is ConsentState.NEEDED
    assert lab.plan(request(images, learning_rate=2e-3)).consent is ConsentState.NEEDED


def test_mode_allow_is_recorded_and_never_does_not_stop_this_machine(lab: Lab, images: Path) -> None:
    lab.set_consent_mode(ConsentMode.NEVER)
    assert lab.plan(request(images)).consent is ConsentState.NEEDED  # it is asked for, once per digest
    lab.set_consent_mode(ConsentMode.ALLOW)
    job = lab.submit(request(images))
    said = [e.data for e in lab.store.events.after(0, job_id=job.id) if e.kind is EventKind.CONSENTED]
    assert said[0]["mode"] == "allow"


def test_what_mode_allow_let_through_was_not_agreed_to(lab: Lab, images: Path) -> None:
    lab.set_consent_mode(ConsentMode.ALLOW)
    lab.submit(request(images))
    lab.set_consent_mode(ConsentMode.ASK)
    assert lab.plan(request(images)).consent is ConsentState.NEEDED
    with pytest.raises(errors.ConsentRequired):
        lab.submit(request(images))


def test_only_the_credentials_that_were_agreed_to_travel(tmp_path: Path, images: Path) -> None:
    """A plan made without a server is delivered to a folder, even where a server with an endpoint starts the run."""
    home = quick_home(tmp_path)
    with Lab.open(home.root) as plain:
        job = submitted(plain, images)
    with Lab.open(home.root, Surroundings(endpoint=lambda: "http://127.0.0.1:9/storage")) as served:
        served.watcher.start()
        assert settled(served, job).state is JobState.COMPLETED
        asked = request(images, learning_rate=2e-3)
        assert [c.name for c in served.plan(asked).identity.credentials] == ["storage grant"]
        granted = served.submit(asked, approve=served.plan(asked).digest)
        served.cancel(granted.id)


def test_a_key_stands_for_one_plan(lab: Lab, images: Path) -> None:
    asked = request(images)
    first = lab.submit(asked, approve=lab.plan(asked).digest, key="once")
    with pytest.raises(errors.Conflict):
        lab.submit(asked, approve="0" * 64, key="once")
    with pytest.raises(errors.Conflict):  # nor for a plan that nobody named
        lab.submit(request(images, seed=2), key="once")
    assert lab.submit(asked, key="once").id == first.id


def test_a_digest_does_not_make_another_request_that_of_the_key(lab: Lab, images: Path) -> None:
    asked = request(images)
    first = lab.submit(asked, approve=lab.plan(asked).digest, key="once")
    for other in (request(images, seed=2), request(images, max_train_steps=99)):
        with pytest.raises(errors.Conflict):
            lab.submit(other, approve=first.digest, key="once")
    for same in (dataclasses.replace(asked, priority=50), dataclasses.replace(asked, target=first.target)):
        assert lab.submit(same, approve=first.digest, key="once").id == first.id
    assert lab.store.jobs.page(JobFilter()).total == 1


@pytest.mark.parametrize("became", ["changed", "gone"])
def test_who_lost_the_answer_finds_the_job_whatever_became_of_the_data(lab: Lab, images: Path, became: str) -> None:
    asked = request(images)
    digest = lab.plan(asked).digest
    first = lab.submit(asked, approve=digest, key="once")
    lab.runner.advance(first)
    if became == "changed":
        (images / "1.png").write_bytes(png(77))
    else:
        images.rename(images.with_name("elsewhere"))
    assert lab.submit(asked, key="once").id == first.id
    assert lab.submit(asked, approve=digest, key="once").id == first.id
    with pytest.raises(errors.Conflict):  # a new plan of it, which was read
        lab.submit(asked, approve="0" * 64, key="once")


def test_a_key_stands_for_one_plan_also_where_many_come_at_once(lab: Lab, images: Path) -> None:
    asked = [request(images, seed=seed) for seed in range(8)]
    digests, together = [lab.plan(one).digest for one in asked], threading.Barrier(len(asked))

    def submit(number: int) -> str:
        together.wait()
        try:
            return lab.submit(asked[number], approve=digests[number], key="once").digest
        except errors.Conflict:
            return ""

    with ThreadPoolExecutor(len(asked)) as pool:
        said = list(pool.map(submit, range(len(asked))))
    (job,) = lab.store.jobs.page(JobFilter()).jobs
    assert sorted(said) == [""] * 7 + [job.digest]
    assert said.index(job.digest) == digests.index(job.digest), "only its own submit was told of it"
    assert [lab.plan(one).consent is ConsentState.GIVEN for one in asked] == [one == job.digest for one in digests]


@dataclasses.dataclass
class Meanwhile:
    """A clock that has something happen when it is asked for the so-manieth time from now."""

    left: int = 0
    happens: Callable[[], object] = lambda: None

    def __call__(self) -> float:
        self.left -= 1
        if self.left == 0:
            self.happens()
        return 1.7e9


@pytest.mark.parametrize("approved", [False, True])
def test_of_two_submits_at_once_of_one_request_whose_files_change_between_there_is_one_job(
    tmp_path: Path, images: Path, approved: bool
) -> None:
    """The second has made its plan of other files when the first is stored: what counts is what was asked for."""
    clock, asked = Meanwhile(), request(images)
    with Lab.open(quick_home(tmp_path).root, Surroundings(environment={}, clock=clock)) as lab:
        lab.set_consent_mode(ConsentMode.ALLOW)
        before = lab.plan(asked).digest
        first: list[Job] = []

        def other() -> None:
            (images / "1.png").write_bytes(png(77))
            first.append(lab.submit(asked, key="once"))

        clock.left, clock.happens = 3, other  # asked for the key, for the plan, and then for the record of the job
        if approved:  # a plan that is not that of the first job any more
            with pytest.raises(errors.Conflict):
                lab.submit(asked, approve=before, key="once")
        else:
            assert lab.submit(asked, key="once").id == first[0].id
        assert first[0].digest != before
        assert [job.id for job in lab.store.jobs.page(JobFilter()).jobs] == [first[0].id]
        clock.left, clock.happens = 3, lambda: lab.submit(request(images, seed=2), key="other")
        with pytest.raises(errors.Conflict):
            lab.submit(request(images, seed=3), key="other")


@pytest.mark.parametrize("name", ["a\x1b[2Jb", "two\nlines", "x" * 201, "hf_" + "aB3dE6gH9jK2" * 3])
def test_a_name_is_short_and_plain(lab: Lab, images: Path, name: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        lab.plan(dataclasses.replace(request(images), name=name))


@pytest.mark.parametrize(
    ("destination", "paths"),
    [
        (S3Destination(bucket="../x", prefix="/a", region="?", endpoint_url="https://u:p@h"), 4),
        (S3Destination(bucket="ok-bucket", prefix="a//"), 1),
        (S3Destination(bucket="ok-bucket", endpoint_url="ftp://h"), 1),
        (HubDestination(repo_id="no-owner"), 1),
        (HubDestination(repo_id="ann/../x"), 1),
        (HubDestination(repo_id="ann/x.git"), 1),
    ],
)
def test_a_destination_is_checked_all_at_once(lab: Lab, images: Path, destination: Destination, paths: int) -> None:
    with pytest.raises(errors.InvalidRequest) as told:
        lab.plan(dataclasses.replace(request(images), destination=destination))
    assert len(told.value.problems) == paths
    assert all(problem.path.startswith("destination.") and problem.hint for problem in told.value.problems)
    assert "u:p" not in str(told.value.problems)


def test_epochs_are_counted_as_the_trainer_counts_them(lab: Lab, tmp_path: Path) -> None:
    plan = lab.plan(request(dataset(tmp_path / "many", images=26), max_train_steps=0, num_train_epochs=3))
    assert plan.steps == 21
    assert any(text.startswith("21 steps if all images are of one size") for text in plan.warnings)


def test_sets_with_shares_have_batches_of_their_own(lab: Lab, tmp_path: Path) -> None:
    entries = [
        {"id": name, "type": "local", "instance_data_dir": str(dataset(tmp_path / name, images=5)), "probability": 1,
         "caption_strategy": "textfile"}
        for name in ("a", "b")
    ]  # fmt: skip
    asked = request(tmp_path / "a", max_train_steps=0, num_train_epochs=2, train_batch_size=4)
    assert lab.plan(dataclasses.replace(asked, dataloader=tuple(entries))).steps == 8


def test_a_dataloader_with_dashes_is_sent_as_one_without(lab: Lab, images: Path) -> None:
    asked = request(images)
    dashed = tuple({f"--{key}": value for key, value in entry.items()} for entry in asked.dataloader)
    sent = lab.plan(dataclasses.replace(asked, dataloader=dashed)).identity.dataloader
    assert [entry["--instance_data_dir"] for entry in sent] == [entry["id"] for entry in asked.dataloader]


def test_a_base_of_another_family_is_refused_by_the_plan(lab: Lab, images: Path, tmp_path: Path) -> None:
    """As far as a folder on this machine tells; a name of the Hub is the trainer's to look at."""
    with pytest.raises(errors.InvalidConfig, match=r"is sdxl and the base is a StableDiffusionPipeline") as told:
        lab.plan(request(images, model_family="sdxl"))
    assert [(p.path, p.hint) for p in told.value.problems] == [("config.model_family", "set model_family to sd")]
    base = tmp_path / "base"
    base.mkdir()
    with pytest.raises(errors.InvalidConfig, match="is a folder without a pipeline"):
        lab.plan(request(images, pretrained_model_name_or_path=str(base)))
    for absent in (str(tmp_path / "absent"), "./absent", "~/absent"):
        with pytest.raises(errors.InvalidConfig, match=r"absent is not there"):
            lab.plan(request(images, pretrained_model_name_or_path=absent))
    (base / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    assert lab.plan(request(images, model_family="sdxl", pretrained_model_name_or_path=str(base))).steps == 12
    assert lab.plan(request(images, model_family="sdxl", pretrained_model_name_or_path="ann/xl")).steps == 12


def test_a_withheld_caption_is_told_as_what_it_is(lab: Lab, images: Path) -> None:
    (images / "1.txt").write_text("r8_" + "a1B2c3D4e5" * 4)
    with pytest.raises(errors.InvalidDataset, match="its caption stays here"):
        lab.plan(request(images))


def test_a_cut_off_photo_stays_here(lab: Lab, images: Path) -> None:
    Image.effect_noise((64, 64), 90).convert("RGB").save(images / "photo.jpg")
    (images / "photo.txt").write_text("a photo")
    whole = (images / "photo.jpg").read_bytes()
    (images / "photo.jpg").write_bytes(whole[: len(whole) // 2])
    plan = lab.plan(request(images))
    assert any("photo.jpg" in warning and "broken" in warning for warning in plan.warnings)
    assert not any("photo" in file.name for file in plan.identity.manifest.files)


def test_a_file_changed_after_the_plan_is_plan_changed(lab: Lab, images: Path) -> None:
    asked = request(images)
    digest = lab.plan(asked).digest
    (images / "1.png").write_bytes(png(77))
    with pytest.raises(errors.PlanChanged):
        lab.submit(asked, approve=digest)
    assert lab.store.jobs.page(JobFilter()).total == 0


def test_a_late_secret_is_not_packed(lab: Lab, images: Path) -> None:
    """A file that becomes a secret between plan and packing differs from its digest, so it stays."""
    job = submitted(lab, images)
    (images / "0.txt").write_text("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert lab.runner.advance(job).failure.code == "plan_changed"


def test_the_same_key_is_the_same_job(lab: Lab, images: Path) -> None:
    asked = request(images)
    digest = lab.plan(asked).digest
    first = lab.submit(asked, approve=digest, key="once")
    assert lab.submit(asked, approve=digest, key="once").id == first.id
    assert lab.submit(asked, approve=digest, key="twice").id != first.id
    assert lab.store.jobs.page(JobFilter()).total == 2


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        ({"lora_rnak": 4}, "invalid_config", "lora_rank"),
        ({"learning_rate": "fast"}, "invalid_config", "learning_rate"),
        ({"init_lora": "beside.safetensors"}, "invalid_config", "init_lora"),
        ({"mixed_precision": "fp16"}, "invalid_config", "mixed_precision"),
        ({"hf_token": "hf_" + "aB3dE6gH9jK2" * 3}, "secret_in_config", "hf_token"),
        ({"validation_prompt": "use r8_" + "a1B2c3D4e5" * 4}, "secret_in_config", "validation_prompt"),
    ],
)
def test_a_wrong_config_is_told_by_its_key(lab: Lab, images: Path, change: dict, code: str, told: str) -> None:
    with pytest.raises(errors.LabError) as caught:
        lab.plan(request(images, **change))
    assert caught.value.code == code
    assert any(told in problem.path + problem.hint for problem in caught.value.problems)
    assert "a1B2c3D4e5" not in str(caught.value) + str(caught.value.problems)


@pytest.mark.parametrize("make", ["absent", "empty", "file", "relative"])
def test_a_data_set_that_cannot_be_used(lab: Lab, tmp_path: Path, make: str) -> None:
    folder = tmp_path / make
    if make == "empty":
        folder.mkdir()
    if make == "file":
        folder.write_text("x")
    asked = request(Path("images") if make == "relative" else folder)
    with pytest.raises(errors.InvalidDataset):
        lab.plan(asked)


def test_an_image_without_words_is_refused_before_consent(lab: Lab, images: Path) -> None:
    (images / "1.txt").unlink()
    with pytest.raises(errors.InvalidDataset) as caught:
        lab.plan(request(images))
    assert "set/1.png" in caught.value.problems[0].message
    asked = request(images)
    spoken = {**asked.dataloader[0], "instance_prompt": "a picture"}
    assert lab.plan(dataclasses.replace(asked, dataloader=(spoken,))).warnings


def test_an_unknown_provider_and_one_that_is_coming(lab: Lab, images: Path) -> None:
    with pytest.raises(errors.ProviderNotFound):
        lab.plan(dataclasses.replace(request(images), provider="nowhere"))
    with pytest.raises(errors.ProviderUnavailable):
        lab.plan(dataclasses.replace(request(images), provider="simpletuner_io"))


def test_a_plan_says_that_a_base_is_gated(lab: Lab, images: Path) -> None:
    asked = request(images)

    def said(base: str) -> list[str]:
        config = {**asked.config, "pretrained_model_name_or_path": base, "model_family": "flux"}
        return [text for text in lab.plan(dataclasses.replace(asked, config=config)).warnings if "gated" in text]

    (note,) = said("black-forest-labs/FLUX.1-dev")
    assert "https://huggingface.co/black-forest-labs/FLUX.1-dev" in note
    assert "HF_TOKEN" in note
    assert said("somebody/else") == []


def test_a_plan_says_once_what_its_target_lacks(tmp_path: Path, images: Path) -> None:
    with away_lab(tmp_path) as away:
        assert away.lab.plan(elsewhere(images, target="plain")).warnings.count(LACK) == 1
        assert LACK not in away.lab.plan(elsewhere(images, target="trainer")).warnings
