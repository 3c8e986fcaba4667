"""Ports for servers that must come back to them."""

from __future__ import annotations

import contextlib
import json
import random
import socket
from pathlib import Path

from docker.local.failures import ServicesError

HOST = "127.0.0.1"
# Below those that systems give to connections (from 32,768 on): one of these may be taken while its server is down.
PORTS = range(15_000, 32_000)
DRAWS_MAX = 1_000


def free_port() -> int:
    """A port that nobody listens on now."""
    draw = random.SystemRandom()
    for _ in range(DRAWS_MAX):
        port = draw.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise ServicesError(f"No free port between {PORTS.start} and {PORTS.stop} was found.")


def ports_of(folder: Path, count: int) -> list[int]:
    """The ports of the servers whose data lie in `folder`: those of the last run, else free ones.

    Replica sets and quorums remember their members by address, so data and ports stay together.
    Raises ServicesError when the folder belongs to another number of servers.
    """
    record = folder / "ports.json"
    if record.exists():
        ports = [int(port) for port in json.loads(record.read_text())]
        if len(ports) != count:
            raise ServicesError(
                f"{folder} holds the data of a run with other numbers of servers; remove it with `down --wipe`, "
                "or start as many as then."
            )
        return ports
    ports = []
    while len(ports) < count:
        if (port := free_port()) not in ports:
            ports.append(port)
    folder.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(ports))
    return ports
