"""What each command does: it asks the lab and shows the answer on a screen. The value is the exit code of `stcloud`.

A command is given the way to the lab rather than the lab: `doctor` is for the days on which there is none.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

from simpletuner_lab.client import Client
from simpletuner_lab.commands import answers
from simpletuner_lab.commands.interrupts import pauses
from simpletuner_lab.commands.money import cost, limit, spend
from simpletuner_lab.commands.queueing import concurrency, priority, queue
from simpletuner_lab.commands.screen import Screen
from simpletuner_lab.commands.setting import given_settings, given_token
from simpletuner_lab.commands.snapshots import VERBS as SNAPSHOT_VERBS
from simpletuner_lab.commands.storage import ACTIONS
from simpletuner_lab.commands.webhook import test as test_webhook
from simpletuner_lab.core.consent import ConsentMode, ConsentState
from simpletuner_lab.core.destination import DeliveryState, Destination, is_same_place
from simpletuner_lab.core.doubt import Decision
from simpletuner_lab.core.errors import OutputNotFound
from simpletuner_lab.core.job import ALL_JOBS, JobFilter, JobState
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.doctor.examination import examine
from simpletuner_lab.doctor.finding import Status
from simpletuner_lab.downloading import download as fetch
from simpletuner_lab.services.views import DeliveryView, JobDetail, JobView
from simpletuner_lab.submission import destination_of, request_of

OK: Final = 0
FAULT: Final = 1
JOB_FAILED: Final = 4

_LOOK_S: Final = 0.3
"""Seconds between two looks at a job that is followed."""

Opening: TypeAlias = Callable[[], Client]
"""Finds the lab. Raises what `client.connect` raises."""

Verb: TypeAlias = Callable[[Opening, argparse.Namespace, Screen], int]


def plan(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:
    """Shows what a submit would do."""
    screen.show(answers.plan_answer(lab().plan(asked(args))))
    return OK


def submit(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:
    """Submits a plan that was agreed to: before, by its digest, or at its sight."""
    client = lab()
    job = submitted(client, args, screen)
    screen.show(answers.submitted_answer(job, client.money.warning(job.job_id).warning))
    if job.status in {JobState.FAILED, JobState.CANCELLED}:
        return JOB_FAILED
    if not args.wait:
        return OK
    return _wait(client, job, screen) if screen.for_programs else follow(client, job.job_id, screen)


def submitted(client: Client, args: argparse.Namespace, screen: Screen) -> JobView:
    """The job of `submit`. The plan is shown unless a digest is given; `args.entry` goes on record.

    Raises:
        ConsentRequired: nobody agreed.
    """
    request = asked(args)
    approve: str | None = args.approve
    if approve is None:
        made = client.plan(request)
        if not screen.for_programs:
            screen.show(answers.plan_answer(made))
        if args.yes or (made.consent is ConsentState.NEEDED and screen.agree()):
            approve = made.digest
    return client.submit(request, approve=approve, key=args.key, entry=args.entry)


def jobs(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:
    """Lists jobs."""
    wanted = chosen(args)
    page = lab().jobs(wanted, limit=args.limit, offset=args.offset)
    screen.show(answers.jobs_answer(page, before=args.offset, filtered=wanted != ALL_JOBS))
    return OK


def job(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:
    """Shows one job, or its progress to the end."""
    client = lab()
    if not args.watch:
        detail = client.detail(args.job_id)
        screen.show(answers.job_answer(detail, _why_no_snapshot(client, detail)))
        return OK
    for seen in _looks(client, args.job_id):
        screen.progress(seen)
    return _ended(client, seen, screen)


def _why_no_snapshot(client: Client, detail: JobDetail) -> str:
    """Why a job's snapshot waits; asking for it has it tried again. Empty where it is written, or none is to be."""
    planned = detail.metadata.snapshot
    if planned is None or planned.commit:
        return ""
    return client.snapshots.of_job(detail.job.job_id).problem


