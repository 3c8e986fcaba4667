"""Several servers of one kind that belong together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

from docker.local.processes import START_S_MAX, Server

ServerT = TypeVar("ServerT", bound=Server)
NODES_ALLOWED = (1, 3)


class Cluster(ABC, Generic[ServerT]):
    """One or three servers with their data under one folder; `with` starts them, and stops them at its end."""

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

    @abstractmethod
    def await_ready(self, timeout_s: float = START_S_MAX) -> None:
        """Wait until the servers found each other and take requests."""

    def launch(self) -> None:
        """Start all processes and return at once."""
        for node in self.nodes:
            node.launch()

    def start(self, timeout_s: float = START_S_MAX) -> None:
        """Start what does not run, and wait until all of it serves."""
        self.launch()
        self.await_ready(timeout_s)

    def stop(self) -> None:
        """Ask all at once to stop; what takes longer than its `stop_s_max` is killed."""
        for node in self.nodes:
            node.ask_to_stop()
        for node in self.nodes:
            node.await_end()

    def kill(self) -> None:
        """kill -9 to all at once."""
        for node in self.nodes:
            node.kill()

    def restart(self, timeout_s: float = START_S_MAX) -> None:
        """Kill what runs, and start all again on the same ports and data."""
        self.kill()
        self.start(timeout_s)

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
