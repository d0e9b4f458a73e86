"""Values as they may stand in a notebook that is given away: plain JSON, and the home folder is nobody's business."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from simpletuner_lab.core.errors import Problem, SecretInConfig
from simpletuner_lab.core.plan import SubmitRequest
from simpletuner_lab.core.redact import find_secrets, mask
from simpletuner_lab.services.codec import encode
from simpletuner_lab.services.forms import form_of

_FOLDER_KEY: Final = "instance_data_dir"


def saved(view: object) -> dict[str, Any]:
    """A view as a trait holds it. Numbers that JSON lacks are null."""
    plain = _plain(encode(view), re.compile(rf"(?<![\w./~-]){re.escape(str(Path.home()))}(?![\w-]|\.\w)"))
    return dict(plain)


def saved_request(request: SubmitRequest) -> dict[str, Any]:
    """A request as a trait holds it; folders below the home folder start with `~`, which the lab reads as well.

    Raises:
        SecretInConfig: it holds a secret, which would be saved with the notebook.
    """
    body: dict[str, Any] = json.loads(json.dumps(form_of(request)))
    problems: tuple[Problem, ...] = find_secrets(
        {"config": body["config"], "dataloader": body["dataloader_config"], "name": request.name}
    )
    if problems:
        raise SecretInConfig(
            f"{problems[0].path} holds what looks like a secret; nothing was shown or sent",
            problems=problems,
            hint="keep secrets in the environment, never in a config",
        )
    return body | {"dataloader_config": [_shortened(entry) for entry in body["dataloader_config"]]}


def _plain(value: Any, home: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return mask(home.sub("~", value))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(item, home) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, home) for item in value]
    return value


def _shortened(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _from_home(value) if key.removeprefix("--") == _FOLDER_KEY and isinstance(value, str) else value
        for key, value in entry.items()
    }


def _from_home(path: str) -> str:
    home = Path.home()
    return f"~/{Path(path).relative_to(home)}" if Path(path).is_relative_to(home) and home != Path("/") else path
