"""The carrier: the relay, and feeds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from eventlog.feed import Feed
from eventlog.relay import Relay
from ops.metrics.families import Readings, by_shard, counter, gauge, gauges

_RELAY_COUNTERS = {
    "batches": "Batches that the carrier acknowledged",
    "records": "Records that the carrier acknowledged",
    "bytes": "Bytes of frames that the carrier acknowledged",
    "failures": "Times that a line stopped and began again",
    "refills": "Pages read from the log, which the bus did not tell of",
    "restarts": "Times that a partition was sent from its beginning, because the carrier had lost it",
    "checkpoint_failures": "Checkpoints that were not saved",
}
_FEED_COUNTERS = {
    "batches": "Batches handed over",
    "carried": "Commits taken from the carrier",
    "refilled": "Commits read from the log instead",
    "refills": "Times that the log was read",
    "dropped": "Records that came again",
    "unfit": "Records that did not follow what was applied",
    "forged": "Records that contradict themselves",
    "failures": "Times that the feed began again",
    "commit_failures": "Offsets that were not committed",
}


def watch_relay(registry: CollectorRegistry, relay: Relay) -> None:
    """The relay's counters, its lag by shard, and whether the carrier answers."""
    Readings(registry, lambda: _relay(relay))


def _relay(relay: Relay) -> Iterator[Metric]:
    for name, text in _RELAY_COUNTERS.items():
        yield counter(f"minutebook_relay_{name}", text, getattr(relay.metrics, name))
    yield gauges(
        "minutebook_relay_lag_commits",
        "Durable, not yet carried; shards without any are left out",
        ("shard",),
        by_shard(relay.lag),
    )
    yield gauge("minutebook_relay_connected", "1 while the carrier answers", int(relay.is_connected))


def watch_feed(registry: CollectorRegistry, name: str, feed: Feed[Any]) -> None:
    """A feed's counters, how many partitions it reads, and whether it ended by itself; `name` tells feeds apart."""
    Readings(registry, lambda: _feed(name, feed))


def _feed(name: str, feed: Feed[Any]) -> Iterator[Metric]:
    labels = {"feed": name}
    for key, text in _FEED_COUNTERS.items():
        yield counter(f"minutebook_feed_{key}", text, getattr(feed.metrics, key), labels)
    yield gauge("minutebook_feed_partitions", "Partitions that it reads", len(feed.partitions), labels)
    yield gauge(
        "minutebook_feed_forked", "1 if its reader follows another log", int(feed.failure is not None), labels
    )
    yield gauge(
        "minutebook_feed_carrier_away",
        "1 while the carrier cannot be reached and the log is followed instead",
        int(feed.is_away),
        labels,
    )
    lag = {(name, *shard): commits for shard, commits in by_shard(feed.lag).items()}
    yield gauges(
        "minutebook_feed_lag_commits",
        "In the log and not handed over, when the log was last looked at; shards without any are left out",
        ("feed", "shard"),
        lag,
    )
