"""Which names may be buckets: S3's rules, and what has another meaning here. Pure."""

from __future__ import annotations

import re
from typing import Final

RESERVED_BUCKETS: Final = frozenset({"api"})
"""`/api/...` at the root of the public listener is not a bucket (DESIGN §2.8)."""

MARKER: Final = ".stlab-folder"
"""The file in the folder `a` that is the object `a/`: what S3's clients make to show an empty folder."""

_BUCKET: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]")
_ADDRESS: Final = re.compile(r"\d+\.\d+\.\d+\.\d+")


def is_bucket(name: str) -> bool:
    """Whether a bucket may be called so: 3 to 63 of a-z, 0-9, dot and hyphen, no address, not reserved."""
    return name not in RESERVED_BUCKETS and bool(_BUCKET.fullmatch(name)) and not _ADDRESS.fullmatch(name)
