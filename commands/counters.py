"""What the write side counts: plain numbers, read from outside by metrics and benchmarks."""

from __future__ import annotations

from eventlog.spread import SECONDS, SIZES, Spread


class NodeCounters:
    """Plain counters for metrics and benchmarks; read from outside."""

    __slots__ = ("commits", "events", "redecided", "refusals", "refused_documents")

    def __init__(self) -> None:
        self.commits = 0
        self.events = 0
        self.redecided = 0
        self.refused_documents = 0
        self.refusals: dict[str, int] = {}
        """Answers that are problems, by code."""


class FlushCounters:
    """Plain counters for metrics and benchmarks."""

    __slots__ = ("commits", "last_seconds", "resends", "seconds", "unknown_outcomes")

    def __init__(self) -> None:
        self.commits = Spread(SIZES)
        """Of each flush that was answered."""
        self.seconds = Spread(SECONDS)
        self.last_seconds = 0.0
        self.resends = 0
        self.unknown_outcomes = 0
        """Times that the store left open what it had written."""

    @property
    def flushes(self) -> int:
        """Those that were answered."""
        return self.seconds.count

    @property
    def flush_seconds(self) -> float:
        """What they took together."""
        return self.seconds.total

    def flushed(self, commits: int, seconds: float) -> None:
        """One more."""
        self.commits.add(commits)
        self.seconds.add(seconds)
        self.last_seconds = seconds
