"""The shapes of the record: an event with its place, and a commit with its frame.

The words are those of the `eventsourcing` library where it has them (originator = stream, notification id =
number). None of these can be part of a cycle, so the garbage collector need not look at them (`gc=False`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from domain.event import Event

KEY_BYTES = 16
DIGEST_BYTES = 32
FRAME_BYTES_MAX = 1_000_000
"""The most bytes of a frame that the carrier takes; whoever builds a batch refuses what is larger, before it is appended."""
GENESIS_DIGEST = bytes(DIGEST_BYTES)
"""`previous` of the first frame of a shard."""


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """One event and its place: version in the stream (1, 2, 3…), seq among the public ones (None: private),
    number in the shard.
    """

    stream: str
    version: int
    seq: int | None
    number: int
    event: Event
    shard: int
    position: int
    key: bytes
    """The command id: the 16-byte key of the commit."""
    correlation_id: str | None = None
    causation_id: str | None = None
    trace_id: str | None = None


class Trace(msgspec.Struct, frozen=True, gc=False):
    """Where a command came from; kept beside each of its events."""

    correlation_id: str | None = None
    causation_id: str | None = None
    trace_id: str | None = None


class Draft(msgspec.Struct, frozen=True):
    """A decided commit that has no position yet.

    `events_json` is the JSON array as it will stand in the frame.
    """

    stream: str
    first_version: int
    key: bytes
    payload_digest: bytes
    at: int
    events: Sequence[Event]
    seqs: Sequence[int | None]
    events_json: bytes
    trace: Trace | None = None


class Head(msgspec.Struct, frozen=True, gc=False):
    """Where a shard's log ends: position 0, epoch 0, number 0 and the genesis digest when it is empty."""

    position: int = 0
    epoch: int = 0
    number: int = 0
    at: int = 0
    digest: bytes = GENESIS_DIGEST


class Commit(msgspec.Struct, frozen=True, gc=False):
    """One document of the log: header copies and the frame, the one byte string that is stored, hashed,
    relayed and restored.

    The header fields are copies of what the frame says; `audit verify` compares them. `events_count` is the
    number of events.
    """

    shard: int
    position: int
    epoch: int
    stream: str
    first_version: int
    first_number: int
    key: bytes
    payload_digest: bytes
    at: int
    events_count: int
    frame: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256 of the frame: the successor's `previous`."""
        return hashlib.sha256(self.frame).digest()

    def same_as(self, other: Commit) -> bool:
        """Whether it is the identical document: same epoch, key and frame."""
        return self.epoch == other.epoch and self.key == other.key and self.frame == other.frame

    @property
    def head(self) -> Head:
        """The head of a shard that ends with this commit."""
        return Head(
            self.position, self.epoch, self.first_number + self.events_count - 1, self.at, self.digest
        )


class Committed(msgspec.Struct, frozen=True, gc=False):
    """A durable commit with its events decoded: what the bus carries and what readers of the log are given."""

    commit: Commit
    events: tuple[Recorded, ...]
