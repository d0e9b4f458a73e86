"""Widgets in a real kernel with no server: questions of the browser, following, waiting, blocked cells."""

from __future__ import annotations

import json
from pathlib import Path

from simpletuner_lab.services.home import Home
from simpletuner_lab.testing import eventually
from tests.lab_kit import dataset
from tests.widgets.widget_kit import Kernel, agreed, form

STATE = {"lab", "job_id", "request", "key", "digest", "job", "curve", "catalogue"}


def test_a_form_is_answered_and_its_job_followed(kernel: Kernel, images: Path, home: Home) -> None:
    model = form(kernel, "first", images)
    opened = kernel.state(model)
    assert {name for name in opened if not name.startswith("_")} - {"layout", "tabbable", "tooltip"} == STATE
    assert (opened["lab"], opened["job_id"], opened["job"]) == (home.id, "", None)
    assert len(opened["key"]) == 32
    job = agreed(kernel, model)
    assert kernel.run("job = await first; print(job.status)").strip() == "completed"
    kernel.until(lambda: (kernel.state(model)["job"] or {}).get("is_terminal"))
    state = kernel.state(model)
    assert state["job_id"] == state["job"]["job_id"] == job["job_id"]
    assert (state["curve"]["step"][-1], state["curve"]["loss"][0]) == (12, 1.0)
    versions = [m["news"]["version"] for m in kernel.customs(model) if "news" in m]
    assert versions == sorted(set(versions))
    assert kernel.value("first.status, first.step, first.total_steps, first.progress, first.loss") == (
        "completed 12 12 1.0 0.08333333333333333"
    )
    assert (
        kernel.value("st.job(first.job_id)._line.ask(lambda lab: lab.detail(first.job_id)).events[1].data['entry']")
        == "widget"
    )


def test_traits_hold_neither_the_home_folder_nor_a_secret(kernel: Kernel, images: Path, folder: Path) -> None:
    model = form(kernel, "private", images)
    assert kernel.state(model)["request"]["dataloader_config"][0]["instance_data_dir"] == "~/images"
    agreed(kernel, model)
    kernel.run("private.wait()")
    kernel.until(lambda: (kernel.state(model)["job"] or {}).get("is_terminal"))
    assert str(folder) not in json.dumps({name: kernel.state(model)[name] for name in STATE})
    refused = kernel.run(
        "try:\n    st.submit({'model_family': 'sd', 'hub_token': 'hf_' + 'a' * 34}, 'jupyter/images')\n"
        "except st.LabError as error:\n    print(error.code, error.message)"
    )
    assert refused.startswith("secret_in_config config.hub_token")


def test_every_answer_to_nonsense_is_an_error_and_the_kernel_says_nothing(kernel: Kernel, images: Path) -> None:
    model = form(kernel, "odd", dataset(images.parent / "odd", images=2))
    said = len(kernel.complaints())
    for verb, args, code in (
        ("fly", {}, "invalid_request"),
        ("job", {"job_id": "none"}, "job_not_found"),
        ("job", {"job_id": 5, "more": 1}, "invalid_request"),
        ("plan", None, "invalid_request"),
        ("jobs", {"sort": "colour"}, "invalid_request"),
        ("submit", {"request": kernel.state(model)["request"], "approve": None, "key": "k"}, "consent_required"),
        ("picture", {"job_id": "none", "path": "../../etc/passwd"}, "job_not_found"),
    ):
        error = kernel.ask(model, verb, args)["error"]
        assert (error["code"], bool(error["detail"]), set(error)) == (
            code,
            True,
            {"code", "detail", "hint", "problems"},
        )
    problems = kernel.ask(model, "job", {"job_id": 5, "more": 1})["error"]["problems"]
    assert {problem["path"] for problem in problems} >= {"args.job_id"}
    for nonsense in (7, "text", None, {"verb": "jobs"}, {"id": 3, "verb": "jobs"}, {"id": "x", "verb": ["a"]}):
        kernel.send(model, {"method": "custom", "content": nonsense})
    assert kernel.ask(model, "jobs", {"states": ["failed"], "text": "", "limit": 5})["value"]["jobs"] == []
    assert kernel.complaints()[said:] == ""


