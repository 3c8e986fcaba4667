"""The read side: views that this process writes, and how far the views are that it reads."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from ops.metrics.families import Readings, Series, counter, counters, gauge, gauges, histogram
from projections.runner import Runner
from projections.sharing import ShardShare
from projections.views import ReadSide


def watch_read_side(registry: CollectorRegistry, views: ReadSide) -> None:
    """Whoever writes them."""
    Readings(registry, lambda: _read_side(views))


def _read_side(views: ReadSide) -> Iterator[Metric]:
    yield gauge(
        "minutebook_read_side_lag_commits", "Known commits that are not in all views", views.lag_commits
    )
    yield gauge("minutebook_read_side_failing", "1 while the views cannot be reached", int(views.failing))
    if views.fast is not None:
        seen = views.fast.counters
        ends = {"hit": seen.hits, "absent": seen.absent, "behind": seen.behind, "away": seen.away}
        yield counters(
            "minutebook_fast_views_asked",
            "Questions that fast views answered (hit), and why not the others",
            "end",
            {end: float(count) for end, count in ends.items()},
        )


def watch_share(registry: CollectorRegistry, share: ShardShare) -> None:
    """Which shards a projector writes."""
    Readings(registry, lambda: _share(share))


def _share(share: ShardShare) -> Iterator[Metric]:
    seen = share.runner.metrics
    yield gauge("minutebook_views_shards", "Shards that this process writes", len(share.runner.shards or ()))
    yield gauge(
        "minutebook_views_standing_in_shards", "Those of them that nobody gave it", len(share.standing_in)
    )
    yield counter("minutebook_views_shards_gained", "Shards that were given, or stood in for", seen.gained)
    yield counter("minutebook_views_shards_lost", "Shards that were taken, or given up", seen.lost)
    yield counter(
        "minutebook_views_stale", "Batches refused since another process moved a shard on", seen.stale
    )
    yield counter(
        "minutebook_views_contested", "Shards that another process moved on as well", seen.contested
    )


def watch_runner(registry: CollectorRegistry, runner: Runner) -> None:
    """The writer of the views."""
    Readings(registry, lambda: _runner(runner))


def _runner(runner: Runner) -> Iterator[Metric]:
    seen = runner.metrics
    yield histogram("minutebook_views_batch_commits", "Commits of a batch", seen.batch_commits)
    yield histogram(
        "minutebook_views_batch_seconds", "Time to apply a batch to all prompt views", seen.batch_seconds
    )
    yield counter("minutebook_views_refills", "Times that a shard was read from the log", seen.refills)
    yield counter("minutebook_views_failures", "Batches that failed and were tried again", seen.failures)
    yield gauge("minutebook_views_queued_commits", "Commits in memory that wait", runner.queued_commits)
    yield gauge("minutebook_views_failing", "1 while views cannot be written", int(runner.health.failing))
    parked: Series = {}
    lag: Series = {}
    for projection in tuple(runner.projections):
        parked[projection.name,] = float(projection.parked_count)
        for shard, commits in sorted(runner.lag_of(projection).items()):
            lag[projection.name, str(shard)] = float(commits)
    yield gauges(
        "minutebook_views_parked_streams", "Streams that a view could not read on", ("view",), parked
    )
    yield gauges(
        "minutebook_views_lag_commits",
        "Known commits that are not in the view; shards without any are left out",
        ("view", "shard"),
        lag,
    )
