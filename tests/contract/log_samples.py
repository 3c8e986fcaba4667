"""Event classes, commits and helpers for the tests of the log; no aggregate of the domain is needed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import ClassVar

from domain.event import Event
from eventlog.codec import EventCodec, frame_of
from eventlog.port import Log, ShardOutcome
from eventlog.record import GENESIS_DIGEST, KEY_BYTES, Commit, Draft, Head
from eventlog.registry import Registry
from eventlog.sealing import PlainSealing

SHARD_COUNT = 4
LOG_ID = "log-of-the-tests"


class NoteWritten(Event, frozen=True, kw_only=True):
    """A public event with a body."""

    TYPE: ClassVar[str] = "note_written"
    BODY: ClassVar[tuple[str, ...]] = ("text",)

    ordinal: int
    text: str


class NoteHidden(Event, frozen=True, kw_only=True):
    """A private event without one."""

    TYPE: ClassVar[str] = "note_hidden"
    PUBLIC: ClassVar[bool] = False

    ordinal: int


SAMPLE_CODEC = EventCodec(Registry((NoteWritten, NoteHidden)), PlainSealing())


def key_of(name: str | int) -> bytes:
    """A 16-byte key from any name."""
    return hashlib.blake2b(str(name).encode(), digest_size=KEY_BYTES).digest()


class ShardMaker:
    """Makes the commits of one shard, each following the last one made."""

    def __init__(self, shard: int, log_id: str = LOG_ID, epoch: int = 1, head: Head | None = None) -> None:
        self.shard = shard
        self.log_id = log_id
        self.epoch = epoch
        self.head = head or Head(0, 0, 0, 0, GENESIS_DIGEST)
        self.versions: dict[str, int] = {}

    def fork(self, epoch: int | None = None) -> ShardMaker:
        """Another writer that knows what this one knows."""
        other = ShardMaker(self.shard, self.log_id, self.epoch if epoch is None else epoch, self.head)
        other.versions = dict(self.versions)
        return other

    def make(
        self,
        stream: str = "notes",
        *,
        count: int = 1,
        key: bytes | None = None,
        first_version: int | None = None,
        text: str = "hello",
    ) -> Commit:
        """The next commit, of `count` events."""
        first = self.versions.get(stream, 0) + 1 if first_version is None else first_version
        at = self.head.at + 1
        events = tuple(
            NoteWritten(actor="u_1", at=at, ordinal=first + index, text=text) for index in range(count)
        )
        seqs = [first + index for index in range(count)]
        draft = Draft(
            stream,
            first,
            key or key_of(f"{self.shard}/{self.epoch}/{self.head.position + 1}/{stream}"),
            bytes(KEY_BYTES),
            at,
            events,
            seqs,
            SAMPLE_CODEC.encode_events(events, seqs),
        )
        commit = frame_of(draft, self.log_id, self.shard, self.epoch, self.head)
        self.head = commit.head
        self.versions[stream] = first + count - 1
        return commit

    def batch(self, size: int, stream: str = "notes") -> list[Commit]:
        """The next `size` commits of one stream."""
        return [self.make(stream) for _ in range(size)]


async def append_one(log: Log, *commits: Commit) -> ShardOutcome:
    """Append the commits of one shard; its outcome."""
    outcomes = await log.append({commits[0].shard: commits})
    return outcomes[commits[0].shard]


async def whole_shard(log: Log, shard: int, page: int = 1_000) -> list[Commit]:
    """Every commit of a shard, page by page."""
    found: list[Commit] = []
    while True:
        rows = await log.read_shard(shard, found[-1].position if found else 0, page)
        found += rows
        if len(rows) < page:
            return found


async def whole_log(log: Log) -> Mapping[int, Sequence[Commit]]:
    """Every shard's commits."""
    return {shard: await whole_shard(log, shard) for shard in range(log.shard_count + 1)}
