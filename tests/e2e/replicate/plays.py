"""What predictions of our Cog image do in these tests: they speak the trainer's protocol and deliver as it does.

`config["tracker_run_name"]` says how a run goes; see `WAYS`. A result is put to our object endpoint, signed, with the
grant that came in `secrets`.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from simpletuner_lab.testing.replicate_emulator import Job, Model, SetupFailed, Step, Version, version_id
from simpletuner_trainer.report import Exit

IMAGE = "ann/simpletuner-trainer"
HARDWARE = "gpu-l40s"
STEPS = 12
_LATE_S = 5.0

WAYS = (
    "quick", "slow", "silent", "segments", "crash", "worker-crash", "no-setup", "torn", "nothing", "too-long",
)  # fmt: skip
"""`quick` ten seconds; `slow` ten minutes; `silent` says nothing; `segments` ends at its deadline twice; `crash` fails;
`worker-crash` loses its machine once; `no-setup` never begins; `torn` delivers what its manifest does not name;
`nothing` delivers nothing; `too-long` runs until Replicate ends it, once."""


def models() -> tuple[Model, ...]:
    """Our image, as `cog push` would have it."""

    def given(order: int, title: str, **more: Any) -> dict[str, Any]:
        return {"type": "string", "title": title, "x-order": order, **more}

    version = Version(
        id=version_id(IMAGE), model=IMAGE, created_at=1_750_000_000.0, hardware=HARDWARE,
        inputs={
            "data": given(0, "Data", format="uri"), "spec": given(1, "Spec"), "tag": given(3, "Tag"),
            "secrets": given(2, "Secrets", format="password", writeOnly=True, **{"x-cog-secret": True}),
        },
        output={"type": "string", "title": "Output"},
    )  # fmt: skip
    owner, name = IMAGE.split("/")
    return (Model(owner=owner, name=name, versions=(version,)),)


class Trainer:
    """The play of the image.

    Args:
        now: the time by which it signs.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.granted: list[str] = []
        """Access keys that runs were given."""
        self.downloads: list[tuple[str, str]] = []
        """For each run that began, the job and the address of its data."""

    def __call__(self, job: Job) -> Iterator[Step]:
        spec = json.loads(job.input["spec"])
        secrets = json.loads(job.input.get("secrets") or "{}")
        to = spec["destination"]
        self.granted.append(secrets[to["access_key_env"]])
        self.downloads.append((spec["job_id"], job.input["data"]))
        how = spec["config"]["tracker_run_name"]
        if how == "no-setup" or "/download?" not in job.input["data"]:
            raise SetupFailed("the data could not be downloaded" if how != "no-setup" else "CUDA is not there")
        return _Run(spec, secrets, self._now).steps(how)


class _Run:
    def __init__(self, spec: dict[str, Any], secrets: dict[str, str], now: Callable[[], float]) -> None:
        self._spec = spec
        self._secrets = secrets
        self._now = now

    def steps(self, how: str) -> Iterator[Step]:
        attempt = self._spec["attempt"]
        first = min(1 + 4 * (attempt - 1), STEPS)
        if how == "silent":
            yield Step(after_s=30)
            yield self._end(how)
            return
        yield Step(after_s=1, log=self._line("stage", stage="train", label="training"))
        if attempt > 1:
            yield Step(log=self._line("resume", step=first - 1))
        pause_s = 300.0 if how == "slow" else 4.0
        for step in range(first, STEPS + 1, 6):
            yield Step(
                after_s=pause_s, log=f"step {step} of {STEPS}\n" + self._trained(range(step, min(step + 6, STEPS + 1)))
            )
            if step == first and attempt == 1 and how in {"crash", "worker-crash", "too-long"}:
                yield from self._fault(how)
            if how == "segments" and attempt < 3:
                yield Step(after_s=1, output=_output(Exit.DEADLINE))
                return
        yield self._end(how)

    def _fault(self, how: str) -> Iterator[Step]:
        if how == "crash":
            said = self._line("error", code="nan_loss", message="the loss is not a number", hint="lower the rate")
            yield Step(log=said)
            yield Step(error="RuntimeError: the loss is not a number")
        elif how == "worker-crash":
            yield Step(error="Worker crashed")
        else:
            yield Step(after_s=100_000)

    def _end(self, how: str) -> Step:
        """Delivers, and says how that went; nobody to deliver to is a run that may go on elsewhere."""
        sha256 = "0" * 64
        try:
            if how != "nothing":
                sha256 = self._deliver(torn=how == "torn")
        except (OSError, http.client.HTTPException, AssertionError):
            return Step(log="nobody takes the result\n", output=_output(Exit.UNDELIVERED))
        said = self._line("result", key="manifest.json", files=1, bytes=4, sha256=sha256)
        return Step(after_s=1, log=said + self._line("end", exit=0, step=STEPS), output=_output(Exit.DONE))

    def _line(self, kind: str, **members: object) -> str:
        return f"::st {self._spec['nonce']} " + json.dumps({"kind": kind, **members}) + "\n"

    def _trained(self, steps: range) -> str:
        size = len(steps)
        return self._line(
            "steps", step=list(steps), loss=[1 / step for step in steps], lr=[1e-3] * size, grad_norm=[0.5] * size,
            total=STEPS, epoch=1.0, step_s=1.0, images_per_s=1.0, eta_s=1.0,
        )  # fmt: skip

    def _deliver(self, *, torn: bool) -> str:
        model = b"lora"
        entry = {"path": "lora.safetensors", "bytes": 4, "sha256": hashlib.sha256(model).hexdigest()}
        text = json.dumps(
            {"format": "simpletuner-manifest/1", "kind": "result", "step": STEPS, "plan_digest": "", "files": [entry]}
        ).encode()
        self._put(entry["path"], b"torn" if torn else model)
        self._put("manifest.json", text)
        return hashlib.sha256(text).hexdigest()

    def _put(self, name: str, body: bytes) -> None:
        to = self._spec["destination"]
        url = urlsplit(to["endpoint_url"])
        path = f"{url.path}/{to['bucket']}/{to['prefix']}{name}"
        keys = self._secrets[to["access_key_env"]], self._secrets[to["secret_key_env"]]
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=_LATE_S)
        try:
            headers = signed("PUT", url.netloc, path, body, keys, self._now())
            connection.request("PUT", path, body, headers)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
        finally:
            connection.close()


def signed(
    method: str, host: str, path: str, body: bytes, keys: tuple[str, str], now: float, region: str = "us-east-1"
) -> dict[str, str]:
    """Headers with a signature of version 4, by a clock that is not this machine's."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256(body).hexdigest()
    names = "host;x-amz-content-sha256;x-amz-date"
    canonical = (
        f"{method}\n{path}\n\nhost:{host}\nx-amz-content-sha256:{digest}\nx-amz-date:{stamp}\n\n{names}\n{digest}"
    )
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = ("AWS4" + keys[1]).encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"AWS4-HMAC-SHA256 Credential={keys[0]}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {"Host": host, "x-amz-content-sha256": digest, "x-amz-date": stamp, "Authorization": credential}


def _output(code: Exit) -> str:
    ended = {Exit.DONE: "done", Exit.DEADLINE: "deadline", Exit.UNDELIVERED: "undelivered"}
    return json.dumps({"exit_code": int(code), "ended": ended[code]})
