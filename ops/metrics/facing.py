"""The faces: sockets, and what they share in Redis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from gateways.socket.hub import SocketHub
from gateways.socket.pusher import Pusher
from ops.metrics.families import Readings, counter, counters, gauge

if TYPE_CHECKING:
    from gateways.redis_driver import FastStoreCounters


def watch_sockets(registry: CollectorRegistry, hub: SocketHub, pusher: Pusher) -> None:
    """Connections, and what leaves by them."""
    Readings(registry, lambda: _sockets(hub, pusher))


def _sockets(hub: SocketHub, pusher: Pusher) -> Iterator[Metric]:
    yield gauge("minutebook_sockets_open", "Connections past their handshake", len(hub.sweeper))
    yield counters(
        "minutebook_sockets_closed",
        "Connections closed from here; 4408: slow readers that were cut",
        "code",
        {str(int(code)): count for code, count in hub.closes.items()},
    )
    sent = pusher.counters
    yield counter(
        "minutebook_sockets_encodings", "Frames of events made, one for all receivers", sent.encodings
    )
    yield counter("minutebook_sockets_deliveries", "Frames of events handed to sockets", sent.deliveries)


def watch_fast_store(registry: CollectorRegistry, seen: FastStoreCounters) -> None:
    """Redis."""
    Readings(registry, lambda: _fast_store(seen))


def _fast_store(seen: FastStoreCounters) -> Iterator[Metric]:
    yield counter("minutebook_redis_calls", "Calls that ended, answered or not", seen.calls)
    yield counter("minutebook_redis_failures", "Calls without an answer", seen.failures)
    yield gauge("minutebook_redis_available", "1 if the newest call was answered", int(seen.available))
