"""Flushes of one owner into the MongoDB log, through motor and through PyMongo's own asynchronous client, beside a bare
`insert_many` of the same documents, flush by flush in the same run.

`python -m bench.mongo_append [--seconds N] [--commits N] [--uri URI]`. Without a URI it starts a replica set of one on the disk of
the checkout. `--commits` is how far the log grows for the last table, as far as `--seconds` allow.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import uvloop
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient, WriteConcern

from bench.harness import percentile, table
from bench.log_append import SHARDS, Writer
from docker.local.mongodb import MongoReplicaSet
from eventlog.mongo import MongoLog
from eventlog.mongo_schema import COMMITS, INDEXES, document_of
from eventlog.record import Commit

FLUSH_SIZES = (1, 16, 64, 256, 500)
IN_FLIGHT = 128
FILL_FLUSH = 500
WARM_COMMITS = 1_000
WINDOW_FLUSHES = 40
EARLY_COMMITS = 10_000
RATE_GOAL = 20_000
CACHE = "2G"
LOG_ID = "log-of-the-benchmark"
CLIENTS: dict[str, Callable[..., Any]] = {"motor": AsyncIOMotorClient, "PyMongo async": AsyncMongoClient}
ROOT = Path(__file__).resolve().parent.parent

Batches = dict[int, list[Commit]]


@dataclass
class Spans:
    """Wall clock and this process's CPU of a kind of flush."""

    walls: list[float] = field(default_factory=list)
    cpus: list[float] = field(default_factory=list)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Measure what stands inside."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.walls.append(time.perf_counter() - wall)
        self.cpus.append(time.process_time() - cpu)

    def rate(self, size: int) -> float:
        """Commits a second."""
        return size * len(self.walls) / sum(self.walls)

    def cpu_us(self, size: int) -> float:
        """Microseconds of this process a commit."""
        return sum(self.cpus) / len(self.cpus) / size * 1e6


class Bare:
    """The reference: the same documents into a collection with the same indexes, nothing else."""

    def __init__(self, client: Any, database: str = "bench_bare") -> None:
        self._client = client
        concern = WriteConcern(w="majority", j=True, wtimeout=10_000)
        self._collection = client.get_database(database).get_collection(COMMITS, write_concern=concern)

    async def open(self) -> None:
        """An empty collection."""
        await self._collection.drop()
        for name, keys in INDEXES.items():
            await self._collection.create_index([(key, 1) for key in keys], name=name, unique=True)

    async def flush(self, batches: Batches) -> None:
        """One ordered insert."""
        documents = [document_of(commit) for commits in batches.values() for commit in commits]
        await self._collection.insert_many(documents)

    async def close(self) -> None:
        """Hang up."""
        closing = self._client.close()
        if closing is not None:
            await closing


async def sizes(uri: str, flushes: int) -> None:
    """Each size through each client, all taking turns with the reference."""
    rows = []
    for size in FLUSH_SIZES:
        for name, (ours, bare) in (await flush_spans(uri, size, flushes)).items():
            walls = sorted(ours.walls)
            rows.append(
                (
                    size,
                    name,
                    f"{ours.rate(size):,.0f}",
                    f"{bare.rate(size):,.0f}",
                    f"{ours.rate(size) / bare.rate(size):.2f}",
                    f"{percentile(walls, 0.5) * 1e3:.1f} / {percentile(walls, 0.99) * 1e3:.1f}",
                    f"{ours.cpu_us(size):.1f}",
                    f"{bare.cpu_us(size):.1f}",
                )
            )
    columns = (
        "commits/flush",
        "client",
        "commits/s",
        "insert_many",
        "ratio",
        "p50 / p99 ms",
        "CPU µs/commit",
        "insert_many",
    )
    table(f"{flushes} flushes of 200-byte messages, majority and journal, one after the other", columns, rows)


async def flush_spans(uri: str, size: int, flushes: int) -> dict[str, tuple[Spans, Spans]]:
    """Ours and the reference's, by client."""
    spans = {name: (Spans(), Spans()) for name in CLIENTS}
    turns: list[tuple[Spans, Callable[[Batches], Awaitable[None]]]] = []
    async with AsyncExitStack() as opened:
        for number, (name, client_class) in enumerate(CLIENTS.items()):
            drop(uri, database := f"bench_log_{number}")
            log = await MongoLog.open(uri, database, SHARDS, log_id=LOG_ID, client_class=client_class)
            opened.push_async_callback(log.close)
            bare = Bare(client_class(uri), f"bench_bare_{number}")
            opened.push_async_callback(bare.close)
            await bare.open()
            turns += [(spans[name][0], partial(appended, log)), (spans[name][1], bare.flush)]
        writer = Writer()
        warm = writer.batch(WARM_COMMITS)
        for _, flush in turns:
            await flush(warm)
        for number in range(flushes):
            batches = writer.batch(size)
            for turn in range(len(turns)):
                span, flush = turns[(turn + number) % len(turns)]
                with span.one():
                    await flush(batches)
    return spans


