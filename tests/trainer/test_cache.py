"""The cache that all jobs of a user share: whole entries or none, bounded, and never taken from a job that lives."""

from __future__ import annotations

import gc
import os
import shutil
import stat
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from simpletuner_trainer import report
from simpletuner_trainer.cache import TensorCache, key_of, numerics_of
from simpletuner_trainer.cachedir import BYTES_ENV, PLACE_ENV, USUAL_BYTES, CacheDir
from simpletuner_trainer.errors import BadSpec, CacheLost, Stopped
from simpletuner_trainer.models import open_family
from simpletuner_trainer.report import Exit
from simpletuner_trainer.stop import Stop
from tests.trainer.trainer_kit import Job, material_of, of_kind, sha256

Jobs = Callable[..., Job]
WEIGHTS = "pytorch_lora_weights.safetensors"


def place(folder: Path, most_bytes: int = USUAL_BYTES) -> CacheDir:
    environment = {PLACE_ENV: str(folder), BYTES_ENV: str(most_bytes)}
    return CacheDir.find(environment, instead=folder / "own", tell=lambda line: None)


def entries(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*.safetensors"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test alone, for the jobs that it runs."""
    monkeypatch.setenv(PLACE_ENV, str(tmp_path / "cache"))
    return tmp_path / "cache"


# -------------------------------------------------------------------------------------------------------------- entries


def test_an_entry_is_whole_or_missing(tmp_path: Path) -> None:
    key = key_of("x", 1)
    value = torch.arange(3, dtype=torch.bfloat16)
    TensorCache(tmp_path).put(key, value)
    assert torch.equal(TensorCache(tmp_path).get(key), value)
    (path,) = entries(tmp_path)
    whole = path.read_bytes()
    for damaged in (whole[:-1], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(damaged)
        fresh = TensorCache(tmp_path)
        assert not fresh.has(key)
        with pytest.raises(CacheLost, match="gone or damaged"):
            fresh.get(key)
        fresh.put(key, value)
        assert TensorCache(tmp_path).has(key)


def test_a_folder_in_the_place_of_an_entry_is_told(tmp_path: Path) -> None:
    made = place(tmp_path / "cache", most_bytes=0)
    cache, key = TensorCache(made.root / "texts"), key_of("x", 1)
    cache.put(key, torch.ones(3))
    (path,) = entries(tmp_path)
    path.unlink()
    (path / "letter").mkdir(parents=True)
    assert not cache.has(key)
    with pytest.raises(CacheLost, match=f"something else lies in the place .*{key}"):
        cache.put(key, torch.ones(3))
    assert made.trim() == 0
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    shutil.rmtree(path.parent)
    path.parent.touch()
    with pytest.raises(CacheLost, match="something else lies in the place"):
        cache.put(key, torch.ones(3))


def test_a_value_that_was_made_otherwise_is_another() -> None:
    cpu = torch.device("cpu")
    assert numerics_of(cpu, 1) == numerics_of(cpu, 1)
    assert numerics_of(cpu, 1) != numerics_of(cpu, 2)
    assert torch.__version__.partition("+")[0] in numerics_of(cpu, 1)


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = place(tmp_path / "cache")
        TensorCache(made.root / "texts").put(key_of("secret caption"), torch.ones(3))
        lease = made.lease([key_of("secret caption")])
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in made.root.rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert stat.S_IMODE(made.root.stat().st_mode) == 0o700
    lease.release()


# ---------------------------------------------------------------------------------------------------------------- place


def test_where_it_lies(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path / "home")}

    def found(**more: str) -> str:
        made = CacheDir.find({**home, **more}, instead=tmp_path / "own", tell=lambda line: None)
        return made.root.relative_to(tmp_path).as_posix()

    assert found() == "home/.cache/simpletuner/trainer-1"
    assert found(XDG_CACHE_HOME=str(tmp_path / "xdg")) == "xdg/simpletuner/trainer-1"
    assert found(SIMPLETUNER_HOME=str(tmp_path / "lab")) == "lab/cache/trainer-1"
    assert (
        found(SIMPLETUNER_HOME=str(tmp_path / "lab"), SIMPLETUNER_CACHE_DIR=str(tmp_path / "named"))
        == "named/trainer-1"
    )
    (tmp_path / "file").touch()
    assert found(XDG_CACHE_HOME=str(tmp_path / "file")) == "own"
    with pytest.raises(BadSpec, match=r"SIMPLETUNER_CACHE_DIR: .* cannot be used"):
        found(SIMPLETUNER_CACHE_DIR=str(tmp_path / "file"))
    with pytest.raises(BadSpec, match="'20 GB', not a number of bytes"):
        found(SIMPLETUNER_CACHE_BYTES="20 GB")


def test_a_link_is_not_followed_and_nothing_else_is_removed(tmp_path: Path) -> None:
    (tmp_path / "precious" / "ab").mkdir(parents=True)
    (tmp_path / "precious" / "ab" / "letter.txt").touch()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "trainer-1").symlink_to(tmp_path / "precious")
    with pytest.raises(BadSpec, match="it is a link"):
        place(tmp_path / "cache")
    (tmp_path / "cache" / "trainer-1").unlink()
    made = place(tmp_path / "cache", most_bytes=0)
    (made.root / "notes" / "ab").mkdir(parents=True)
    (made.root / "notes" / "ab" / "letter.txt").write_text("x")
    assert made.trim() == 0
    assert (made.root / "notes" / "ab" / "letter.txt").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a folder of somebody else")
