"""Plan, then apply: this module plans. It reads and decides, and changes nothing (DESIGN §2.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from simpletuner_lab.core.book import claim_of
from simpletuner_lab.core.canonical import JsonObject
from simpletuner_lab.core.consent import ConsentMode, ConsentState, consent_state
from simpletuner_lab.core.cost import Estimate, Rate, estimate_run
from simpletuner_lab.core.destination import (
    HOME,
    Destination,
    HubDestination,
    is_away,
    is_plain_http,
    problems,
    sent_by_trainer,
)
from simpletuner_lab.core.errors import (
    InvalidConfig,
    InvalidRequest,
    Problem,
    SecretInConfig,
    TooLarge,
)
from simpletuner_lab.core.manifest import DatasetManifest, Manifest
from simpletuner_lab.core.plan import STORAGE_GRANT, Credential, Identity, Plan, SubmitRequest, digest_of
from simpletuner_lab.core.provider import Options, Provider, Target
from simpletuner_lab.core.publishing_keys import translate
from simpletuner_lab.core.redact import Redactor, find_secrets
from simpletuner_lab.core.segments import ending_of
from simpletuner_lab.core.snapshot import require_words
from simpletuner_lab.services.archive import least_bytes
from simpletuner_lab.services.desk import PUBLIC_HINT
from simpletuner_lab.services.figures import figures_of
from simpletuner_lab.services.known import KnownSecrets
from simpletuner_lab.services.limits import limit_notes
from simpletuner_lab.services.registry import Registry
from simpletuner_lab.services.scan import scan
from simpletuner_lab.services.spending import Request
from simpletuner_lab.services.steps import doubts_on_steps, run_class, total_steps
from simpletuner_lab.services.store import Store
from simpletuner_lab.services.tokens import Tokens
from simpletuner_lab.services.training import LISTED, data_of, require_runnable, sent, training_of

_NAME_LENGTH: Final = 200


class Endpoint(Protocol):
    """`services.desk.Desk.endpoint`."""

    def __call__(self, *, remote: bool) -> str | None:
        """The URL, if there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The state of the lab that a plan depends on."""

    owner: str
    consent: ConsentMode
    endpoint: Endpoint
    """Where the object endpoint is reached by a run here or elsewhere; where it is, a grant travels with the job."""
    now: float
    destination: Destination = HOME
    """Where models go when neither request nor config says."""


class Planner:
    """Makes plans from requests."""

    def __init__(self, store: Store, registry: Registry, tokens: Tokens, known: KnownSecrets) -> None:
        self._store = store
        self._registry = registry
        self._tokens = tokens
        self._known = known

    def plan(self, request: SubmitRequest, setting: Setting) -> Plan:
        """Everything that a submit of this request would do.

        Raises:
            ProviderNotFound, InvalidConfig, SecretInConfig, InvalidDataset, TooLarge: see `core.errors`.
            CredentialUnusable: what the destination needs is not there, or is refused.
        """
        provider = self._registry.get(request.provider)
        known = self._known.certain()
        _require_plain(request, known)
        aimed, options = _aimed(request, setting.destination, known), provider.options()
        target, rate = _chosen(options, request)
        request, destination = aimed if target.delivers else _left_there(request, target)
        training = training_of(request, target, trains_here=not provider.capabilities.remote)
        manifest = scan(training.datasets, hashes=self._store.hashes, strip_exif=request.strip_exif)
        if target.ours:
            require_runnable(training, manifest, rate)
        _check_size(provider, manifest)
        identity = Identity(
            provider=provider.id,
            account=provider.check().account,
            endpoint=options.endpoint,
            target=target.id,
            version=target.version,
            hardware=rate.hardware,
            destination=destination,
            config=dict(request.config),
            dataloader=tuple(sent(entry) for entry in request.dataloader),
            manifest=manifest,
            credentials=self._credentials(setting, provider, target, destination),
        )
        doubts, digest = self._tokens.check(destination), digest_of(identity)
        steps, remote = total_steps(training, manifest), provider.capabilities.remote
        past = self._store.jobs.past_step_s(run_class(identity, target))
        estimate = estimate_run(steps=steps, rate=rate, past_step_s=past, published=figures_of(training, steps, rate))
        goes_on = _goes_on(provider, target, destination)
        asks = _asks(provider, options, target, estimate, rate, goes_on=goes_on)
        spend = self._store.spending.verdict(asks, provider.id, now=setting.now)
        return Plan(
            name=request.name or training.name,
            identity=identity,
            digest=digest,
            remote=remote,
            target=target,
            rate=rate,
            steps=steps,
            estimate=estimate,
            stays=_stays(provider, manifest),
            warnings=(
                *training.notes,
                *doubts_on_steps(training, steps),
                *_warnings(provider, target, manifest),
                *limit_notes(estimate, options.run_limit_s, target, goes_on=goes_on),
                *spend.told,
                *doubts,
                *_delivery_warnings(provider, destination),
            ),
            consent=self._consent(setting, digest, remote=remote or is_away(destination)),
            spend=spend,
        )

    def _consent(self, setting: Setting, digest: str, *, remote: bool) -> ConsentState:
        agreed = self._store.consents.agreed(setting.owner, digest)
        return consent_state(mode=setting.consent, remote=remote, agreed=agreed)

    def _credentials(
        self, setting: Setting, provider: Provider, target: Target, destination: Destination
    ) -> tuple[Credential, ...]:
        if not target.delivers:
            return ()
        if not sent_by_trainer(destination):
            return _home_credentials(setting, provider)
        if isinstance(destination, HubDestination):
            purpose = f"lets the training machine write to {destination.repo_id}, and to all else that it opens"
        else:
            purpose = "lets the training machine write to the bucket, and to all else that it opens"
        return tuple(Credential(name=name, purpose=purpose) for name in self._tokens.of(destination))

    def preview(self, dataloader: Sequence[JsonObject]) -> Manifest:
        """What of these data sets would leave, whatever is trained on them.

        Raises:
            InvalidConfig, InvalidDataset: see `core.errors`.
        """
        _require_no_secrets(SubmitRequest(config={}, dataloader=tuple(dataloader)), self._known.certain())
        return scan(data_of(tuple(dataloader)), hashes=self._store.hashes)


def with_ending(asks: Request | None, target: Target) -> Request | None:
    """What is asked of the limits at a submit, which say how a run there ends."""
    return None if asks is None else dataclasses.replace(asks, ending=ending_of(target))


def _asks(
    provider: Provider, options: Options, target: Target, estimate: Estimate, rate: Rate, *, goes_on: bool
) -> Request:
    limit_s = options.run_limit_s if provider.capabilities.remote else None
    claim = claim_of(estimate, rate.usd_per_hour, limit_s, goes_on=goes_on)
    return Request(claim=claim, ending=ending_of(target))


def _require_plain(request: SubmitRequest, known: Redactor) -> None:
    """A name is shown in lists and terminals: short, printable, and no secret."""
    if len(request.name) > _NAME_LENGTH or not request.name.isprintable():
        raise InvalidRequest(f"a job's name has at most {_NAME_LENGTH} characters, all of them printable")
    if found := find_secrets({"name": request.name}, known=known):
        raise SecretInConfig(f"the job's name {found[0].message}; nothing was sent", hint="choose another")
    require_words(request.snapshot_name, request.snapshot_message, known)


def _aimed(request: SubmitRequest, default: Destination, known: Redactor) -> tuple[SubmitRequest, Destination]:
    """The request without SimpleTuner's keys for publishing, and where its model goes: as asked, else by the default."""
    _require_no_secrets(request, known)
    translated = translate(request.config)
    if translated.problems:
        found = translated.problems
        raise InvalidConfig(f"{found[0].path}: {found[0].message}", problems=found, hint=found[0].hint)
    destination = request.destination or translated.destination or default
    require_destination(destination, known)
    return dataclasses.replace(request, config=translated.config), destination


