"""`stcloud storage`: keys of the object endpoint, and whether it is reached from outside.

Keys are made and shown on the machine that has the lab's home, and never travel over HTTP.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from jupyter_core.paths import jupyter_runtime_dir

from simpletuner_lab.client import Client, LabClient, answering
from simpletuner_lab.commands import storage_answers as answers
from simpletuner_lab.commands.screen import Screen
from simpletuner_lab.core.errors import InvalidRequest, LabError
from simpletuner_lab.core.grant import is_live
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.servers import find_servers
from simpletuner_lab.services.grants import Credentials, Grants, ServerKey, Terms
from simpletuner_lab.services.home import Home

if TYPE_CHECKING:
    from simpletuner_lab.services.reach.report import Reach

OK: Final = 0
FAULT: Final = 1
SECRET_VARIABLE: Final = "SIMPLETUNER_S3_SECRET_KEY"  # noqa: S105 - the name of a variable

_DAY_S: Final = 24 * 3600.0

Opening: TypeAlias = Callable[[], Client]
Action: TypeAlias = Callable[[Opening, argparse.Namespace, Screen], int]


def credentials(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:  # noqa: ARG001 - an action's form
    """Prints the owner's keys, secret and all: the one command that does."""
    with _grants() as grants:
        keys = grants.owner()
    screen.show(answers.credentials_answer(keys, _endpoint_url()))
    return OK


def grants(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:  # noqa: ARG001 - an action's form
    """Lists the grants made by hand, without their secrets."""
    now = time.time()
    with _grants() as made:
        found = [grant for grant in made.by_hand() if args.all or is_live(grant, now)]
    screen.show(answers.grants_answer(found, now))
    return OK


def grant(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:  # noqa: ARG001 - an action's form
    """Makes a grant, and prints its keys this once."""
    if not 0 < args.days <= _MAX_DAYS:
        raise InvalidRequest(f"--days is from a fraction of one to {_MAX_DAYS}", hint="revoke it before, if need be")
    terms = Terms(
        name=args.name or f"{args.bucket}/{args.prefix}",
        bucket=args.bucket,
        prefix=args.prefix,
        read_only=args.read_only,
        expires_at=time.time() + args.days * _DAY_S,
        quota_bytes=args.max_bytes,
    )
    with _grants() as made:
        new, keys = made.issue_by_hand(terms)
    screen.show(answers.granted_answer(new, keys, _endpoint_url()))
    return OK


def revoke(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:  # noqa: ARG001 - an action's form
    """Ends a grant made by hand, from the next request on."""
    with _grants() as made:
        ended = made.revoke(args.access_key)
    screen.show(answers.revoked_answer(ended))
    return OK


def test(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:
    """Tests whether the endpoint is reached, step by step."""
    found = _reach(lab, args)
    screen.show(answers.reach_answer(found))
    return OK if found.reached else FAULT


_MAX_DAYS: Final = 3650

ACTIONS: Final[Mapping[str, Action]] = MappingProxyType(
    {action.__name__: action for action in (credentials, grants, grant, revoke, test)}
)
"""By the words of `tree`; `serve` is a process of its own, and stands in `cli`."""


def given_secret(environment: Mapping[str, str], given: str | None) -> Secret | None:
    """The secret key from the command line, else from the environment, where no list of processes shows it."""
    text = given or environment.get(SECRET_VARIABLE)
    return Secret(text) if text else None


def _reach(lab: Opening, args: argparse.Namespace) -> Reach:
    """With the keys that are given; else by the running server, which knows its own; else with the owner's."""
    from simpletuner_lab.services.reach.probe import Asker, examine

    secret = given_secret(os.environ, None)
    if args.access_key:
        if not args.to or secret is None:
            raise InvalidRequest(
                "--access-key goes with a URL and its secret", hint=f"{SECRET_VARIABLE}=... stcloud storage test URL"
            )
        return examine(args.to, Asker(keys=Credentials(access_key=args.access_key, secret_key=secret), clock=time.time))
    client = lab()
    if isinstance(client, LabClient):
        return client.reach(args.to)
    if not args.to:
        raise InvalidRequest(
            "no notebook server of yours runs, so there is no public URL to test",
            hint="start it, or name the URL of another: stcloud storage test URL",
        )
    with _grants() as made:
        return examine(args.to, Asker(keys=made.owner(), clock=time.time))


@contextlib.contextmanager
def _grants() -> Iterator[Grants]:
    """The grants of the lab in this home; a running server sees what is changed with its next request."""
    from simpletuner_lab.services.store import Store

    home = Home.find(os.environ).prepare()
    store = Store.open(home.database_of(os.environ))
    try:
        yield Grants(store.grants, ServerKey.load_or_create(home.server_key), time.time)
    finally:
        store.close()


def _endpoint_url() -> str:
    """Of this user's running server; empty where none runs."""
    client = answering(find_servers(os.environ, Path(jupyter_runtime_dir())), Home.find(os.environ))
    if client is None:
        return ""
    try:
        return client.local_upload().endpoint_url
    except LabError:
        return ""
    finally:
        client.close()