def test_a_folder_of_another_user_is_not_used(tmp_path: Path) -> None:
    place(tmp_path)
    os.chown(tmp_path / "trainer-1", 12345, 12345)
    with pytest.raises(BadSpec, match="belongs to another user"):
        place(tmp_path)


def test_the_oldest_goes_first_and_never_what_a_living_job_needs(tmp_path: Path) -> None:
    keys = [key_of(number) for number in range(6)]
    made = place(tmp_path)
    for age, key in enumerate(keys):
        TensorCache(made.root / "texts").put(key, torch.zeros(1000))
        (path,) = (one for one in entries(made.root) if one.stem == key)
        os.utime(path, (0, 1_000_000 - age))  # the last is the oldest
    size = path.stat().st_size
    lease = made.lease([keys[5], key_of("still to be made")])
    small = place(tmp_path, most_bytes=3 * size)
    assert TensorCache(made.root / "texts").has(keys[4]), "and so it is used"
    assert small.trim() == 3 * size
    assert {path.stem for path in entries(made.root)} == {keys[0], keys[4], keys[5]}
    assert small.trim() == 0
    lease.release()
    assert place(tmp_path, most_bytes=0).trim() == 3 * size
    assert not list(entries(made.root))
    assert not list((made.root / "leases").iterdir())


def test_a_killed_job_holds_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    made, key = place(tmp_path), key_of("x")
    TensorCache(made.root / "texts").put(key, torch.zeros(10))
    program = f"""
from pathlib import Path
from simpletuner_trainer.cachedir import CacheDir
lease = CacheDir(root=Path({str(made.root)!r}), most_bytes=0).lease([{key!r}])
print("held", flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        partial = made.root / "texts" / key[:2] / ".torn"
        partial.touch()
        assert place(tmp_path, most_bytes=0).trim() == 0
        other.kill()
    os.utime(partial, (0, 0))
    assert place(tmp_path, most_bytes=0).trim() > 0
    assert not list(entries(made.root))
    assert not partial.exists()


@pytest.mark.slow
def test_several_processes_fill_and_trim_one_folder(tmp_path: Path) -> None:
    """Each finds whole what it has leased and seen, whatever the others remove between."""
    made = place(tmp_path)
    program = f"""
