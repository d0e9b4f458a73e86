"""What `stcloud storage` answers. Secrets stand in the answers about keys, on purpose, and nowhere else."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from typing import Any, Final

from simpletuner_lab.commands.answers import Answer
from simpletuner_lab.core.destination import OUTPUTS_BUCKET
from simpletuner_lab.core.grant import Grant, is_live
from simpletuner_lab.services.grants import Credentials
from simpletuner_lab.services.reach.report import Outcome, Reach, WebhookReport
from simpletuner_lab.terminal import one_line

_REGION: Final = "us-east-1"
_NO_SERVER: Final = "(no notebook server of yours runs: the URL is told while one does)"


def credentials_answer(keys: Credentials, url: str) -> Answer:
    """The owner's keys with lines to paste."""
    return Answer(value=_keys(keys, url), text="\n".join(_lines(keys, url)))


def granted_answer(grant: Grant, keys: Credentials, url: str) -> Answer:
    """A new grant with its keys."""
    head = f"grant {grant.id}: {_terms(grant)}; its secret is shown this once"
    place = f"{grant.bucket}/{grant.prefix}".rstrip("/")
    return Answer(value=_view(grant, 0.0) | _keys(keys, url), text="\n".join((head, *_lines(keys, url, place))))


def grants_answer(grants: Sequence[Grant], now: float) -> Answer:
    """A list without secrets."""
    lines = [f"{grant.id}  {_state(grant, now):<8} {one_line(grant.name)}: {_terms(grant)}" for grant in grants]
    none = "no grants were made by hand: stcloud storage grant --bucket BUCKET --days N"
    return Answer(value=tuple(_view(grant, now) for grant in grants), text="\n".join(lines) or none)


def revoked_answer(grant: Grant) -> Answer:
    """A grant that has ended."""
    return Answer(value={"revoked": grant.id}, text=f"grant {grant.id} ({one_line(grant.name)}) is revoked")


def reach_answer(reach: Reach | WebhookReport) -> Answer:
    """Each step on a line, then what to do."""
    lines = [f"{look.status:<11} {look.name:<10} {one_line(look.message)}" for look in reach.steps]
    fixes = [
        f"{look.name}: {one_line(look.hint)}" for look in reach.steps if look.hint and look.status is not Outcome.OK
    ]
    verdict = "is reached" if reach.reached else "is not reached as it must be"
    return Answer(value=reach, text="\n".join((*lines, f"{reach.url} {verdict}", *fixes)))


def _keys(keys: Credentials, url: str) -> dict[str, Any]:
    return {
        "endpoint_url": url,
        "access_key": keys.access_key,
        "secret_key": keys.secret_key.reveal(),
        "region": _REGION,
    }


def _lines(keys: Credentials, url: str, place: str = OUTPUTS_BUCKET) -> list[str]:
    """For aws and boto3 the environment, for rclone a remote called `stlab`; `place` is what the keys may list."""
    secret, shown = keys.secret_key.reveal(), url or "ENDPOINT_URL"
    return [
        f"endpoint    {url or _NO_SERVER}",
        f"access key  {keys.access_key}",
        f"secret key  {secret}",
        "",
        "# aws, boto3, s5cmd, obstore",
        f"export AWS_ENDPOINT_URL_S3={shown} S3_ENDPOINT_URL={shown} AWS_REGION={_REGION}",
        f"export AWS_ACCESS_KEY_ID={keys.access_key} AWS_SECRET_ACCESS_KEY={secret}",
        f"# rclone: rclone ls {shlex.quote(f'stlab:{place}')}",
        "export RCLONE_CONFIG_STLAB_TYPE=s3 RCLONE_CONFIG_STLAB_PROVIDER=Other RCLONE_CONFIG_STLAB_FORCE_PATH_STYLE=true",
        f"export RCLONE_CONFIG_STLAB_ENDPOINT={shown} RCLONE_CONFIG_STLAB_REGION={_REGION}",
        f"export RCLONE_CONFIG_STLAB_ACCESS_KEY_ID={keys.access_key} RCLONE_CONFIG_STLAB_SECRET_ACCESS_KEY={secret}",
    ]


def _view(grant: Grant, now: float) -> dict[str, Any]:
    return {
        "id": grant.id,
        "name": grant.name,
        "bucket": grant.bucket,
        "prefix": grant.prefix,
        "verbs": sorted(grant.verbs),
        "created_at": grant.created_at,
        "expires_at": grant.expires_at,
        "revoked_at": grant.revoked_at,
        "quota_bytes": grant.quota_bytes,
        "live": is_live(grant, now),
    }


def _terms(grant: Grant) -> str:
    told = f"{' '.join(sorted(grant.verbs))} on {grant.bucket}/{grant.prefix}"
    if grant.quota_bytes is not None:
        told += f", at most {grant.quota_bytes:,} bytes"
    if grant.expires_at is not None:
        told += f", until {time.strftime('%Y-%m-%d %H:%M', time.gmtime(grant.expires_at))} UTC"
    return told


def _state(grant: Grant, now: float) -> str:
    return "live" if is_live(grant, now) else "revoked" if grant.revoked_at is not None else "expired"
