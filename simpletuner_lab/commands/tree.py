"""The one tree of commands, for the terminal and for notebooks. It is words alone: what they do is in `verbs`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from simpletuner_lab._version import __version__
from simpletuner_lab.core.consent import ConsentMode
from simpletuner_lab.core.job import JobState
from simpletuner_lab.core.job_queue import DEFAULT_PRIORITY
from simpletuner_lab.core.plan import DEFAULT_PROVIDER
from simpletuner_lab.core.spend import LimitAction, Period

_WHERE: Final = "home, hub:OWNER/NAME or s3://BUCKET/PREFIX"

_PRIORITY: Final = "0 to 50, or viewer, researcher, lead, admin, critical"

Command: TypeAlias = Callable[[str, str], argparse.ArgumentParser]
"""Adds a command by its name and what it is about."""

LISTED: Final = 20
"""Jobs that `jobs` shows unless another number is given."""


def build_parser(
    prog: str = "stcloud",
    *,
    body: bool = False,
    parser_class: type[argparse.ArgumentParser] = argparse.ArgumentParser,
) -> argparse.ArgumentParser:
    """The parser; `args.command` is the name of a function in `verbs`.

    Args:
        prog: what a person types before the command.
        body: the config is given beside the words, as the body of a cell; the tree is of the commands that take one.
        parser_class: for parsers that end otherwise than by leaving the process.
    """
    parser = parser_class(prog=prog, description="Train diffusion models on a GPU elsewhere, or here.")
    parser.add_argument("--version", action="version", version=f"stcloud {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = _common()

    def command(name: str, about: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, parents=[common], help=about, description=about)

    _add_request(command("plan", "show what a submit would send, to whom, for how much"), body=body)
    submit = command("submit", "submit a training job")
    _add_request(submit, body=body)
    _add_consent(submit)
    _add_words(submit)
    submit.add_argument("-w", "--wait", action="store_true", help="follow the log until the job ends")
    if body:
        return parser
    _add_list(command("jobs", "list jobs, newest first"))
    _add_one_job(command("job", "show one job")).add_argument(
        "--watch", action="store_true", help="show its progress until it ends"
    )
    _add_logs(command("logs", "print a job's log"))
    _add_one_job(command("outputs", "list what a job delivered"))
    _add_download(command("download", "copy what a job delivered to a folder, and compare the checksums"))
    _add_push(command("push", "send a completed job's model on, try again what waits, or give it up"))
    _add_one_job(command("cancel", "end a job"))
    _add_queueing(command)
    _add_resolve(command("resolve", "decide about a job whose start may have been lost"))
    command("sync", "follow runs that were started elsewhere, as jobs").add_argument(
        "--provider", default="", help="of this provider alone"
    )
    _add_snapshots(command)
    _add_one_job(command("delete", "remove a finished job")).add_argument(
        "--outputs", action="store_true", help="its received files too"
    )
    command("providers", "list where jobs can run")
    _add_provider(command("provider", "show or change how a provider is set up"))
    command("consent", "show or set the consent mode").add_argument(
        "mode", nargs="?", choices=[mode.value for mode in ConsentMode], type=_consent_word, help="deny is never"
    )
    _add_spend(command("spend", "show what was spent, by day, provider and job, and how near the limits are"))
    _add_limit(command("limit", "show or set what may be spent in a period, and by a job"))
    _add_one_job(command("cost", "say what runs of a job have cost whose provider did not tell")).add_argument(
        "usd", type=float, metavar="USD", help="in all, as its bill has it; 0: nothing"
    )
    _add_default(command("destination", "show or set where models go when a submit does not say"))
    _add_surroundings(command, common)
    return parser


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="JSON, one document a line")
    common.add_argument(
        "--url", help="notebook server to ask (token in JUPYTER_TOKEN); default: find it, else no server"
    )
    return common


def _add_request(command: argparse.ArgumentParser, *, body: bool) -> None:
    if not body:
        command.add_argument("config", type=Path, help="config.json, as SimpleTuner has it")
    command.add_argument(
        "--data", "--dataloader", type=Path, action="append", metavar="PATH",
        help="folder of images, or a dataloader JSON; may be repeated; default: the config's data_backend_config",
    )  # fmt: skip
    command.add_argument("--provider", default=DEFAULT_PROVIDER, help="where it runs (default: this machine)")
    command.add_argument("--target", default="", help="which of the provider's targets")
    command.add_argument("--hardware", default="", help="which of the provider's hardware")
    command.add_argument("--name", default="", help="name of the job in lists")
    command.add_argument(
        "--priority", default=DEFAULT_PRIORITY, metavar="N", help=f"in the queue: {_PRIORITY} (default: 10)"
    )
    command.add_argument(
        "--strip-exif", action="store_true", help="pictures leave without EXIF, places, comments and text"
    )
    command.add_argument("--to", default=None, metavar="WHERE", help=f"where the model goes: {_WHERE}")
    _add_destination(command)


def _add_surroundings(command: Command, common: argparse.ArgumentParser) -> None:
    _add_storage(command("storage", "the object endpoint: its keys, grants by hand, and whether it is reached"), common)
    webhook = command("webhook", "whether what a provider calls back with arrives")
    _add_webhook(webhook, common)
    _add_emulator(command("emulator", "run an emulated Replicate here, to try a provider elsewhere without an account"))
    command("openapi", "print the description of the REST API, OpenAPI 3.1").set_defaults(terminal=True)
    command("doctor", "look for what commonly goes wrong on a machine, and say the fix")


def _add_queueing(command: Command) -> None:
    queue = command("queue", "list who holds a slot, and who waits for one, in which order")
    queue.add_argument("-n", "--limit", type=int, default=50, help="how many (default: 50)")
    queue.add_argument("--offset", type=int, default=0, help="how many to leave out")
    priority = _add_one_job(command("priority", "let a job that waits for a slot go ahead of others, or behind them"))
    priority.add_argument("priority", metavar="N", help=f"{_PRIORITY}, or `default`: that of its submit")
    limits = command("concurrency", "show or set how many jobs may be under way at once")
    limits.add_argument("--global", dest="total", type=int, default=None, metavar="N", help="jobs in all, 1 to 100")
    limits.add_argument("--user", type=int, default=None, metavar="N", help="jobs of one user, 1 to 20")
    limits.add_argument(
        "--local", type=int, default=None, metavar="N", help="jobs of one provider on this machine, 1 to 10"
    )
    limits.add_argument(
        "--provider", dest="of_provider", action="append", default=[], metavar="NAME=N",
        help="jobs of one provider, or NAME=default; may be repeated",
    )  # fmt: skip


def _consent_word(text: str) -> str:
    return ConsentMode.NEVER.value if text == "deny" else text  # as REST takes both


def _add_consent(command: argparse.ArgumentParser) -> None:
    command.add_argument("--approve", metavar="DIGEST", help="digest of the plan you read")
    command.add_argument("--yes", action="store_true", help="approve the plan that is printed just now")
    command.add_argument("--key", help="idempotency key: the same key within 24 h is the same job")


def _add_words(command: argparse.ArgumentParser) -> None:
    command.add_argument("--snapshot-name", default="", metavar="TEXT", help="what its snapshot is called")
    command.add_argument("--snapshot-message", default="", metavar="TEXT", help="what is to be said of it")


def _add_logs(command: argparse.ArgumentParser) -> None:
    _add_one_job(command).add_argument("-f", "--follow", action="store_true", help="go on until the job ends")
    command.add_argument("--raw", action="store_true", help="with the trainer's report lines")


def _add_download(command: argparse.ArgumentParser) -> None:
    _add_one_job(command)
    command.add_argument("paths", nargs="*", metavar="PATH", help="a file or folder of its outputs; none: all")
    command.add_argument(
        "--to", type=Path, default=None, metavar="DIR", help="where to (default: a folder named by the job)"
    )


def _add_resolve(command: argparse.ArgumentParser) -> None:
    decision = _add_one_job(command).add_mutually_exclusive_group(required=True)
    decision.add_argument("--resend", action="store_true", help="start it again: you have seen that there is no run")
    decision.add_argument("--give-up", action="store_true", help="fail the job; a run that there is goes on")


def _add_provider(command: argparse.ArgumentParser) -> None:
    command.add_argument("provider", metavar="NAME", help="as `providers` lists it")
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, its value as JSON or as it is"
    )
    token = command.add_mutually_exclusive_group()
    token.add_argument("--token", action="store_true", help="ask for its token (or read it from standard input)")
    token.add_argument("--forget-token", action="store_true", help="delete the token that was kept")


def _add_spend(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--days", type=int, default=30, metavar="N", help="so many days, today among them (default: 30)"
    )
    command.add_argument("--provider", default="", help="of this provider alone")


def _add_limit(command: argparse.ArgumentParser) -> None:
    actions = [action.value for action in LimitAction]
    command.add_argument("amount", nargs="?", type=float, default=None, metavar="AMOUNT", help="US dollars in a period")
    command.add_argument("--period", choices=[period.value for period in Period], default="", help="a calendar period")
    command.add_argument("--action", choices=actions, default="", help="what it does once it would be passed")
    command.add_argument("--provider", default="", help="the limit of this provider alone (default: of all together)")
    command.add_argument("--off", action="store_true", help="no limit any more")
    command.add_argument("--job", default=None, metavar="AMOUNT", help="what one job may cost; none: whatever it does")
    command.add_argument("--job-action", choices=actions, default="", help="block: it is ended before that")
    command.add_argument("--zone", default=None, metavar="ZONE", help="whose days count, such as Europe/Berlin")


def _add_push(command: argparse.ArgumentParser) -> None:
    _add_one_job(command)
    command.add_argument(
        "--to", metavar="WHERE", help="hub:OWNER/NAME or s3://BUCKET/PREFIX (default: what waits to be sent)"
    )
    command.add_argument("--give-up", action="store_true", help="send it no further: all that waits, or what goes --to")
    _add_destination(command, by_trainer=False)


def _add_default(command: argparse.ArgumentParser) -> None:
    command.add_argument("to", nargs="?", metavar="WHERE", help=_WHERE)
    _add_destination(command)


def _add_snapshots(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    _add_one_job(command("diff", "show what of a second job is not as in a first")).add_argument(
        "other", metavar="OTHER", help="id of the second job"
    )
    restore = _add_one_job(command("restore", "give a job's config back, as it was submitted"))
    restore.add_argument(
        "-o", "--output", type=Path, default=None, metavar="PATH", help="a new file (default: print it)"
    )
    _add_consent(_add_one_job(command("rerun", "submit a job again, as it was")))
    listed = command("snapshots", "list what was submitted, as commits, or switch these on or off")
    listed.add_argument("setting", nargs="?", choices=["on", "off"], help="for submits from now on")
    listed.add_argument("-n", "--limit", type=int, default=LISTED, help=f"how many (default: {LISTED})")


def _add_destination(command: argparse.ArgumentParser, *, by_trainer: bool = True) -> None:
    command.add_argument("--endpoint-url", default="", metavar="URL", help="of an S3 other than Amazon's own")
    command.add_argument("--region", default="", help="of the bucket (default: us-east-1)")
    command.add_argument("--public", action="store_true", help="make the repository on the Hub public")
    command.add_argument("--checkpoints", action="store_true", help="send checkpoints too")
    if by_trainer:
        command.add_argument(
            "--by-trainer", action="store_true", help="the training machine sends, so the token or keys travel to it"
        )


def _add_storage(command: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, about: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, parents=[common], help=about, description=about)

    action("credentials", "print your own keys, the secret too, with lines for S3 clients").set_defaults(terminal=True)
    grant = action("grant", "make keys for one bucket and prefix, and print them this once")
    grant.set_defaults(terminal=True)
    grant.add_argument("--bucket", required=True, help="the one bucket that they open")
    grant.add_argument("--prefix", default="", help="the beginning of every key that they open (default: all)")
    grant.add_argument("--read-only", action="store_true", help="without PUT and DELETE")
    grant.add_argument("--days", type=float, required=True, help="so long they last; a fraction will do")
    grant.add_argument("--max-bytes", type=int, default=None, help="so much may be under the prefix in all")
    grant.add_argument("--name", default="", help="what you call them")
    grants = action("grants", "list the grants made by hand, without their secrets")
    grants.add_argument("--all", action="store_true", help="those that have ended too")
    action("revoke", "end a grant made by hand").add_argument("access_key", metavar="ID", help="as `grants` lists it")
    test = action("test", "look what stands between the object endpoint and the world, step by step")
    test.add_argument("to", nargs="?", default="", metavar="URL", help="default: the public URL that is set")
    test.add_argument("--access-key", default="", help="keys of another endpoint; its secret is in the environment")
    _add_serve(action("serve", "run the object endpoint alone, on a machine without a notebook server"))


def _add_webhook(command: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    about = "send one to the public URL that is set, and look what becomes of it, step by step"
    test = actions.add_parser("test", parents=[common], help=about, description=about)
    test.add_argument("provider", metavar="PROVIDER", help="whose route is tested, as `providers` lists it")
    test.add_argument("--via-provider", action="store_true", help="have the provider send it; that may cost a little")


def _add_serve(serve: argparse.ArgumentParser) -> None:
    serve.set_defaults(terminal=True)
    serve.add_argument("--root", type=Path, required=True, help="folder of the buckets")
    serve.add_argument("--host", default="127.0.0.1", help="address to bind to (default: this machine alone)")
    serve.add_argument("--port", type=int, default=9000, help="0 for any (default: 9000)")
    serve.add_argument("--base-path", default="", help="path under which the buckets are, such as /x/y")
    serve.add_argument("--access-key", required=True, help="3 to 128 letters, digits and underscores")
    serve.add_argument(
        "--secret-key", default=None, help="better in SIMPLETUNER_S3_SECRET_KEY, where no list of processes shows it"
    )
    serve.add_argument(
        "--processes", type=int, default=None, help="how many share the work (default: one a core, to 4)"
    )
    serve.add_argument("--certfile", type=Path, default=None, help="certificate chain, PEM; then it is https")
    serve.add_argument("--keyfile", type=Path, default=None, help="its private key, if that is in another file")


def _add_emulator(emulator: argparse.ArgumentParser) -> None:
    emulator.set_defaults(terminal=True)
    emulator.add_argument("--port", type=int, default=7200, help="on this machine alone; 0 for any (default: 7200)")
    emulator.add_argument("--token", default="", metavar="r8_...", help="of its one account (default: one is made up)")
    emulator.add_argument(
        "--engine", choices=["scripted", "cog"], default="scripted",
        help="what runs there: trainings that are played, or real ones in a Cog server (default: scripted)",
    )  # fmt: skip
    emulator.add_argument("--speed", type=float, default=1.0, metavar="X", help="of its clock (default: 1)")
    emulator.add_argument(
        "--lasts", type=float, default=20.0, metavar="SECONDS", help="of a training that is played (default: 20)"
    )


def _add_list(command: argparse.ArgumentParser) -> None:
    states = [state.value for state in JobState]
    command.add_argument("--state", action="append", choices=states, default=[], help="may be repeated")
    command.add_argument("--provider", default=None, help="jobs of this provider alone")
    command.add_argument("--text", default="", help="part of a name or id")
    command.add_argument("-n", "--limit", type=int, default=LISTED, help=f"how many (default: {LISTED})")
    command.add_argument("--offset", type=int, default=0, help="how many of the newest to leave out")


def _add_one_job(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument("job_id", metavar="ID", help="id of the job, as `jobs` lists it")
    return command
