"""Processes that submit at once: `spend_herd.py ADDRESS COUNT`. One process loads everything, then forks that many."""

from __future__ import annotations

import os
import sys

from simpletuner_lab.core.book import Claim
from simpletuner_lab.core.errors import SpendLimitReached
from simpletuner_lab.services.spending import Request
from simpletuner_lab.services.store import Store
from tests.services.store_kit import new_job, open_store


def pay(store: Store, job_id: str) -> str:
    """Submits a job that may cost a dollar."""
    asks = Request(claim=Claim(most_usd=1.0, least_usd=None, usd_per_hour=3.6))
    try:
        store.jobs.insert(new_job(job_id, provider="p", remote=True), "{}", asks=asks)
    except SpendLimitReached as error:
        return error.code
    return "reserved"


def main(address: str, count: int) -> None:
    wait, go = os.pipe()
    children = []
    for number in range(count):
        child = os.fork()
        if not child:
            os.close(go)
            os.read(wait, 1)  # until the parent closes its end: all begin together
            said = pay(open_store(address), f"job-{number}")
            os.write(1, f"{said}\n".encode())
            os._exit(0)
        children.append(child)
    os.close(go)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
