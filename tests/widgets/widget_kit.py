"""A real kernel, and its front-end's side of the wire: cells, comm messages, subshells, what comes over iopub."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_client.manager import KernelManager

from tests.lab_kit import config

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 30.0

Message = dict[str, Any]


def surroundings(folder: Path, home: Path) -> dict[str, str]:
    """An environment in which nothing of this user's is read or written: that of a `Server` in the same folder."""
    own = folder / "jupyter"
    places = {"HOME": own, "SIMPLETUNER_HOME": home, "IPYTHONDIR": own / "ipython"}
    places |= {f"JUPYTER_{kind}_DIR": own / kind.lower() for kind in ("CONFIG", "DATA", "RUNTIME")}
    for path in places.values():
        path.mkdir(parents=True, exist_ok=True)
    return {name: str(path) for name, path in places.items()}


class Kernel:
    """`run` a cell, `block` with one, `ask` as a widget's JavaScript does."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.seen: list[Message] = []
        self._asked = 0
        self._manager = KernelManager(kernel_name="python3", transport="tcp", ip="127.0.0.1")
        environment = os.environ | surroundings(folder, home) | {"PYTHONPATH": str(ROOT)}
        environment.pop("JPY_PARENT_PID", None)
        self._manager.start_kernel(env=environment, cwd=str(folder))
        self.client = self._manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE_S)

    def stop(self) -> None:
        self.client.stop_channels()
        self._manager.shutdown_kernel(now=True)

    def interrupt(self) -> None:
        self._manager.interrupt_kernel()

    # ------------------------------------------------------------ cells

    def start(self, code: str) -> str:
        """Runs a cell and does not wait for its end."""
        return self.client.execute(code)

    def run(self, code: str) -> str:
        """Runs a cell to its end; what it printed and the text of its result. Fails if it raised."""
        return self.ended(self.start(code))

    def ended(self, cell: str) -> str:
        """What a started cell printed and gave, once it has ended."""
        self.until(lambda: self._idle(cell))
        mine = [message for message in self.seen if message["parent_header"].get("msg_id") == cell]
        errors = ["\n".join(message["content"]["traceback"]) for message in mine if message["msg_type"] == "error"]
        assert not errors, errors[0]
        return "".join(
            message["content"]["text"] if message["msg_type"] == "stream" else message["content"]["data"]["text/plain"]
            for message in mine
            if message["msg_type"] in {"stream", "execute_result"}
        )

    def value(self, expression: str) -> str:
        """What an expression prints as."""
        return self.run(f"print({expression})").strip()

    def _idle(self, cell: str) -> bool:
        return any(
            message["msg_type"] == "status"
            and message["parent_header"].get("msg_id") == cell
            and message["content"]["execution_state"] == "idle"
            for message in self.seen
        )

    # ------------------------------------------------------------ the wire

    def until(self, found: Callable[[], object]) -> Any:
        """Reads what the kernel publishes until something holds; returns it."""
        give_up_at = time.monotonic() + PATIENCE_S
        while not (value := found()):
            assert time.monotonic() < give_up_at, self._story()
            try:
                self.seen.append(self.client.get_iopub_msg(timeout=0.1))
            except queue.Empty:
                continue
        return value

    def subshell(self) -> str:
        """A new subshell, made over the control channel as JupyterLab does."""
        self.client.control_channel.send(self.client.session.msg("create_subshell_request"))
        return str(self.client.get_control_msg(timeout=PATIENCE_S)["content"]["subshell_id"])

    def send(self, model: str, data: Message, *, subshell: str | None = None) -> None:
        """A comm message of the front-end."""
        message = self.client.session.msg("comm_msg", {"comm_id": model, "data": data})
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        self.client.shell_channel.send(message)

    def ask(self, model: str, verb: str, args: object, *, subshell: str | None = None) -> Message:
        """A question, and the message that answers it."""
        self._asked += 1
        question = {"id": f"q-{self._asked}", "verb": verb, "args": args}
        self.send(model, {"method": "custom", "content": question}, subshell=subshell)
        answers = self.until(lambda: [m for m in self.customs(model) if m.get("id") == question["id"]])
        assert len(answers) == 1
        return dict(answers[0])

    def customs(self, model: str) -> list[Message]:
        """Custom messages that this widget sent so far."""
        sent = (m["content"]["data"] for m in self.seen if m["msg_type"] == "comm_msg" and _comm(m) == model)
        return [data["content"] for data in sent if data.get("method") == "custom"]

    def state(self, model: str) -> Message:
        """The widget's synced state as the front-end knows it by now."""
        state: Message = {}
        for message in self.seen:
            if message["msg_type"] in {"comm_open", "comm_msg"} and _comm(message) == model:
                state |= message["content"]["data"].get("state", {})
        return state

    def shown(self) -> list[Message]:
        """Contents of every display so far, updates too."""
        return [m["content"] for m in self.seen if m["msg_type"] in {"display_data", "update_display_data"}]

    def complaints(self) -> str:
        """What was printed to stderr, and every traceback."""
        text = [
            m["content"]["text"] for m in self.seen if m["msg_type"] == "stream" and m["content"]["name"] == "stderr"
        ]
        return "".join(text) + "".join(m["content"]["evalue"] for m in self.seen if m["msg_type"] == "error")

    def _story(self) -> str:
        return "\n".join(f"{m['msg_type']} {str(m['content'])[:300]}" for m in self.seen[-12:])


def _comm(message: Message) -> str:
    return str(message["content"]["comm_id"])


def form(kernel: Kernel, name: str, images: Path, how: str = "quick", *, shown: bool = True) -> str:
    """A submit form in a variable of the kernel's; its model id."""
    show = f"display({name})" if shown else ""
    kernel.run(
        f"import simpletuner_lab as st\n{name} = st.submit({config(how)!r}, {str(images)!r}, name={name!r})\n{show}"
    )
    return kernel.value(f"{name}.model_id")


def agreed(kernel: Kernel, model: str, **over: Any) -> Message:
    """Plans and submits as the form's button does; the job."""
    request = kernel.state(model)["request"]
    plan = kernel.ask(model, "plan", {"request": request}, **over)["value"]
    args = {"request": request, "approve": plan["digest"], "key": kernel.state(model)["key"]}
    return dict(kernel.ask(model, "submit", args, **over)["value"])