async def appended(log: MongoLog, batches: Batches) -> None:
    """One flush of ours, of which nothing may be refused."""
    outcomes = await log.append(batches)
    assert all(outcome.refusal is None for outcome in outcomes.values())


class Owner:
    """128 callers, each with a commit in flight at any time; what waits leaves with the next flush, as at a node."""

    def __init__(self, log: MongoLog) -> None:
        self.log = log
        self.commits = 0
        self._writer = Writer()

    async def fill(self, commits: int, until: float) -> None:
        """Grow the log."""
        while self.commits < commits and time.perf_counter() < until:
            await self._flush(self._writer.batch(FILL_FLUSH), FILL_FLUSH)

    async def window(self) -> Spans:
        """Flushes of all that are in flight, built while nothing is measured."""
        spans = Spans()
        for _ in range(WINDOW_FLUSHES):
            batches = self._writer.batch(IN_FLIGHT)
            with spans.one():
                await self._flush(batches, IN_FLIGHT)
        return spans

    async def _flush(self, batches: Batches, size: int) -> None:
        await appended(self.log, batches)
        self.commits += size


async def growth(uri: str, commits: int, seconds: float) -> None:
    """The same flushes into a short and into a long log."""
    drop(uri, "bench_log")
    log = await MongoLog.open(uri, "bench_log", SHARDS, log_id=LOG_ID)
    bare = Bare(AsyncIOMotorClient(uri))
    owner = Owner(log)
    until = time.perf_counter() + seconds
    rows = []
    early = 0.0
    medians: list[float] = []
    for goal in (EARLY_COMMITS, commits // 10, commits):
        await owner.fill(goal, until)
        await bare.open()
        at = owner.commits
        ours, reference = await owner.window(), Spans()
        writer = Writer(2)
        for _ in range(WINDOW_FLUSHES):
            batches = writer.batch(IN_FLIGHT)
            with reference.one():
                await bare.flush(batches)
        rate = ours.rate(IN_FLIGHT)
        early = early or rate
        medians.append(percentile(sorted(ours.walls), 0.5))
        rows.append(
            (
                f"{at:,}",
                f"{rate:,.0f}",
                f"{reference.rate(IN_FLIGHT):,.0f}",
                f"{rate / reference.rate(IN_FLIGHT):.2f}",
                f"{rate / early:.2f}",
                f"{percentile(sorted(ours.walls), 0.5) * 1e3:.1f} / {percentile(sorted(ours.walls), 0.99) * 1e3:.1f}",
            )
        )
        if owner.commits < goal:
            break
    await log.close()
    await bare.close()
    columns = (
        "commits in the log",
        "commits/s",
        "insert_many (empty)",
        "ratio",
        "to the first",
        "p50 / p99 ms",
    )
    table(f"One owner, {IN_FLIGHT} in flight, as the log grows", columns, rows)
    verdicts = {True: "reached", False: "missed"}
    print(
        f"  goal: >= {RATE_GOAL:,} commits/s at {IN_FLIGHT} in flight: {early:,.0f}, {verdicts[early >= RATE_GOAL]}"
    )
    print(
        f"  goal: as good at {commits:,} commits as at {EARLY_COMMITS:,} (median flush at most a quarter longer):"
        f" {medians[-1] / medians[0]:.2f} times at {owner.commits:,},"
        f" {verdicts[owner.commits >= commits and medians[-1] <= 1.25 * medians[0]]}"
    )


def drop(uri: str, database: str) -> None:
    """Begin with nothing."""
    with MongoClient[dict[str, Any]](uri) as client:
        client.drop_database(database)


def measure(uri: str, chosen: argparse.Namespace) -> None:
    """All tables."""
    uvloop.run(sizes(uri, chosen.flushes))
    uvloop.run(growth(uri, chosen.commits, chosen.seconds))
    for name in ("bench_log", "bench_bare"):
        for database in (name, *(f"{name}_{number}" for number in range(len(CLIENTS)))):
            drop(uri, database)


def main() -> None:
    """Print the tables."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--flushes", type=int, default=100)
    arguments.add_argument("--commits", type=int, default=1_000_000)
    arguments.add_argument("--seconds", type=float, default=60)
    arguments.add_argument("--uri", default=None)
    chosen = arguments.parse_args()
    if chosen.uri is not None:
        measure(chosen.uri, chosen)
        return
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT.parent) as folder,
        MongoReplicaSet(Path(folder)) as server,
    ):
        with MongoClient[dict[str, Any]](server.uri) as client:
            # The tests' servers are small; a log's indexes must fit, or the server evicts in the midst of flushes.
            setting = {"setParameter": 1, "wiredTigerEngineRuntimeConfig": f"cache_size={CACHE}"}
            client.admin.command(setting)
        measure(server.uri, chosen)


if __name__ == "__main__":
    main()
