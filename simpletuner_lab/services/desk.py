"""The delivery desk: for each attempt of a job, where its results go and with which key (SPEC D1, O2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from simpletuner_lab.core.destination import (
    ACCESS_KEY,
    OUTPUTS_BUCKET,
    S3_ACCESS_KEY,
    S3_SECRET_KEY,
    S3_SESSION_TOKEN,
    SECRET_KEY,
    Delivery,
    Destination,
    FolderDelivery,
    HubDelivery,
    HubDestination,
    S3Delivery,
    S3Destination,
    job_prefix,
    sent_by_trainer,
)
from simpletuner_lab.core.errors import CredentialUnusable, ProviderUnavailable
from simpletuner_lab.core.grant import ENDPOINT_PATH
from simpletuner_lab.core.job import Job
from simpletuner_lab.core.plan import STORAGE_GRANT
from simpletuner_lab.core.provider import WEBHOOK_PATH
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.services.grants import Grants
from simpletuner_lab.services.outputs import Outputs
from simpletuner_lab.services.tokens import Tokens

GRANT_S: Final = 7 * 24 * 3600.0
"""Life of a grant of a job without a deadline; a requeue issues a new one."""
GRACE_AFTER_DEADLINE_S: Final = 24 * 3600.0
Whereabouts = Callable[[], str | None]
"""URL of the object endpoint while one is up; asked each time."""


PUBLIC_HINT: Final = (
    "start the notebook server with SimpleTunerLabApp.public_url set to where it is reached from outside "
    "(docs/exposing.md), or send the results elsewhere"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A delivery and the secrets that open it, by the names under which they travel."""

    delivery: Delivery
    secrets: Mapping[str, Secret]


class Desk:
    """Issues an address per attempt. Home is our object endpoint where one is up, a plain folder where none is.

    A run on this machine is told the loopback address, one elsewhere the public one.
    """

    def __init__(
        self,
        outputs: Outputs,
        grants: Grants,
        tokens: Tokens,
        *,
        endpoint: Whereabouts,
        public_endpoint: Whereabouts,
        max_job_bytes: int | None,
    ) -> None:
        self._outputs = outputs
        self._grants = grants
        self._tokens = tokens
        self._endpoint = endpoint
        self._public_endpoint = public_endpoint
        self._max_job_bytes = max_job_bytes

    def endpoint(self, *, remote: bool) -> str | None:
        """Where a run here, or one elsewhere, reaches the object endpoint; None where it cannot."""
        return self._public_endpoint() if remote else self._endpoint()

    def callback(self, provider_id: str) -> str:
        """Where a provider may call back to; empty where nothing of this lab can be reached from outside."""
        url = self._public_endpoint()
        return f"{url.removesuffix(ENDPOINT_PATH)}{WEBHOOK_PATH}/{provider_id}" if url else ""

    def address(
        self, job: Job, destination: Destination, *, agreed: frozenset[str], deadline_s: float | None, now: float
    ) -> Address:
        """A fresh address for this attempt; the grant of the attempt before is revoked first.

        `agreed`: names of the credentials that the plan says travel. Nothing else does; without a storage grant among
        them results come home to a folder.

        Raises:
            ProviderUnavailable: a grant was agreed to, and no server with the endpoint is up.
            CredentialUnusable: the trainer sends by itself, and the user's credentials are not there any more.
        """
        if sent_by_trainer(destination):
            return self._own_address(job, destination, agreed)
        if STORAGE_GRANT not in agreed:
            self._outputs.folder(job.id).mkdir(parents=True, exist_ok=True, mode=0o700)
            return Address(delivery=FolderDelivery(path=str(self._outputs.folder(job.id))), secrets={})
        url = self.endpoint(remote=job.remote)
        if url is None:
            raise ProviderUnavailable(
                "its results come home through the notebook server, and that cannot be reached now",
                hint=PUBLIC_HINT if job.remote else "start the notebook server",
            )
        life = GRANT_S if deadline_s is None else deadline_s + GRACE_AFTER_DEADLINE_S
        _, key = self._grants.issue_for_job(
            job.id, job.attempt, expires_at=now + life, quota_bytes=self._max_job_bytes, endpoint_url=url
        )
        return Address(
            delivery=S3Delivery(endpoint_url=url, bucket=OUTPUTS_BUCKET, prefix=job_prefix(job.id)),
            secrets={ACCESS_KEY: Secret(key.access_key), SECRET_KEY: key.secret_key},
        )

    def _own_address(self, job: Job, destination: Destination, agreed: frozenset[str]) -> Address:
        """Straight to the user's bucket or repository, with the user's credentials: what the plan named."""
        found = self._tokens.of(destination)
        secrets = {name: secret for name, secret in found.items() if name in agreed}
        if missing := sorted(agreed - set(secrets)):
            raise CredentialUnusable(f"{missing[0]} is not there any more", hint="set it again, and submit again")
        match destination:
            case S3Destination():
                delivery: Delivery = S3Delivery(
                    endpoint_url=destination.endpoint_url,
                    bucket=destination.bucket,
                    prefix=destination.prefix + job_prefix(job.id),
                    region=destination.region,
                    checkpoints=destination.checkpoints,
                    access_key_env=S3_ACCESS_KEY,
                    secret_key_env=S3_SECRET_KEY,
                    session_token_env=S3_SESSION_TOKEN if S3_SESSION_TOKEN in secrets else "",
                )
            case HubDestination():
                delivery = HubDelivery(
                    repo_id=destination.repo_id, private=destination.private, checkpoints=destination.checkpoints
                )
            case _:
                raise AssertionError("home is no address of the user's own")
        return Address(delivery=delivery, secrets=secrets)

    def secrets_of(self, job: Job) -> tuple[Secret, ...]:
        """What opened an address of ours for the job."""
        return self._grants.secrets_of(job.id)

    def close(self, job: Job, *, at: float) -> None:
        """Revokes the job's grants from this time on."""
        self._grants.revoke_job(job.id, at=at)