def logs(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:
    """Prints the log of a job: what there is, or all to come."""
    client = lab()
    if args.follow:
        return follow(client, args.job_id, screen, raw=args.raw)
    offset = 0
    while (chunk := client.log(args.job_id, offset=offset)).next_offset > offset:
        screen.log(chunk, raw=args.raw)
        offset = chunk.next_offset
    return OK


def outputs(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:
    """Lists what a job delivered."""
    client = lab()
    screen.show(answers.outputs_answer(client.outputs(args.job_id), client.deliveries(args.job_id)))
    return OK


def push(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:
    """Sends a completed job's model on, tries what waits again, or gives it up."""
    client = lab()
    place = None if args.to is None else aimed(args, args.to)
    if args.give_up:
        screen.show(answers.deliveries_answer(_given_up(client, args, place)))
        return OK
    if place is None:
        sent = client.hasten(args.job_id)
        screen.show(answers.deliveries_answer(sent))
    else:
        sent = (client.push(args.job_id, place, entry=args.entry),)
        screen.show(answers.delivery_answer(sent[0]))
    return FAULT if any(_tried_in_vain(one) for one in sent) else OK


def destination(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:
    """Shows where models go when a submit does not say, after setting it."""
    client = lab()
    if args.to:
        client.set_destination(aimed(args, args.to))
    screen.show(answers.destination_answer(client.destination()))
    return OK


def download(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:
    """Copies what a job delivered. A file that broke off is gone on with."""
    to = Path(args.job_id) if args.to is None else args.to
    for file in fetch(lab(), args.job_id, to, paths=args.paths):
        screen.show(answers.downloaded_answer(file))
    return OK


def cancel(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:
    """Asks for the end of a job."""
    screen.show(answers.cancelled_answer(lab().cancel(args.job_id)))
    return OK


def resolve(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:
    """Decides about a job whose start may have been lost."""
    decision = Decision.RESEND if args.resend else Decision.GIVE_UP
    screen.show(answers.resolved_answer(lab().resolve(args.job_id, decision, entry=args.entry)))
    return OK


def sync(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:
    """Imports runs that were started elsewhere."""
    screen.show(answers.synced_answer(lab().sync(args.provider)))
    return OK


def delete(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:
    """Removes a finished job."""
    lab().delete(args.job_id, outputs=args.outputs)
    screen.show(answers.deleted_answer(args.job_id))
    return OK


def providers(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:  # noqa: ARG001 - a verb's form
    """Lists where jobs can run."""
    screen.show(answers.providers_answer(lab().providers()))
    return OK


def provider(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:
    """Shows how a provider is set up, after changing it."""
    setup, warnings = lab().setup, []
    if args.token:
        warnings.append(setup.set_token(args.provider, given_token(args)).warning)
    if args.forget_token:
        warnings.append(setup.delete_token(args.provider).warning)
    if args.set:
        setup.change(args.provider, given_settings(args.set))
    checked = setup.validate(args.provider)
    screen.show(answers.provider_answer(setup.config(args.provider), checked, warnings))
    on_the_way = bool(args.set or args.forget_token) and not args.token  # what is set one by one need not be whole yet
    return OK if checked.valid or on_the_way else FAULT


def consent(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:
    """Shows the consent mode, after setting it."""
    client = lab()
    if args.mode:
        client.set_consent(ConsentMode.parse(args.mode))
    screen.show(answers.consent_answer(client.consent()))
    return OK


def doctor(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:  # noqa: ARG001 - there may be no lab
    """Examines this machine."""
    found = examine(url=args.url)
    screen.show(answers.doctor_answer(found))
    return FAULT if any(finding.status is Status.PROBLEM for finding in found) else OK


def storage(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:
    """Keys of the object endpoint, and whether it is reached."""
    return ACTIONS[args.action](lab, args, screen)


def webhook(lab: Opening, args: argparse.Namespace, screen: Screen) -> int:
    """Whether webhooks arrive."""
    return test_webhook(lab, args, screen)


VERBS: Final[Mapping[str, Verb]] = MappingProxyType(
    {
        verb.__name__: verb
        for verb in (
            plan,
            submit,
            jobs,
            job,
            logs,
            outputs,
            download,
            push,
            cancel,
            queue,
            priority,
            concurrency,
            resolve,
            sync,
            delete,
            *SNAPSHOT_VERBS,
            providers,
            provider,
            consent,
            spend,
            limit,
            cost,
            destination,
            storage,
            webhook,
            doctor,
        )
    }
)
"""By the words of `tree`."""


# ------------------------------------------------------------ parts


def asked(args: argparse.Namespace) -> SubmitRequest:
    """The request of `plan` and `submit`."""
    request = request_of(
        args.config,
        args.data,
        provider=args.provider,
        target=args.target,
        hardware=args.hardware,
        name=args.name,
        destination=None if args.to is None else aimed(args, args.to),
        priority=args.priority,
        strip_exif=args.strip_exif,
    )
    name, message = getattr(args, "snapshot_name", ""), getattr(args, "snapshot_message", "")
    return dataclasses.replace(request, snapshot_name=name, snapshot_message=message)


def aimed(args: argparse.Namespace, where: str) -> Destination:
    """The destination that the words of a command name."""
    return destination_of(
        where,
        endpoint_url=args.endpoint_url,
        region=args.region,
        public=args.public,
        checkpoints=args.checkpoints,
        by_trainer=getattr(args, "by_trainer", False),
    )


def _given_up(client: Client, args: argparse.Namespace, place: Destination | None) -> Sequence[DeliveryView]:
    """All that waits, or what goes to that place, whatever else was said of it when it was asked for."""
    if place is None:
        return client.give_up(args.job_id, entry=args.entry)
    found = [one for one in client.deliveries(args.job_id) if is_same_place(one.destination, place)]
    if not found:
        raise OutputNotFound(f"job {args.job_id} has no push to {args.to}", hint="stcloud outputs ID lists them")
    waiting = [one for one in found if one.state in {DeliveryState.WAITING, DeliveryState.SENDING}] or found
    return [one for push in waiting for one in client.give_up(args.job_id, push.id, entry=args.entry)]


def _tried_in_vain(sent: DeliveryView) -> bool:
    return bool(sent.problem) and sent.state is not DeliveryState.DELIVERED


def chosen(args: argparse.Namespace) -> JobFilter:
    """Which jobs `jobs` lists."""
    return JobFilter(states=frozenset(map(JobState, args.state)), provider=args.provider, text=args.text)


def follow(client: Client, job_id: str, screen: Screen, *, raw: bool = False) -> int:
    """Shows a job's log as it grows, to the end of the job."""
    offset = 0
    with pauses() as sleep:
        while True:
            chunk = client.log(job_id, offset=offset)
            if chunk.next_offset > offset:
                screen.log(chunk, raw=raw)
            if chunk.ended:
                return _ended(client, client.job(job_id), screen)
            if screen.shows_progress:
                screen.progress(client.job(job_id))
            if chunk.next_offset == offset:
                sleep(_LOOK_S)
            offset = chunk.next_offset


def _wait(client: Client, job: JobView, screen: Screen) -> int:
    for seen in _looks(client, job.job_id):
        job = seen
    return _ended(client, job, screen)


def _looks(client: Client, job_id: str) -> Iterator[JobView]:
    """The job now and again, the last time at its end."""
    with pauses() as sleep:
        while not (seen := client.job(job_id)).is_terminal:
            yield seen
            sleep(_LOOK_S)
    yield seen


def _ended(client: Client, job: JobView, screen: Screen) -> int:
    """Whoever waited for the job waits for its model's way on too, where no server sends it."""
    screen.show(answers.ended_answer(job))
    sent = client.settle(job.job_id)
    if sent and not screen.for_programs:
        screen.show(answers.deliveries_answer(sent))
    return OK if job.status is JobState.COMPLETED else JOB_FAILED