import torch
from pathlib import Path
from simpletuner_trainer.cache import TensorCache, key_of
from simpletuner_trainer.cachedir import CacheDir
place = CacheDir(root=Path({str(made.root)!r}), most_bytes=0)
for turn in range(30):
    wanted = {{key_of(number): torch.full((5000,), float(number)) for number in range(turn % 7, turn % 7 + 12)}}
    lease = place.lease(wanted)
    cache = TensorCache(place.root / "texts")
    missing = [key for key in wanted if not cache.has(key)]
    for key in missing:
        cache.put(key, wanted[key])
    place.trim()
    fresh = TensorCache(place.root / "texts")
    assert all(torch.equal(fresh.get(key), value) for key, value in wanted.items())
    lease.release()
"""
    started = [subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) for _ in range(3)]
    said = [one.communicate()[1].decode() for one in started]
    assert [one.returncode for one in started] == [0, 0, 0], said
    assert made.root.is_dir()
    place(tmp_path, most_bytes=0).trim()
    assert not list(entries(made.root))


# ----------------------------------------------------------------------------------------------------------------- jobs


def encoded(said: str, what: str) -> int:
    return max((stage.total for stage in of_kind(said, report.Stage) if stage.label == f"encoding {what}"), default=0)


def test_another_job_finds_what_the_first_has_made(job: Jobs, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = job("first", config={"max_train_steps": 1}), job("second", config={"max_train_steps": 1})
    assert first.run() == Exit.DONE
    assert (encoded(said := capsys.readouterr().out, "images"), encoded(said, "captions")) == (8, 21), (
        "of ten, three are the same image"
    )
    one, another, *_ = sorted(entries(cache))
    one.unlink()
    another.write_bytes(another.read_bytes()[:-1])
    assert second.run() == Exit.DONE
    said = capsys.readouterr().out
    assert encoded(said, "images") + encoded(said, "captions") == 2
    assert sha256(first.output / WEIGHTS) == sha256(second.output / WEIGHTS)
    assert not (second.work / "cache").exists()


class Enough(Stop):
    """Time to end once so many entries are made."""

    def __init__(self, folder: Path, count: int) -> None:
        super().__init__(started_s=0.0, deadline_s=None)
        self._folder, self._count = folder, count

    @property
    def reason(self) -> Exit | None:
        return Exit.INTERRUPTED if len(list(entries(self._folder))) >= self._count else None


def test_what_was_made_before_a_stop_is_kept(job: Jobs, cache: Path) -> None:
    with pytest.raises(Stopped):
        material_of(job(), stop=Enough(cache, 4))
    made = {path: path.stat().st_ino for path in entries(cache)}
    assert len(made) == 4
    material_of(job("again"))
    assert len(list(entries(cache))) == 29
    assert {path: path.stat().st_ino for path in made} == made, "none was made twice"


def test_a_living_job_keeps_what_it_needs(job: Jobs, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BYTES_ENV, "0")
    material = material_of(job())
    assert len(list(entries(cache))) == 29
    material_of(job("other", dataset={"resolution": 16, "resolution_type": "pixel"}))
    assert all(material.latents.has(view.key) for views in material.views for view in views)
    del material
    gc.collect()
    place(cache, 0).trim()
    assert not list(entries(cache))


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_encoders_leave_memory(job: Jobs, cache: Path, xl_base: Path, kind: str) -> None:
    made = job(config={"model_family": kind})
    made.base = xl_base if kind == "sdxl" else made.base
    family = open_family(kind, made.base, device=torch.device("cpu"))
    family.encode_image(torch.zeros(3, 32, 32))
    family.encode_prompt("circle")
    encoders = family._text_encoder if kind == "sdxl" else (family._text_encoder,)
    gone = [weakref.ref(part) for part in (family._vae, *encoders)]
    weights = [weakref.ref(weight) for part in (family._vae, *encoders) for weight in part.parameters()]
    del encoders
    material = material_of(made, family)
    gc.collect()
    assert [found() for found in (*gone, *weights) if found() is not None] == []
    assert material.micro_batch(0).moments.isfinite().all()
