"""The trainer as a Cog model: one prediction is one attempt of a job (docs/trainer-protocol.md, "As a prediction").

Nothing is decided here. The spec goes to `python -m simpletuner_trainer`, its lines come back as the prediction's log,
and the model leaves by the destination that the spec names.
"""

# Cog reads the annotations of `predict` as they stand, so they are not postponed.
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path as Folder
from typing import IO, Any, Optional

from cog import BasePredictor, Input, Path, Secret

from simpletuner_trainer.report import MAX_LINE_BYTES, Exit, Failure, parse_line

HERE = Folder(__file__).resolve().parent
SECRETS = re.compile(r"SIMPLETUNER_S3_[A-Z_]+|HF_TOKEN")
"""Names that `secrets` may have."""

KEPT = frozenset(
    "PATH HOME USER LANG LANGUAGE TZ PYTHONPATH LD_LIBRARY_PATH HF_HOME HF_ENDPOINT SIMPLETUNER_CACHE_BYTES "  # noqa: SIM905
    "SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE AWS_CA_BUNDLE "
    "HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY".split()
)
KEPT_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "NCCL_", "OMP_", "MKL_", "TORCH_", "PYTORCH_", "HF_HUB_")
SECRET_ENDINGS = ("_TOKEN", "_SECRET", "_PASSWORD", "_KEY")
"""Of the machine's own environment a trainer gets what these say: no token of whoever runs the server."""

NEEDED = ("boto3", "diffusers", "huggingface_hub", "peft", "PIL", "safetensors", "torch", "transformers")
SHORTEST_HIDDEN = 8
GRACE_S = 20.0
"""From a cancel on: for the last checkpoint and its way to the destination."""

LOOK_S = 0.1
"""Between two looks at the log. A cancel is raised between two of them."""


class Predictor(BasePredictor):
    """Trains."""

    def setup(self) -> None:
        """Says what the image lacks, before it costs anything. Imports none of it."""
        absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if absent:
            raise RuntimeError(f"the image lacks {', '.join(absent)}: see requirements-cog.txt")

    def predict(
        self,
        data: Optional[Path] = Input(
            description="The zip of the data sets, as the spec names its digest.", default=None
        ),
        spec: str = Input(description="simpletuner-spec/1 as JSON, without paths."),
        secrets: Optional[Secret] = Input(
            description="A JSON object of environment variables for the trainer: SIMPLETUNER_S3_* and HF_TOKEN.",
            default=None,
        ),
        tag: str = Input(description="JOB_ID/ATTEMPT, to find the run by.", default=""),  # noqa: ARG002 - of the API alone
    ) -> str:
        """How it ended, as JSON: `{"exit_code": N, "ended": "done"}`, if it is done or can go on.

        Raises:
            ValueError: an input is wrong.
            RuntimeError: it has failed, with the last that it said.
        """
        server = os.getppid()
        kept = _secrets(secrets.get_secret_value() if secrets is not None else None)
        with tempfile.TemporaryDirectory(prefix="simpletuner-", ignore_cleanup_errors=True) as name:
            folder = Folder(name)
            document = _document(spec, folder, data)
            (folder / "spec.json").write_text(json.dumps(document), "utf-8")
            log = _Log(str(document.get("nonce", "")), list(kept.values()))
            with _started(folder, kept, log) as keeper:
                while keeper.poll() is None:
                    log.pump()
                    _wait(keeper, LOOK_S)
                    if os.getppid() != server:
                        raise RuntimeError("the server is gone")
        try:
            ended = Exit(keeper.returncode)
        except ValueError:
            ended = Exit.CRASHED
        if ended is not Exit.DONE and not ended.resumable:
            raise RuntimeError(log.why(keeper.returncode))
        return json.dumps({"exit_code": int(ended), "ended": ended.name.lower()})


