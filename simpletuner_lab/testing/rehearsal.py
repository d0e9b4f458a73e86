"""A lab, a Hugging Face Hub and a bucket of one's own, on this machine and for a while: to try deliveries without an account.

    with rehearsal() as stage:
        lab = stage.lab

The lab is a real notebook server with the extension, over a home folder that goes with it; the Hub is the emulator and
the bucket our own object endpoint. Keys are made up for the occasion and known to that server alone.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from simpletuner_lab.client import LabClient
from simpletuner_lab.services.home import Home
from simpletuner_lab.testing.hub_emulator import Account, HubEmulator, hub_emulator
from simpletuner_lab.testing.lab_server import lab_server
from simpletuner_lab.testing.storage_server import StorageServer, storage_server

_OWNER: Final = "ann"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What is there: `lab` answers like any other, `hub.url` and `bucket_url` are addresses that its models can go to."""

    lab: LabClient
    home: Home
    hub: HubEmulator
    bucket_url: str
    _bucket: StorageServer

    def bucket(self) -> Any:
        """A boto3 client of the bucket's server, with its owner's keys."""
        return _s3(self._bucket)


@contextmanager
def rehearsal(bucket: str = "models") -> Iterator[Rehearsal]:
    """Everything up, until the block ends."""
    token = "hf_" + secrets.token_urlsafe(24)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        hub = stack.enter_context(hub_emulator({token: Account(name=_OWNER)}))
        store = stack.enter_context(storage_server(folder / "bucket"))
        _s3(store).create_bucket(Bucket=bucket)
        keys = {
            "HF_TOKEN": token, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1",
            "AWS_ACCESS_KEY_ID": store.owner.access_key, "AWS_SECRET_ACCESS_KEY": store.owner.secret_key.reveal(),
        }  # fmt: skip
        home = Home(folder / "home").prepare()
        lab = stack.enter_context(lab_server(folder, home, keys=keys))
        yield Rehearsal(lab=lab, home=home, hub=hub, bucket_url=store.endpoint_url, _bucket=store)


def _s3(store: StorageServer) -> Any:
    import boto3

    return boto3.client(
        "s3", endpoint_url=store.endpoint_url, region_name="us-east-1", aws_access_key_id=store.owner.access_key,
        aws_secret_access_key=store.owner.secret_key.reveal(),
    )  # fmt: skip
