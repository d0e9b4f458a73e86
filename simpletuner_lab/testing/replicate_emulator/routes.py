"""The routes of Replicate's API. What is not here is 404."""

from __future__ import annotations

from typing import Any, ClassVar, Final
from urllib.parse import unquote

from tornado import web

from simpletuner_lab.testing.replicate_emulator import requests, shapes
from simpletuner_lab.testing.replicate_emulator.exchange import UNKNOWN, Handler
from simpletuner_lab.testing.replicate_emulator.files import Incoming, StoredFile, too_large
from simpletuner_lab.testing.replicate_emulator.machine import Order
from simpletuner_lab.testing.replicate_emulator.multipart import MalformedForm, Multipart, boundary_of
from simpletuner_lab.testing.replicate_emulator.pages import page_of, whole
from simpletuner_lab.testing.replicate_emulator.records import Prediction, Refusal, Version

_NAME: Final = r"([A-Za-z0-9._-]+)"
_MODEL: Final = rf"{_NAME}/{_NAME}"
_ID: Final = r"([a-z0-9]+)"
_FORM_OVERHEAD: Final = 1 << 20
_CHUNK: Final = 1 << 20
_RUN_KEYS: Final = ("input", "webhook", "webhook_events_filter")


class _Account(Handler):
    routes: ClassVar = {"GET": "account.get"}

    def get(self) -> None:
        self.answer(shapes.account(self.account))


class _Hardware(Handler):
    routes: ClassVar = {"GET": "hardware.list"}

    def get(self) -> None:
        self.answer([shapes.hardware(one) for one in self.parts.catalogue.hardware.values()])


class _Model(Handler):
    routes: ClassVar = {"GET": "models.get"}

    def get(self, owner: str, name: str) -> None:
        model = self.parts.catalogue.model(owner, name)
        runs = sum(one.model == model.id for one in self.parts.machine.predictions.values())
        self.answer(shapes.model(model, self.parts.url, runs))


class _Versions(Handler):
    routes: ClassVar = {"GET": "versions.list"}

    def get(self, owner: str, name: str) -> None:
        self.answer(whole([shapes.version(one) for one in self.parts.catalogue.model(owner, name).versions]))


class _Version(Handler):
    routes: ClassVar = {"GET": "versions.get"}

    def get(self, owner: str, name: str, version: str) -> None:
        self.answer(shapes.version(self.parts.catalogue.version(owner, name, version)))


class _Runs(Handler):
    """What predictions and trainings have in common."""

    kind: ClassVar[str] = "predictions"
    creates = True

    def order(self, body: dict[str, Any], version: Version, *, hidden: bool = False, **more: Any) -> Order:
        """The create, if nothing is wrong with it.

        Raises:
            Refusal: 422, something is.
        """
        words = requests.words(body.get("webhook_events_filter"))
        return Order(
            kind=self.kind,
            owner=self.account.username,
            version=version,
            hidden=hidden,
            input=requests.inputs(body.get("input"), version),
            webhook=requests.webhook(body.get("webhook")),
            words=frozenset(self.parts.conduct.default_words) if words is None else words,
            **more,
        )

    async def predict(self, body: dict[str, Any], version: Version, *, hidden: bool, deployment: str = "") -> None:
        """Creates, waits as `Prefer` has it, and answers."""
        wait_s = requests.wait_s(self.request.headers.get("Prefer"))
        life_s = requests.life_s(self.request.headers.get("Cancel-After"))
        order = self.order(body, version, hidden=hidden, life_s=life_s, deployment=deployment or None)
        made = self.parts.machine.create(order)
        if wait_s is not None:
            await self.parts.timeline.wait(wait_s, made.ended)
            self.set_header("Preference-Applied", f"wait={wait_s}")
        late = wait_s is not None and not made.ended.is_set()
        told = shapes.created(made, self.parts.url, self.shape, waited=wait_s is not None)
        self.answer(told, 202 if late else 201)

    def find(self, prediction_id: str) -> Prediction:
        """One of the account's.

        Raises:
            Refusal: 404, it has none such.
        """
        return self.parts.machine.find(self.kind, self.account.username, prediction_id)


