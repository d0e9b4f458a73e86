"""`stcloud spend`, `limit` and `cost`: what was spent, what may be, and how near one is to the other."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final, TypeAlias

from simpletuner_lab.client import Client
from simpletuner_lab.commands.money_answers import cost_answer, limits_answer, spend_answer
from simpletuner_lab.commands.screen import Screen
from simpletuner_lab.core.errors import InvalidRequest

OK: Final = 0

_NONE: Final = "none"

Opening: TypeAlias = Callable[[], Client]


def spend(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:
    """Shows what was spent in the last days."""
    screen.show(spend_answer(lab().money.spend(args.days, provider=args.provider)))
    return OK


def limit(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:
    """Shows the spend limits, after changing them."""
    money, changes = lab().money, given_limits(args)
    screen.show(limits_answer(money.set_limits(changes) if changes else money.limits()))
    return OK


def cost(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:
    """Books what runs have cost whose provider did not tell."""
    screen.show(cost_answer(lab().money.state_cost(args.job_id, args.usd, entry=args.entry)))
    return OK


def given_limits(args: argparse.Namespace) -> dict[str, object]:
    """The changes that the words of `limit` ask for, as `PUT /cost-limit` takes them.

    Raises:
        InvalidRequest: what is to be changed makes no sense together.
    """
    changes: dict[str, object] = {}
    if own := _of_period(args):
        changes |= {"providers": {args.provider: own}} if args.provider else {"total": own}
    elif args.provider:
        raise InvalidRequest("--provider says whose limit is to change, and not how", hint="give an amount, or --off")
    if job := _of_job(args):
        changes["job"] = job
    if args.zone is not None:
        changes["time_zone"] = args.zone
    return changes


def _of_period(args: argparse.Namespace) -> dict[str, object]:
    if args.off and args.amount is not None:
        raise InvalidRequest("--off and an amount do not go together", hint="one of them")
    own = {name: value for name, value in (("period", args.period), ("action", args.action)) if value}
    if args.amount is not None:
        own |= {"amount_usd": args.amount, "enabled": True}
    return own | ({"enabled": False} if args.off else {})


def _of_job(args: argparse.Namespace) -> dict[str, object]:
    own: dict[str, object] = {"action": args.job_action} if args.job_action else {}
    if args.job is not None:
        own["amount_usd"] = None if args.job == _NONE else _amount(args.job)
    return own


def _amount(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InvalidRequest(f"{text!r} is no amount of US dollars", hint=f"for example 5, or {_NONE}") from error
