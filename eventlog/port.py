"""The log port: what a store must promise to be the record. Adapters: memory, SQLite, MongoDB; one contract suite for
all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from eventlog.record import Commit, Head

READ_COMMITS_MAX = 5_000
"""The most commits one read returns; callers page on."""
APPEND_COMMITS_MAX = 4_096
"""The most commits of one flush."""


class RefusalReason(StrEnum):
    """Which unique index refused a document."""

    POSITION = "position"
    STREAM = "stream"
    KEY = "key"


class Refusal(msgspec.Struct, frozen=True):
    """Document `index` (from 0) of a shard's batch was refused; `present` is what stands there instead, for
    POSITION and KEY.

    A document that several indexes refuse is reported by the first of POSITION, KEY, STREAM.
    """

    index: int
    reason: RefusalReason
    present: Commit | None = None


class ShardOutcome(msgspec.Struct, frozen=True):
    """What became of one shard's batch: the first `appended` documents are durable, the rest are not.

    `refusal` None and `appended` less than the batch: the rest was not tried, because an earlier document of
    the flush was refused.
    """

    appended: int
    refusal: Refusal | None = None


class OutcomeUnknownError(Exception):
    """A flush may or may not have happened, in whole or as any prefix per shard.

    The caller sends the identical documents again.
    """


class LogUnavailableError(Exception):
    """The store refused or cannot be reached and nothing was written (disk full, read-only, closed).

    Never raised after a part was.
    """


class LogMismatchError(Exception):
    """What was opened is no log, of another schema version or made with other settings, or the store is not set up for one."""


def check_batches(batches: Mapping[int, Sequence[Commit]], shard_count: int) -> None:
    """What every adapter asks of a flush before it writes: raises ValueError for a caller's bug.

    Known shards, each batch of its own shard with consecutive positions, at most `APPEND_COMMITS_MAX`
    documents altogether.
    """
    total = 0
    for shard, commits in batches.items():
        if not 0 <= shard <= shard_count:
            raise ValueError(f"there is no shard {shard}")
        total += len(commits)
        position = commits[0].position if commits else 1
        if position < 1:
            raise ValueError("positions start at 1")
        for commit in commits:
            if commit.shard != shard or commit.position != position:
                raise ValueError(
                    f"commit {commit.shard}:{commit.position} stands in the place of {shard}:{position}"
                )
            position += 1
    if total > APPEND_COMMITS_MAX:
        raise ValueError(f"a flush of {total} commits")


class Log(Protocol):
    """A log of S + 1 shards.

    Unique: (shard, position), (shard, stream, first version), (shard, key). Everything that was answered as
    appended is durable.
    """

    @property
    def log_id(self) -> str:
        """Made with the log and anew by every restore."""
        ...

    @property
    def shard_count(self) -> int:
        """S, fixed when the log was created. Shard S holds the `cluster` stream."""
        ...

    async def append(self, batches: Mapping[int, Sequence[Commit]]) -> Mapping[int, ShardOutcome]:
        """Append each shard's commits in order, durably, in one flush.

        A document whose position already holds the identical document (same epoch, key and frame) counts as
        appended, so the same call may be repeated after `OutcomeUnknownError`. At the first refused document
        of the whole flush the documents before it stay, those of the same shard behind it are not written,
        and the other shards' documents behind it are either written or not tried, as their outcome says.
        Cancellation leaves the outcome unknown: what was begun goes on. Raises OutcomeUnknownError,
        LogUnavailableError, and ValueError for a batch that is not dense or, where the store can see it,
        would leave a hole.
        """
        ...

    async def read_shard(self, shard: int, after_position: int, limit: int) -> Sequence[Commit]:
        """Commits with position > `after_position`, ascending, at most `limit` (and READ_COMMITS_MAX).

        Only durable ones; never a hole.
        """
        ...

    async def read_stream(self, shard: int, stream: str, after_version: int, limit: int) -> Sequence[Commit]:
        """Commits of a stream whose last version is > `after_version`, ascending by version, at most `limit`
        commits.
        """
        ...

    async def read_stream_tail(self, shard: int, stream: str, limit: int) -> Sequence[Commit]:
        """The newest `limit` commits of a stream, ascending by version."""
        ...

    async def find_keys(self, keys: Sequence[tuple[int, bytes]]) -> Mapping[tuple[int, bytes], Commit]:
        """The commits that carry these (shard, key); absent ones are left out."""
        ...

    async def heads(self) -> Mapping[int, Head]:
        """The head of every shard that has a commit."""
        ...

    async def probe(self) -> None:
        """Write something durably that is no part of the record: returns if the store takes writes.

        Raises LogUnavailableError, OutcomeUnknownError. Leaves nothing that any other call shows.
        """
        ...

    async def close(self) -> None:
        """Finish what is in flight and release the store. Idempotent."""
        ...