class _Predictions(_Runs):
    routes: ClassVar = {"POST": "predictions.create", "GET": "predictions.list"}

    async def post(self) -> None:
        body = requests.only(self.body(), ("version", "stream", *_RUN_KEYS))
        version, hidden = self.parts.catalogue.named(body.get("version"))
        await self.predict(body, version, hidden=hidden)

    def get(self) -> None:
        found = self.parts.machine.of(self.kind, self.account.username)
        asked = {name: self.get_query_argument(name, "") for name in ("cursor", "created_after", "created_before")}
        page = page_of(found, asked, size=self.parts.conduct.page_size, place=f"{self.parts.url}/v1/{self.kind}")
        told = [shapes.prediction(one, self.parts.url, self.shape) for one in page.items]
        self.answer({"next": page.next, "previous": page.previous, "results": told})


class _Prediction(_Runs):
    routes: ClassVar = {"GET": "predictions.get"}

    def get(self, prediction_id: str) -> None:
        self.answer(shapes.prediction(self.find(prediction_id), self.parts.url, self.shape))


class _Cancel(_Runs):
    routes: ClassVar = {"POST": "predictions.cancel"}
    creates = False

    def post(self, prediction_id: str) -> None:
        self.no_body()
        found = self.find(prediction_id)
        self.parts.machine.cancel(found)
        self.answer(shapes.canceled(found, self.parts.url, self.shape))


class _OfModel(_Runs):
    routes: ClassVar = {"POST": "models.predictions.create"}

    async def post(self, owner: str, name: str) -> None:
        version = self.parts.catalogue.official(owner, name)
        await self.predict(requests.only(self.body(), ("stream", *_RUN_KEYS)), version, hidden=True)


class _OfDeployment(_Runs):
    routes: ClassVar = {"POST": "deployments.predictions.create"}

    async def post(self, owner: str, name: str) -> None:
        version = self.parts.catalogue.deployed(owner, name)
        body = requests.only(self.body(), ("stream", *_RUN_KEYS))
        await self.predict(body, version, hidden=False, deployment=f"{owner}/{name}")


class _Train(_Runs):
    routes: ClassVar = {"POST": "trainings.create"}
    kind = "trainings"

    def post(self, owner: str, name: str, version_id: str) -> None:
        version = self.parts.catalogue.version(owner, name, version_id)
        body = requests.only(self.body(), ("destination", *_RUN_KEYS))
        destination = body.get("destination")
        if not isinstance(destination, str) or destination not in self.parts.catalogue.models:
            raise Refusal(404, "The specified training destination does not exist")
        made = self.parts.machine.create(self.order(body, version, destination=destination))
        self.answer(shapes.prediction(made, self.parts.url, self.shape), 201)


class _Trainings(_Predictions):
    routes: ClassVar = {"GET": "trainings.list"}
    kind = "trainings"


class _Training(_Prediction):
    routes: ClassVar = {"GET": "trainings.get"}
    kind = "trainings"


class _CancelTraining(_Cancel):
    routes: ClassVar = {"POST": "trainings.cancel"}
    kind = "trainings"


@web.stream_request_body
class _Files(Handler):
    """An upload is on disk before it is complete, and refused before it is read if it says that it is too large."""

    routes: ClassVar = {"POST": "files.create", "GET": "files.list"}

    def initialize(self, parts: Any) -> None:
        super().initialize(parts)
        self.incoming: Incoming | None = None
        self.form: Multipart | None = None

    async def prepare(self) -> None:
        await super().prepare()
        if self._finished or self.request.method != "POST":
            return
        limit = self.parts.conduct.max_file_bytes
        if int(self.request.headers.get("Content-Length", "0")) > limit + _FORM_OVERHEAD:
            self.set_header("Connection", "close")
            raise too_large(limit)
        try:
            boundary = boundary_of(self.request.headers.get("Content-Type", ""))
        except MalformedForm as error:
            self.set_header("Connection", "close")
            raise Refusal(415, str(error), "Unsupported media type") from error
        self.incoming = self.parts.files.begin(limit)
        self.form = Multipart(boundary, self.incoming.part)

    def data_received(self, chunk: bytes) -> None:
        if self.form is None or self._finished:
            return
        try:
            self.form.feed(chunk)
        except (MalformedForm, Refusal) as error:
            self.set_header("Connection", "close")
            self.refuse(error if isinstance(error, Refusal) else requests.invalid(f"- {error}"))

    def post(self) -> None:
        if self._finished or self.form is None or self.incoming is None:
            return
        try:
            self.form.end()
        except MalformedForm as error:
            raise requests.invalid(f"- {error}") from error
        now, keep_s = self.parts.timeline.now(), self.parts.conduct.keep_files_s
        made = self.incoming.done(self.account.username, now, keep_s)
        self.parts.files.keep(made)
        self.incoming = None
        self.answer(shapes.file(made, self.parts.url), 201)

    def get(self) -> None:
        self.answer(whole([shapes.file(one, self.parts.url) for one in self.parts.files.of(self.account.username)]))

    def on_finish(self) -> None:
        self._drop()

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._drop()

    def _drop(self) -> None:
        if self.incoming is not None:
            self.incoming.drop()
            self.incoming = None


