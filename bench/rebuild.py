"""Events per second and core into SQLite views: rebuilding each view, beside a bare `executemany` of the very same rows.

`python -m bench.rebuild [--events N] [--live | --flat]`. CPU time of the process, so that a busy machine disturbs little; the reference
runs in the same process right after, so that what still disturbs both cancels out in the ratio. `--live` measures what a message costs in
the batches of a running server, `--flat` whether the timeline's rate stays as the log grows.
"""

from __future__ import annotations

import argparse
import gc
import random
import sqlite3
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec

from domain.aggregates import EVENT_CLASSES
from domain.direct import DirectOpened
from domain.event import Event
from domain.streams import shard_of
from domain.talk import MessagePosted
from eventlog.codec import EventCodec, frame_of, recorded
from eventlog.received import received_of
from eventlog.record import Commit, Committed, Draft, Head
from eventlog.registry import Registry
from eventlog.sealing import PlainSealing
from ops.interpreter import interpreter_for_serving
from projections.projection import Projection
from projections.rebuild import SPAN_COMMITS
from projections.runner import RunnerSettings
from projections.sqlite import SqliteViewStore
from projections.sqlite_words import create_words, words_of
from projections.views import READ_MODELS

CONVERSATIONS = 500
SHARDS = 8
WORDS = 12
VOCABULARY = 3_000
LIVE_RATES = (1_000, 3_000)
"""Messages per second."""
FLAT_MARKS = (100_000, 500_000)
FLAT_WINDOW = 50_000
"""The rate at a mark is that of so many events before it."""
CODEC = EventCodec(Registry(EVENT_CLASSES), PlainSealing())


class History:
    """Direct messages of `CONVERSATIONS` pairs, in the order of the log."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._heads: dict[int, Head] = {}
        self._versions = [0] * CONVERSATIONS
        self._at = 1_700_000_000_000
        self.opened = [self._opened(index) for index in range(CONVERSATIONS)]

    def say(self, count: int) -> list[Committed]:
        """The next messages."""
        return [self._said(self._random.randrange(CONVERSATIONS)) for _ in range(count)]

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
    return model.over(SqliteViewStore(folder / f"{name}.db", model.schema, "bench"))


def rebuild(projection: Projection, commits: Sequence[Committed]) -> float:
    """Seconds of CPU to take the frames of these commits, shard by shard."""
    frames = frames_of(commits)
    started = time.process_time()
    for first in range(0, len(frames), SPAN_COMMITS):
        projection.take_commits(frames[first : first + SPAN_COMMITS], CODEC)
    return time.process_time() - started


def decode(projection: Projection, commits: Sequence[Committed]) -> float:
    """Seconds of CPU of `rebuild`'s decoding alone."""
    frames = frames_of(commits)
    started = time.process_time()
    for frame in frames:
        received_of(CODEC, frame, projection.contents)
    return time.process_time() - started


def frames_of(commits: Sequence[Committed]) -> list[Commit]:
    """The commits without their events, in the order in which a rebuild reads them."""
    return [committed.commit for committed in sorted(commits, key=lambda committed: committed.commit.shard)]


def bare(folder: Path, name: str) -> float:
    """Seconds of CPU to write all rows of a rebuilt view with `executemany` and nothing else."""
    source = sqlite3.connect(folder / f"{name}.db")
    target = sqlite3.connect(folder / f"{name}-bare.db", isolation_level=None)
    target.execute("PRAGMA journal_mode = WAL")
    target.execute("PRAGMA synchronous = NORMAL")
    seconds = 0.0
    for table in READ_MODELS[name].schema.tables:
        (sql,) = source.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table.name,)).fetchone()
        target.execute(sql)
        seconds += _copy(source, target, f"SELECT * FROM {table.name}", f"INSERT INTO {table.name}")
        if table.text is not None:
            for statement in create_words(table, table.text):
                target.execute(statement)
            columns = ", ".join(table.text.searched)
            select = f"SELECT {table.text.order}, {columns} FROM {table.name}"
            seconds += _copy(source, target, select, f"INSERT INTO {words_of(table)} (rowid, {columns})")
    source.close()
    target.close()
    return seconds


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, select: str, insert: str) -> float:
    rows = source.execute(select).fetchall()
    if not rows:
        return 0
    marks = ", ".join("?" * len(rows[0]))
    started = time.process_time()
    for first in range(0, len(rows), SPAN_COMMITS):
        target.execute("BEGIN")
        target.executemany(f"{insert} VALUES ({marks})", rows[first : first + SPAN_COMMITS])
        target.execute("COMMIT")
    return time.process_time() - started


def main_rebuild(events: int) -> None:
    """Print one line for each view."""
    history = History()
    commits = [*history.opened, *history.say(events)]
    events = len(commits)
    with interpreter_for_serving(), tempfile.TemporaryDirectory() as text:  # A rebuild is the server's work.
        folder = Path(text)
        for name in READ_MODELS:
            projection = opened(folder, name)
            seconds = rebuild(projection, commits)
            decoding = decode(projection, commits)
            projection.store.close()
            reference = bare(folder, name)
            print(
                f"{name:12} {events / seconds:9,.0f} events/s  {seconds / events * 1e6:6.1f} us an event "
                f"(decoding {decoding / events * 1e6:4.1f})  bare executemany {reference / events * 1e6:5.1f} us  "
                f"ratio {seconds / reference if reference else 0:4.1f}"
            )


def main_flat() -> None:
    """Print the timeline's rate at each of the marks."""
    history = History()
    with tempfile.TemporaryDirectory() as text:
        projection = opened(Path(text), "timeline")
        rebuild(projection, history.opened)
        spans: deque[float] = deque(maxlen=FLAT_WINDOW // SPAN_COMMITS)
        for events in range(SPAN_COMMITS, max(FLAT_MARKS) + 1, SPAN_COMMITS):
            spans.append(rebuild(projection, history.say(SPAN_COMMITS)))
            if events in FLAT_MARKS:
                print(f"timeline at {events:9,} events  {FLAT_WINDOW / sum(spans):9,.0f} events/s")
        projection.store.close()


def main_live(events: int) -> None:
    """Print the CPU of applying the batches of direct messages that a running server applies, view by view."""
    settings = RunnerSettings()
    for rate in LIVE_RATES:
        batch = rate * settings.linger_ms // 1_000
        lazy_batch = min(rate * settings.lazy_linger_ms // 1_000, settings.lazy_commits_max)
        total = 0.0
        for name, model in READ_MODELS.items():
            size = lazy_batch if model.lazy else batch
            seconds = live(name, events, size)
            total += seconds
            print(
                f"{name:12} {rate:6,}/s  batches of {size:5,}  {seconds / events * 1e6:6.1f} us of CPU a message"
            )
        print(f"{'all':12} {rate:6,}/s  {'':17}  {total / events * 1e6:6.1f} us of CPU a message")


def live(name: str, events: int, size: int) -> float:
    """Seconds of CPU to take so many messages in batches."""
    history = History()
    with tempfile.TemporaryDirectory() as text:
        projection = opened(Path(text), name)
        projection.take(history.opened)
        said = history.say(events)
        gc.freeze()
        started = time.process_time()
        for first in range(0, events, size):
            projection.take(said[first : first + size])
        seconds = time.process_time() - started
        projection.store.close()
    return seconds


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--live", action="store_true")
    parser.add_argument("--flat", action="store_true")
    options = parser.parse_args()
    if options.live:
        main_live(options.events)
    elif options.flat:
        main_flat()
    else:
        main_rebuild(options.events)


if __name__ == "__main__":
    main()
