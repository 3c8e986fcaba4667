"""All servers together, as a cluster of Minutebook needs them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from docker.local.cluster import Cluster
from docker.local.group import ServerGroup
from docker.local.kafka import KafkaCluster
from docker.local.mongodb import MongoReplicaSet
from docker.local.processes import START_S_MAX, Server
from docker.local.redis import RedisServers

# In the order in which they start: what gets ready by itself before what keeps a core busy.
KINDS = ("mongodb", "redis", "kafka")
_CLASSES: dict[str, type[Any]] = {"mongodb": MongoReplicaSet, "redis": RedisServers, "kafka": KafkaCluster}


class Services(ServerGroup):
    """The servers of these `kinds` (words of KINDS) over one folder, each with `nodes` (1 or 3) processes.

    The same folder gives the same ports and data again.
    """

    def __init__(self, folder: Path, nodes: int = 1, kinds: Iterable[str] = KINDS) -> None:
        wanted = set(kinds)
        self.folder = folder
        self.clusters: dict[str, Cluster[Any]] = {
            kind: _CLASSES[kind](folder / kind, nodes) for kind in KINDS if kind in wanted
        }

    def servers(self) -> Sequence[Server]:
        return [server for cluster in self.clusters.values() for server in cluster.servers()]

    def launch(self) -> None:
        for cluster in self.clusters.values():
            cluster.launch()

    def await_ready(self, timeout_s: float = START_S_MAX) -> None:
        for cluster in self.clusters.values():
            cluster.await_ready(timeout_s)

    def describe(self) -> dict[str, Any]:
        """{mongodb: uri, kafka: bootstrap list, redis: url, nodes: [{service, host, port, pid, data, log}]}."""
        addresses: dict[str, Any] = {kind: cluster.address for kind, cluster in self.clusters.items()}
        addresses["nodes"] = [
            {"service": kind, **node.describe()}
            for kind, cluster in self.clusters.items()
            for node in cluster.nodes
        ]
        return addresses
