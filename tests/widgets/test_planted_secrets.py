"""A kernel whose surroundings are full of secrets shows none of them in any cell, widget, display or traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simpletuner_lab.services.home import Home
from tests.lab_kit import config, quick_home
from tests.server.test_planted_secrets import HELD, UNSET
from tests.services.test_planted_secrets import Found, clothed, plant
from tests.widgets.widget_kit import Kernel, form


@pytest.mark.slow
def test_no_output_of_a_notebook_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, images = quick_home(tmp_path), tmp_path / "images"
    for name, value in plant(images, Home(home.root)).items():
        if f"env:{name}" not in UNSET:
            monkeypatch.setenv(name, value)
    kernel, found = Kernel(tmp_path, home.root), Found()
    try:
        form(kernel, "refused", images, "crash")
        kernel.run("try:\n    refused.plan\nexcept Exception as error:\n    print(error)")
        entry = {"id": "set", "type": "local", "instance_data_dir": str(images), "instance_prompt": "a cat"}
        kernel.run(f"trained = st.submit({config('crash')!r}, [{entry!r}])\ndisplay(trained)")
        kernel.run("print(trained.plan)\ntrained.submit(approve=trained.plan.digest)")
        kernel.run("try:\n    trained.wait()\nexcept Exception as error:\n    print(error)")
        kernel.run("print(trained.logs())\ndisplay(trained)\ndisplay(st.jobs())\ndisplay(st.spend())")
        assert "nan" in kernel.run("print(trained.logs())").lower()
        (tmp_path / "sets.json").write_text(json.dumps([entry]))
        (tmp_path / "config.json").write_text(json.dumps(config("crash", data_backend_config="sets.json")))
        kernel.run("%load_ext simpletuner_lab")
        for line in (
            f"plan {tmp_path}/config.json",
            "jobs",
            "providers",
            "provider replicate",
            "spend",
        ):
            kernel.run(f"%stcloud {line}")
        typed = len(kernel.seen)
        for one in HELD:
            for text in clothed(one.secret):
                given = config("crash") | {"validation_prompt": text}
                cell = kernel.start(f"st.submit({given!r}, {str(images)!r}).plan")
                kernel.until(lambda cell=cell: kernel._idle(cell))
        errors = [message for message in kernel.seen if message["msg_type"] == "error"]
        assert errors, "some of them are tokens to look at, and refused"
        for place, message in enumerate(kernel.seen):
            repeats = {"execute_input"} | ({"comm_open"} if place >= typed else set())  # a form has what a person typed
            if message["msg_type"] not in repeats:
                found.look(message["msg_type"], json.dumps(message["content"]))
    finally:
        kernel.stop()
    assert found.looked > 10_000
    assert sorted(set(found.leaks)) == []