class _File(Handler):
    routes: ClassVar = {"GET": "files.get", "DELETE": "files.delete"}

    def get(self, file_id: str) -> None:
        self.answer(shapes.file(self._find(file_id), self.parts.url))

    def delete(self, file_id: str) -> None:
        self.parts.files.delete(self.account.username, unquote(file_id))
        self.answer_nothing()

    def _find(self, file_id: str) -> StoredFile:
        return self.parts.files.find(self.account.username, unquote(file_id))


class _Download(Handler):
    """By a signed address, so no token is asked for."""

    routes: ClassVar = {"GET": "files.download"}
    needs_token = False

    async def get(self, file_id: str) -> None:
        asked = (self.get_query_argument(name, "") for name in ("owner", "expiry", "signature"))
        file = self.parts.files.signed(unquote(file_id), *asked)
        self.set_header("Content-Type", file.content_type)
        await _send(self, file.path)


class _Output(Handler):
    """Stands for `replicate.delivery`: whoever knows the address reads it."""

    routes: ClassVar = {"GET": "outputs.get"}
    needs_token = False

    async def get(self, prediction_id: str, name: str) -> None:
        path = self.parts.outputs.find(prediction_id, name)
        self.set_header("Content-Type", "application/octet-stream")
        await _send(self, path)


class _Secret(Handler):
    routes: ClassVar = {"GET": "webhooks.secret"}

    def get(self) -> None:
        self.answer({"key": self.parts.courier.secret})


class Unknown(Handler):
    """Whatever is no route."""


async def _send(handler: Handler, path: Any) -> None:
    with path.open("rb") as content:
        handler.set_header("Content-Length", str(path.stat().st_size))
        while chunk := content.read(_CHUNK):
            handler.write(chunk)
            await handler.flush()
    handler.finish()


TABLE: Final[tuple[tuple[str, type[Handler]], ...]] = (
    (r"/v1/account", _Account),
    (r"/v1/hardware", _Hardware),
    (rf"/v1/models/{_MODEL}", _Model),
    (rf"/v1/models/{_MODEL}/versions", _Versions),
    (rf"/v1/models/{_MODEL}/versions/{_ID}", _Version),
    (rf"/v1/models/{_MODEL}/versions/{_ID}/trainings", _Train),
    (rf"/v1/models/{_MODEL}/predictions", _OfModel),
    (rf"/v1/deployments/{_MODEL}/predictions", _OfDeployment),
    (r"/v1/predictions", _Predictions),
    (rf"/v1/predictions/{_ID}", _Prediction),
    (rf"/v1/predictions/{_ID}/cancel", _Cancel),
    (r"/v1/trainings", _Trainings),
    (rf"/v1/trainings/{_ID}", _Training),
    (rf"/v1/trainings/{_ID}/cancel", _CancelTraining),
    (r"/v1/files", _Files),
    (r"/v1/files/([^/]+)", _File),
    (r"/v1/files/([^/]+)/download", _Download),
    (r"/v1/webhooks/default/secret", _Secret),
    (rf"/delivery/{_ID}/([^/]+)", _Output),
)
ROUTES: Final = (*dict.fromkeys(name for _, handler in TABLE for name in handler.routes.values()), UNKNOWN)
"""Names of the routes, for faults and for who looks at what was asked."""
