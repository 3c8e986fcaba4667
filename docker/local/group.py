"""Servers that are started, stopped and killed together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from docker.local.processes import START_S_MAX, Server


class ServerGroup(ABC):
    """`with` starts all of them, and kills them at its end."""

    @abstractmethod
    def servers(self) -> Sequence[Server]:
        """Each process, in the order in which they start."""

    @abstractmethod
    def await_ready(self, timeout_s: float = START_S_MAX) -> None:
        """Wait until the servers found each other and take requests."""

    def launch(self) -> None:
        """Start all processes and return at once."""
        for server in self.servers():
            server.launch()

    def start(self, timeout_s: float = START_S_MAX) -> None:
        """Start what does not run, and wait until all of it serves."""
        self.launch()
        self.await_ready(timeout_s)

    def stop(self) -> None:
        """Ask all at once to stop in order; what takes longer than its `stop_s_max` is killed."""
        for server in self.servers():
            server.ask_to_stop()
        for server in self.servers():
            server.await_end()

    def kill(self) -> None:
        """kill -9 to all at once."""
        for server in self.servers():
            server.kill()

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
