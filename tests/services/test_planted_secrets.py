"""Secrets of many kinds are planted wherever one may lie, a whole job is run, and nothing that is kept, sent or shown has one."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import logging
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import ExifTags

from simpletuner_lab.core.destination import S3Destination, Sender
from simpletuner_lab.core.errors import InvalidRequest, SecretInConfig
from simpletuner_lab.core.job import JobState
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.core.secret import MASK, Secret
from simpletuner_lab.discretion import Discretion, trace_hook
from simpletuner_lab.services.codec import dumps, encode
from simpletuner_lab.services.front import Front
from simpletuner_lab.services.home import Home
from simpletuner_lab.services.known import KnownSecrets
from simpletuner_lab.services.lab import Lab, Surroundings
from simpletuner_lab.services.registry import Registry
from simpletuner_lab.services.store import Store
from simpletuner_lab.testing.replicate_emulator import Step
from simpletuner_lab.widgets.saved import saved, saved_request
from tests.core.planted import SECRETS
from tests.lab_kit import dataset, png, request
from tests.providers.replicate_kit import IMAGE, TOKEN, Scene, scene
from tests.services.dataset_kit import exif_with, image_bytes, png_text

S3_KEY, S3_SECRET = "AKIAPLANTED0000KEY00", "planted/s3+secret-of-the-owner/000000001"


@dataclass(frozen=True, slots=True)
class Planted:
    """A secret and where it lies: in a variable, a file of the data set, a file of secrets, or a caption."""

    where: str
    secret: str


def _of(label: str) -> str:
    return dict(SECRETS)[label]


PLANTED = [
    Planted("env:REPLICATE_API_TOKEN", TOKEN),
    Planted("env:AWS_SECRET_ACCESS_KEY", S3_SECRET),
    Planted("env:HF_TOKEN", _of("a Hugging Face token")),
    Planted("env:WANDB_API_KEY", "feedfacecafebeef0123456789abcdef01234567"),
    Planted("env:OPENAI_API_KEY", _of("an OpenAI-style key")),
    Planted("env:HTTPS_PROXY", "http://ann:proxy-Passw0rd-planted@127.0.0.1:9"),
    Planted("env:DATABASE_PASSWORD", "odd shape of no kind, planted 1"),
    Planted("env:MY_TOKEN", "odd/shape+of=no&kind%planted\\2"),
    Planted("env:SOME_NAME", _of("a Slack token")),
    Planted("secret:HF_TOKEN", "hf_kept-in-a-file-planted-3"),
    Planted("secret:CUSTOM_KEY", "kept in a file, planted 4"),
    Planted("file:.env", "PASSWORD=in-a-dot-env-planted-5"),
    Planted("file:.aws/credentials", "aws_planted_6_secret"),
    Planted("file:sub/.ssh/id_ed25519", "ssh_planted_7_private"),
    Planted("file:credentials.json", "json_planted_8_credential"),
    Planted("file:hf_token.txt", "hub_planted_9_token"),
    Planted("file:notes.md", "notes_planted_10_of_nobody"),
    Planted("file:.git/config", "git_planted_11_remote"),
    Planted("caption:utf-8", _of("a GitHub token")),
    Planted("caption:utf-16", _of("an Anthropic key")),
    Planted("caption:utf-16-be", _of("a Stripe key")),
    Planted("caption:utf-8-sig", _of("a password in an address")),
    Planted("exif:jpeg", _of("a Google API key")),
    Planted("exif:webp", _of("a SendGrid key")),
    Planted("text:png", _of("a JSON Web Token")),
    Planted("text:packed", _of("a Databricks token")),
    Planted("end:png", _of("an npm token")),
    Planted("config:hub_token", "config_planted_12_value"),
    Planted("config:validation_prompt", _of("a Replicate token")),
    Planted("config:tracker_run_name", _of("a Docker Hub token")),
    Planted("printed", _of("a GitLab token")),
    Planted("printed", _of("a PEM or PGP block")),
    Planted("printed", _of("an authorization header")),
]  # fmt: skip


KNOWABLE = [one for one in PLANTED if one.where.partition(":")[0] != "file" and one.where != "config:hub_token"]
"""Those that the lab holds, or that are tokens to look at: whoever prints them, they are taken out."""


def traces(secret: str) -> set[bytes]:
    """What to look for: as it is, wide, quoted, and what of base64 does not hang on its surroundings."""
    data = secret.encode()
    found = {data, quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode(), data.hex().encode()}
    found |= {secret.encode("utf-16-le"), secret.encode("utf-16-be")}
    for before in range(3):
        text = base64.b64encode(b"?" * before + data + b"?" * 3)
        inner = text[4 if before else 0 : len(text) // 4 * 4 - 8]
        found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return {trace for trace in found if len(trace) >= 8}


def clothed(secret: str) -> Iterator[str]:
    yield f"plain {secret}"
    for before in ("", ":", "::"):
        yield "base64 " + base64.b64encode(f"{before}{secret}".encode()).decode()
    yield f"url ?x%3D{quote(secret, safe='')}"
    yield "json " + json.dumps({"line": f"\n{secret}"})


def plant(folder: Path, home: Home) -> dict[str, str]:
    """Puts them where they lie; returns the environment."""
    images = dataset(folder)
    environment = {"PATH": os.environ["PATH"], "AWS_ACCESS_KEY_ID": S3_KEY}
    for index, one in enumerate(PLANTED):
        kind, _, name = one.where.partition(":")
        image = images / f"x{index}"
        match kind:
            case "env":
                environment[name] = one.secret
            case "secret":
                (home.secrets / name).write_text(one.secret)
                (home.secrets / name).chmod(0o600)
            case "file":
                (images / name).parent.mkdir(parents=True, exist_ok=True)
                (images / name).write_text(one.secret)
            case "caption":
                image.with_suffix(".png").write_bytes(png())
                image.with_suffix(".txt").write_bytes(f"a cat, {one.secret}".encode(name))
            case "exif":
                exif = exif_with(ExifTags.Base.ImageDescription, one.secret)
                image.with_suffix(f".{name}").write_bytes(image_bytes(kind=name.upper(), exif=exif))
            case "text":
                made = image_bytes(**png_text("parameters", one.secret, compress=name == "packed"))
                image.with_suffix(".png").write_bytes(made)
            case "end":
                image.with_suffix(".png").write_bytes(png() + one.secret.encode())
    return environment


def to_replicate(images: Path) -> SubmitRequest:
    asked = request(images)
    entries = tuple({**entry, "instance_prompt": "a cat"} for entry in asked.dataloader)
    to = S3Destination(bucket="mine", sender=Sender.TRAINER, checkpoints=True)
    return dataclasses.replace(asked, dataloader=entries, provider="replicate", destination=to)


class Found:
    """Everything that was kept, sent or shown, searched for all of them."""

    def __init__(self) -> None:
        self.leaks: list[str] = []
        self.looked = 0
        self._traces = {one: traces(one.secret) for one in PLANTED}

    def look(self, where: str, data: bytes | str, *, but: frozenset[str] = frozenset()) -> None:
        blob = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        self.looked += len(blob)
        for one, wanted in self._traces.items():
            if one.where not in but and any(trace in blob for trace in wanted):
                self.leaks.append(f"{one.where} in {where}")
        if blob[:4] == b"PK\3\4":
            with zipfile.ZipFile(io.BytesIO(blob)) as packed:
                for entry in packed.infolist():
                    self.look(f"{where}, {entry.filename}", packed.read(entry))

    def look_below(self, folder: Path, *, but: Path) -> None:
        for path in folder.rglob("*"):
            if path.is_file() and but not in path.parents:
                self.look(str(path.relative_to(folder)), path.read_bytes())


def refused_configs(lab: Lab, images: Path, found: Found) -> None:
    """A secret in a config ends a plan, and is in no word of the answer and in no trait of a widget."""
    for one in PLANTED:
        kind, _, key = one.where.partition(":")
        if kind != "config":
            continue
        plain = to_replicate(images)
        asked = dataclasses.replace(plain, config={**plain.config, key: one.secret})
        for verb in (lab.plan, saved_request):
            with pytest.raises((SecretInConfig, InvalidRequest)) as caught:
                verb(asked)
            error = caught.value
            found.look(f"the error about {key}", "\n".join((str(error), error.hint, repr(error.problems), repr(error))))


def taken(replicate: Scene, lab: Lab, job_id: str, found: Found) -> JobState:
    """Some steps of the runner; what lies in the spool on the way is looked into."""
    seen: set[Path] = set()
    for _ in range(10):
        lab.runner.advance(lab.store.jobs.get(job_id))
        for path in set(lab.home.spool.iterdir()) - seen:
            seen.add(path)
            found.look(f"the spool's {path.name}", path.read_bytes())
        replicate.emulator.advance(6)
    return lab.store.jobs.get(job_id).state


def test_a_job_elsewhere_that_prints_every_secret_and_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len(PLANTED) >= 30
    found = Found()
    printed = [line for one in KNOWABLE for line in clothed(one.secret)]
    with scene(tmp_path) as replicate:
        emulator, home = replicate.emulator, Home(tmp_path / "lab").prepare()
        environment = plant(tmp_path / "images", home) | {"HOME": str(tmp_path)}
        said = " ".join(one.secret for one in KNOWABLE)
        emulator.play(IMAGE, [
            Step(after_s=1, log="".join(f"{line}\n" for line in printed)),
            Step(after_s=1, log=f"RuntimeError: {said}\n", error=f"Prediction failed: {said}"),
        ])  # fmt: skip
        provider = replicate.provider(environment={"NO_PROXY": "127.0.0.1"})
        around = Surroundings(environment=environment, clock=emulator.now)
        with Lab(home, Store.open(home.database), Registry([provider]), around) as lab:
            front = Front(lab)
            refused_configs(lab, tmp_path / "images", found)
            asked = to_replicate(tmp_path / "images")
            plan = front.plan(asked)
            found.look("the plan", dumps(plan))
            found.look("a widget's plan", json.dumps(saved(plan)))
            found.look("a widget's request", json.dumps(saved_request(asked)))
            job = lab.submit(asked, approve=plan.digest)
            assert taken(replicate, lab, job.id, found) is JobState.FAILED
            log = front.log(job.id).logs
            assert MASK in log, "it was printed, and taken out"
            assert "RuntimeError" in log
            assert log.count("\n") >= len(printed) / 2, "ordinary lines are there"
            detail = front.detail(job.id)
            assert detail.job.error is not None
            found.look("the log", log)
            for view in (detail, front.jobs(), *front.providers(), front.outputs(job.id), front.publishing()):
                found.look(type(view).__name__, json.dumps(encode(view)))
                found.look(f"a widget's {type(view).__name__}", json.dumps(saved(view)))
            found.look_below(home.root, but=home.secrets)
        found.look_below(home.root, but=home.secrets)  # what closing wrote
        found.look_below(tmp_path / "home", but=home.secrets)
        for one in emulator.predictions:
            given = {key: value for key, value in one.input.items() if key != "secrets"}
            found.look("what was sent", json.dumps(given))
    found.look("the log of the process", caplog.text)
    assert found.looked > 100_000
    assert found.leaks == []


def test_the_archive_that_was_sent_has_none_and_has_the_rest(tmp_path: Path) -> None:
    found = Found()
    with scene(tmp_path) as replicate:
        home = Home(tmp_path / "lab").prepare()
        environment = plant(tmp_path / "images", home) | {"HOME": str(tmp_path)}
        around = Surroundings(environment=environment, clock=replicate.emulator.now)
        with Lab(home, Store.open(home.database), Registry([replicate.provider()]), around) as lab:
            manifest = lab.plan(to_replicate(tmp_path / "images")).identity.manifest
            spool = lab._spool.pack("j", manifest)
            found.look("the archive", spool.path.read_bytes())
            with zipfile.ZipFile(spool.path) as packed:
                assert {"set/0.png", "set/0.txt", "set/1.png"} <= set(packed.namelist())
    assert found.leaks == []


def test_what_the_process_logs_and_how_it_crashes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """On a real handler: arguments, traces of chained errors, and what ends the process."""
    home = Home(tmp_path / "lab").prepare()
    environment = plant(tmp_path / "images", home)
    found, stream = Found(), io.StringIO()
    known = KnownSecrets(home.secrets, environment)
    logger = logging.getLogger("simpletuner_lab.tests.of_discretion")
    logger.propagate = False
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    discretion = Discretion(known.redactor)
    discretion.watch(logger)
    for one in KNOWABLE:
        for text in clothed(one.secret):
            logger.warning("%s: %d", text, 5)
            try:
                try:
                    raise ValueError(text)
                except ValueError as inner:
                    raise RuntimeError(f"because of {text}") from inner
            except RuntimeError as error:
                logger.exception("it failed")
                trace_hook(known.redactor)(type(error), error, error.__traceback__)
    logger.warning("where", stack_info=True)
    logger.warning("%d", "no number")  # the handler's own to tell
    written, crashed = stream.getvalue(), capsys.readouterr().err
    found.look("the log", written)
    found.look("the trace", crashed)
    assert found.leaks == []
    assert written.count("RuntimeError: because of") == crashed.count("RuntimeError: because of") == 6 * len(KNOWABLE)
    assert "Traceback" in written
    discretion.leave()
    logger.warning("plain %s", S3_SECRET)
    assert S3_SECRET in stream.getvalue()


def test_a_secret_that_is_changed_counts_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    known = KnownSecrets(folder, {})
    assert known.redactor().text("word-of-mouth") == "word-of-mouth"
    (folder / "NAME").write_text("word-of-mouth\n")
    assert known.redactor().text("a word-of-mouth b") == f"a {MASK} b"
    assert known.redactor() is known.redactor()
    assert known.beside([Secret("of-a-job")]).text("of-a-job word-of-mouth") == f"{MASK} {MASK}"
