"""What the relay and the feeds count, for Prometheus; read when somebody asks, so that counting costs nothing more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from eventlog.feed import Feed
from eventlog.relay import Relay

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


class RelayCollector(Collector):
    """The relay's counters, its lag by shard, and whether the carrier answers."""

    def __init__(self, registry: CollectorRegistry, relay: Relay) -> None:
        self._relay = relay
        registry.register(self)

    @override
    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        for name, text in _RELAY_COUNTERS.items():
            yield _counter(f"minutebook_relay_{name}", text, getattr(self._relay.metrics, name))
        lag = GaugeMetricFamily("minutebook_relay_lag_commits", "Durable, not yet carried", labels=["shard"])
        for shard, commits in sorted(self._relay.lag.items()):
            lag.add_metric([str(shard)], commits)
        yield lag
        connected = GaugeMetricFamily("minutebook_relay_connected", "1 while the carrier answers")
        connected.add_metric([], int(self._relay.is_connected))
        yield connected


class FeedCollector(Collector):
    """A feed's counters, how many partitions it reads, and whether it ended by itself; `name` tells feeds apart."""

    def __init__(self, registry: CollectorRegistry, name: str, feed: Feed[Any]) -> None:
        self._name = name
        self._feed = feed
        registry.register(self)

    @override
    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        for name, text in _FEED_COUNTERS.items():
            value = getattr(self._feed.metrics, name)
            yield _counter(f"minutebook_feed_{self._name}_{name}", text, value)
        partitions = GaugeMetricFamily(f"minutebook_feed_{self._name}_partitions", "Partitions it reads")
        partitions.add_metric([], len(self._feed.partitions))
        yield partitions
        ended = GaugeMetricFamily(f"minutebook_feed_{self._name}_forked", "1 if its view is void")
        ended.add_metric([], int(self._feed.failure is not None))
        yield ended


def _counter(name: str, text: str, value: int) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text)
    family.add_metric([], value)
    return family
