"""Hot reads from Redis beside the same reads from MongoDB, and what telling Redis costs a projector.

`python -m bench.fast_views [--rounds N] [--events N]` (0: not these).

Starts a MongoDB replica set of one and a Redis. The same code asks both, one
question after the other: p50 on the wall, CPU of this process and of the server. A group has 200 members and 600 messages, every tenth
with a reaction, an edit or a recall; a user is in 100 conversations and 20 events behind in each. The projector takes messages of 500 pairs
in batches, with Redis told of nobody's documents, and of everybody's.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec
from pymongo import MongoClient
from redis import Redis

from bench.fast_chats import GROUP, LOG, MEMBERS, MESSAGES, SHARDS, chats
from bench.rebuild import CODEC, History
from docker.local.mongodb import MongoReplicaSet
from docker.local.redis import RedisServers
from eventlog.record import Commit, Committed
from projections.directory import Directory
from projections.fast_documents import place_of
from projections.fast_filling import FastFills
from projections.fast_reading import FastReads
from projections.fast_shelf import FastShelf, ToldStore
from projections.inbox import Inbox
from projections.mongo_driver import ViewDatabase
from projections.mongo_shelf import MongoShelf
from projections.projection import Projection
from projections.reading import Reads
from projections.redis_fast import RedisFast
from projections.store import ViewStore
from projections.timeline import Timeline
from projections.views import READ_MODELS

TENANT = "default"
BATCHES = (100, 2_000)
WARM_ROUNDS = 4
FILLED_S = 120.0


class Cost(NamedTuple):
    """Microseconds of one question: p50 on the wall, CPU of this process, of MongoDB, of Redis."""

    wall: float
    client: float
    mongodb: float
    redis: float


class House:
    """The views on MongoDB, told to Redis, and readers of both."""

    def __init__(self, database: ViewDatabase, rows: RedisFast) -> None:
        self.shelf = FastShelf(MongoShelf(database), rows, SHARDS)
        self.projections: dict[str, Projection] = {}
        for name in ("timeline", "inbox", "directory"):
            model = READ_MODELS[name]
            self.projections[name] = model.over(self.shelf.open(model.schema, 1, LOG), shared=True)
        self.fills = FastFills(rows, self._current, SHARDS)
        self.fast = FastReads(rows, self._standing, self.fills, SHARDS)
        self._reads = Reads()
        self._names = Directory(self._reads, self._source("directory")).names_now

    def take(self, commits: Sequence[Committed]) -> None:
        """Apply everything."""
        for first in range(0, len(commits), 1_000):
            for projection in self.projections.values():
                projection.take(commits[first : first + 1_000])
        self.shelf.look()

    def readers(self, *, fast: bool) -> tuple[Timeline, Inbox]:
        """Those that ask Redis first, and those that do not."""
        reads, copies = self._reads, self.fast if fast else None
        timeline, inbox = self._source("timeline"), self._source("inbox")
        return (
            Timeline(reads, timeline, self._names, _fresh, SHARDS, copies),
            Inbox(reads, timeline, inbox, self._names, _fresh, LOG, copies),
        )

    async def close(self) -> None:
        """End everything."""
        self.fast.close()
        await self._reads.close()
        for projection in self.projections.values():
            projection.store.close()
        self.shelf.close()

    def _source(self, name: str) -> Callable[[], ViewStore]:
        return lambda: self.projections[name].store

    def _current(self, name: str) -> tuple[ViewStore, int]:
        store = self.projections[name].store
        assert isinstance(store, ToldStore)
        return store, store.version

    def _standing(self, name: str) -> tuple[str, Mapping[int, int]]:
        return place_of(*self._current(name)), dict(self.projections[name].positions)


async def _fresh() -> None:
    return


class Meter:
    """CPU seconds of this process and of the servers."""

    def __init__(self, uri: str, redis_url: str) -> None:
        self._mongodb: MongoClient[dict[str, object]] = MongoClient(uri)
        self._redis = Redis.from_url(redis_url)

    def read(self) -> tuple[float, float, float]:
        """Of this process, MongoDB, Redis."""
        used = self._mongodb.admin.command("serverStatus")["extra_info"]
        redis = self._redis.info("cpu")
        assert isinstance(redis, dict)
        mongodb = float(used["user_time_us"] + used["system_time_us"]) / 1e6
        return time.process_time(), mongodb, float(redis["used_cpu_user"]) + float(redis["used_cpu_sys"])

    def close(self) -> None:
        """Close the connections."""
        self._mongodb.close()
        self._redis.close()


Ask = Callable[[Timeline, Inbox], Awaitable[object]]


def questions(have: Mapping[str, int]) -> dict[str, Ask]:
    """What is measured."""

    async def page(timeline: Timeline, _: Inbox) -> object:
        access = await timeline.access(TENANT, "user7", GROUP)
        assert access is not None
        return await timeline.messages(access, limit=50)

    some = [(TENANT, f"user{number}", GROUP) for number in range(MEMBERS)]
    return {
        "may mark (read, received, typing)": lambda timeline, _: timeline.marks_allowed(
            TENANT, "user7", GROUP, 50
        ),
        "newest page of 50 messages": page,
        "numbers of one member": lambda _, inbox: inbox.many_numbers(some[7:8]),
        "numbers of 50 members": lambda _, inbox: inbox.many_numbers(some[:50]),
        "hello, 1 conversation behind": lambda _, inbox: inbox.hello(
            TENANT, "user7", {GROUP: MEMBERS + MESSAGES}
        ),
        "hello, 20 behind in 100": lambda _, inbox: inbox.hello(TENANT, "user0", have),
        "who listens to 100": lambda timeline, _: timeline.user_conversations(TENANT, "user0"),
    }


async def measured(meter: Meter, rounds: int, ask: Ask, readers: tuple[Timeline, Inbox]) -> Cost:
    """The cost of a question."""
    walls: list[float] = []
    gc.collect()
    before = meter.read()
    for _ in range(rounds):
        began = time.perf_counter()
        await ask(*readers)
        walls.append(time.perf_counter() - began)
    after = meter.read()
    used = [(end - start) / rounds * 1e6 for start, end in zip(before, after, strict=True)]
    return Cost(statistics.median(walls) * 1e6, *used)


async def reads(house: House, meter: Meter, have: Mapping[str, int], rounds: int) -> None:
    """Measure and print the reads, after looking that both say the same."""
    plain, fast = house.readers(fast=False), house.readers(fast=True)
    print(
        f"{'one question':36} {'MongoDB: p50':>14} {'CPU':>9} {'+server':>9} {'Redis: p50':>14} {'CPU':>9} {'+server':>9}"
    )
    for what, ask in questions(have).items():
        for _ in range(WARM_ROUNDS):
            same = msgspec.json.encode(await ask(*fast)) == msgspec.json.encode(await ask(*plain))
            assert same, what
            assert house.fills.settled(FILLED_S)
        slow = await measured(meter, max(rounds // 50, 3), ask, plain)
        asked = house.fast.counters.hits
        quick = await measured(meter, rounds, ask, fast)
        assert house.fast.counters.hits > asked, f"{what}: not held"
        print(
            f"{what:36} {slow.wall:11,.0f} us {slow.client:9,.0f} {slow.mongodb:9,.0f}"
            f" {quick.wall:11,.0f} us {quick.client:9,.0f} {quick.redis:9,.0f}"
        )


class Writing:
    """A projector of the timeline, into a version of its own."""

    def __init__(self, database: ViewDatabase, rows: RedisFast | None, version: int) -> None:
        shelf = MongoShelf(database)
        self._model = READ_MODELS["timeline"]
        self._shelf: FastShelf | None = None
        if rows is None:
            store = shelf.open(self._model.schema, version, LOG)
        else:
            self._shelf = FastShelf(shelf, rows, SHARDS)
            self._shelf.switch("timeline", self._shelf.current().get("timeline", 1), version)
            store = self._shelf.open(self._model.schema, version, LOG)
        self.projection = self._model.over(store, parks=False, shared=True)
        self._version = version
        self._rows = rows

    def take(self, commits: Sequence[Commit], size: int) -> None:
        """Apply commits in batches."""
        for first in range(0, len(commits), size):
            self.projection.take_commits(commits[first : first + size], CODEC)

    def fill(self, streams: Sequence[str]) -> None:
        """Have everything there."""
        assert self._rows is not None
        fills = FastFills(self._rows, lambda _: (self.projection.store, self._version), SHARDS)
        for stream in streams:
            fills.conversation(stream, "nobody")
        assert fills.settled(FILLED_S)
        fills.close()

    def close(self) -> None:
        """End it."""
        self.projection.store.close()
        if self._shelf is not None:
            self._shelf.close()


def writes(database: ViewDatabase, rows: RedisFast, meter: Meter, events: int) -> None:
    """Measure and print what a projector takes of the timeline."""
    version = 100
    units = "us an event"
    print(
        f"\n{'messages inserted':28} {'batch':>6} {'events/s':>9} {'CPU':>6} {'MongoDB':>8} {'Redis':>6} {units}"
    )
    for size in BATCHES:
        for kind in ("MongoDB alone", "and Redis, nothing there", "and Redis, all there"):
            version += 1
            history = History()
            warm = [one.commit for one in [*history.opened, *history.say(5_000)]]
            commits = [one.commit for one in history.say(events)]
            writing = Writing(database, None if kind == "MongoDB alone" else rows, version)
            writing.take(warm[:3_000], 1_000)
            if kind.endswith("all there"):
                streams = sorted({one.stream for one in warm})
                writing.fill(streams)
                writing.take(warm[3_000:], 1_000)  # Now the projector knows what is there.
                writing.fill(streams)
            else:
                writing.take(warm[3_000:], 1_000)
            gc.freeze()
            began, before = time.perf_counter(), meter.read()
            writing.take(commits, size)
            wall, after = time.perf_counter() - began, meter.read()
            used = ((end - start) / events * 1e6 for start, end in zip(before, after, strict=True))
            client, mongodb, redis = used
            print(f"{kind:28} {size:6,} {events / wall:9,.0f} {client:6.1f} {mongodb:8.1f} {redis:6.1f}")
            writing.close()


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--events", type=int, default=20_000)
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        uri = stack.enter_context(MongoReplicaSet(folder / "mongodb")).uri
        redis_url = stack.enter_context(RedisServers(folder / "redis")).address
        database = ViewDatabase.connect(uri, "bench", timeout_ms=60_000)
        stack.callback(database.close)
        rows = RedisFast(redis_url, "bench", SHARDS, read_timeout_s=5, write_timeout_s=5)
        stack.callback(rows.close)
        meter = Meter(uri, redis_url)
        stack.callback(meter.close)
        if options.rounds:
            asyncio.run(_reads(database, rows, meter, options.rounds))
        if options.events:
            writes(database, rows, meter, options.events)


async def _reads(database: ViewDatabase, rows: RedisFast, meter: Meter, rounds: int) -> None:
    house = House(database, rows)
    made, have = chats()
    await asyncio.to_thread(house.take, made.commits)
    await reads(house, meter, have, rounds)
    await house.close()


if __name__ == "__main__":
    main()
