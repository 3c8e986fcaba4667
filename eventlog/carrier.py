"""The carrier's ports: what takes the record to other processes, and what brings it there. Adapters: memory, Kafka.

The carrier is only a hint of what the log holds: it may lag, repeat, lose or be emptied. Nothing that was acknowledged to
anybody rests on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

Header = tuple[str, bytes]


class CarrierUnavailableError(Exception):
    """The carrier cannot be reached, or did not answer in time; what was being sent may or may not be there."""


class TopicMismatchError(Exception):
    """The topic is not as it must be. The text says what to do, on one line."""


class CarriedRecord(msgspec.Struct, frozen=True, gc=False):
    """One record: `key` the stream, `value` the frame unchanged, `timestamp_ms` since 1970 UTC.

    `offset`: its place in the partition once it is there, else -1.
    """

    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    timestamp_ms: int
    offset: int = -1


def partition_of(shard: int, partitions: int) -> int:
    """Where a shard's records go. The number of partitions is the number of shards or a divisor of it."""
    return shard % partitions


class Sender(Protocol):
    """Sends batches, one at a time per partition, each taken whole and in order or not acknowledged."""

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        ...

    async def start(self) -> Mapping[int, int]:
        """Connect; where each partition ends (0: it is empty).

        Raises CarrierUnavailableError, TopicMismatchError; may be called again then, and after `abandon`.
        """
        ...

    async def send(self, partition: int, records: Sequence[CarriedRecord]) -> int:
        """Send a batch; the offset of its first record once all replicas that are asked for have it.

        Raises CarrierUnavailableError: any prefix of the batch may be there, and nothing may be sent before the sender was
        abandoned and started again. The same holds for a cancelled call.
        """
        ...

    async def abandon(self) -> None:
        """Give up everything in flight, whose callers get CarrierUnavailableError, and let go of the connections."""
        ...

    async def close(self) -> None:
        """Let go of everything. Idempotent."""
        ...


class Listener(Protocol):
    """Whoever is told which partitions a source reads from now on."""

    async def assigned(self, partitions: Sequence[int]) -> None:
        """These are read from now on; nothing of them comes before this returned."""
        ...

    async def revoked(self, partitions: Sequence[int]) -> None:
        """These are read no longer once this returned. Offsets may still be committed in it."""
        ...


class Source(Protocol):
    """Reads records partition by partition, each in order of its offsets, as often as it likes."""

    @property
    def reads_all(self) -> bool:
        """Whether it always reads all partitions, sharing them with nobody."""
        ...

    @property
    def is_away(self) -> bool:
        """Whether the carrier did not answer when it was last asked; a started source may come back by itself."""
        ...

    async def start(self, listener: Listener) -> None:
        """Connect and begin; the listener is told. Raises CarrierUnavailableError, TopicMismatchError."""
        ...

    async def poll(self, timeout_ms: int) -> Mapping[int, Sequence[CarriedRecord]]:
        """What has come, by partition; empty after `timeout_ms`. Raises CarrierUnavailableError."""
        ...

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Where to go on after a restart: the next offset per partition. Raises CarrierUnavailableError, in time; harmless if lost."""
        ...

    async def close(self) -> None:
        """Let go of everything; the listener is not told. Idempotent."""
        ...
