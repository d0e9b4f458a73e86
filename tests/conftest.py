"""Before anything is imported: the emulated Hub does not speak Xet, no test uses a login or a cache of this machine."""

from __future__ import annotations

import os
import signal
import tempfile

import pytest

os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_OFFLINE"] = "0"  # a trainer in this process would set it, for good
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
for name in ("HF_TOKEN", "HF_ENDPOINT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
    os.environ.pop(name, None)
os.environ.pop("SIMPLETUNER_DATABASE_URL", None)
if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # several trainings share the cores: threads that spin for each other's end cost most
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell that starts them in the background has Ctrl-C ignored, by all that they start too
    signal.signal(signal.SIGINT, signal.default_int_handler)

_caches = tempfile.TemporaryDirectory(prefix="simpletuner-cache-")
os.environ["SIMPLETUNER_CACHE_DIR"] = _caches.name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: with a few workers, one of them at the end would leave the others idle for minutes."""
    items.sort(key=lambda item: "e2e" not in item.path.parts)
