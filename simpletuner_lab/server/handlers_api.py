"""What the description of the API says of the routes in `handlers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from simpletuner_lab.core.errors import (
    IllegalTransition,
    InvalidConfig,
    InvalidDataset,
    JobActive,
    JobNotFound,
    ProviderNotFound,
    SecretInConfig,
    StaleRecord,
)
from simpletuner_lab.core.job import JobState, SortKey
from simpletuner_lab.server.answers import (
    Alive,
    ConsentSet,
    ConsentSetting,
    EventPage,
    Health,
    InlineProgress,
    JobAlone,
    JobDone,
    JobSubmitted,
    JobTaken,
    ProviderList,
)
from simpletuner_lab.server.handlers import (
    CancelHandler,
    ConsentBody,
    ConsentHandler,
    EventsHandler,
    HealthHandler,
    JobHandler,
    JobsHandler,
    LogsHandler,
    LogStreamHandler,
    MetricsHandler,
    OutputsHandler,
    PlanHandler,
    PreviewHandler,
    ProgressHandler,
    ProvidersHandler,
    SubmitBody,
    SubmitHandler,
)
from simpletuner_lab.server.operations import (
    EVENTS,
    PLANNING,
    SUBMITTING,
    Operation,
    Operations,
    choice,
    flag,
    in_header,
    several,
    whole,
    words,
)
from simpletuner_lab.services.views import JobDetail, JobPage, LogChunk, MetricsView, OutputsView, PlanView, PreviewView

_ORDERS: Final = tuple(f"{sign}{key}" for key in SortKey for sign in ("", "-"))

OPERATIONS: Final[Operations] = {
    PlanHandler.post: Operation(answer=PlanView, body=SubmitBody, query=(words("provider"),), errors=PLANNING),
    SubmitHandler.post: Operation(
        answer=JobSubmitted, status=202, body=SubmitBody, query=(words("provider"),), errors=SUBMITTING
    ),
    JobsHandler.get: Operation(
        answer=JobPage,
        query=(
            whole("limit", 1, 500, default=50),
            whole("offset", default=0),
            several("status", *JobState),
            words("provider"),
            words("text"),
            choice("job_type", "local", "cloud"),
            words("idempotency_key"),
            choice("sort", *_ORDERS),
        ),
    ),
    JobHandler.get: Operation(answer=JobDetail | JobAlone, query=(words("only"),), errors=(JobNotFound,)),
    JobHandler.delete: Operation(
        answer=JobDone, query=(flag("outputs"),), errors=(JobNotFound, JobActive, StaleRecord)
    ),
    CancelHandler.post: Operation(answer=JobTaken, errors=(JobNotFound, IllegalTransition, StaleRecord)),
    LogsHandler.get: Operation(
        answer=LogChunk, query=(whole("offset", default=0), whole("limit", 1, 4 << 20)), errors=(JobNotFound,)
    ),
    LogStreamHandler.get: Operation(
        answer=None,
        media=EVENTS,
        query=(whole("offset", default=0), in_header("Last-Event-ID", "^[0-9]+$")),
        errors=(JobNotFound,),
    ),
    ProgressHandler.get: Operation(answer=InlineProgress, errors=(JobNotFound,)),
    EventsHandler.get: Operation(
        answer=EventPage, query=(whole("after", default=0), whole("limit", 1, 1000)), errors=(JobNotFound,)
    ),
    MetricsHandler.get: Operation(
        answer=MetricsView, query=(whole("points", 10, 100_000), whole("after_step")), errors=(JobNotFound,)
    ),
    OutputsHandler.get: Operation(answer=OutputsView, errors=(JobNotFound,)),
    ConsentHandler.get: Operation(answer=ConsentSetting),
    ConsentHandler.put: Operation(answer=ConsentSet, body=ConsentBody),
    PreviewHandler.post: Operation(
        answer=PreviewView,
        body=tuple[Mapping[str, object], ...],
        query=(words("provider"),),
        errors=(InvalidConfig, InvalidDataset, SecretInConfig, ProviderNotFound),
    ),
    ProvidersHandler.get: Operation(answer=ProviderList),
    HealthHandler.get: Operation(answer=Health | Alive, others={503: Health}),
}
