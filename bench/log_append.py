"""Flushes into the SQLite log beside a bare `sqlite3` executemany + commit of the same bytes, flush by flush
in the same run.

`python -m bench.log_append [--flushes N] [--events N]`. Times are wall clock and include the disk's sync; the
two logs take turns, so that what disturbs one disturbs the other. `--events` also makes a log of so many
events and measures opening it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import random
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from timeit import repeat
from typing import ClassVar

import uvloop

from bench.harness import percentile, table
from domain.event import Event
from eventlog.codec import EventCodec, frame_of
from eventlog.port import READ_COMMITS_MAX
from eventlog.record import KEY_BYTES, Commit, Draft, Head
from eventlog.registry import Registry
from eventlog.sealing import PlainSealing
from eventlog.sqlite import SqliteLog
from eventlog.sqlite_schema import INSERT, connect_writer, prepare, row_of
from eventlog.worker import Workers

BATCH_SIZES = (1, 4, 16, 64, 256)
SHARDS = 64
CONVERSATIONS = 2_000
TEXT = "a message of two hundred bytes, " * 6 + "the end."
HOPS = 2_000
BULK_COMMITS = 20_000
ROOT = Path(__file__).resolve().parent.parent


class Said(Event, frozen=True, kw_only=True):
    """A message."""

    TYPE: ClassVar[str] = "said"
    BODY: ClassVar[tuple[str, ...]] = ("text",)

    ordinal: int
    text: str


CODEC = EventCodec(Registry((Said,)), PlainSealing())


class Writer:
    """Makes commits of one message each over many conversations and shards."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._heads: dict[int, Head] = {}
        self._versions = [0] * CONVERSATIONS

    def batch(self, size: int) -> dict[int, list[Commit]]:
        """The commits of one flush."""
        batches: dict[int, list[Commit]] = {}
        for _ in range(size):
            number = self._random.randrange(CONVERSATIONS)
            shard = number % SHARDS
            batches.setdefault(shard, []).append(self._commit(number, shard))
        return batches

    def _commit(self, number: int, shard: int) -> Commit:
        self._versions[number] += 1
        version = self._versions[number]
        event = Said(actor=f"u_{number}", at=1_700_000_000_000, ordinal=version, text=TEXT)
        draft = Draft(
            f"d_{number:026d}",
            version,
            self._random.randbytes(KEY_BYTES),
            bytes(KEY_BYTES),
            event.at,
            (event,),
            (version,),
            CODEC.encode_events((event,), (version,)),
        )
        commit = frame_of(draft, "log-of-the-benchmark", shard, 1, self._heads.get(shard, Head()))
        self._heads[shard] = commit.head
        return commit


def bare_flush(db: sqlite3.Connection, batches: dict[int, list[Commit]]) -> float:
    """The reference: the same rows into the same table, nothing else; seconds."""
    started = time.perf_counter()
    rows = [row_of(commit) for commits in batches.values() for commit in commits]
    db.execute("BEGIN IMMEDIATE")
    db.executemany(INSERT, rows)
    db.execute("COMMIT")
    return time.perf_counter() - started


async def flushes(folder: Path, size: int, count: int) -> tuple[list[float], list[float]]:
    """Seconds per flush, sorted: ours, the reference."""
    log = await SqliteLog.open(folder / f"ours-{size}.db", SHARDS, log_id="log-of-the-benchmark")
    bare = connect_writer(folder / f"bare-{size}.db")
    prepare(bare, folder, SHARDS, "log-of-the-benchmark")
    bare.execute("PRAGMA wal_autocheckpoint = 1000")  # SQLite's own default, as a bare program would have it.
    writer = Writer()
    ours: list[float] = []
    reference: list[float] = []
    for number in range(count):
        batches = writer.batch(size)
        # Each goes first every other time: a sync right after another one is faster.
        if number % 2:
            reference.append(bare_flush(bare, batches))
        started = time.perf_counter()
        outcomes = await log.append(batches)
        ours.append(time.perf_counter() - started)
        if not number % 2:
            reference.append(bare_flush(bare, batches))
        assert all(outcome.refusal is None for outcome in outcomes.values())
    bare.close()
    await log.close()
    return sorted(ours), sorted(reference)


