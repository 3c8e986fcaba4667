"""What a feed is set to, and what it counts."""

from __future__ import annotations

import msgspec


class FeedSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`look_ms`: how often the log's heads are looked at, for what the carrier lost while it was quiet.

    `from_log`: read from the log first what came before, for sources that start at the carrier's end.
    """

    poll_ms: int = 200
    read_commits: int = 1_000
    commit_ms: int = 1_000
    look_ms: int = 1_000
    back_off_ms: int = 100
    back_off_ms_max: int = 5_000
    from_log: bool = False


class FeedMetrics:
    """Plain counters. `unfit`: records that did not follow what was applied; `forged`: those that contradict themselves."""

    __slots__ = (
        "batches",
        "carried",
        "commit_failures",
        "dropped",
        "failures",
        "forged",
        "refilled",
        "refills",
        "unfit",
    )

    def __init__(self) -> None:
        self.batches = 0
        self.carried = 0
        self.refilled = 0
        self.refills = 0
        self.dropped = 0
        self.unfit = 0
        self.forged = 0
        self.failures = 0
        self.commit_failures = 0
