"""What a trainer is given: its `spec.json`, wherever it runs, and here an environment that holds no secret but its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from simpletuner_lab.core.canonical import Json, JsonObject
from simpletuner_lab.core.destination import Delivery, FolderDelivery, HubDelivery, S3Delivery
from simpletuner_lab.core.provider import Archive, StartOrder
from simpletuner_lab.core.secret import Secret
from simpletuner_trainer.spec import SPEC_FORMAT

_KEPT_NAMES: Final = frozenset(
    "PATH HOME USER LOGNAME LANG LANGUAGE TZ TMPDIR TEMP TMP PYTHONPATH VIRTUAL_ENV CONDA_PREFIX XDG_CACHE_HOME "  # noqa: SIM905
    "LD_LIBRARY_PATH DYLD_LIBRARY_PATH DYLD_FALLBACK_LIBRARY_PATH HF_HOME HF_ENDPOINT HF_HUB_DISABLE_IMPLICIT_TOKEN "
    "SIMPLETUNER_HOME SIMPLETUNER_CACHE_DIR SIMPLETUNER_CACHE_BYTES "
    "SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY".split()
)
_KEPT_PREFIXES: Final = (
    "LC_", "CUDA_", "NVIDIA_", "NCCL_", "ROCR_", "HIP_", "OMP_", "MKL_", "OPENBLAS_", "TORCH_", "PYTORCH_", "HF_HUB_",
    "SIMPLETUNER_SPOT_",
)  # fmt: skip
_SECRET_ENDINGS: Final = ("_TOKEN", "_SECRET", "_PASSWORD", "_KEY")


def spec_document(order: StartOrder, job: Path | None = None) -> JsonObject:
    """`spec.json` as docs/trainer-protocol.md has it. It names the environment variables of secrets, never a secret.

    Without `job`, the folder of the job where it runs, whoever runs it fills in `work_dir` and `data.archive`.
    """
    return {
        "format": SPEC_FORMAT,
        "job_id": order.tag.job_id,
        "attempt": order.tag.attempt,
        "nonce": order.nonce,
        **({} if job is None else {"work_dir": str(job / "work")}),
        "config": order.config,
        "dataloader": list(order.dataloader),
        "data": None if order.archive is None else _data(order.archive, job),
        "destination": _destination(order.delivery),
        "plan_digest": order.plan_digest,
        "deadline_s": order.deadline_s,
    }


def _data(archive: Archive, job: Path | None) -> JsonObject:
    return {
        **({} if job is None else {"archive": str(job / "data.zip")}),
        "sha256": archive.sha256,
        "files": archive.files,
        "bytes": archive.content_bytes,
    }


def _destination(delivery: Delivery) -> Mapping[str, Json]:
    match delivery:
        case FolderDelivery():
            return {"kind": "folder", "path": delivery.path}
        case S3Delivery():
            return {
                "kind": "s3",
                "endpoint_url": delivery.endpoint_url or None,
                "region": delivery.region,
                "bucket": delivery.bucket,
                "prefix": delivery.prefix,
                "access_key_env": delivery.access_key_env,
                "secret_key_env": delivery.secret_key_env,
                "session_token_env": delivery.session_token_env or None,
                "checkpoints": delivery.checkpoints,
            }
        case HubDelivery():
            return {
                "kind": "hub",
                "repo_id": delivery.repo_id,
                "private": delivery.private,
                "checkpoints": delivery.checkpoints,
                "token_env": delivery.token_env,
            }


_LOOPBACK: Final = "127.0.0.1,localhost,::1"


def child_environment(parent: Mapping[str, str], secrets: Mapping[str, Secret]) -> dict[str, str]:
    """What a trainer sees: what it needs of the parent's environment by name, and the secrets of its order alone."""
    kept = {name: value for name, value in parent.items() if _is_kept(name.upper())}
    given = {name: secret.reveal() for name, secret in secrets.items()}
    direct = ",".join(filter(None, (parent.get("NO_PROXY") or parent.get("no_proxy"), _LOOPBACK)))
    direct_names = {"NO_PROXY": direct, "no_proxy": direct}  # results come home past any proxy
    return {
        **kept,
        **direct_names,
        **given,
        "SIMPLETUNER_LIFELINE": "stdin",
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
    }


def _is_kept(name: str) -> bool:
    return name in _KEPT_NAMES or (name.startswith(_KEPT_PREFIXES) and not name.endswith(_SECRET_ENDINGS))
