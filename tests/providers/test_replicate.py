"""What runs at Replicate are given, what is read from them, what they cost, and what stays."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from simpletuner_lab.core.destination import FolderDelivery, HubDelivery, S3Delivery
from simpletuner_lab.core.errors import Forbidden, LabError, ProviderFailure, SettingUnusable, TooLarge, UploadGone
from simpletuner_lab.core.provider import Archive, RunState, RunTag
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.providers.replicate import ReplicateProvider
from simpletuner_lab.testing.provider_contract import Run, uploaded
from simpletuner_lab.testing.replicate_emulator import TIMED_OUT, Fault, Step, version_id
from simpletuner_trainer.report import Exit
from simpletuner_trainer.spec import RunSpec
from tests.providers.replicate_kit import IMAGE, JOB, PUBLISHED, TOKEN, Scene, ended, scene
from tests.testing.replicate_kit import receiving

CONFIG = {
    "model_family": "sd", "pretrained_model_name_or_path": "some/base", "max_train_steps": 2, "learning_rate": 1e-4,
    "output_dir": "output",
}  # fmt: skip
DATALOADER = [{"id": "set", "type": "local", "instance_data_dir": "set", "caption_strategy": "textfile"}]


@pytest.fixture
def replicate(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


def silent(_done: int, _total: int) -> None:
    """Progress that nobody watches."""


# ------------------------------------------------------------------------------------------------------ what it offers


def test_what_is_offered(replicate: Scene) -> None:
    options = replicate.provider(run_limit_s=900.0).options()
    shown = [(one.id, one.version, one.live_metrics, one.resume) for one in options.targets]
    assert shown == [("cog", version_id(IMAGE), True, True), ("simpletuner", version_id(PUBLISHED), False, False)]
    assert options.targets[0].lacks == ()
    assert any("caption" in text for text in options.targets[1].lacks)
    rate = options.rates[0]
    assert (rate.hardware, rate.usd_per_hour, rate.as_of) == ("gpu-l40s", pytest.approx(3.51), "2026-05-04")
    assert (options.endpoint, options.run_limit_s) == (replicate.emulator.url.removeprefix("http://"), 900.0)
    assert [one.id for one in replicate.provider(image="").options().targets] == ["simpletuner"]


def test_off_verification_is_told_wherever_it_is_planned(replicate: Scene) -> None:
    provider = replicate.provider(verify_tls=False)
    assert "verify_tls" in provider.check().message
    assert all("verify_tls" in target.lacks[-1] for target in provider.options().targets)


def test_what_a_setting_names_must_be_there(replicate: Scene) -> None:
    for settings in (
        {"image": "ann/none"},
        {"model": "bob/none", "image": ""},
        {"version": "0" * 64, "image": ""},
        {"image": f"{IMAGE}:{'1' * 64}"},
    ):
        with pytest.raises(SettingUnusable, match=r"Replicate has no model|has no version") as raised:
            replicate.provider(**settings).options()
        assert raised.value.hint.removeprefix("see the setting ") in {"image", "model", "version"}


def test_options_are_asked_for_rarely_and_stand_in_for_an_outage(replicate: Scene) -> None:
    provider = replicate.provider()
    first = (provider.options(), provider.check())
    asked = len(replicate.emulator.seen)
    assert (provider.options(), provider.check()) == first
    assert len(replicate.emulator.seen) == asked
    replicate.emulator.advance(600)
    for route in ("models.get", "account.get"):
        replicate.emulator.fail(route, Fault(times=3, status=503))
    assert (provider.options(), provider.check()) == first
    replicate.emulator.advance(7200)
    replicate.emulator.fail("models.get", Fault(times=3, status=503))
    with pytest.raises(LabError):
        provider.options()


# ----------------------------------------------------------------------------------------------------- what a run gets


def given(scene: Scene) -> dict:
    """The input of the newest prediction, with its secrets."""
    return scene.emulator.predictions[-1].given


def test_our_image_gets_a_spec_that_the_trainer_reads(replicate: Scene, tmp_path: Path) -> None:
    order = replicate.order(config=CONFIG, dataloader=DATALOADER, deadline_s=120.0)
    run = replicate.begin(replicate.provider(), order)
    got = given(replicate)
    assert set(got) == {"data", "spec", "secrets", "tag"}
    assert got["tag"] == f"{JOB}/1"
    assert got["data"] == run.order.upload_ref.split()[1]
    assert json.loads(got["secrets"]) == {name: secret.reveal() for name, secret in order.secrets.items()}
    told = json.loads(got["spec"])
    assert "work_dir" not in told
    assert set(told["data"]) == {"sha256", "files", "bytes"}
    placed = {**told, "work_dir": str(tmp_path), "data": {**told["data"], "archive": str(tmp_path / "data.zip")}}
    spec = RunSpec.parse(placed, tmp_path)
    assert (spec.job_id, spec.attempt, spec.deadline_s) == (JOB, 1, 120.0)
    assert "of-the-grant" not in got["spec"]


def test_the_users_own_keys_travel_under_the_names_that_our_image_takes(replicate: Scene, tmp_path: Path) -> None:
    own = S3Delivery(
        endpoint_url="", bucket="mine", prefix=f"{JOB}/", access_key_env="AWS_ACCESS_KEY_ID",
        secret_key_env="AWS_SECRET_ACCESS_KEY", session_token_env="AWS_SESSION_TOKEN",
    )  # fmt: skip
    secrets = {"AWS_ACCESS_KEY_ID": Secret("a"), "AWS_SECRET_ACCESS_KEY": Secret("b"), "AWS_SESSION_TOKEN": Secret("c")}
    replicate.begin(
        replicate.provider(), replicate.order(config=CONFIG, dataloader=DATALOADER, delivery=own, secrets=secrets)
    )
    got = given(replicate)
    kept = json.loads(got["secrets"])
    to = json.loads(got["spec"])["destination"]
    assert all(name.startswith("SIMPLETUNER_S3_") for name in kept)
    names = [to[key] for key in ("access_key_env", "secret_key_env", "session_token_env")]
    assert [kept[name] for name in names] == ["a", "b", "c"]


def test_the_published_model_gets_its_own_inputs(replicate: Scene) -> None:
    provider = replicate.provider()
    run = replicate.begin(provider, replicate.order("simpletuner"))
    assert given(replicate) == {
        "images": run.order.upload_ref.split()[1],
        "config_json": '{"behaviour":"wait","max_train_steps":400}',
        "max_train_steps": 400,
        "s3_bucket": "outputs",
        "s3_region": "us-east-1",
        "s3_base_path": JOB,
        "s3_endpoint_url": "https://lab.example/api/cloud/storage",
        "s3_access_key": "AK-of-the-grant",
        "s3_secret_key": "SK-of-the-grant",
        "return_logs": True,
        "tag": f"{JOB}/1",
    }
    hub = HubDelivery(repo_id="ann/neon", private=True, checkpoints=False)
    order = replicate.order(
        "simpletuner", attempt=2, delivery=hub, secrets={"HF_TOKEN": Secret("hf_x")}, config={"--max_train_steps": 7}
    )
    replicate.begin(provider, order)
    got = given(replicate)
    assert (got["hub_model_id"], got["hf_token"], got["max_train_steps"]) == ("ann/neon", "hf_x", 7)
    assert not [name for name in got if name.startswith("s3_") or name == "dataloader_json"]


@pytest.mark.parametrize(
    ("target", "parts", "words"),
    [
        ("cog", {"delivery": FolderDelivery(path="/x")}, "cannot go to a folder"),
        ("simpletuner", {"delivery": S3Delivery(endpoint_url="", bucket="b", prefix="p/", session_token_env="T")}, "session token"),
        ("simpletuner", {"secrets": {}}, "does not travel"),
        ("other", {}, "no target"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_before_it_is_sent(replicate: Scene, target: str, parts: dict, words: str) -> None:
    provider = replicate.provider()
    order = uploaded(provider, replicate.order(target, **parts))
    with pytest.raises(ProviderFailure, match=words):
        provider.start(order)
    assert replicate.emulator.predictions == ()
    assert provider.find(order.tag) is None


@pytest.mark.parametrize(
    ("deadline_s", "limit_s", "life_s"),
    [(600.0, 1800.0, 900), (0.5, 1800.0, 301), (None, 1800.0, 1800), (1790.0, 1800.0, 1800)],
)
def test_replicate_ends_what_does_not_end_itself(
    replicate: Scene, deadline_s: float | None, limit_s: float, life_s: int
) -> None:
    replicate.begin(replicate.provider(run_limit_s=limit_s), replicate.order(deadline_s=deadline_s))
    one = replicate.emulator.predictions[0]
    assert one.deadline == one.created_at + life_s


def test_the_version_of_the_plan_runs(replicate: Scene) -> None:
    with pytest.raises(ProviderFailure, match="version does not exist"):
        replicate.begin(replicate.provider(), replicate.order(version="2" * 64))


# --------------------------------------------------------------------------------------------------- what is read of it


def ending(replicate: Scene, *steps: Step, target: str = "cog", after_s: float = 60.0, **parts: object) -> Run:
    """A run that did this."""
    replicate.emulator.play(IMAGE if target == "cog" else PUBLISHED, steps)
    run = replicate.begin(replicate.provider(), replicate.order(target, **parts))
    replicate.emulator.advance(after_s)
    return run


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (Exit.DONE, RunState.SUCCEEDED), (Exit.INTERRUPTED, RunState.INTERRUPTED), (Exit.DEADLINE, RunState.INTERRUPTED),
        (Exit.UNDELIVERED, RunState.INTERRUPTED), (Exit.PREEMPTED, RunState.INTERRUPTED),
    ],
)  # fmt: skip
def test_a_prediction_that_succeeded_is_what_its_exit_code_says(replicate: Scene, code: Exit, state: RunState) -> None:
    snapshot = ending(replicate, Step(log="x\n"), ended(code)).poll()
    assert (snapshot.state, snapshot.exit_code, snapshot.raw_state) == (state, code, "succeeded")
    assert bool(snapshot.error) == (code is not Exit.DONE)


@pytest.mark.parametrize("output", ["no json", "[]", '{"exit_code": true}', {"exit_code": "0"}, 7])
def test_an_output_that_says_nothing_leaves_the_result_to_tell(replicate: Scene, output: object) -> None:
    snapshot = ending(replicate, Step(log="x\n", output=output)).poll()
    assert (snapshot.state, snapshot.exit_code) == (RunState.SUCCEEDED, None)


def test_a_run_costs_what_it_was_active(replicate: Scene) -> None:
    """Nothing while it waits, the time since it began while it runs, and the metered time in the end."""
    replicate.emulator.conduct.queue_s = 100.0
    run = ending(replicate, Step(after_s=300), ended(), after_s=50)
    waiting = run.poll()
    assert (waiting.state, waiting.cost_usd, waiting.metered_s) == (RunState.QUEUED, 0.0, 0.0)
    assert "waits for a machine" in waiting.waiting
    replicate.emulator.advance(150)
    running = run.poll()
    assert (running.state, running.metered_s, running.waiting) == (RunState.RUNNING, pytest.approx(100.0), "")
    replicate.emulator.advance(1000)
    last = run.poll()
    charge = replicate.emulator.charges[0]
    assert (last.metered_s, last.cost_usd) == (pytest.approx(charge.seconds), pytest.approx(charge.usd))
    replicate.emulator.advance(7200)
    gone = run.poll(last.cursor)
    assert (gone.cost_usd, gone.state, gone.log) == (last.cost_usd, RunState.SUCCEEDED, b"")
    assert "removed before it was read" in gone.error


def test_aborted_is_cancelled_at_no_cost(replicate: Scene) -> None:
    replicate.emulator.conduct.queue_s = 100.0
    run = ending(replicate, ended(), after_s=1)
    replicate.emulator.abort(run.ref)
    snapshot = run.poll()
    assert (snapshot.state, snapshot.cost_usd, snapshot.raw_state) == (RunState.CANCELLED, 0.0, "aborted")


def test_a_run_that_its_deadline_ended_can_go_on(replicate: Scene) -> None:
    snapshot = ending(replicate, Step(after_s=3000), after_s=2000, deadline_s=100.0).poll()
    assert (snapshot.state, snapshot.raw_state, snapshot.metered_s) == (
        RunState.INTERRUPTED,
        "canceled",
        pytest.approx(400),
    )


def test_a_run_at_the_limit_can_go_on(replicate: Scene) -> None:
    replicate.emulator.conduct.run_limit_s = 1500.0
    run = ending(replicate, Step(after_s=3000), after_s=1600, deadline_s=None)
    assert replicate.emulator.predictions[0].error == TIMED_OUT
    snapshot = replicate.provider(run_limit_s=1500.0).poll(run.ref, "")
    assert (snapshot.state, TIMED_OUT in snapshot.error) == (RunState.INTERRUPTED, True)


def test_the_published_model_is_followed_by_its_log(replicate: Scene) -> None:
    log = "Epoch 1/2\nStep 12 of 400, loss: 0.25, lr: 1e-4\n"
    run = ending(replicate, Step(log=log), Step(after_s=300), target="simpletuner", after_s=5)
    snapshot = run.poll()
    assert snapshot.log == log.encode()
    assert snapshot.progress is not None
    assert (snapshot.progress.step, snapshot.progress.total_steps, snapshot.progress.loss) == (12, 400, 0.25)


def test_runs_of_others_are_listed_and_other_models_are_not(replicate: Scene) -> None:
    mine = ending(replicate, ended(), after_s=10)
    there = replicate.emulator.predictions[0]
    elsewhere = replicate.provider()
    elsewhere._notes.__init__(replicate.folder / "another-home")
    assert [(one.ref, one.tag) for one in elsewhere.list()] == [(mine.ref, mine.order.tag)]
    del there.input["tag"]
    assert [one.tag for one in elsewhere.list()] == [None]
    listed = replicate.provider().list()[0]
    assert (listed.tag, listed.hardware, listed.state) == (mine.order.tag, "gpu-l40s", RunState.SUCCEEDED)
    assert listed.cost_usd == pytest.approx(replicate.emulator.charges[0].usd)
    there.model = "somebody/else"
    assert replicate.provider().list() == []


# ------------------------------------------------------------------------------------------------------- data and hooks


def test_an_upload_says_whose_it_is_and_is_reused(replicate: Scene) -> None:
    provider = replicate.provider()
    first = uploaded(provider, replicate.order())
    file = replicate.emulator.files("ann")[0]
    assert (file.metadata, file.sha256) == ({"job": JOB, "sha256": first.archive.sha256}, first.archive.sha256)
    assert first.upload_ref == f"{file.id} {replicate.emulator.url}/v1/files/{file.id}"
    assert uploaded(provider, first).upload_ref == first.upload_ref
    assert replicate.asked("files.create") == 1


def test_data_that_are_gone_are_handed_over_again(replicate: Scene) -> None:
    """Files live for a day, a job in segments longer."""
    provider = replicate.provider()
    run = replicate.begin(provider)
    provider.cancel(run.ref)
    replicate.emulator.advance(24 * 3600)
    second = replicate.order(attempt=2, upload_ref=run.order.upload_ref)
    with pytest.raises(UploadGone):
        provider.start(second)
    assert len(replicate.emulator.predictions) == 1
    second = uploaded(provider, second)
    provider.start(second)
    fresh = replicate.emulator.files("ann")[0]
    assert given(replicate)["data"].endswith(fresh.id)
    provider.cancel(replicate.emulator.predictions[-1].id)
    assert provider.discard(second.tag, second.upload_ref)
    assert replicate.emulator.files("ann") == ()


def test_an_archive_that_changed_is_not_kept_there(replicate: Scene) -> None:
    provider = replicate.provider()
    order = replicate.order()
    with order.archive.path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(ProviderFailure, match="not the archive that was planned"):
        uploaded(provider, order)
    assert replicate.emulator.files("ann") == ()


def test_an_archive_over_the_limit_is_not_sent(replicate: Scene) -> None:
    archive = Archive(path=replicate.folder / "none.zip", bytes=100 << 20, sha256="0" * 64, files=1, content_bytes=1)
    with pytest.raises(TooLarge, match="nothing was sent"):
        replicate.provider().upload(archive, RunTag(job_id=JOB, attempt=1), silent)
    assert replicate.emulator.seen == ()
    capabilities = ReplicateProvider.capabilities
    assert (capabilities.max_upload_bytes, capabilities.warn_upload_bytes) == ((100 << 20) - 1, 100_000_000)
    assert capabilities.stays


def test_an_upload_takes_constant_memory(replicate: Scene) -> None:
    """The body is read in small pieces while it is sent."""
    path = replicate.folder / "large.zip"
    with zipfile.ZipFile(path, "w") as packed, packed.open("zeros", "w", force_zip64=True) as member:
        for _ in range(24):
            member.write(bytes(1 << 20))
    pieces: list[int] = []
    archive = Archive(path=path, bytes=path.stat().st_size, sha256="", files=1, content_bytes=24 << 20)
    with pytest.raises(ProviderFailure):  # of another digest, which only what was read can tell
        replicate.provider().upload(archive, RunTag(job_id=JOB, attempt=1), lambda done, _: pieces.append(done))
    steps = [after - before for before, after in zip([0, *pieces], pieces, strict=False)]
    assert (pieces[-1], max(steps) <= 1 << 17) == (archive.bytes, True)


def test_a_webhook_names_its_prediction_and_a_rotated_secret_is_learnt(replicate: Scene) -> None:
    provider = replicate.provider()
    with receiving() as receiver:
        run = replicate.begin(provider, replicate.order(config={"behaviour": "succeed"}, webhook_url=receiver.url))
        replicate.emulator.advance(10)
        assert replicate.emulator.predictions[0].words == {"start", "output", "logs", "completed"}
        first = receiver.got[0]
        assert {provider.webhook(one.headers, one.body) for one in receiver.got} == {run.ref}
        assert replicate.asked("webhooks.secret") == 1
        replicate.emulator.rotate_secret()
        replicate.emulator.advance(61)
        replicate.begin(provider, replicate.order(attempt=2, webhook_url=receiver.url))
        replicate.emulator.advance(1)
        assert provider.webhook(receiver.got[-1].headers, receiver.got[-1].body) == replicate.emulator.predictions[1].id
        assert provider.webhook(first.headers, first.body) == run.ref  # signed before, still on its way
        forged = {**first.headers, "Webhook-Signature": "v1,AAAA"}
        for _ in range(5):
            with pytest.raises(Forbidden):
                provider.webhook(forged, first.body)
        assert replicate.asked("webhooks.secret") == 2
    assert TOKEN not in repr(provider)


def test_no_webhook_is_asked_for_where_nobody_listens(replicate: Scene) -> None:
    replicate.begin(replicate.provider())
    assert replicate.emulator.predictions[0].webhook is None
