"""What is routed from pushers to gateways."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from gateways.push.exchange import Exchange
from gateways.push.receiver import Receiver
from gateways.push.watch import RecordWatch
from ops.metrics.families import Readings, counter, gauge, gauges

_PUSHER_COUNTERS = {
    "commits": "Commits of the record that were looked at",
    "routed": "Commits handed to gateways, once for each that wanted them",
    "messages": "Messages to gateways",
    "hints": "Hints of gateways",
    "hints_lost": "Hints that a gateway's queue had no room for",
    "cut": "Streams ended because their gateway took too little",
    "refused": "Streams turned away in their handshake",
}
_ROUTES_COUNTERS = {
    "links": "Streams to pushers that began",
    "broken": "Streams to pushers that ended",
    "messages": "Messages of pushers",
    "received": "Commits that pushers sent",
    "repeated": "Commits that came again and were dropped",
    "delivered": "Commits handed to the sessions and sockets here",
    "undecodable": "Commits of events that this release does not know",
    "jumps": "Times that the gateway was too far behind and let its sockets go",
    "hints_lost": "Hints that did not leave",
}


def watch_pusher(registry: CollectorRegistry, exchange: Exchange, watch: RecordWatch) -> None:
    """A pusher."""
    Readings(registry, lambda: _pusher(exchange, watch))


def _pusher(exchange: Exchange, watch: RecordWatch) -> Iterator[Metric]:
    for name, text in _PUSHER_COUNTERS.items():
        yield counter(f"minutebook_pusher_{name}", text, getattr(exchange.counters, name))
    wanted: dict[tuple[str, ...], float] = {
        (node,): float(count) for node, count in exchange.gateways.items()
    }
    yield gauges("minutebook_pusher_streams", "Streams that a gateway wants", ("gateway",), wanted)
    yield gauge("minutebook_pusher_waiting", "Commits that wait to leave, for all gateways", exchange.waiting)
    yield from _record(watch.age_s(), watch.refills)


def watch_receiver(registry: CollectorRegistry, receiver: Receiver) -> None:
    """A gateway that is served by pushers."""
    Readings(registry, lambda: _receiver(receiver))


def _receiver(receiver: Receiver) -> Iterator[Metric]:
    for name, text in _ROUTES_COUNTERS.items():
        yield counter(f"minutebook_routes_{name}", text, getattr(receiver.counters, name))
    yield gauge("minutebook_routes_streams", "Streams that this gateway wants", receiver.wanted)
    yield gauge(
        "minutebook_routes_live", "1 while a pusher serves it; else it reads the log", int(receiver.live)
    )
    yield from _record(receiver.age_s(), receiver.refills)


def watch_record(registry: CollectorRegistry, watch: RecordWatch) -> None:
    """A process that is fed everybody's commits by the carrier."""
    Readings(registry, lambda: _record(watch.age_s(), watch.refills))


def _record(age_s: float, refills: tuple[int, int]) -> Iterator[Metric]:
    yield gauge(
        "minutebook_record_age_seconds", "For how long something of the record may have been missed", age_s
    )
    yield counter(
        "minutebook_record_refills", "Times that the log was read for what did not come", refills[0]
    )
    yield counter("minutebook_record_refilled", "Commits of that", refills[1])
