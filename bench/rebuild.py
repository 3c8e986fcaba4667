"""Events per second and core into SQLite views: rebuilding each view, beside a bare `executemany` of the very same rows.

`python -m bench.rebuild [--events N] [--live]`. CPU time of the process, so that a busy machine disturbs little; the reference runs in the
same process right after, so that what still disturbs both cancels out in the ratio. `--live` measures small batches instead.
"""

from __future__ import annotations

import argparse
import gc
import random
import sqlite3
import tempfile
import time
from pathlib import Path

import msgspec

from domain.aggregates import EVENT_CLASSES
from domain.direct import DirectOpened
from domain.event import Event
from domain.streams import shard_of
from domain.talk import MessagePosted
from eventlog.codec import EventCodec, frame_of, recorded
from eventlog.record import Committed, Draft, Head
from eventlog.registry import Registry
from eventlog.sealing import PlainSealing
from projections.projection import Projection
from projections.rebuild import SPAN_COMMITS
from projections.runner import decoded
from projections.sqlite import SqliteViewStore
from projections.views import READ_MODELS

CONVERSATIONS = 500
SHARDS = 8
WORDS = 12
VOCABULARY = 3_000
CODEC = EventCodec(Registry(EVENT_CLASSES), PlainSealing())


class History:
    """Direct messages of `CONVERSATIONS` pairs, in the order of the log."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._heads: dict[int, Head] = {}
        self._versions = [0] * CONVERSATIONS
        self._at = 1_700_000_000_000
        self.commits: list[Committed] = [self._opened(index) for index in range(CONVERSATIONS)]

    def say(self, count: int) -> list[Committed]:
        """The next messages."""
        said = [self._said(self._random.randrange(CONVERSATIONS)) for _ in range(count)]
        self.commits += said
        return said

    def _opened(self, index: int) -> Committed:
        return self._commit(
            index, DirectOpened(actor=f"one{index}", at=self._at, users=(f"one{index}", f"two{index}"))
        )

    def _said(self, index: int) -> Committed:
        self._at += 1
        text = " ".join(f"word{self._random.randrange(VOCABULARY)}" for _ in range(WORDS))
        ordinal = self._versions[index]
        event = MessagePosted(
            actor=self._random.choice((f"one{index}", f"two{index}")),
            at=self._at,
            message_id=f"m{index}-{ordinal}",
            ordinal=ordinal,
            client_msg_id=f"c{ordinal}",
            content=msgspec.Raw(msgspec.json.encode({"kind": "text", "text": text})),
        )
        return self._commit(index, event)

    def _commit(self, index: int, event: Event) -> Committed:
        stream = f"d_{index:026d}"
        version = self._versions[index] = self._versions[index] + 1
        shard = shard_of(stream, SHARDS)
        draft = Draft(
            stream=stream,
            first_version=version,
            key=version.to_bytes(16),
            payload_digest=bytes(16),
            at=self._at,
            events=(event,),
            seqs=(version,),
            events_json=CODEC.encode_events((event,), (version,)),
        )
        commit = frame_of(draft, "bench", shard, 1, self._heads.get(shard, Head()))
        self._heads[shard] = commit.head
        return recorded(commit, (event,), (version,))


def opened(folder: Path, name: str) -> Projection:
    """An empty view."""
    model = READ_MODELS[name]
    return Projection(SqliteViewStore(folder / f"{name}.db", model.schema, "bench"), model.apply, model.kinds)


def rebuild(folder: Path, name: str, history: History) -> tuple[float, float]:
    """(seconds of CPU to rebuild from frames, of which decoding)."""
    projection = opened(folder, name)
    by_shard = sorted(history.commits, key=lambda committed: committed.commit.shard)
    frames = [committed.commit for committed in by_shard]
    decoding = 0.0
    started = time.process_time()
    for first in range(0, len(frames), SPAN_COMMITS):
        before = time.process_time()
        span = decoded(CODEC, frames[first : first + SPAN_COMMITS], projection.reads)
        decoding += time.process_time() - before
        projection.take(span)
    seconds = time.process_time() - started
    projection.store.close()
    return seconds, decoding


def bare(folder: Path, name: str) -> float:
    """Seconds of CPU to write all rows of a rebuilt view with `executemany` and nothing else."""
    source = sqlite3.connect(folder / f"{name}.db")
    target = sqlite3.connect(folder / f"{name}-bare.db", isolation_level=None)
    target.execute("PRAGMA journal_mode = WAL")
    target.execute("PRAGMA synchronous = NORMAL")
    schema = READ_MODELS[name].schema
    texts = {table.name for table in schema.texts}
    seconds = 0.0
    for table_name in (*(table.name for table in schema.tables), *texts):
        (sql,) = source.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table_name,)).fetchone()
        target.execute(sql)
        rowid = "rowid, " if table_name in texts else ""
        rows = source.execute(f"SELECT {rowid}* FROM {table_name}").fetchall()
        if not rows:
            continue
        names = rowid + ", ".join(column[1] for column in target.execute(f"PRAGMA table_info({table_name})"))
        marks = ", ".join("?" * len(rows[0]))
        started = time.process_time()
        for first in range(0, len(rows), SPAN_COMMITS):
            target.execute("BEGIN")
            target.executemany(
                f"INSERT INTO {table_name} ({names}) VALUES ({marks})", rows[first : first + SPAN_COMMITS]
            )
            target.execute("COMMIT")
        seconds += time.process_time() - started
    source.close()
    target.close()
    return seconds


def main_rebuild(events: int) -> None:
    """Print one line for each view."""
    history = History()
    history.say(events)
    gc.freeze()  # As the server does after its start: the history is no garbage to look through.
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        for name in READ_MODELS:
            seconds, decoding = rebuild(folder, name, history)
            reference = bare(folder, name)
            print(
                f"{name:12} {events / seconds:9,.0f} events/s  {seconds / events * 1e6:6.1f} us an event "
                f"(decoding {decoding / events * 1e6:4.1f})  bare executemany {reference / events * 1e6:5.1f} us  "
                f"ratio {seconds / reference if reference else 0:4.1f}"
            )


def main_live(events: int, batch: int, lazy_batch: int) -> None:
    """Print the CPU of applying small batches of direct messages, view by view."""
    history = History()
    with tempfile.TemporaryDirectory() as text:
        projections = {name: opened(Path(text), name) for name in READ_MODELS}
        for projection in projections.values():
            projection.take(history.commits)
        said = history.say(events)
        gc.freeze()
        total = 0.0
        for name, projection in projections.items():
            size = lazy_batch if READ_MODELS[name].lazy else batch
            started = time.process_time()
            for first in range(0, events, size):
                projection.take(said[first : first + size])
            seconds = time.process_time() - started
            projection.store.close()
            total += seconds
            print(f"{name:12} batches of {size:5}  {seconds / events * 1e6:6.1f} us of CPU a message")
        print(f"{'all':12}                   {total / events * 1e6:6.1f} us of CPU a message")


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--live", action="store_true")
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--lazy-batch", type=int, default=1_000)
    options = parser.parse_args()
    if options.live:
        main_live(options.events, options.batch, options.lazy_batch)
    else:
        main_rebuild(options.events)


if __name__ == "__main__":
    main()
