"""What a person gives to set a provider up: settings in words, a token out of sight."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Sequence

from simpletuner_lab.core.canonical import Json
from simpletuner_lab.core.errors import InvalidRequest
from simpletuner_lab.core.secret import Secret


def given_settings(words: Sequence[str]) -> dict[str, Json]:
    """`KEY=VALUE` each; a value that is not JSON is text as it stands.

    Raises:
        InvalidRequest: one has no `=`.
    """
    found: dict[str, Json] = {}
    for word in words:
        key, sign, text = word.partition("=")
        if not sign or not key:
            raise InvalidRequest(f"{word!r} is no setting", hint="--set KEY=VALUE")
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found


def given_token(args: argparse.Namespace) -> Secret:
    """From a person who types it unseen, else the first line of standard input. Never a word of the command."""
    asks = args.entry == "magic" or sys.stdin.isatty()
    return Secret((getpass.getpass("Token: ") if asks else sys.stdin.readline()).strip())
