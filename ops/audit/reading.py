"""Reading the log for an auditor: stored events as they are, with their bodies opened, by stream or by time.

Nothing here needs to know an event's type: what a later version wrote is shown all the same.
"""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from domain.streams import shard_of
from eventlog.codec import StoredEvent, decode_frame
from eventlog.port import READ_COMMITS_MAX, Log
from eventlog.record import Commit
from eventlog.registry import UnknownEventError
from eventlog.sealing import PlainSealing, Sealing, UnknownKeyError
from eventlog.sqlite import SqliteLog
from ops.times import rfc3339

PAGE_COMMITS = 1_000
FIRST_PAGE_COMMITS = 32
"""A walk over all shards begins with small pages, so that a short question stays a short one."""


class StoredRow(msgspec.Struct, frozen=True):
    """One stored event with its place."""

    commit: Commit
    index: int
    event: StoredEvent

    @property
    def version(self) -> int:
        """In the stream."""
        return self.commit.first_version + self.index

    @property
    def number(self) -> int:
        """In the shard."""
        return self.commit.first_number + self.index


class EventRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event as `audit log` prints it. `position` is `shard:position`, the read-your-writes token."""

    position: str
    number: int
    stream: str
    version: int
    at: str
    type: str
    actor: str
    data: msgspec.Raw
    seq: int | None = None
    schema: int = 1
    command_id: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    trace_id: str | None = None
    hidden: bool = False
    """The body is not shown: it was not asked for, or its key is not there."""


@asynccontextmanager
async def open_for_reading(path: Path) -> AsyncIterator[SqliteLog]:
    """The log file, for reading only. Raises LogMismatchError, LogUnavailableError."""
    log = await SqliteLog.open_read_only(path)
    try:
        yield log
    finally:
        await log.close()


def stored_rows(commit: Commit) -> Iterator[StoredRow]:
    """The events of a commit. Raises UnknownEventError for damaged bytes."""
    try:
        events = decode_frame(commit.frame).events
    except UnknownEventError as error:
        raise UnknownEventError(f"{commit.shard}:{commit.position} cannot be read: {error}") from error
    for index, event in enumerate(events):
        yield StoredRow(commit, index, event)


def event_row(row: StoredRow, *, bodies: bool = True, sealing: Sealing | None = None) -> EventRow:
    """The event for printing."""
    event, commit = row.event, row.commit
    data, hidden = bytes(event.data), False
    if event.body:
        try:
            body = (sealing or PlainSealing()).open(event.actor, event.key_id or "", bytes(event.body))
        except UnknownKeyError:
            bodies, body = False, b"{}"
        data, hidden = (_joined(data, body), False) if bodies else (data, True)
    return EventRow(
        position=f"{commit.shard}:{commit.position}",
        number=row.number,
        stream=commit.stream,
        version=row.version,
        at=rfc3339(commit.at),
        type=event.type,
        actor=event.actor,
        data=msgspec.Raw(data),
        seq=event.seq,
        schema=event.schema,
        command_id=commit.key.hex(),
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        trace_id=event.trace_id,
        hidden=hidden,
    )


def _joined(clear: bytes, body: bytes) -> bytes:
    """Two JSON objects with different fields as one."""
    if clear == b"{}":
        return body
    return clear if body == b"{}" else clear[:-1] + b"," + body[1:]


async def stream_commits(log: Log, stream: str) -> AsyncIterator[Commit]:
    """A stream's commits from the first, page by page. Raises ValueError for a name of no shard."""
    shard = shard_of(stream, log.shard_count)
    version = 0
    while page := await log.read_stream(shard, stream, version, PAGE_COMMITS):
        for commit in page:
            yield commit
        version = page[-1].first_version + page[-1].events_count - 1


async def shard_commits(
    log: Log, shard: int, after_position: int = 0, first_page: int = PAGE_COMMITS
) -> AsyncIterator[Commit]:
    """A shard's commits behind a position, page by page; the pages grow."""
    limit = first_page
    while page := await log.read_shard(shard, after_position, limit):
        for commit in page:
            yield commit
        if len(page) < limit:
            return
        after_position = page[-1].position
        limit = min(limit * 4, PAGE_COMMITS, READ_COMMITS_MAX)


async def position_at(log: Log, shard: int, at_ms: int) -> int:
    """How long the shard's longest prefix with `at` <= that time is: its last position, 0 for none."""
    head = (await log.heads()).get(shard)
    return 0 if head is None else await _position_at(log, shard, at_ms, head.position)


async def _position_at(log: Log, shard: int, at_ms: int, head_position: int) -> int:
    """By halves: positions are dense and times never fall."""
    low, high = 0, head_position
    while low < high:
        middle = (low + high + 1) // 2
        page = await log.read_shard(shard, middle - 1, 1)
        if page and page[0].at <= at_ms:
            low = middle
        else:
            high = middle - 1
    return low


async def commits_by_time(log: Log, since_ms: int | None = None) -> AsyncIterator[Commit]:
    """All commits of the log in order of time, then shard and position, from `since_ms` on.

    One page of each shard is in memory. What is appended meanwhile may or may not be there.
    """
    walks = []
    for shard, head in sorted((await log.heads()).items()):
        after = 0 if since_ms is None else await _position_at(log, shard, since_ms - 1, head.position)
        walks.append(shard_commits(log, shard, after, FIRST_PAGE_COMMITS))
    async for commit in _merged(walks):
        yield commit


async def _merged(walks: list[AsyncIterator[Commit]]) -> AsyncIterator[Commit]:
    heap: list[tuple[int, int, int, Commit]] = []
    for index, walk in enumerate(walks):
        if (first := await anext(walk, None)) is not None:
            heap.append((first.at, index, first.position, first))
    heapq.heapify(heap)
    while heap:
        _, index, _, commit = heap[0]
        yield commit
        following = await anext(walks[index], None)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (following.at, index, following.position, following))
