"""What the relay is set to, what it counts, and one of its lines."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

import msgspec

from eventlog.record import Commit


class RelaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """`linger_ms`: from batch start to batch start; at once after a longer spell, since a flush has gathered already.

    `queue_commits_max`: what waits in memory; more is read from the log again. `look_ms`: how often the log is asked for commits that the
    bus did not tell of. `drain_s`: how long `close` goes on.
    """

    linger_ms: int = 5
    batch_records_max: int = 1_000
    batch_bytes_max: int = 256 * 1024
    queue_commits_max: int = 20_000
    read_commits: int = 1_000
    back_off_ms: int = 100
    back_off_ms_max: int = 5_000
    checkpoint_ms: int = 1_000
    look_ms: int = 1_000
    drain_s: float = 5.0


class RelayMetrics:
    """Plain counters. `restarts`: how often all lines began anew, because the carrier had lost what it had."""

    __slots__ = ("batches", "bytes", "checkpoint_failures", "failures", "records", "refills", "restarts")

    def __init__(self) -> None:
        self.batches = 0
        self.records = 0
        self.bytes = 0
        self.failures = 0
        self.refills = 0
        self.restarts = 0
        self.checkpoint_failures = 0


class Line:
    """One partition: what waits for it, and which of its shards have something in the log that does not wait."""

    __slots__ = ("back_off_ms", "behind", "ends_at", "partition", "queue", "turn", "wake")

    def __init__(self, partition: int, back_off_ms: int) -> None:
        self.partition = partition
        self.queue: deque[Commit] = deque()
        self.behind: set[int] = set()
        self.wake = asyncio.Event()
        self.back_off_ms = back_off_ms
        self.ends_at = 0
        """The offset behind our last acknowledged record."""
        self.turn = 0
        """Grows when the queue is forgotten: what was being read or sent then is void."""

    def take(self, records_max: int, bytes_max: int) -> Sequence[Commit]:
        """The next batch, out of the queue; a commit larger than a batch goes alone."""
        batch: list[Commit] = []
        size = 0
        while self.queue and len(batch) < records_max:
            size += len(self.queue[0].frame)
            if batch and size > bytes_max:
                break
            batch.append(self.queue.popleft())
        return batch
