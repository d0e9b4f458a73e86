"""`stcloud webhook`: whether what providers call back with arrives. The running server tests it: it is what is called."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

from simpletuner_lab.client import Client, LabClient
from simpletuner_lab.commands.screen import Screen
from simpletuner_lab.commands.storage_answers import reach_answer
from simpletuner_lab.core.errors import InvalidRequest
from simpletuner_lab.services.reach.report import Mode

OK: Final = 0
FAULT: Final = 1


def test(lab: Callable[[], Client], args: argparse.Namespace, screen: Screen) -> int:
    """Tests the way of a provider's webhooks, step by step."""
    client = lab()
    if not isinstance(client, LabClient):
        raise InvalidRequest("no notebook server of yours runs, so there is nothing to call back", hint="start it")
    found = client.test_webhook(args.provider, Mode.PROVIDER if args.via_provider else Mode.DIRECT)
    screen.show(reach_answer(found))
    return OK if found.reached else FAULT
