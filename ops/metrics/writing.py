"""The write side: a node, and the reactions."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from commands.node import Node
from commands.reactions import Reactions
from ops.metrics.families import Readings, Series, by_shard, counter, counters, gauge, gauges, histogram


def watch_node(registry: CollectorRegistry, node: Node) -> None:
    """What a node writes, holds and refuses."""
    Readings(registry, lambda: _node(node))


def _node(node: Node) -> Iterator[Metric]:
    done, flushed = node.counters, node.flush_counters
    yield histogram("minutebook_node_flush_commits", "Commits of a flush, of all shards", flushed.commits)
    yield histogram(
        "minutebook_node_flush_seconds", "Time of a flush until its outcome is known", flushed.seconds
    )
    for name, text, value in (
        ("commits", "Commits that became durable", done.commits),
        ("events", "Events that became durable", done.events),
        ("redecided_orders", "Orders decided again after a refused document", done.redecided),
        ("refused_documents", "Documents that the log refused", done.refused_documents),
        ("resends", "Flushes sent again unchanged", flushed.resends),
        ("unknown_outcomes", "Flushes of which nobody knew what became of them", flushed.unknown_outcomes),
    ):
        yield counter(f"minutebook_node_{name}", text, value)
    yield counters("minutebook_node_refusals", "Orders answered with a problem", "code", done.refusals)
    yield gauge("minutebook_node_queued_orders", "Orders inside the node", node.queued_orders)
    yield gauge("minutebook_node_hot_aggregates", "Aggregates in memory", node.hot_aggregates)
    yield gauge("minutebook_node_writable", "1 while the log takes writes", int(node.writable))
    lost = sum(shard.lost for shard in node.shards.values())
    states: Series = {("lost",): float(lost), ("open",): float(len(node.shards) - lost)}
    yield gauges("minutebook_node_shards", "Shards that were opened here", ("state",), states)


def watch_reactions(registry: CollectorRegistry, reactions: Reactions) -> None:
    """How far the process manager is."""
    Readings(registry, lambda: _reactions(reactions))


def _reactions(reactions: Reactions) -> Iterator[Metric]:
    yield gauges(
        "minutebook_reactions_lag_commits",
        "Commits not looked at yet; shards without any are left out",
        ("shard",),
        by_shard(reactions.lag),
    )
    yield gauge("minutebook_reactions_queued_events", "Events that wait to be reflected", reactions.queued)
