# PYTHON_ARGCOMPLETE_OK
"""`python -m simpletuner_lab` is `stcloud`."""

from __future__ import annotations

import sys

from simpletuner_lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