def test_every_verb_answers(kernel: Kernel, images: Path) -> None:
    model = form(kernel, "verbs", images)
    job_id = agreed(kernel, model)["job_id"]
    kernel.run("verbs.wait()")
    one = {"job_id": job_id}
    assert kernel.ask(model, "job", one)["value"]["status"] == "completed"
    assert kernel.ask(model, "detail", one)["value"]["events"][0]["kind"] == "created"
    assert kernel.ask(model, "events", {"after": 0, "job_id": job_id})["value"][0]["job_id"] == job_id
    assert "unpacked" in kernel.ask(model, "log", one | {"offset": 0})["value"]["logs"]
    assert kernel.ask(model, "metrics", one | {"points": 100})["value"]["total"] == 12
    outputs = kernel.ask(model, "outputs", one)["value"]
    assert outputs["verified"]
    assert kernel.ask(model, "providers", {})["value"][0]["id"] == "local"
    assert kernel.ask(model, "consent", {})["value"] == {"consent": "ask"}
    assert kernel.ask(model, "set_consent", {"mode": "ask"})["value"] == {"consent": "ask"}
    weights = kernel.ask(model, "picture", one | {"path": "pytorch_lora_weights.safetensors"})
    assert weights["value"]["src"].startswith("data:application/octet-stream;base64,")
    (Path(outputs["folder"]) / "link.png").symlink_to(images / "0.png")
    assert kernel.ask(model, "picture", one | {"path": "link.png"})["error"]["code"] == "output_not_found"
    (Path(outputs["folder"]) / "seen.png").write_bytes((images / "0.png").read_bytes())
    assert kernel.ask(model, "picture", one | {"path": "seen.png"})["value"]["src"].startswith("data:image/png;base64,")
    assert kernel.ask(model, "delete", one | {"outputs": True})["value"] == {}
    assert kernel.ask(model, "job", one)["error"]["code"] == "job_not_found"


