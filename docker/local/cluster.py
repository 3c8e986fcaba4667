"""Several servers of one kind that belong together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

from docker.local.group import ServerGroup
from docker.local.processes import START_S_MAX, Server

ServerT = TypeVar("ServerT", bound=Server)
NODES_ALLOWED = (1, 3)


class Cluster(ServerGroup, Generic[ServerT]):
    """One or three servers with their data under one folder."""

    nodes: list[ServerT]

    def __init__(self, folder: Path, nodes: list[ServerT]) -> None:
        if len(nodes) not in NODES_ALLOWED:
            raise ValueError(f"one or three nodes, not {len(nodes)}")
        self.folder = folder
        self.nodes = nodes

    @property
    @abstractmethod
    def address(self) -> str:
        """What a client connects to: a URI, a bootstrap list or a URL."""

    def servers(self) -> Sequence[Server]:
        return self.nodes

    def restart(self, timeout_s: float = START_S_MAX) -> None:
        """Kill what runs, and start all again on the same ports and data."""
        self.kill()
        self.start(timeout_s)