def _left_there(request: SubmitRequest, target: Target) -> tuple[SubmitRequest, Destination]:
    """The request as it is, with what it says about publishing; the model is brought nowhere by the lab.

    Raises:
        InvalidRequest: another one is asked for.
    """
    if request.destination is not None and is_away(request.destination):
        message = f"{target.label} is not told where a model goes: it stays where {target.label} puts it"
        problem = Problem(path="destination", message=message)
        raise InvalidRequest(message, problems=[problem], hint="ask for no destination, or choose another provider")
    return request, HOME


def require_destination(destination: Destination, known: Redactor | None = None) -> None:
    """Checks the values of a destination.

    Raises:
        InvalidRequest: everything that is wrong with them.
        SecretInConfig: one of them looks like a secret, or is one that `known` has.
    """
    if found := problems(destination):
        raise InvalidRequest(f"{found[0].path}: {found[0].message}", problems=found, hint=found[0].hint)
    if found := find_secrets({"destination": dataclasses.asdict(destination)}, known=known):
        raise SecretInConfig(f"{found[0].path} {found[0].message}", problems=found, hint=found[0].hint)


def require_plain_labels(known: Redactor, **labels: str) -> None:
    """Checks what a submit is labelled with, which is kept as it is.

    Raises:
        SecretInConfig: one of them looks like a secret, or is one that `known` has.
    """
    if found := find_secrets(dict(labels), known=known):
        message = f"{found[0].path} {found[0].message}; nothing was sent"
        raise SecretInConfig(message, problems=found, hint="choose another")


def _require_no_secrets(request: SubmitRequest, known: Redactor) -> None:
    found = find_secrets({"config": request.config, "dataloader": list(request.dataloader)}, known=known)
    if found:
        raise SecretInConfig(
            f"{found[0].path} {found[0].message}; nothing was sent",
            problems=found,
            hint="keep secrets in the environment, never in a config",
        )


