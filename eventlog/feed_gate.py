"""The gap rule of one shard: what may be applied of what the carrier brings. Pure.

A record is applied only if it is the next one, of this log, and chained to what was applied last. Whatever else is new sends
the reader to the log, which alone knows.
"""

from __future__ import annotations

from enum import Enum, auto

from eventlog.codec import decode_frame
from eventlog.kafka_record import Carried
from eventlog.record import GENESIS_DIGEST, Commit


class Verdict(Enum):
    """What to do with a record."""

    DROP = auto()
    """It was applied before."""
    APPLY = auto()
    REFILL = auto()
    """Something is missing, or it is of another branch: read the log."""


class ForkedError(Exception):
    """What was applied is not what the log holds: the reader follows a log that was restored behind its back.

    Its view is void and must be made anew.
    """


class ShardGate:
    """Where one shard's reader is. `behind`: the log is to be read before anything else is applied."""

    __slots__ = ("behind", "digest", "log_id", "looked_at", "position", "shard")

    def __init__(
        self,
        shard: int,
        log_id: str,
        position: int = 0,
        digest: bytes = GENESIS_DIGEST,
        *,
        behind: bool = False,
    ) -> None:
        self.shard = shard
        self.log_id = log_id
        self.position = position
        self.digest = digest
        self.behind = behind
        self.looked_at = -1
        """The position at the last look at the log's heads."""

    def offer(self, carried: Carried) -> Verdict:
        """What to do with a record of this shard."""
        position = carried.commit.position
        if position <= self.position:
            return Verdict.DROP
        fits = (
            position == self.position + 1
            and carried.log_id == self.log_id
            and carried.previous == self.digest
        )
        # Frames of an earlier log id are right as well, after a restore; but only the log knows up to where.
        return Verdict.APPLY if fits and not self.behind else Verdict.REFILL

    def advance(self, commit: Commit) -> None:
        """The commit is applied."""
        self.position = commit.position
        self.digest = commit.digest

    def follow_log(self, commit: Commit) -> None:
        """A commit that was read from the log is applied. Raises ForkedError if it does not follow."""
        previous = bytes.fromhex(decode_frame(commit.frame).previous)
        if commit.position != self.position + 1 or previous != self.digest:
            raise ForkedError(
                f"shard {self.shard}: what was applied at position {self.position} is not what the log holds"
            )
        self.advance(commit)
