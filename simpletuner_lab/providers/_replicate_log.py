"""How far a run of the published trainer is, by its log: steps in sentences and in progress bars. Pure.

It writes no report lines; what stands here was written from the shapes that its documents and logs are known to have.
"""

from __future__ import annotations

import math
import re
from typing import Final

from simpletuner_lab.core.provider import LogProgress

_TAIL_CHARS: Final = 16 << 10
"""The last of a log; bars are overwritten so often that the newest is in it."""

_SENTENCE: Final = re.compile(r"\bstep:?\s+(\d{1,9})\s*(?:of|/)\s*(\d{1,9})\b", re.IGNORECASE)
_BAR: Final = re.compile(r"\b(\d{1,9})/(\d{1,9})\s+\[\d{1,3}:\d\d")
_STEPS_BAR: Final = re.compile(r"\bsteps?\b", re.IGNORECASE)
_NUMBER: Final = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)"
_LOSS: Final = re.compile(rf"\b(?:step_|train_|avg_)?loss\s*[=:]\s*{_NUMBER}", re.IGNORECASE)
_LR: Final = re.compile(rf"\b(?:lr|learning_rate)\s*[=:]\s*{_NUMBER}", re.IGNORECASE)


def progress_of(log: str) -> LogProgress | None:
    """The newest step that the log speaks of; None where it speaks of none.

    A bar counts where it says that it counts steps or has a loss: caches and downloads have bars too.
    """
    for line in reversed(re.split(r"[\r\n]", log[-_TAIL_CHARS:])):
        found = _SENTENCE.search(line) or _bar(line)
        if found is not None and (step := int(found[1])) <= (total := int(found[2])):
            return LogProgress(step=step, total_steps=total, loss=_number(_LOSS, line), lr=_number(_LR, line))
    return None


def _bar(line: str) -> re.Match[str] | None:
    found = _BAR.search(line)
    return found if found and (_STEPS_BAR.search(line) or _LOSS.search(line)) else None


def _number(pattern: re.Pattern[str], line: str) -> float | None:
    found = pattern.search(line)
    value = float(found[1]) if found else math.nan
    return value if math.isfinite(value) else None
