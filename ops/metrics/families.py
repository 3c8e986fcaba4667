"""How plain numbers become families of metrics, and the registry of a process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from typing_extensions import override

from eventlog.spread import Spread

Labels = Mapping[str, str]
NO_LABELS: Labels = {}
Series = dict[tuple[str, ...], float]
"""Values by their labels."""


class ProcessRegistry(CollectorRegistry):
    """The metrics of one process. Families of one name (two feeds tell the same of themselves) come out as one."""

    def __init__(self, node: str, roles: Iterable[str]) -> None:
        super().__init__()
        disable_created_metrics()  # type: ignore[no-untyped-call] # `_created` doubles the series and tells of restarts only
        ProcessCollector(registry=self)
        labels = {"node": node, "roles": ",".join(sorted(roles)) or "all", "version": version("minutebook")}
        Readings(
            self,
            lambda: [gauge("minutebook_process_info", "1; its labels say which process this is", 1, labels)],
        )

    @override
    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        families: dict[str, Metric] = {}
        for family in super().collect():
            known = families.setdefault(family.name, family)
            if known is not family:
                known.samples.extend(family.samples)
        return iter(families.values())


class Readings(Collector):
    """Families that `read` makes each time somebody asks."""

    def __init__(self, registry: CollectorRegistry, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read
        registry.register(self)

    @override
    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        return self._read()


def counter(name: str, text: str, value: float, labels: Labels = NO_LABELS) -> CounterMetricFamily:
    """A counter with one series; `_total` is added to its name."""
    family = CounterMetricFamily(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def counters(name: str, text: str, label: str, values: Mapping[str, float]) -> CounterMetricFamily:
    """A counter with a series for each value of a label."""
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family


def gauge(name: str, text: str, value: float, labels: Labels = NO_LABELS) -> GaugeMetricFamily:
    """A gauge with one series."""
    family = GaugeMetricFamily(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def gauges(name: str, text: str, labels: tuple[str, ...], values: Series) -> GaugeMetricFamily:
    """A gauge with a series for each combination of labels."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def by_shard(lag: Mapping[int, int]) -> Series:
    """{shard: commits} as values of a gauge; at most as many as there are shards."""
    return {(str(shard),): commits for shard, commits in sorted(lag.items())}


def _bound(bound: float) -> str:
    return "+Inf" if bound == float("inf") else str(float(bound))


def histogram(name: str, text: str, spread: Spread, labels: Labels = NO_LABELS) -> HistogramMetricFamily:
    """A histogram with one series (and its buckets)."""
    family = HistogramMetricFamily(name, text, labels=list(labels))
    buckets = [(_bound(bound), float(count)) for bound, count in spread.cumulative()]
    family.add_metric(list(labels.values()), buckets, spread.total)
    return family
