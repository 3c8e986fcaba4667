"""All owners that a face talks to, each behind one link."""

from __future__ import annotations

from typing_extensions import override

from commands.peers import Peers
from commands.tasks import TaskOwner
from domain.errors import Problem
from gateways.rpc.peer import Face, RpcPeer

PEERS_MAX = 256


class RpcPeers(Peers):
    """Links are made when they are first needed, and stay. `close` at the end, after the router."""

    def __init__(self, face: Face) -> None:
        self._face = face
        self._peers: dict[str, RpcPeer] = {}
        self._leaving = TaskOwner("peers-leaving", PEERS_MAX)

    @override
    def peer(self, node: str, address: str) -> RpcPeer:
        """Raises Problem(`unavailable`) when there are too many."""
        peer = self._peers.get(node)
        if peer is not None and peer.address == address:
            return peer
        if len(self._peers) >= PEERS_MAX or self._leaving.full:
            raise Problem("unavailable", "too many owners", retry_after_ms=1_000)
        if peer is not None:  # The node has moved.
            self._leaving.start(peer.close())
        peer = self._peers[node] = RpcPeer(self._face, node, address)
        return peer

    def all(self) -> tuple[RpcPeer, ...]:
        """Those that were needed so far."""
        return tuple(self._peers.values())

    async def close(self) -> None:
        """Hang up everywhere. Idempotent."""
        for peer in self.all():
            await peer.close()
        await self._leaving.close()