def test_a_cancel_click_is_answered_while_a_cell_blocks_the_kernel(kernel: Kernel, images: Path, folder: Path) -> None:
    model, gate = form(kernel, "blocked", images, "wait"), folder / "gate"
    subshell = kernel.subshell()
    cell = kernel.start(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\nprint('free')")
    kernel.until(
        lambda: [m for m in kernel.seen if m["msg_type"] == "execute_input" and "gate" in m["content"]["code"]]
    )
    job_id = agreed(kernel, model, subshell=subshell)["job_id"]
    kernel.until(lambda: (kernel.state(model)["job"] or {}).get("status") == "running")
    assert kernel.ask(model, "cancel", {"job_id": job_id}, subshell=subshell)["value"]["cancel_requested"]
    kernel.until(lambda: kernel.state(model)["job"]["status"] == "cancelled")
    assert not kernel._idle(cell)
    gate.touch()
    assert kernel.ended(cell) == "free\n"
    ended = "try:\n    await blocked\nexcept st.JobFailed as error:\n    print(error.reason, '|', error.message)"
    assert kernel.run(ended).strip() == f"cancelled | job {job_id} was cancelled"


def test_an_interrupt_ends_the_waiting_and_not_the_job(kernel: Kernel, images: Path) -> None:
    model, subshell = form(kernel, "long", images, "wait"), kernel.subshell()
    job_id = agreed(kernel, model)["job_id"]
    for how, name in (("long.wait()", "KeyboardInterrupt"), ("await long", "CancelledError")):
        cell = kernel.start(f"try:\n    {how}\nexcept BaseException as error:\n    print(type(error).__name__)")
        kernel.until(lambda: (kernel.state(model)["job"] or {}).get("status") == "running")
        assert kernel.ask(model, "job", {"job_id": job_id}, subshell=subshell)["value"]["is_active"]
        kernel.interrupt()
        assert kernel.ended(cell).strip() == name
        assert kernel.ask(model, "job", {"job_id": job_id})["value"]["status"] == "running"
    assert kernel.run("try:\n    long.wait(0.2)\nexcept TimeoutError:\n    print('goes on')").strip() == "goes on"
    assert kernel.value("long.cancel().cancel_requested") == "True"
    assert (
        kernel.run("try:\n    long.wait()\nexcept st.JobFailed as error:\n    print(error.code)").strip()
        == "job_failed"
    )


def test_a_failed_job_says_why(kernel: Kernel, images: Path) -> None:
    form(kernel, "poor", images, "crash", shown=False)
    kernel.run("_ = poor.submit(approve=poor.plan.digest)")
    said = kernel.run(
        "try:\n    poor.wait()\nexcept st.JobFailed as error:\n    print(error.reason, error.message, error.hint)"
    )
    assert said.strip().endswith("failed: the loss is not a number at step 5 lower the learning rate")
    assert said.startswith("nan_loss job ")


def test_code_agrees_to_a_digest_and_to_nothing_else(kernel: Kernel, images: Path) -> None:
    form(kernel, "coded", dataset(images.parent / "others"), shown=False)
    for how in ("coded.submit()", "coded.submit(approve='0' * 64)", "coded.cancel()", "coded.metrics"):
        said = kernel.run(f"try:\n    {how}\nexcept st.LabError as error:\n    print(error.code)").strip()
        assert said in {"consent_required", "plan_changed", "invalid_request"}
        assert kernel.value("coded.job_id") == ""
    kernel.run("coded.submit(approve=coded.plan.digest)")
    again = "try:\n    coded.submit(approve=coded.plan.digest)\nexcept st.LabError as error:\n    print(error.code)"
    assert kernel.run(again).strip() == "job_active"
    assert kernel.value("coded.wait(30).status") == "completed"


def test_two_widgets_on_one_job_and_a_list_hear_of_its_deletion(kernel: Kernel, images: Path) -> None:
    model = form(kernel, "one", images)
    listing = kernel.value("(every := st.jobs()).model_id")
    kernel.run("display(every)")
    job_id = agreed(kernel, model)["job_id"]
    other = kernel.value("(two := st.job(one.job_id)).model_id")
    kernel.run("display(two)")
    assert kernel.run("print(one.wait().job_id == two.wait().job_id)").strip() == "True"
    kernel.until(lambda: {"news": {"job_id": None, "version": 0}} in kernel.customs(listing))
    kernel.until(lambda: job_id in {m["news"]["job_id"] for m in kernel.customs(listing) if "news" in m})
    before = len(kernel.customs(other))
    assert kernel.ask(other, "delete", {"job_id": job_id, "outputs": False})["value"] == {}
    kernel.until(lambda: {"news": {"job_id": job_id, "version": 0}} in kernel.customs(other)[before:])
    gone = "try:\n    st.job(one.job_id)\nexcept st.LabError as error:\n    print(error.code)"
    assert kernel.run(gone).strip() == "job_not_found"


def test_a_form_is_used_again_with_a_new_key(kernel: Kernel, images: Path) -> None:
    model = form(kernel, "twice", images)
    first = agreed(kernel, model)["job_id"]
    kernel.run("twice.wait()")
    for state in ({"key": "k" * 32}, {"job_id": ""}):
        kernel.send(model, {"method": "update", "state": state, "buffer_paths": []})
    assert kernel.value("twice.job_id, twice.status, twice.step").split() == ["0"]
    second = agreed(kernel, model)["job_id"]
    assert second != first
    assert kernel.value("twice.wait().job_id") == second


def test_who_waits_for_a_job_that_is_deleted_is_told(kernel: Kernel, images: Path) -> None:
    form(kernel, "gone", images, shown=False)
    kernel.run("gone.submit(approve=gone.plan.digest).status; gone.wait(30)")
    kernel.run("late = st.job(gone.job_id); late._line.ask(lambda lab: lab.delete(gone.job_id)); late._begin()")
    said = kernel.run("try:\n    late.wait(20)\nexcept st.LabError as error:\n    print(error.code)").strip()
    assert said == "job_not_found"


def test_closing_ends_the_following_and_the_waiting(kernel: Kernel, images: Path) -> None:
    kernel.run("import ipywidgets, threading\nipywidgets.Widget.close_all()")
    threads = "sum(thread.name == 'simpletuner-lab-follower' for thread in threading.enumerate())"
    eventually(lambda: kernel.value(threads), "0".__eq__)
    for _ in range(5):
        form(kernel, "again", images)
    assert kernel.value(threads) == "1"
    kernel.run("threading.Timer(0.3, again.close).start()")
    said = kernel.run("try:\n    again.wait()\nexcept st.LabError as error:\n    print(error.message)").strip()
    assert said.endswith("this widget was closed")
    kernel.run("ipywidgets.Widget.close_all()")
    eventually(lambda: kernel.value(threads), "0".__eq__)


def test_what_an_observer_raises_is_seen_and_ends_nothing(kernel: Kernel, images: Path) -> None:
    form(kernel, "watched", images)
    kernel.run("def fail(change): raise RuntimeError('mine')\nwatched.observe(fail, 'total_steps')")
    kernel.run("_ = watched.submit(approve=watched.plan.digest)")
    assert kernel.value("watched.wait(30).status").endswith("completed")
    assert "RuntimeError: mine" in kernel.complaints()
    assert "RuntimeError" not in kernel.value("watched.trouble")
