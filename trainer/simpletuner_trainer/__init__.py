"""Train a diffusion LoRA or a full fine-tune from a spec file: ``python -m simpletuner_trainer spec.json``."""

__version__ = "0.1.0"
