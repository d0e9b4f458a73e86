"""What differs between two plans, in the words of configs: for the diff of two jobs and for a rerun (SPEC G1)."""

from __future__ import annotations

from collections.abc import Iterator

from simpletuner_lab.core.canonical import Json, JsonObject
from simpletuner_lab.core.comparison import differences
from simpletuner_lab.core.data_sets import plain_keys
from simpletuner_lab.core.manifest import DatasetManifest
from simpletuner_lab.services.codec import encode
from simpletuner_lab.services.snapshot_views import DataDifference, JobDiff
from simpletuner_lab.services.views import PlanView


def compare(a: PlanView, b: PlanView, *, names: tuple[str, str]) -> JobDiff:
    """What of the second plan is not as in the first. Leading dashes of keys make no difference."""
    return JobDiff(
        a=names[0],
        b=names[1],
        same_digest=a.digest == b.digest,
        differences=differences(_document(a), _document(b)),
        data=tuple(_of_data(a.datasets, b.datasets)),
    )


def _document(plan: PlanView) -> JsonObject:
    """What is compared: all that the digest covers, the files in counts."""
    dataloader: list[Json] = [plain_keys(entry) for entry in plan.dataloader]
    return {
        "name": plan.name,
        "provider": plan.provider,
        "account": plan.account,
        "endpoint": plan.endpoint,
        "target": plan.target.id,
        "version": plan.target.version,
        "hardware": plan.rate.hardware,
        "destination": encode(plan.destination),
        "config": plain_keys(plan.config),
        "dataloader": dataloader,
        "credentials": sorted(credential.name for credential in plan.credentials),
        "steps": plan.steps,
        "data": [_counts(dataset) for dataset in plan.datasets],
    }


def _counts(dataset: DatasetManifest) -> JsonObject:
    return {
        "id": dataset.id,
        "files": len(dataset.files),
        "bytes": dataset.bytes,
        "images": dataset.images,
        "captions": dataset.captions_found,
        "withheld": len(dataset.withheld),
    }


def _of_data(a: tuple[DatasetManifest, ...], b: tuple[DatasetManifest, ...]) -> Iterator[DataDifference]:
    old, new = ({one.id: {f.name: f.sha256 for f in one.files} for one in datasets} for datasets in (a, b))
    for name in dict.fromkeys((*old, *new)):
        before, after = old.get(name, {}), new.get(name, {})
        if before == after:
            continue
        both = before.keys() & after.keys()
        same = sum(before[file] == after[file] for file in both)
        yield DataDifference(
            id=name,
            files_added=len(after) - len(both),
            files_removed=len(before) - len(both),
            files_changed=len(both) - same,
            files_same=same,
        )
