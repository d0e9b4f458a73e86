"""Bases on the Hugging Face Hub that are known to be gated: a plan says so before anybody pays. Data, no network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

GATED: Final[Mapping[str, str]] = {
    "black-forest-labs/FLUX.1-dev": "2026-01",
    "black-forest-labs/FLUX.1-schnell": "2026-01",
    "stabilityai/stable-diffusion-3-medium-diffusers": "2026-01",
    "stabilityai/stable-diffusion-3.5-large": "2026-01",
    "stabilityai/stable-diffusion-3.5-medium": "2026-01",
}
"""Repository, and when it was last known to be so."""


def gate_note(base: str) -> str:
    """What a plan says of a base; empty where nothing is known of a gate."""
    known = next((name for name in GATED if name.lower() == base.lower()), None)
    if known is None:
        return ""
    return (
        f"{known} is gated (as of {GATED[known]}): accept its licence at https://huggingface.co/{known}, "
        "and the machine that trains needs HF_TOKEN of the account that did"
    )
