"""`stcloud diff`, `restore`, `rerun` and `snapshots`: what was submitted before, side by side and again (SPEC G1)."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from simpletuner_lab.client import Client
from simpletuner_lab.commands.answers import Answer, plan_answer, submitted_answer
from simpletuner_lab.commands.screen import Screen
from simpletuner_lab.core.comparison import Difference, Kind
from simpletuner_lab.core.consent import ConsentState
from simpletuner_lab.core.destination import Destination, HomeDestination, HubDestination, Sender
from simpletuner_lab.core.errors import InvalidRequest
from simpletuner_lab.core.job import JobState
from simpletuner_lab.services.comparing import compare
from simpletuner_lab.services.forms import RequestForm
from simpletuner_lab.services.snapshot_views import Draft, JobDiff, SnapshotEntry, SnapshotPage
from simpletuner_lab.services.views import JobView
from simpletuner_lab.terminal import one_line

OK: Final = 0
JOB_FAILED: Final = 4

NOW: Final = "now"
"""What a plan of now is called beside a job."""

_SIGNS: Final = {Kind.ADDED: "+", Kind.REMOVED: "-", Kind.CHANGED: "~"}


def diff(lab: Callable[[], Client], args: argparse.Namespace, screen: Screen) -> int:
    """Shows what of the second job is not as in the first."""
    screen.show(diff_answer(lab().snapshots.diff(args.job_id, args.other)))
    return OK


def snapshots(lab: Callable[[], Client], args: argparse.Namespace, screen: Screen) -> int:
    """Lists the newest snapshots, or switches them on or off and says so."""
    room = lab().snapshots
    if args.setting:
        room.set_enabled(args.setting == "on")
    answer = snapshots_answer(room.listed(limit=args.limit))
    screen.show(dataclasses.replace(answer, text=answer.text.splitlines()[-1]) if args.setting else answer)
    return OK


def restore(lab: Callable[[], Client], args: argparse.Namespace, screen: Screen) -> int:
    """Gives a job's config as its user had it: to a file, or to the screen."""
    found = lab().snapshots.draft(args.job_id)
    document = config_of(found.request)
    if args.output is None:
        screen.show(Answer(value=document, text=_pretty(document)))
        return OK
    try:
        with args.output.open("x", encoding="utf-8") as file:
            file.write(_pretty(document) + "\n")
    except FileExistsError as error:
        raise InvalidRequest(f"{args.output} is there already", hint="choose another name") from error
    except OSError as error:
        raise InvalidRequest(f"{args.output} cannot be written: {error.strerror}") from error
    screen.show(restored_answer(found, args.output))
    return OK


def rerun(lab: Callable[[], Client], args: argparse.Namespace, screen: Screen) -> int:
    """Submits a job's request again, under a plan of now: what differs is said, and consent is asked as ever."""
    client = lab()
    job = rerun_job(client, args, screen)
    screen.show(submitted_answer(job))
    return JOB_FAILED if job.status in {JobState.FAILED, JobState.CANCELLED} else OK


def rerun_job(client: Client, args: argparse.Namespace, screen: Screen) -> JobView:
    """The new job.

    Raises:
        ConsentRequired: nobody agreed.
        InvalidRequest: what it asked for is not there any more.
    """
    request = client.snapshots.draft(args.job_id).request.request()
    approve: str | None = args.approve
    if approve is None:
        try:
            made = client.plan(request)
        except InvalidRequest as error:
            again = f"stcloud restore {args.job_id} -o FILE, and submit that as you want it now"
            raise type(error)(error.message, hint=f"{error.hint}; {again}", problems=error.problems) from error
        if not screen.for_programs:
            then = client.detail(args.job_id).plan
            screen.show(plan_answer(made))
            screen.show(diff_answer(compare(then, made, names=(args.job_id, NOW))))
        if args.yes or (made.consent is ConsentState.NEEDED and screen.agree()):
            approve = made.digest
    return client.submit(request, approve=approve, key=args.key, entry=args.entry)


VERBS: Final = (diff, restore, rerun, snapshots)


# ------------------------------------------------------------ answers


def diff_answer(found: JobDiff) -> Answer:
    """Every difference in a line, then the files of the data sets."""
    lines = [*map(_difference, found.differences)]
    lines += [
        f"~ files of {one_line(one.id)}: {one.files_added} added, {one.files_removed} removed,"
        f" {one.files_changed} changed, {one.files_same} the same"
        for one in found.data
    ]
    digest = "the same digest" if found.same_digest else "another digest"
    note = f"{one_line(found.a)} and {one_line(found.b)}: " + (
        "" if not lines else "1 difference, " if len(lines) == 1 else f"{len(lines)} differences, "
    )
    return Answer(value=found, text="\n".join((*lines, note + digest)))


def snapshots_answer(page: SnapshotPage) -> Answer:
    """The list, and whether new ones are made."""
    waiting = f", {page.waiting} to be written yet" if page.waiting else ""
    note = f"snapshots are {'on' if page.enabled else 'off'}{waiting}: {page.folder}"
    return Answer(value=page, text="\n".join((*map(_entry, page.snapshots), note)))


def restored_answer(found: Draft, path: Path) -> Answer:
    """Where it is, what has changed since, and how it is planned."""
    words = ["stcloud", "plan", str(path), *_options(found.request)]
    lines = (f"{path}: the config of job {found.job_id}", *found.notes, shlex.join(words))
    value = {"path": str(path), "job_id": found.job_id, "notes": list(found.notes), "plan": words}
    return Answer(value=value, text="\n".join(map(one_line, lines)))


def config_of(form: RequestForm) -> dict[str, Any]:
    """A config.json that `plan` and `submit` take, its data sets in it."""
    return {**form.config, "data_backend_config": [dict(entry) for entry in form.dataloader_config]}


def _difference(one: Difference) -> str:
    before, after = (json.dumps(value, ensure_ascii=False) for value in (one.before, one.after))
    shown = {Kind.ADDED: after, Kind.REMOVED: before, Kind.CHANGED: f"{before} → {after}"}[one.kind]
    return one_line(f"{_SIGNS[one.kind]} {one.path}: {shown}")


def _entry(one: SnapshotEntry) -> str:
    message = one.message.partition("\n")[0]
    return one_line(f"{one.abbrev}  {one.created_at}  {one.job_id}  {one.name}  {message}")


def _options(form: RequestForm) -> Iterator[str]:
    """What of a request stands beside the config on a command line."""
    given = {"--provider": form.provider, "--target": form.target, "--hardware": form.hardware_profile}
    for option, value in (given | {"--name": form.config_name}).items():
        if value:
            yield from (option, value)
    if form.strip_exif:
        yield "--strip-exif"
    yield from _place(form.destination)


def _place(destination: Destination | None) -> Iterator[str]:
    if destination is None or isinstance(destination, HomeDestination):
        yield from () if destination is None else ("--to", "home")
        return
    if isinstance(destination, HubDestination):
        yield from ("--to", f"hub:{destination.repo_id}")
        yield from () if destination.private else ("--public",)
    else:
        yield from ("--to", f"s3://{destination.bucket}/{destination.prefix}", "--region", destination.region)
        yield from ("--endpoint-url", destination.endpoint_url) if destination.endpoint_url else ()
    yield from ("--checkpoints",) if destination.checkpoints else ()
    yield from ("--by-trainer",) if destination.sender is Sender.TRAINER else ()


def _pretty(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2)
