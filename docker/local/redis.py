"""Redis: one server, or a primary with two replicas."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from docker.local.cluster import Cluster
from docker.local.ports import ports_of
from docker.local.processes import START_S_MAX, Server
from docker.local.provision import redis_server

REPLY_S_MAX = 1.0
# Whatever Redis holds can be rebuilt from the log, so by default it keeps nothing on disk.
VOLATILE = ("--save", "", "--appendonly", "no")
DURABLE = ("--save", "", "--appendonly", "yes", "--appendfsync", "everysec")


class RedisNode(Server):
    """`options`: words for redis-server, VOLATILE or DURABLE for a start."""

    def __init__(self, port: int, folder: Path, options: Sequence[str], primary: RedisNode | None) -> None:
        super().__init__("Redis", port, folder)
        self._options = options
        self._primary = primary

    def command(self) -> Sequence[str]:
        follow = () if self._primary is None else ("--replicaof", self._primary.host, str(self._primary.port))
        return (
            *(redis_server(), "--bind", self.host, "--port", str(self.port)),
            *("--dir", str(self.folder / "data"), "--daemonize", "no", *self._options, *follow),
        )

    def answers(self) -> bool:
        if self._primary is None:
            return self.ask("PING") == "+PONG"
        return "master_link_status:up" in self.ask("INFO replication")

    def ask(self, line: str) -> str:
        """The reply to an inline command, cut after 4 KiB; empty from a server that gives none in time."""
        try:
            with socket.create_connection((self.host, self.port), REPLY_S_MAX) as connection:
                connection.sendall(f"{line}\r\n".encode())
                return connection.recv(4_096).decode(errors="replace").strip()
        except OSError:
            return ""


class RedisServers(Cluster[RedisNode]):
    """The first node is the primary, whatever happens: there is no sentinel."""

    def __init__(self, folder: Path, nodes: int = 1, options: Sequence[str] = VOLATILE) -> None:
        ports = ports_of(folder, nodes)
        primary = RedisNode(ports[0], folder / "1", options, None)
        replicas = [
            RedisNode(port, folder / str(number), options, primary)
            for number, port in enumerate(ports[1:], 2)
        ]
        super().__init__(folder, [primary, *replicas])

    @property
    def address(self) -> str:
        return f"redis://{self.nodes[0].address}/0"

    def await_ready(self, timeout_s: float = START_S_MAX) -> None:
        for node in self.nodes:
            node.await_ready(timeout_s)
