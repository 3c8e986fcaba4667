"""The roles of a cluster as processes, over servers that somebody else started."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec

from docker.local.ports import HOST, free_port
from docker.local.roles import environment_of
from tests.e2e.process import ServerProcess

PARENT_DEATH = ("setpriv", "--pdeathsig", "KILL", "--")
"""The processes end with whoever started them, however that ends."""

NODES: Mapping[str, tuple[str, ...]] = {
    "owner-1": ("owner", "relay"),
    "owner-2": ("owner", "relay"),
    "projector-1": ("projector",),
    "pusher-1": ("pusher",),
    "jobs-1": ("jobs",),
    "gateway-1": ("gateway",),
    "gateway-2": ("gateway",),
}
"""Every process by its node's name, in the order in which they start."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Which servers, and what of them is this cluster's. `database` names the cluster everywhere."""

    mongodb: str
    kafka: str
    redis: str
    database: str

    def environment(
        self, owners: Mapping[str, int], secret: str, pushers: Mapping[str, int] | None = None
    ) -> dict[str, str]:
        """What every role is told; `owners` and `pushers`: the port of each, by node."""
        addresses = {"mongodb": self.mongodb, "kafka": self.kafka, "redis": self.redis}
        told = environment_of(addresses, owners, secret, pushers)
        for name, value in (("MONGODB_DATABASE", self.database), ("CLUSTER_ID", self.database)):
            told[f"MINUTEBOOK_CLUSTER__{name}"] = value
        return told


class RoleCluster:
    """All processes, by the names of their nodes; every gateway at one port for life.

    `ways`: where other nodes reach an owner, by node, if that is not where it listens (`listening`). `more`: further
    variables for every process.
    """

    def __init__(
        self,
        folder: Path,
        place: Place,
        nodes: Mapping[str, tuple[str, ...]] = NODES,
        *,
        listening: Mapping[str, int] | None = None,
        ways: Mapping[str, int] | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = folder
        self.place = place
        self.nodes = nodes
        owners = [node for node, roles in nodes.items() if "owner" in roles]
        listening = listening or {node: free_port() for node in owners}
        reached = {node: (ways or {}).get(node, listening[node]) for node in owners}
        pushers = {node: free_port() for node, roles in nodes.items() if "pusher" in roles}
        self.environment = {**place.environment(reached, secrets.token_hex(32), pushers), **(more or {})}
        self.processes = {
            node: self._process(folder / node, node, roles, listening.get(node))
            for node, roles in nodes.items()
        }

    def _process(self, data: Path, node: str, roles: tuple[str, ...], listening: int | None) -> ServerProcess:
        told = {**self.environment, "MINUTEBOOK_CLUSTER__NODE": node}
        if listening is not None:
            told["MINUTEBOOK_CLUSTER__LISTEN"] = f"{HOST}:{listening}"
        port = free_port() if "gateway" in roles else 0
        return ServerProcess(data, port=port, prefix=PARENT_DEATH, environment=told, roles=roles)

    def __getitem__(self, node: str) -> ServerProcess:
        return self.processes[node]

    def with_role(self, role: str) -> list[str]:
        """The nodes that have it."""
        return [node for node, roles in self.nodes.items() if role in roles]

    async def start(self, *, together: bool = False) -> None:
        """Start what does not run, one after the other, or all at once."""
        self._folder.mkdir(parents=True, exist_ok=True)
        missing = [process for process in self.processes.values() if not process.running]
        if together:
            ends = await asyncio.gather(*(process.start() for process in missing), return_exceptions=True)
            for error in filter(None, ends):
                raise error
            return
        for process in missing:
            await process.start()

    async def again(self, node: str) -> None:
        """kill -9, and a new process in its place."""
        await self[node].kill()
        await self[node].start()

    async def kill(self) -> None:
        """kill -9 to all."""
        for process in self.processes.values():
            await process.kill()
