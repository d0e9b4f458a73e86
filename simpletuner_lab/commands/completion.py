"""What may come next on a command line: words of the tree, and ids as the lab has them now.

Asking the lab is bounded in time, and a fault of it is silence: nobody waits for a completion or reads about one.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import argcomplete
from argcomplete.finders import CompletionFinder

from simpletuner_lab.core.errors import LabError, StoreUnusable
from simpletuner_lab.core.job import ALL_JOBS
from simpletuner_lab.services.home import DATABASE_URL, Home

if TYPE_CHECKING:
    from simpletuner_lab.client import Client
    from simpletuner_lab.services.lab import Lab

Ask: TypeAlias = Callable[[str], list[str]]
"""The words that begin with a prefix."""

_PATIENCE_S: Final = 3.0
_JOBS: Final = 200
"""Of so many of the newest jobs the ids are known."""


def complete_in_shell(parser: argparse.ArgumentParser) -> None:
    """Answers the shell that asks through argcomplete's variables, and ends the process."""
    attach(parser, _lab_as_it_is)
    argcomplete.autocomplete(parser, always_complete_options=False)


def complete(parser: argparse.ArgumentParser, words: Sequence[str], prefix: str) -> list[str]:
    """What may stand after `words`, beginning with `prefix`. The parser is spent by it: give one of its own."""
    option, is_set, _ = prefix.partition("=")
    words = [*words, option] if is_set and option.startswith("-") else words  # `--state=run`: its value is wanted
    return sorted(_Finder(parser, always_complete_options=False).after(words, prefix))


def attach(parser: argparse.ArgumentParser, lab: Callable[[], Client]) -> None:
    """Gives each argument of the tree what completes it: files, or ids of a lab that is asked at that moment."""
    asks: dict[str, Ask] = {
        "job_id": lambda prefix: _within_patience(lambda: _job_ids(lab()), prefix),
        "other": lambda prefix: _within_patience(lambda: _job_ids(lab()), prefix),
        "provider": lambda prefix: _within_patience(lambda: _provider_ids(lab()), prefix),
        "config": lambda prefix: files(prefix, ".json"),
        "data": lambda prefix: files(prefix, ".json"),
    }
    for action in _arguments(parser):
        if action.choices is None:
            _complete_by(action, asks.get(action.dest, lambda _: []))


def files(prefix: str, suffix: str) -> list[str]:
    """Folders, and files with this suffix, that begin with the prefix as it was typed."""
    typed, sep, start = prefix.rpartition("/")
    try:
        found = sorted(Path(typed + sep or ".").expanduser().iterdir())
        return [
            typed + sep + path.name + ("/" if path.is_dir() else "")
            for path in found
            if path.name.startswith(start)
            and (start or not path.name.startswith("."))
            and (path.is_dir() or path.suffix == suffix)
        ]
    except (OSError, RuntimeError, ValueError):
        return []


class _Finder(CompletionFinder):
    """argcomplete without a shell around it: nothing is quoted, and nothing ends the process."""

    def after(self, words: Sequence[str], prefix: str) -> list[str]:
        active = self._patch_argument_parser()  # type: ignore[no-untyped-call]
        parsed = argparse.Namespace()
        self.completing = True
        with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):
            active[0].parse_known_args(list(words), namespace=parsed)
        self.completing = False
        return self.filter_completions(self.collect_completions(active, parsed, prefix))


def _arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to its actions
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for child in action.choices.values():
                yield from _arguments(child)
        elif action.nargs != 0:
            yield action


def _complete_by(action: argparse.Action, ask: Ask) -> None:
    def completer(prefix: str, **_: Any) -> list[str]:
        return ask(prefix)

    action.completer = completer  # type: ignore[attr-defined]


def _within_patience(ask: Callable[[], list[str]], prefix: str) -> list[str]:
    found: list[str] = []

    def run() -> None:
        with contextlib.suppress(LabError, OSError):
            found.extend(ask())

    asking = threading.Thread(target=run, daemon=True)
    asking.start()
    asking.join(_PATIENCE_S)
    return [word for word in found if word.startswith(prefix)]


def _lab_as_it_is() -> Client:
    """The lab, if there is one: a completion makes none."""
    home = Home.find(os.environ)
    if DATABASE_URL not in os.environ and not home.database.exists():
        raise StoreUnusable(f"there is no lab in {home.root} yet")
    from simpletuner_lab.client import connect

    return connect()


def _job_ids(client: Client) -> list[str]:
    """Ids of the newest jobs. Without a server the store alone is read: the runs are left alone."""
    lab = _lab_of(client)
    if lab is not None:
        return [job.id for job in lab.store.jobs.page(ALL_JOBS, limit=_JOBS, offset=0).jobs]
    return [job.job_id for job in client.jobs(limit=_JOBS).jobs]


def _provider_ids(client: Client) -> list[str]:
    """Ids of the providers that are open. Without a server none of them is asked how it is."""
    lab = _lab_of(client)
    if lab is not None:
        return [provider.id for provider in lab.registry]
    return [provider.id for provider in client.providers() if not provider.coming_soon]


def _lab_of(client: Client) -> Lab | None:
    """The lab itself, where the client has it in this process."""
    from simpletuner_lab.client import LabClient

    if isinstance(client, LabClient):
        return None  # and the lab need not be imported to know it
    from simpletuner_lab.services.front import Front

    return client.lab if isinstance(client, Front) else None
