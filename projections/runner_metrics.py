"""What the runner counts: plain numbers, read from outside."""

from __future__ import annotations

from eventlog.spread import SECONDS, SIZES, Spread


class RunnerMetrics:
    """Plain counters. `stale`: batches that were refused since another writer had moved a shard on; `contested`: shards found so;
    `gained` and `lost`: shards given and taken.
    """

    __slots__ = (
        "batch_commits",
        "batch_seconds",
        "contested",
        "failures",
        "gained",
        "lost",
        "refills",
        "stale",
    )

    def __init__(self) -> None:
        self.batch_commits = Spread(SIZES)
        self.batch_seconds = Spread(SECONDS)
        self.refills = 0
        self.failures = 0
        self.stale = 0
        self.contested = 0
        self.gained = 0
        self.lost = 0

    @property
    def batches(self) -> int:
        """Applied to all prompt projections."""
        return self.batch_commits.count

    @property
    def commits(self) -> int:
        """In these batches."""
        return int(self.batch_commits.total)
