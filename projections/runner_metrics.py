"""What the runner counts: plain numbers, read from outside."""

from __future__ import annotations

from eventlog.spread import SECONDS, SIZES, Spread


class RunnerMetrics:
    """Plain counters."""

    __slots__ = ("batch_commits", "batch_seconds", "failures", "refills")

    def __init__(self) -> None:
        self.batch_commits = Spread(SIZES)
        self.batch_seconds = Spread(SECONDS)
        self.refills = 0
        self.failures = 0

    @property
    def batches(self) -> int:
        """Applied to all prompt projections."""
        return self.batch_commits.count

    @property
    def commits(self) -> int:
        """In these batches."""
        return int(self.batch_commits.total)