async def measure_flushes(count: int) -> None:
    """The table of flushes."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT.parent) as folder:
        for size in BATCH_SIZES:
            ours, bare = await flushes(Path(folder), size, count)
            rows.append(
                (
                    size,
                    f"{size * count / sum(ours):,.0f}",
                    f"{size * count / sum(bare):,.0f}",
                    f"{sum(bare) / sum(ours):.2f}",
                    f"{percentile(ours, 0.5) * 1e3:.2f} / {percentile(ours, 0.99) * 1e3:.2f}",
                    f"{percentile(bare, 0.5) * 1e3:.2f} / {percentile(bare, 0.99) * 1e3:.2f}",
                )
            )
    columns = ("commits/flush", "commits/s", "bare", "ratio", "p50 / p99 ms", "bare")
    table(f"{count} flushes of 200-byte messages, synchronous FULL", columns, rows)


async def hop_us(call: Callable[[], Awaitable[object]]) -> float:
    """Median microseconds of a call that does nothing elsewhere."""
    spans = []
    for _ in range(HOPS):
        started = time.perf_counter()
        await call()
        spans.append(time.perf_counter() - started)
    return percentile(sorted(spans), 0.5) * 1e6


async def measure_hops() -> None:
    """What crossing to a thread and back costs."""
    workers: Workers[None] = Workers("bench", [None], jobs_max=10, dispose=lambda _: None)
    loop = asyncio.get_running_loop()
    ours = await hop_us(lambda: workers.run(lambda _: None))
    executor = await hop_us(lambda: loop.run_in_executor(None, lambda: None))
    await workers.close()
    table(
        "To a thread and back, median",
        ("ours µs", "run_in_executor µs"),
        [(f"{ours:.0f}", f"{executor:.0f}")],
    )


def measure_codec() -> None:
    """What one message costs before it reaches the log."""
    event = Said(actor="u_1", at=1_700_000_000_000, ordinal=7, text=TEXT)
    encoded = CODEC.encode_events((event,), (7,))
    draft = Draft("d_1", 7, bytes(16), bytes(16), event.at, (event,), (7,), encoded)
    commit = frame_of(draft, "log", 1, 1, Head())
    steps: dict[str, Callable[[], object]] = {
        "encode_events": lambda: CODEC.encode_events((event,), (7,)),
        "frame_of": lambda: frame_of(draft, "log", 1, 1, Head()),
        "SHA-256": lambda: commit.digest,
        "bare SHA-256": lambda: hashlib.sha256(commit.frame).digest(),
        "decode": lambda: CODEC.decode(commit),
    }
    count = 20_000
    rows = [
        (name, f"{min(repeat(step, number=count, repeat=5)) / count * 1e6:.2f}")
        for name, step in steps.items()
    ]
    table(f"One 200-byte message ({len(commit.frame)}-byte frame), best of 5", ("step", "µs"), rows)


async def measure_opening(events: int) -> None:
    """Open a long log and read from it for the first time."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT.parent) as name:
        path = Path(name) / "log.db"
        fill(path, events)
        gc.collect()
        started = time.perf_counter()
        log = await SqliteLog.open(path)
        opened = time.perf_counter()
        heads = await log.heads()
        headed = time.perf_counter()
        page = await log.read_shard(1, 0, READ_COMMITS_MAX)
        tail = await log.read_stream_tail(1, page[0].stream, 100)
        read = time.perf_counter()
        await log.close()
        row = (
            f"{sum(head.number for head in heads.values()):,}",
            f"{path.stat().st_size / 1e6:,.0f}",
            f"{(opened - started) * 1e3:.1f}",
            f"{(headed - opened) * 1e3:.1f}",
            f"{(read - headed) * 1e3:.1f}",
            f"{len(page):,} + {len(tail):,}",
        )
    table(
        "Opening a long log (file in the page cache)",
        ("events", "MB", "open ms", "all heads ms", "first reads ms", "commits read"),
        [row],
    )


def fill(path: Path, events: int) -> None:
    """Make a log of so many one-event commits; without syncs, since only reading it is measured."""
    db = connect_writer(path, "OFF")
    prepare(db, path, SHARDS, "log-of-the-benchmark")
    writer = Writer()
    for start in range(0, events, BULK_COMMITS):
        bare_flush(db, writer.batch(min(BULK_COMMITS, events - start)))
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    db.close()


def main() -> None:
    """Print the tables."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--flushes", type=int, default=300)
    arguments.add_argument("--events", type=int, default=0)
    chosen = arguments.parse_args()
    measure_codec()
    uvloop.run(measure_hops())
    uvloop.run(measure_flushes(chosen.flushes))
    if chosen.events:
        uvloop.run(measure_opening(chosen.events))


if __name__ == "__main__":
    main()
