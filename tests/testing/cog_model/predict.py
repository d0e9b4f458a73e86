"""A model that learns nothing: what the emulator's engines have to tell, in a second."""

import tempfile
import time
from typing import Optional

from cog import BasePredictor, Input, Path, Secret


class Predictor(BasePredictor):
    def predict(
        self,
        text: str = Input(description="What is said."),
        steps: int = Input(description="How often.", ge=1, le=1000, default=3),
        mode: str = Input(description="How it goes.", choices=["say", "fail", "wait"], default="say"),
        file: Optional[Path] = Input(description="Is read out.", default=None),
        secret: Optional[Secret] = Input(description="Is counted.", default=None),
    ) -> Path:
        if file is not None:
            print(f"file {file.read_text()}", flush=True)
        if secret is not None:
            print(f"secret of {len(secret.get_secret_value())}", flush=True)
        for step in range(1, steps + 1):
            self.record_metric("step", step)
            print(f"{text} {step}", flush=True)
            if mode == "fail" and step == 2:
                raise RuntimeError("boom at step 2")
            while mode == "wait":
                time.sleep(0.01)
        made = Path(tempfile.mkdtemp()) / "said.txt"
        made.write_text(text * steps)
        return made
