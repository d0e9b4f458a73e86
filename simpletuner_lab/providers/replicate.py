"""Replicate: a prediction of a model there is a run (SPEC P2). What is the package's part and what is ours: docs/adr/0014.

State lies at Replicate; what was started and handed over from here lies in the provider's folder (`_replicate_notes`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from simpletuner_lab.core.errors import LabError, Problem, ProviderFailure, SettingUnusable
from simpletuner_lab.core.provider import (
    Archive,
    Capabilities,
    CausedWebhook,
    Check,
    ListedRun,
    Options,
    ProgressCallback,
    ProviderContext,
    RunState,
    RunTag,
    ServiceStatus,
    Snapshot,
    StartOrder,
)
from simpletuner_lab.core.secret import Secret
from simpletuner_lab.providers import _replicate_prediction as rp
from simpletuner_lab.providers._http import Api, Network
from simpletuner_lab.providers._replicate_catalogue import Catalogue
from simpletuner_lab.providers._replicate_files import MOST_BYTES, WARN_BYTES, Files
from simpletuner_lab.providers._replicate_hooks import Hooks
from simpletuner_lab.providers._replicate_inputs import SIMPLETUNER
from simpletuner_lab.providers._replicate_log import progress_of
from simpletuner_lab.providers._replicate_notes import Notes
from simpletuner_lab.providers._replicate_runs import Runs
from simpletuner_lab.providers._replicate_settings import API, STATUS_PAGE, STATUS_URL, ReplicateSettings
from simpletuner_lab.providers._replicate_status import StatusPage
from simpletuner_lab.providers._replicate_targets import Targets
from simpletuner_lab.providers._replicate_trial import cause
from simpletuner_lab.providers._token import Token

if TYPE_CHECKING:
    from replicate.client import Client

    from simpletuner_lab.providers._door import Door

TOKEN: Final = "REPLICATE_API_TOKEN"  # noqa: S105 - the name of a variable
_TOKENS_PAGE: Final = "https://replicate.com/account/api-tokens"


class ReplicateProvider:
    """Runs models at Replicate.

    Args:
        settings: which models, and how Replicate is reached.
        context: where notes are kept, and where the token is found.
        now: the time, in seconds since the epoch.
        sleep: waits between two tries of what may be asked twice.
    """

    id: ClassVar[str] = "replicate"
    label: ClassVar[str] = "Replicate"
    token_name: ClassVar[str] = TOKEN
    token_prefix: ClassVar[str] = "r8_"  # noqa: S105 - what every one begins with
    capabilities: ClassVar[Capabilities] = Capabilities(
        remote=True,
        max_upload_bytes=MOST_BYTES,
        warn_upload_bytes=WARN_BYTES,
        poll_s=5.0,
        status_page=STATUS_PAGE,
        archive_stays="the archive, until it is deleted after the run: 24 hours at the most",
        stays=(
            "the prediction's input (config, prompts, addresses), log and output: 1 hour after it by Replicate's documents",
            "the prediction's record (model, times, state, cost), in your account",
        ),
    )
    Settings: ClassVar[type] = ReplicateSettings

    def __init__(
        self, settings: ReplicateSettings, context: ProviderContext, *, now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._token = Token(TOKEN, context, where_from=_TOKENS_PAGE)
        self._now = now
        self._notes = Notes(context.home)
        way = _Way(settings, context.environment, sleep)
        api = Api(way.network, way.door)
        self._api = api
        self._targets = Targets(settings)
        self._runs = Runs(api, self._targets, self._notes, now)
        self._files = Files(api, way.client, self._notes, now)
        self._catalogue = Catalogue(settings, way.client, now)
        self._hooks = Hooks(api, self._token.require, now)
        away = (
            settings.status_url == STATUS_URL and settings.base_url != API
        )  # an emulator has no part in its incidents
        self._status = StatusPage("" if away else settings.status_url, settings.proxy, now)

    def service_status(self) -> ServiceStatus:
        """What Replicate's status page says, asked once a minute at most."""
        return self._status.status()

    def setting_problems(self) -> Iterator[Problem]:
        """A file of certificates that cannot be used, whatever lies at the other end."""
        if not (path := self._settings.ca_bundle):
            return
        if not Path(path).is_absolute():
            yield Problem(path="ca_bundle", message="is not an absolute path", hint="write the path out")
            return
        from simpletuner_lab.providers._trust import trusting

        try:
            trusting(path)
        except SettingUnusable as error:
            yield Problem(path="ca_bundle", message=error.message.removeprefix("ca_bundle: "), hint=error.hint)

    def setting_doubts(self) -> Sequence[str]:
        """What is unsafe about the way to Replicate."""
        return self._settings.doubts

    def check(self) -> Check:
        """Whose the token is, and if it cannot be used, why."""
        try:
            token = self._token.find()
            if token is None:
                return Check(ready=False, message=f"{TOKEN} not set", hint=self._token.hint, unused=True)
            account = self._catalogue.account(token)
        except LabError as error:
            return Check(ready=False, message=error.message, hint=error.hint or "see the settings of Replicate")
        told = "; ".join((f"account {account} at {self._settings.host}", *self._settings.doubts))
        return Check(ready=True, account=account, message=told)

    def holds_token(self) -> bool:
        """Whether there is a token; nothing is asked.

        Raises:
            TokenUnusable: there is one that cannot be used.
        """
        return self._token.find() is not None

    def options(self) -> Options:
        """Targets with the versions that would run, and the price of the hardware that they run on.

        Raises:
            TokenUnusable: there is no token (nothing was asked then), or it is not accepted.
            SettingUnusable: a model or a version is not there.
            ProviderUnavailable: Replicate does not answer.
        """
        return self._catalogue.options(self._token.require())

    @property
    def endpoint(self) -> str:
        """Where it is set to send to."""
        return self._settings.host

    def account(self) -> str:
        """Whose the token is; asked every two minutes at the most.

        Raises:
            TokenUnusable: there is none, or it is not accepted.
            ProviderUnavailable: Replicate does not answer.
        """
        return self._catalogue.account(self._token.require())

    def upload(self, archive: Archive, tag: RunTag, progress: ProgressCallback) -> str:
        """Streams the archive there, unless the same bytes are there already; returns `ID URL` of the file.

        Raises:
            TooLarge: it is not below the limit; nothing was sent.
            ProviderFailure: what arrived is something else.
        """
        note = self._files.upload(archive, tag, self._token.require(), progress)
        return f"{note.id} {note.url}"

    def start(self, order: StartOrder) -> str:
        """Creates the prediction, once.

        Raises:
            UploadGone: the data are not there any more, or soon will not be (24 hours); nothing was started.
            ProviderFailure: it was started before, or cannot be.
            ProviderUnavailable: whether it was started is not known, or it was not and may be tried again.
        """
        token = self._token.require()
        if self._runs.find(order.tag, lambda: token) is not None:
            raise ProviderFailure(
                f"attempt {order.tag.attempt} of {order.tag.job_id} was started before", hint="find it"
            )
        version = order.version or next(
            (target.version for target in self.options().targets if target.id == order.target), ""
        )
        self._targets.model(order.target)
        url = self._files.url(order, token)
        return self._runs.create(
            order, version=version, data_url=url, run_limit_s=self._settings.run_limit_s, token=token
        )

    def find(self, tag: RunTag) -> str | None:
        """The prediction of this attempt, by our note of it, its tag, or the data that it was given.

        Raises:
            ProviderUnavailable: it cannot be told now.
            ProviderUncertain: it cannot be told any more.
        """
        return self._runs.find(tag, self._token.require)

    def list(self) -> Sequence[ListedRun]:
        """The newest predictions of our targets, whoever made them."""
        return self._runs.newest(self._token.require())

    def poll(self, ref: str, cursor: str) -> Snapshot:
        """The prediction as it is, with the whole lines of its log that come after byte `cursor`."""
        offset = _offset(cursor)
        one = self._runs.get(ref, self._token.require())
        if one is None:
            error = f"Replicate has no prediction {ref} any more, or it is of another account"
            return Snapshot(state=RunState.LOST, cursor=cursor, error=error)
        note = self._notes.started(ref)
        meant = self._targets.meaning(one, note)
        metered_s = rp.metered_s(one, self._now())
        end, text = _lines(one.logs.encode("utf-8", "replace"), offset, whole=one.ended)
        return Snapshot(
            state=meant.state,
            cursor=str(end),
            log=text,
            raw_state=one.status,
            exit_code=meant.exit_code,
            error=meant.error,
            waiting=self._status.waiting() if meant.state is RunState.QUEUED else "",
            cost_usd=self._targets.cost_usd(metered_s, note),
            metered_s=metered_s,
            progress=progress_of(one.logs) if self._targets.of(one, note) == SIMPLETUNER else None,
        )

    def cancel(self, ref: str) -> None:
        """Asks for the end of the prediction, and of what it costs."""
        self._runs.cancel(ref, self._token.require())

    def discard(self, tag: RunTag, upload_ref: str) -> bool:
        """Deletes every file that was handed over for the job; False while a run of it has not ended.

        Raises:
            ProviderUnavailable: Replicate does not answer, or whether a run of the job was started is not known.
        """
        token = self._token.require()
        if self._runs.lives(tag.job_id, token):
            return False
        return self._files.remove(tag.job_id, _ids(upload_ref), token)

    def webhook(self, headers: Mapping[str, str], body: bytes) -> str | None:
        """The prediction that a webhook speaks of.

        Raises:
            Forbidden: it is not signed by Replicate, or too old.
        """
        return self._hooks.prediction(headers, body)

    def test_webhook(self, url: str) -> CausedWebhook:
        """Runs a small model for its webhook; it is no run of a job, and is in no list of them.

        Raises:
            SettingUnusable: that model is not there.
            LabError: nothing was created.
        """
        token, model = self._token.require(), self._settings.webhook_test_model
        version = self._catalogue.newest(token, model, key="webhook_test_model")
        return cause(self._api, token, model=model, version=version, url=url)


