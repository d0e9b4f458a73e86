"""What a plan says of the time that one run may take (SPEC M4, X1)."""

from __future__ import annotations

from simpletuner_lab.core.cost import Estimate
from simpletuner_lab.core.errors import RunTooLong
from simpletuner_lab.core.provider import Target
from simpletuner_lab.core.segments import fits, minutes, runs_of


def limit_notes(estimate: Estimate, limit_s: float | None, target: Target, *, goes_on: bool) -> tuple[str, ...]:
    """Sentences for the plan. `goes_on`: a job that a run leaves unfinished is finished by the next one.

    Raises:
        RunTooLong: it cannot end within one run, and nothing goes on after it.
    """
    if limit_s is None:
        return ()
    most, fit = minutes(limit_s), fits(estimate, limit_s)
    low, high = estimate.seconds_low, estimate.seconds_high
    if goes_on:
        if low is None or high is None:
            paid = "each run is paid for, and is asked of the spend limits as it begins"
            return (f"a run may take {most}: a longer job goes on in the next one, from its last checkpoint; {paid}",)
        fewest, runs = runs_of(low, limit_s), runs_of(high, limit_s)
        if runs == 1:
            return ()
        if fewest == 1:
            return (
                f"it may be cut into up to {runs} runs of at most {most} each, one after the other: one job to you",
            )
        number = str(runs) if fewest == runs else f"{fewest} to {runs}"
        return (f"it is cut into about {number} runs of at most {most} each, one after the other: one job to you",)
    if fit is False and low is not None:
        raise RunTooLong(
            f"it would take {minutes(low)} or more, a run may take {most}, and {_reason(target)}",
            hint="train fewer steps, "
            + ("send checkpoints too" if target.resume else "or choose a target that resumes"),
        )
    if fit:
        return ()
    doubt = "whether it ends in time is not known" if low is None else "it may not end in time"
    return (f"a run may take {most}, and {doubt}: {_reason(target)}",)


def _reason(target: Target) -> str:
    if target.resume:
        return "checkpoints stay on the training machine, so the next run would begin again"
    return f"{target.label} cannot go on in another"
