"""The bounds of a runner."""

from __future__ import annotations

import msgspec


class RunnerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`linger_ms`: how long a batch gathers; `lazy_linger_ms`: how long for lazy projections, whose readers ask for freshness.

    `queue_commits_max`: what waits in memory; more is read from the log again.
    """

    linger_ms: int = 50
    lazy_linger_ms: int = 2_000
    lazy_commits_max: int = 2_000
    queue_commits_max: int = 20_000
    span_commits: int = 1_000
    failure_pause_ms: int = 500