def _chosen(options: Options, request: SubmitRequest) -> tuple[Target, Rate]:
    target = next((t for t in options.targets if request.target in {"", t.id}), None)
    rate = next((r for r in options.rates if request.hardware in {"", r.hardware}), None)
    if target is None:
        names = ", ".join(t.id for t in options.targets)
        raise InvalidRequest(f"{request.provider} has no target {request.target!r}", hint=f"it has {names}")
    if rate is None:
        names = ", ".join(r.hardware for r in options.rates)
        raise InvalidRequest(f"{request.provider} has no hardware {request.hardware!r}", hint=f"it has {names}")
    return target, rate


def _check_size(provider: Provider, manifest: Manifest) -> None:
    """Refuses what cannot fit: media are stored as they are, all else may still shrink and is judged once packed."""
    require_size(provider, least_bytes(manifest))


def require_size(provider: Provider, size: int) -> None:
    """Checks an archive of `size` bytes against the provider's limit (SPEC K5).

    Raises:
        TooLarge: it would be refused there.
    """
    limit = provider.capabilities.max_upload_bytes
    if limit is not None and size > limit:
        raise TooLarge(
            f"{size:,} bytes are more than the {limit:,} that {provider.label} takes; nothing was sent",
            hint="use fewer images, data hosted on S3 or the Hub, or another provider",
        )


def _home_credentials(setting: Setting, provider: Provider) -> tuple[Credential, ...]:
    remote = provider.capabilities.remote
    if setting.endpoint(remote=remote) is not None:
        return (Credential(name=STORAGE_GRANT, purpose="delivers the model to this lab: this job's folder alone"),)
    if remote:
        raise InvalidRequest(
            f"results of a run at {provider.label} cannot come home: no public URL is set", hint=PUBLIC_HINT
        )
    return ()


def _stays(provider: Provider, manifest: Manifest) -> tuple[str, ...]:
    known = provider.capabilities
    return tuple(filter(None, (known.archive_stays if manifest.files else "", *known.stays)))


def _warnings(provider: Provider, target: Target, manifest: Manifest) -> tuple[str, ...]:
    found = [*(text for dataset in manifest.datasets for text in _dataset_warnings(dataset)), *target.lacks]
    warn = provider.capabilities.warn_upload_bytes
    if warn is not None and manifest.bytes >= warn:
        found.append(_long_upload(provider, manifest.bytes))
    if not target.live_metrics:
        found.append(f"{target.label} shows no loss while it runs")
    if not target.resume:
        found.append(f"{target.label} cannot go on after an interruption")
    return tuple(found)


def _long_upload(provider: Provider, size: int) -> str:
    limit = provider.capabilities.max_upload_bytes
    most = "" if limit is None else f", and {provider.label} takes less than {limit:,} of them packed"
    return f"{size:,} bytes is a long upload{most}: use fewer or smaller images, or data hosted on S3 or the Hub"


def _delivery_warnings(provider: Provider, destination: Destination) -> list[str]:
    found = []
    if isinstance(destination, HubDestination) and not destination.private:
        found.append(f"{destination.repo_id} is public: anybody can download the model")
    if is_plain_http(destination):
        found.append("the model goes to an address without TLS: others on the way can read it")
    if _checkpoints_stay(provider, destination):
        found.append("checkpoints stay on the training machine: a run that is interrupted there begins again")
    return found


def _checkpoints_stay(provider: Provider, destination: Destination) -> bool:
    by_trainer = sent_by_trainer(destination)
    return by_trainer and provider.capabilities.remote and not getattr(destination, "checkpoints", False)


def _goes_on(provider: Provider, target: Target, destination: Destination) -> bool:
    return target.resume and not _checkpoints_stay(provider, destination)


def _dataset_warnings(dataset: DatasetManifest) -> list[str]:
    found = []
    if dataset.captions_missing:
        named = ", ".join(dataset.captions_missing[:LISTED])
        found.append(
            f"{dataset.id}: {len(dataset.captions_missing)} of {dataset.images} images have no caption ({named})"
        )
    if dataset.with_gps:
        end = "; it is taken out on the way" if dataset.strip_exif else ""
        found.append(f"{dataset.id}: {dataset.with_gps} photos carry the place where they were taken{end}")
    secrets = [entry.name for entry in dataset.withheld if entry.secret]
    if secrets:
        found.append(f"{dataset.id}: what may be secret stays here: {_files(len(secrets))} ({secrets[0]})")
    wanted = [entry for entry in dataset.withheld if entry.wanted and not entry.secret]
    if wanted:
        reasons = ", ".join(f"{entry.name}: {entry.reason}" for entry in wanted[:LISTED])
        found.append(f"{dataset.id}: what training would read stays here: {_files(len(wanted))} ({reasons})")
    return found


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{number} files"
