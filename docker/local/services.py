"""All servers together, as a cluster of Minutebook needs them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from docker.local.cluster import Cluster
from docker.local.kafka import KafkaCluster
from docker.local.mongodb import MongoReplicaSet
from docker.local.processes import START_S_MAX
from docker.local.redis import RedisServers

# In the order in which they start: what gets ready by itself before what keeps a core busy.
KINDS = ("mongodb", "redis", "kafka")
_CLASSES: dict[str, type[Any]] = {"mongodb": MongoReplicaSet, "redis": RedisServers, "kafka": KafkaCluster}


class Services:
    """The servers of these `kinds` (words of KINDS) over one folder, each with `nodes` (1 or 3) processes.

    `with` starts them and kills them at its end. The same folder gives the same ports and data again.
    """

    def __init__(self, folder: Path, nodes: int = 1, kinds: Iterable[str] = KINDS) -> None:
        wanted = set(kinds)
        self.folder = folder
        self.clusters: dict[str, Cluster[Any]] = {
            kind: _CLASSES[kind](folder / kind, nodes) for kind in KINDS if kind in wanted
        }

    def start(self, timeout_s: float = START_S_MAX) -> None:
        """Start all, and wait until each serves."""
        for cluster in self.clusters.values():
            cluster.launch()
        for cluster in self.clusters.values():
            cluster.await_ready(timeout_s)

    def stop(self) -> None:
        """Ask all at once to stop in order, and wait for them."""
        nodes = [node for cluster in self.clusters.values() for node in cluster.nodes]
        for node in nodes:
            node.ask_to_stop()
        for node in nodes:
            node.await_end()

    def kill(self) -> None:
        """kill -9 to all."""
        for cluster in self.clusters.values():
            cluster.kill()

    def describe(self) -> dict[str, Any]:
        """{mongodb: uri, kafka: bootstrap list, redis: url, nodes: [{service, host, port, pid, data, log}]}."""
        addresses: dict[str, Any] = {kind: cluster.address for kind, cluster in self.clusters.items()}
        addresses["nodes"] = [
            {"service": kind, **node.describe()}
            for kind, cluster in self.clusters.items()
            for node in cluster.nodes
        ]
        return addresses

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
