"""Commands between nodes: the router, and the command stream from both of its ends."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from commands.router import Router
from gateways.rpc.peer import RpcPeer
from gateways.rpc.peers import RpcPeers
from gateways.rpc.server import CommandServer
from ops.metrics.families import Readings, counter, gauge, histogram


def watch_commanding(registry: CollectorRegistry, router: Router, peers: RpcPeers) -> None:
    """Commands on their way to owners."""
    Readings(registry, lambda: _router(router))
    Readings(registry, lambda: [family for peer in peers.all() for family in _peer(peer)])


def _router(router: Router) -> Iterator[Metric]:
    seen = router.counters
    for name, text, value in (
        ("retries", "Tries after the first", seen.retries),
        ("not_owner", "Tries that reached a node without the shard", seen.not_owner),
        ("links_lost", "Tries whose link broke", seen.links_lost),
        ("expired", "Commands whose deadline passed", seen.expired),
    ):
        yield counter(f"minutebook_router_{name}", text, value)
    yield gauge("minutebook_router_open_commands", "Commands without an answer", router.open_calls)


def _peer(peer: RpcPeer) -> Iterator[Metric]:
    labels, seen = {"owner": peer.node}, peer.counters
    for name, text, value in (
        ("links", "Links made", seen.links),
        ("batches", "Batches sent", seen.batches),
        ("commands", "Commands and looks sent", seen.commands),
        ("messages", "Messages of answers received", seen.messages),
    ):
        yield counter(f"minutebook_rpc_peer_{name}", text, value, labels)
    yield gauge("minutebook_rpc_peer_connected", "1 while there is a link", int(peer.up), labels)
    yield gauge("minutebook_rpc_peer_waiting_commands", "Commands and looks unanswered", peer.waiting, labels)
    yield histogram(
        "minutebook_rpc_peer_answer_seconds",
        "From a batch to the answer to its last command, of one batch at a time",
        seen.answer_seconds,
        labels,
    )


def watch_command_server(registry: CollectorRegistry, server: CommandServer) -> None:
    """Commands from other nodes."""
    Readings(registry, lambda: _server(server))


def _server(server: CommandServer) -> Iterator[Metric]:
    seen = server.counters
    yield histogram("minutebook_rpc_server_batch_commands", "Commands of a batch", seen.batch_commands)
    yield counter("minutebook_rpc_server_looks", "Looks at states", seen.looks)
    yield counter("minutebook_rpc_server_refused_links", "Links refused in their handshake", seen.refused)
    yield gauge("minutebook_rpc_server_links", "Links of faces", len(server.links))
    yield gauge("minutebook_rpc_server_in_flight_commands", "Commands and looks unanswered", server.in_flight)
