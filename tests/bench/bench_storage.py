"""The object endpoint beside nginx (the limit), `rclone serve s3` and moto (peers). Prints ratios, asserts nothing.

    python tests/bench/bench_storage.py [MEGABYTES] [ROUNDS]

One client for all: signed requests over plain sockets, made beforehand, so that what is measured is the server; then
boto3, as users have it. The data lie on a tmpfs where there is one, then once more on this disk, where every object of
ours is synced and nobody else's is. nginx verifies no signature, computes no checksum and lists nothing, nor does the
bare tornado beside it, which shows what is left for us to win. Peers come from `.venv-bench` (rclone, moto) and from
PATH (nginx); one that is missing is left out, and said to be.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, TypeVar

from tests.bench.storage_client import Client
from tests.bench.storage_peers import Peer, peers

T = TypeVar("T")

SMALL: Final = 1_000
SMALL_BYTES: Final = 16 << 10
LISTED: Final = 10_000
GETS: Final = 4
THREADS: Final = 8


class Table:
    """Seconds and server CPU-seconds of each measurement, by what was measured and for whom."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, list[tuple[float, float]]]] = {}

    @contextmanager
    def timed(self, what: str, peer: Peer) -> Iterator[None]:
        """Measures a block."""
        cpu_s, start_s = peer.cpu_s(), time.perf_counter()
        yield
        took = (time.perf_counter() - start_s, peer.cpu_s() - cpu_s)
        self._rows.setdefault(what, {}).setdefault(peer.name, []).append(took)

    def show(self, units: dict[str, tuple[float, str]]) -> None:
        """One line for each measurement: medians of all rounds, and ours in units of each peer's."""
        for what, by_peer in self._rows.items():
            amount, unit = units[what]
            medians = {name: statistics.median(s for s, _ in runs) for name, runs in by_peer.items()}
            cpu = {name: statistics.median(c for _, c in runs) for name, runs in by_peer.items()}
            cells = [f"{name} {amount / s:,.0f} {unit} ({cpu[name]:.2f} CPU-s)" for name, s in medians.items()]
            ratios = [f"{medians[name] / medians['lab']:.2f} x {name}" for name in medians if name != "lab"]
            print(f"{what:22} {'  '.join(cells)}\n{'':22} lab = {', '.join(ratios)}")


def big(table: Table, client: Client, peer: Peer, megabytes: int) -> None:
    """One large object, in once and out several times: sending it takes a third of a second, and scatters."""
    with table.timed("PUT", peer):
        client.put_big("big", megabytes)
    for _ in range(GETS):
        with table.timed("GET", peer):
            client.get_big("big", megabytes)


def multipart(table: Table, client: Client, peer: Peer, source: Path) -> None:
    """boto3 as users have it: 16 MiB parts, four at a time, checksums as it likes them."""
    with table.timed("boto3 multipart", peer):
        client.boto3_upload("parts", source)


def small(table: Table, client: Client, peer: Peer) -> None:
    """Many small objects from several connections at once."""
    body = os.urandom(SMALL_BYTES)
    in_turn = (("PUT 16 KiB", client.puts("small", SMALL, body)), ("GET 16 KiB", client.gets("small", SMALL)))
    for what, requests in in_turn:
        with table.timed(what, peer):
            spread(client.send_all, requests)


def small_by_boto3(table: Table, client: Client, peer: Peer) -> None:
    """The same by boto3, whose own work is the larger half."""
    body, keys = os.urandom(SMALL_BYTES), [f"by-boto3/{index:05}" for index in range(SMALL)]
    with table.timed("boto3 PUT 16 KiB", peer):
        spread(lambda share: client.boto3_puts(share, body), keys)
    with table.timed("boto3 GET 16 KiB", peer):
        spread(client.boto3_gets, keys)


def spread(work: Callable[[Sequence[T]], object], items: Sequence[T]) -> None:
    """Shares the items among the threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, [items[start::THREADS] for start in range(THREADS)]))


def fill(client: Client, peer: Peer) -> None:
    """The keys that are listed."""
    if peer.by_boto3_alone:
        spread(lambda keys: client.boto3_puts(keys, b""), [f"listed/{index:05}" for index in range(LISTED)])
    else:
        spread(client.send_all, client.puts("listed", LISTED, b""))


def listing(table: Table, client: Client, peer: Peer) -> None:
    """All pages of a listing."""
    ways = (
        ("boto3 list 10,000", client.boto3_list),
        *(() if peer.by_boto3_alone else (("list 10,000", client.list_all),)),
    )
    for what, listed in ways:
        with table.timed(what, peer):
            found = listed("listed/")
        assert found == LISTED, f"{peer.name} listed {found}"


def measure(place: Path, megabytes: int, rounds: int, *, whole: bool) -> None:
    """Every measurement on one file system, rounds in turn, so that a slow minute hits everyone."""
    table = Table()
    units = {
        "PUT": (megabytes, "MiB/s"), "GET": (megabytes, "MiB/s"), "boto3 multipart": (megabytes, "MiB/s"),
        "PUT 16 KiB": (SMALL, "/s"), "GET 16 KiB": (SMALL, "/s"), "boto3 PUT 16 KiB": (SMALL, "/s"),
        "boto3 GET 16 KiB": (SMALL, "/s"), "list 10,000": (LISTED, "keys/s"), "boto3 list 10,000": (LISTED, "keys/s"),
    }  # fmt: skip
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=place, prefix="bench-storage-")))
        source = folder / "source"
        with source.open("wb") as file:
            for _ in range(megabytes):
                file.write(os.urandom(1 << 20))
        running = [(peer, Client(peer)) for peer in peers(folder, stack)]
        turns: list[tuple[Callable[[Client, Peer], None], Callable[[Peer], bool]]] = [
            (
                lambda client, peer: big(table, client, peer, megabytes),
                lambda peer: not (peer.by_boto3_alone or peer.small_alone),
            ),
            (lambda client, peer: small(table, client, peer), lambda peer: not peer.by_boto3_alone),
        ]
        if whole:
            for peer, client in running:
                if peer.speaks_s3:
                    fill(client, peer)
            turns += [
                (lambda client, peer: small_by_boto3(table, client, peer), lambda peer: peer.speaks_s3),
                (lambda client, peer: multipart(table, client, peer, source), lambda peer: peer.speaks_s3),
                (lambda client, peer: listing(table, client, peer), lambda peer: peer.speaks_s3),
            ]
        for _ in range(rounds):
            for turn, takes in turns:
                for peer, client in running:
                    if takes(peer):
                        turn(client, peer)
        print(f"-- {place}, {megabytes} MiB, {rounds} rounds, medians; peak memory "
              + ", ".join(f"{peer.name} {peer.memory_mib():.0f} MiB" for peer, _ in running))  # fmt: skip
        table.show(units)


def main() -> None:
    given = [int(text) for text in sys.argv[1:3]]
    megabytes, rounds = [*given, *(1024, 3)[len(given) :]]
    shared = Path("/dev/shm")
    room = shutil.disk_usage(shared).free if shared.is_dir() else 0
    if room > 8 * megabytes << 20:
        measure(shared, megabytes, rounds, whole=True)
    measure(Path(os.environ.get("BENCH_DISK", tempfile.gettempdir())), megabytes, rounds, whole=room == 0)


if __name__ == "__main__":
    main()
