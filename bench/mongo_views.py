"""Events per second into views on MongoDB, beside PyMongo writing the very same documents and nothing else.

`python -m bench.mongo_views [--uri URI] [--events N]`. Without a URI it starts a replica set of one. Wall time, since most of the work is
the server's, and beside it the CPU of this process and of the server (`serverStatus`), which a busy machine disturbs less; of each the
best of three rounds. Both write with `w: majority, j: true` in batches of the same size. Ours is a projector from frames of the log to the
committed transaction: decoding, folding, writing, positions.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pymongo import MongoClient, ReplaceOne

from bench.rebuild import CODEC, History, frames_of
from docker.local.mongodb import MongoReplicaSet
from domain.inbox import ReadMarked
from domain.streams import inbox_stream, shard_of
from eventlog.codec import frame_of
from eventlog.record import Commit, Draft, Head, Recorded
from projections import personal, timeline
from projections.mongo import MongoViewStore
from projections.mongo_driver import ViewDatabase
from projections.projection import Projection
from projections.store import Schema, Table, UnitOfWork
from projections.views import READ_MODELS

BATCHES = (1_000, 5_000)
ROUNDS = 3
TIMELINE_GOAL, HEADS_GOAL = 30_000, 10_000
USERS = 500
SHARDS = 8
DATABASE = "bench"
HEADS = Schema(
    name="heads",
    version=1,
    tables=(Table(name="heads", columns=("stream text", "head int", "at int"), key_size=1),),
)


def move_head(view: UnitOfWork, row: Recorded) -> None:
    """What a projection of nothing but heads would do."""
    view.put(HEADS.tables[0], (row.stream, row.seq, row.event.at))


class Marks:
    """Read marks of so many users, in the order of the log."""

    def __init__(self, users: int) -> None:
        self._users = users
        self._heads: dict[int, Head] = {}
        self._versions: dict[str, int] = {}
        self._count = 0

    def mark(self, count: int) -> list[Commit]:
        """The next marks."""
        return [self._marked() for _ in range(count)]

    def _marked(self) -> Commit:
        self._count += 1
        stream = inbox_stream("default", f"user{self._count % self._users}")
        version = self._versions[stream] = self._versions.get(stream, 0) + 1
        at = 1_700_000_000_000 + self._count
        event = ReadMarked(actor="user", at=at, conversation_id=f"g_{version % 3}", read_seq=version)
        shard = shard_of(stream, SHARDS)
        draft = Draft(
            stream=stream,
            first_version=version,
            key=self._count.to_bytes(16),
            payload_digest=bytes(16),
            at=at,
            events=(event,),
            seqs=(version,),
            events_json=CODEC.encode_events((event,), (version,)),
        )
        commit = frame_of(draft, "bench", shard, 1, self._heads.get(shard, Head()))
        self._heads[shard] = commit.head
        return commit


class Bench:
    """One database that is emptied before each round."""

    def __init__(self, uri: str) -> None:
        self._client: MongoClient[dict[str, Any]] = MongoClient(uri, w="majority", journal=True)
        self._views = ViewDatabase.connect(uri, DATABASE, timeout_ms=60_000)

    def close(self) -> None:
        """Drop what was made."""
        self._client.drop_database(DATABASE)
        self._views.close()
        self._client.close()

    def projection(self, name: str, *, parks: bool = False) -> Projection:
        """An empty view."""
        self._client.drop_database(DATABASE)
        model = READ_MODELS[name]
        return model.over(MongoViewStore(self._views, model.schema, 1, "bench"), parks=parks)

    def ours(self, name: str, warm: Sequence[Commit], commits: Sequence[Commit], size: int) -> Cost:
        """What it takes to take the commits in batches."""
        projection = self.projection(name)
        projection.take_commits(warm, CODEC)
        seconds = self._taken(projection, commits, size)
        projection.store.close()
        return seconds

    def heads(self, commits: Sequence[Commit], size: int) -> Cost:
        """What it takes to move heads."""
        self._client.drop_database(DATABASE)
        store = MongoViewStore(self._views, HEADS, 1, "bench")
        seconds = self._taken(Projection(store, move_head, contents=False, parks=False), commits, size)
        store.close()
        return seconds

    def documents(self, schema: Schema, table: str) -> list[dict[str, Any]]:
        """What the last round left in a table."""
        names = self._views.collections(f"{schema.name}.v1.")
        (name,) = (name for name in names if name.endswith(f".{table}"))
        return list(self._client[DATABASE][name].find())

    def insert(self, documents: Sequence[dict[str, Any]], size: int) -> Cost:
        """What it takes: a bare `insert_many`."""
        collection = self._fresh()
        with self._measured() as costs:
            for first in range(0, len(documents), size):
                collection.insert_many(documents[first : first + size], ordered=False)
        return costs[0]

    def replace(self, documents: Sequence[dict[str, Any]], rounds: int) -> Cost:
        """What it takes to write these documents so many times with a bare `bulk_write`."""
        collection = self._fresh()
        collection.insert_many(documents)
        with self._measured() as costs:
            for number in range(rounds):
                # The same document again would be no write.
                changes = [
                    ReplaceOne({"_id": one["_id"]}, one | {"at": number}, upsert=True) for one in documents
                ]
                collection.bulk_write(changes, ordered=False)
        return costs[0]

    def _taken(self, projection: Projection, commits: Sequence[Commit], size: int) -> Cost:
        gc.freeze()
        with self._measured() as costs:
            for first in range(0, len(commits), size):
                projection.take_commits(commits[first : first + size], CODEC)
        return costs[0]

    @contextmanager
    def _measured(self) -> Iterator[list[Cost]]:
        costs: list[Cost] = []
        before = time.perf_counter(), time.process_time(), self._server_cpu()
        yield costs
        after = time.perf_counter(), time.process_time(), self._server_cpu()
        costs.append(Cost(*(end - start for start, end in zip(before, after, strict=True))))

    def _server_cpu(self) -> float:
        used = self._client.admin.command("serverStatus")["extra_info"]
        return float(used["user_time_us"] + used["system_time_us"]) / 1e6

    def _fresh(self) -> Any:
        self._client.drop_database(DATABASE)
        return self._client[DATABASE].create_collection("bare")


class Cost(NamedTuple):
    """Seconds: on the wall, of this process's CPU, of the server's CPU."""

    wall: float
    client: float
    server: float


def best(measure: Callable[..., Cost], *arguments: Any) -> Cost:
    """The least of some rounds."""
    return Cost(*map(min, zip(*(measure(*arguments) for _ in range(ROUNDS)), strict=True)))


def line(what: str, size: int, count: int, ours: Cost, reference: Cost, goal: int | None = None) -> None:
    """Print one row of the table; `goal` in events a second."""

    def shown(cost: Cost) -> str:
        client, server = (seconds / count * 1e6 for seconds in cost[1:])
        return f"{count / cost.wall:7,.0f}/s (CPU {client:4.1f} + server {server:4.1f} us)"

    verdict = "" if goal is None else f">= {goal:,}/s: {'reached' if count / ours.wall >= goal else 'missed'}"
    print(
        f"{what:26} {size:6,}  {shown(ours)}  {shown(reference)}  {ours.wall / reference.wall:5.2f}  {verdict}"
    )


def timeline_inserts(bench: Bench, events: int) -> None:
    """Messages of 500 conversations into the timeline."""
    history = History()
    warm, commits = frames_of(history.opened), frames_of(history.say(events))
    for size in BATCHES:
        ours = best(bench.ours, "timeline", warm, commits, size)
        documents = bench.documents(timeline.SCHEMA, "events")[-events:]
        reference = best(bench.insert, documents, size)
        line("timeline, messages inserted", size, events, ours, reference, goal=TIMELINE_GOAL)


def head_updates(bench: Bench, events: int) -> None:
    """A head for each of 500 conversations, moved by every message, folded to one write a document and batch."""
    history = History()
    commits = frames_of([*history.opened, *history.say(events)])
    for size in BATCHES:
        ours = best(bench.heads, commits, size)
        documents = bench.documents(HEADS, "heads")
        reference = best(bench.replace, documents, events // size)
        line("heads, messages folded", size, events, ours, reference, goal=HEADS_GOAL)


def marks_folded(bench: Bench, events: int) -> None:
    """Read marks of 500 users: heads and marks folded to one write a document, and the events inserted."""
    for size in BATCHES:
        marks = Marks(USERS)
        warm, commits = marks.mark(USERS * 3), marks.mark(events)
        ours = best(bench.ours, "inbox", warm, commits, size)
        heads = bench.documents(personal.SCHEMA, "me_heads")
        rows = bench.documents(personal.SCHEMA, "personal")
        inserted = bench.documents(personal.SCHEMA, "me_events")[-events:]
        # A batch touches each head once, and as many of the three marks of each user as it has events.
        folded = heads + rows[: min(size, len(rows))]
        written = best(bench.replace, folded, events // size), best(bench.insert, inserted, size)
        reference = Cost(*map(sum, zip(*written, strict=True)))
        line("inbox, read marks folded", size, events, ours, reference)


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uri")
    parser.add_argument("--events", type=int, default=50_000)
    options = parser.parse_args()
    with ExitStack() as stack:
        uri = options.uri
        if uri is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            uri = stack.enter_context(MongoReplicaSet(Path(folder))).uri
        bench = Bench(uri)
        print(f"{'':26} {'batch':>6}  {'ours':43}  {'PyMongo alone':43}  ratio")
        stack.callback(bench.close)
        timeline_inserts(bench, options.events)
        head_updates(bench, options.events)
        marks_folded(bench, options.events)


if __name__ == "__main__":
    main()