class _Log:
    """Prints the log as it grows, without the secrets, and remembers the last of it that says why a run has failed."""

    def __init__(self, nonce: str, hidden: list[str]) -> None:
        self._nonce, self._hidden = nonce, [one for one in hidden if len(one) >= SHORTEST_HIDDEN]
        self._log: IO[bytes] | None = None
        self._rest = b""
        self._cut = self._deaf = False
        self._failure = ""
        self._line = ""

    def why(self, code: int) -> str:
        """A sentence about an end with this code."""
        if code > 128 and not self._failure:
            return f"the trainer was killed by signal {code - 128}"
        return self._failure or self._line or f"the trainer ended with code {code}"

    def follow(self, log: IO[bytes]) -> None:
        self._log = log

    def pump(self, *, ended: bool = False) -> None:
        """Prints the lines that have come. Of one that is too long for a report the beginning is printed."""
        assert self._log is not None
        while part := self._log.read(1 << 16):
            *lines, self._rest = (self._rest + part).split(b"\n")
            for line in lines:
                self._say(line)
                self._cut = False
            if len(self._rest) > MAX_LINE_BYTES:
                self._say(self._rest)
                self._rest, self._cut = b"", True
        if ended and self._rest:
            self._say(self._rest)
            self._rest = b""

    def _say(self, raw: bytes) -> None:
        if self._cut or self._deaf:  # the rest of a line whose beginning was printed, or nobody reads on
            return
        line = raw[:MAX_LINE_BYTES].decode("utf-8", "replace").rstrip("\r")
        for secret in self._hidden:
            line = line.replace(secret, "[REDACTED]")
        try:
            print(line, flush=True)
        except OSError:  # the server has shut down
            self._deaf = True
            raise
        said = parse_line(line, nonce=self._nonce)
        if isinstance(said, Failure):
            self._failure = said.message + (f" ({said.hint})" if said.hint else "")
        elif said is None and line.strip():
            self._line = line.strip()[:2000]


@contextmanager
def _started(folder: Folder, secrets: Mapping[str, str], log: _Log) -> Iterator[subprocess.Popen[bytes]]:
    """A keeper with a trainer in `folder`; both are over after the block, however it was left."""
    path = folder / "log"
    with path.open("wb") as written, path.open("rb") as read:
        log.follow(read)
        keeper = subprocess.Popen(
            [sys.executable, str(HERE / "keeper.py"), str(folder), str(GRACE_S)], env=_environment(folder, secrets),
            stdin=subprocess.PIPE, stdout=written, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        assert keeper.stdin is not None
        try:
            yield keeper
        finally:
            keeper.stdin.close()
            with suppress(OSError):  # a server that has shut down, as `_say` has it
                while keeper.poll() is None:
                    log.pump()
                    _wait(keeper, LOOK_S)
                log.pump(ended=True)
            keeper.wait()  # it takes its grace at most


def _wait(keeper: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        keeper.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _document(spec: str, folder: Folder, data: Folder | None) -> dict[str, Any]:
    """The spec with its paths. The data are moved into the folder: nobody else removes them if this process is killed."""
    try:
        document = json.loads(spec)
    except ValueError as error:
        raise ValueError(f"spec is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError("spec is not a JSON object")  # noqa: TRY004 - a value from outside
    named, destination = document.get("data"), document.get("destination")
    if not isinstance(destination, dict) or destination.get("kind") not in {"s3", "hub"}:
        raise ValueError("spec.destination has to be of kind s3 or hub: nothing stays here")
    if (data is None) != (named is None):
        raise ValueError("data and spec.data go together")
    if data is not None and isinstance(named, dict):
        archive = folder / "data.zip"
        _move(data, archive)
        document["data"] = {**named, "archive": str(archive)}
    work = folder / "work"
    work.mkdir()
    return {**document, "work_dir": str(work)}


def _move(file: Folder, to: Folder) -> None:
    """Leaves an empty file behind, for whoever removes it."""
    shutil.move(os.fspath(file), to)
    Folder(file).touch()


def _secrets(text: str | None) -> dict[str, str]:
    try:
        given = json.loads(text) if text else {}
    except ValueError:
        raise ValueError("secrets is not JSON") from None
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise ValueError("secrets is not a JSON object of texts")
    unknown = sorted(name for name in given if SECRETS.fullmatch(name) is None)
    if unknown:
        raise ValueError(f"secrets has {', '.join(unknown)}: SIMPLETUNER_S3_* and HF_TOKEN are known")
    return {name: value for name, value in given.items() if value}


def _environment(folder: Folder, secrets: Mapping[str, str]) -> dict[str, str]:
    """What the trainer needs and nothing else. What it caches of the data, or opens with a token, goes with the folder."""
    machine = {name: value for name, value in os.environ.items() if _kept(name)}
    paths = [str(HERE), *filter(None, [machine.get("PYTHONPATH")])]
    places = ["TMPDIR", "SIMPLETUNER_CACHE_DIR", *(["HF_HOME", "HF_HUB_CACHE"] if "HF_TOKEN" in secrets else [])]
    own = {name: folder / name.lower() for name in places}
    for place in own.values():
        place.mkdir()
    return {
        **machine, **{name: str(place) for name, place in own.items()}, **secrets,
        "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", "SIMPLETUNER_LIFELINE": "stdin",
    }  # fmt: skip


def _kept(name: str) -> bool:
    named = name.upper() in KEPT or name.startswith(KEPT_PREFIXES)
    return named and not name.endswith(SECRET_ENDINGS)
