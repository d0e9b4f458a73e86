"""Questions that a widget's JavaScript sends, answered by the client's verbs: the other side of `js/src/contract.ts`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from simpletuner_lab.client import Client
from simpletuner_lab.core.canonical import JsonObject
from simpletuner_lab.core.consent import ConsentMode
from simpletuner_lab.core.destination import Destination
from simpletuner_lab.core.doubt import Decision
from simpletuner_lab.core.errors import InvalidRequest, LabError, TooLarge
from simpletuner_lab.core.job import NEWEST_FIRST, JobFilter, JobState
from simpletuner_lab.services.codec import decode, encode
from simpletuner_lab.services.forms import RequestForm
from simpletuner_lab.services.money_views import USUAL_DAYS
from simpletuner_lab.services.views import OutputsView
from simpletuner_lab.widgets.pictures import data_url

SLOW: Final = frozenset({"plan", "submit", "picture", "push", "publishing"})
"""Verbs that read files or ask the Hub, and may take long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Nothing:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    request: RequestForm


@dataclass(frozen=True, slots=True, kw_only=True)
class _Submit:
    request: RequestForm
    approve: str | None
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Jobs:
    states: tuple[JobState, ...] = ()
    provider: str | None = None
    text: str = ""
    sort: str = NEWEST_FIRST
    limit: int = 50
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Events:
    after: int
    job_id: str | None = None
    limit: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Log:
    job_id: str
    offset: int
    limit: int = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Metrics:
    job_id: str
    points: int | None = None
    after_step: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Picture:
    job_id: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Delete:
    job_id: str
    outputs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _SetConsent:
    mode: ConsentMode


@dataclass(frozen=True, slots=True, kw_only=True)
class _Push:
    job_id: str
    destination: Destination


@dataclass(frozen=True, slots=True, kw_only=True)
class _GiveUp:
    job_id: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resolve:
    job_id: str
    action: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sync:
    provider: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spend:
    days: int = USUAL_DAYS


@dataclass(frozen=True, slots=True, kw_only=True)
class _SetLimits:
    changes: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class _SetDestination:
    destination: Destination


def answer(client: Client, verb: object, args: object) -> Any:
    """What a verb gives, ready for JSON.

    Raises:
        InvalidRequest: there is no such verb, or its arguments are of another form; all that is wrong with them.
        LabError: as the verb does.
    """
    takes, ask = _VERBS.get(verb, (None, None)) if isinstance(verb, str) else (None, None)
    if takes is None or ask is None:
        raise InvalidRequest(f"there is no verb {verb!r}", hint=f"there are {', '.join(_VERBS)}")
    return encode(ask(client, decode(takes, args, what="args")))


def error_view(error: LabError) -> dict[str, Any]:
    """An error in the form in which every way in answers one."""
    problems = [{"path": p.path, "message": p.message, "hint": p.hint} for p in error.problems]
    return {"code": error.code, "detail": error.message, "hint": error.hint, "problems": problems}


def _archive(delivered: OutputsView) -> Any:
    """Without a server nothing packs the files; they lie here, beside the kernel."""
    raise TooLarge(
        "all files at once do not come through the kernel",
        hint=f"they lie in {delivered.folder}; job.download(to=...) copies them",
    )


def _submit(client: Client, args: _Submit) -> Any:
    return client.submit(args.request.request(), approve=args.approve, key=args.key, entry="widget")


def _jobs(client: Client, args: _Jobs) -> Any:
    chosen = JobFilter(states=frozenset(args.states), provider=args.provider or None, text=args.text)
    return client.jobs(chosen, sort=args.sort, limit=args.limit, offset=args.offset)


def _delete(client: Client, args: _Delete) -> Any:
    client.delete(args.job_id, outputs=args.outputs)
    return {}


def _set_consent(client: Client, args: _SetConsent) -> Any:
    client.set_consent(args.mode)
    return {"consent": client.consent()}


def _set_destination(client: Client, args: _SetDestination) -> Any:
    client.set_destination(args.destination)
    return client.destination()


_VERBS: Final[Mapping[str, tuple[type, Callable[[Client, Any], Any]]]] = {
    "plan": (_Plan, lambda client, args: client.plan(args.request.request())),
    "submit": (_Submit, _submit),
    "jobs": (_Jobs, _jobs),
    "job": (_Job, lambda client, args: client.job(args.job_id)),
    "detail": (_Job, lambda client, args: client.detail(args.job_id)),
    "events": (_Events, lambda client, args: client.events(args.after, job_id=args.job_id, limit=args.limit)),
    "log": (_Log, lambda client, args: client.log(args.job_id, offset=args.offset, limit=args.limit)),
    "metrics": (
        _Metrics,
        lambda client, args: client.metrics(args.job_id, points=args.points, after_step=args.after_step),
    ),
    "outputs": (_Job, lambda client, args: client.outputs(args.job_id)),
    "picture": (_Picture, lambda client, args: {"src": data_url(client.outputs(args.job_id), args.path)}),
    "push": (_Push, lambda client, args: client.push(args.job_id, args.destination, entry="widget")),
    "deliveries": (_Job, lambda client, args: client.deliveries(args.job_id)),
    "give_up": (_GiveUp, lambda client, args: client.give_up(args.job_id, args.id, entry="widget")),
    "destination": (_Nothing, lambda client, _: client.destination()),
    "set_destination": (_SetDestination, _set_destination),
    "publishing": (_Nothing, lambda client, _: client.publishing()),
    "archive": (_Job, lambda client, args: _archive(client.outputs(args.job_id))),
    "cancel": (_Job, lambda client, args: client.cancel(args.job_id)),
    "resolve": (_Resolve, lambda client, args: client.resolve(args.job_id, args.action, entry="widget")),
    "sync": (_Sync, lambda client, args: client.sync(args.provider)),
    "delete": (_Delete, _delete),
    "providers": (_Nothing, lambda client, _: client.providers()),
    "spend": (_Spend, lambda client, args: client.money.spend(args.days)),
    "limits": (_Nothing, lambda client, _: client.money.limits()),
    "set_limits": (_SetLimits, lambda client, args: client.money.set_limits(args.changes)),
    "consent": (_Nothing, lambda client, _: {"consent": client.consent()}),
    "set_consent": (_SetConsent, _set_consent),
}
