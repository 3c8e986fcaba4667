"""A log of a million events: how long a server takes from the start of its process to its first answer, beside an empty one.

The log is written straight to the store; a first server then builds the views, and stops. What is measured is the next start.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec
import uvloop

from bench.harness import server, table, tokens
from client.rest import RestClient
from domain.aggregates import EVENT_CLASSES
from domain.direct import DirectOpened
from domain.event import Event
from domain.streams import direct_conversation_id, shard_of
from domain.talk import MessagePosted
from eventlog.codec import EventCodec, frame_of
from eventlog.record import Commit, Draft, Head
from eventlog.registry import Registry
from eventlog.sealing import PlainSealing
from eventlog.sqlite import SqliteLog
from ops.folder import DataFolder
from ops.settings import load_settings
from ops.wiring import open_server

PAIRS = 1_000
BATCH_COMMITS = 2_000
VIEWS_S = 1_800.0
_DISK = Path(__file__).resolve().parent.parent.parent
_codec = EventCodec(Registry(EVENT_CLASSES), PlainSealing())


class _Writer:
    """Commits of pairs who take turns, shard by shard in position order."""

    def __init__(self, log_id: str, shard_count: int) -> None:
        self._log_id = log_id
        self._shard_count = shard_count
        self._heads: dict[int, Head] = {}
        self._number = 0

    def history(self, events: int) -> Iterator[Commit]:
        """`events` commits of one event each: every pair opens, then all talk in turn."""
        content = msgspec.Raw(
            msgspec.json.encode({"kind": "text", "text": "lorem ipsum dolor sit amet " * 3})
        )
        for index in range(events):
            version, pair = divmod(index, PAIRS)
            one, two = f"a{pair}", f"b{pair}"
            at = 1_700_000_000_000 + index
            event: Event = DirectOpened(actor=one, at=at, users=(one, two))
            if version:
                event = MessagePosted(
                    actor=(one, two)[version % 2],
                    at=at,
                    message_id=f"{index:032x}",
                    ordinal=version,
                    client_msg_id=f"c{index}",
                    content=content,
                )
            yield self._commit(direct_conversation_id("default", one, two), version + 1, at, event)

    def _commit(self, stream: str, version: int, at: int, event: Event) -> Commit:
        self._number += 1
        shard = shard_of(stream, self._shard_count)
        events, seqs = (event,), (version,)
        encoded = _codec.encode_events(events, seqs)
        draft = Draft(stream, version, self._number.to_bytes(16), bytes(16), at, events, seqs, encoded)
        commit = frame_of(draft, self._log_id, shard, 1, self._heads.get(shard, Head()))
        self._heads[shard] = commit.head
        return commit


async def _write(data: Path, events: int) -> None:
    settings = load_settings(None, {"data": data, "log_level": "warning"})
    folder = DataFolder(data)
    folder.prepare()
    log = await SqliteLog.open(folder.log, settings.shards)
    history = _Writer(log.log_id, log.shard_count).history(events)
    while batch := list(islice(history, BATCH_COMMITS)):
        by_shard: dict[int, list[Commit]] = {}
        for commit in batch:
            by_shard.setdefault(commit.shard, []).append(commit)
        await log.append(by_shard)
    await log.close()
    async with open_server(settings) as running:
        await running.views.caught_up(running.node.head_positions(), timeout_s=VIEWS_S)


async def _start(data: Path) -> tuple[float, float]:
    """Seconds from the start of the process to its address, and to the answer to the first command that stands on old events."""
    started = time.perf_counter()
    async with server(data=data) as running:
        listening_s = time.perf_counter() - started
        (token,) = await tokens(running, ["a0"])
        async with RestClient(running.url, token=token) as rest:
            conversation_id = await rest.open_direct("b0")
            await rest.post(conversation_id, "first", {"kind": "text", "text": "the first"})
        return listening_s, time.perf_counter() - started


async def measure(sizes: Sequence[int]) -> None:
    """Print the table."""
    rows: list[Sequence[object]] = []
    for events in sizes:
        data = Path(tempfile.mkdtemp(prefix="bench-", dir=_DISK))
        try:
            started = time.perf_counter()
            await _write(data, events)
            built_s = time.perf_counter() - started
            listening_s, answered_s = await _start(data)
        finally:
            shutil.rmtree(data, ignore_errors=True)
        rows.append((events, f"{built_s:.0f}", f"{listening_s:.2f}", f"{answered_s:.2f}"))
    columns = ("events", "built s", "process start to address s", "to first command answered s")
    table("start over a log with views", columns, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, nargs="+", default=[2_000, 1_000_000])
    uvloop.run(measure(parser.parse_args().events))