class _Way:
    """The one door, made when it is first gone through, and the package's clients that go through it."""

    def __init__(
        self, settings: ReplicateSettings, environment: Mapping[str, str], sleep: Callable[[float], None]
    ) -> None:
        self.network: Final = Network(
            who="Replicate", base_url=settings.api, proxy=settings.proxy, ca_bundle=settings.ca_bundle,
            timeout_s=settings.timeout_s, verify_tls=settings.verify_tls,
        )  # fmt: skip
        self._environment = environment
        self._sleep = sleep
        self._lock = threading.Lock()
        self._door: Door | None = None

    def door(self) -> Door:
        """The transport.

        Raises:
            SettingUnusable: the CA file or the proxy cannot be used.
        """
        with self._lock:
            if self._door is None:
                from simpletuner_lab.providers._door import Door

                self._door = Door(self.network, self._environment, self._sleep)
            return self._door

    def client(self, token: Secret) -> Client:
        """The package's client with this token; it retries nothing by itself, since it sees only answers of 2xx."""
        from replicate.client import Client

        return Client(api_token=token.reveal(), base_url=self.network.base_url, transport=self.door(), trust_env=False)


def _offset(cursor: str) -> int:
    if cursor and not (cursor.isascii() and cursor.isdigit()):
        raise ProviderFailure(f"{cursor!r} is not a place in a log", hint="an empty one reads from the start")
    return int(cursor or 0)


def _lines(log: bytes, offset: int, *, whole: bool) -> tuple[int, bytes]:
    """Where reading ended, and the whole lines from `offset` on; a last text without a newline once nothing can follow.

    A log that is shorter than what was read of it was cut or removed there: nothing of ours is taken back.
    """
    if len(log) <= offset:
        return offset, b""
    if whole:
        text = log[offset:]
        return len(log), text if text.endswith(b"\n") else text + b"\n"
    end = log.rfind(b"\n", offset) + 1
    return (end, log[offset:end]) if end else (offset, b"")


def _ids(upload_ref: str) -> tuple[str, ...]:
    file_id = upload_ref.partition(" ")[0]
    return (file_id,) if file_id else ()
