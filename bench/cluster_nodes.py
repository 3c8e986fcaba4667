"""A whole cluster for measurements: real MongoDB, Kafka and Redis, and the processes of `make run-cluster`, one of each."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from typing_extensions import override

from bench.harness import Server, cpu_s_of
from client.caller import AppKey
from docker.local.folders import ROOT
from docker.local.ports import free_port
from docker.local.roles import RoleProcess, environment_of, processes
from docker.local.services import Services

CACHE = "2G"
"""The tests' MongoDB is small; a log's indexes must fit, or the server evicts in the midst of flushes."""
DATABASE = "minutebook"
PROGRAM = (sys.executable, "-m", "ops.cli")


class OneProcess(RoleProcess):
    """All roles in one process over the servers of a cluster."""

    @override
    def command(self) -> Sequence[str]:
        """`serve` without roles."""
        return (*PROGRAM, "serve", "--port", str(self.port), "--data", str(self.folder / "data"))

    def create_key(self) -> AppKey:
        """An app key, by which people are registered without hashing passwords."""
        command = (*PROGRAM, "keys", "create", "--json", "--data", str(self.folder / "data"))
        told = subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        made = json.loads(told.stdout)
        return AppKey(made["key_id"], made["secret"])


class Site:
    """The servers, and what processes of ours are told of them."""

    def __init__(self, services: Services, folder: Path, *, without: str | None = None) -> None:
        self.addresses: Mapping[str, Any] = services.describe()
        self._folder = folder
        self._port = free_port()
        self._without = without
        pushers = {} if without == "pusher" else {"pusher-1": free_port()}
        secret = secrets.token_hex(32)
        quiet = {"MINUTEBOOK_RATE_LIMIT": "off", "MINUTEBOOK_LOG_LEVEL": "warning", "MINUTEBOOK_DRAIN_S": "0"}
        self._environment = quiet | environment_of(self.addresses, {"owner-1": free_port()}, secret, pushers)
        self.client: MongoClient[dict[str, Any]] = MongoClient(self.addresses["mongodb"])

    @property
    def uri(self) -> str:
        """MongoDB's."""
        return str(self.addresses["mongodb"])

    def server_pids(self) -> dict[str, int]:
        """Of MongoDB, Kafka and Redis."""
        return {node["service"]: node["pid"] for node in self.addresses["nodes"]}

    @contextmanager
    def one_process(self) -> Iterator[OneProcess]:
        """All roles in one."""
        process = OneProcess("all-in-one", "", self._port, self._folder, self._environment)
        try:
            process.start()
            yield process
        finally:
            process.stop()

    @contextmanager
    def roles(self) -> Iterator[Sequence[RoleProcess]]:
        """One process of each role, but every gateway: as `docker.local.roles` lists them."""
        with ExitStack() as stack:
            running: list[RoleProcess] = []
            for process in processes(self._folder, self._environment, self._port):
                another = process.roles != "gateway" and any(one.roles == process.roles for one in running)
                if another or process.roles == self._without:
                    continue
                process.program = PROGRAM
                stack.callback(process.stop)
                process.start()
                running.append(process)
            yield running

    def flushes(self, database: str = DATABASE) -> Flushes:
        """Inserts into the commits of a database so far, as the server counts them."""
        rows = self.client[database]["commits"].aggregate([{"$collStats": {"latencyStats": {}}}])
        writes = next(iter(rows))["latencyStats"]["writes"]
        return Flushes(int(writes["ops"]), int(writes["latency"]))


class Flushes:
    """How many commands wrote commits, and how long the server was at them."""

    def __init__(self, count: int, microseconds: int) -> None:
        self.count = count
        self.microseconds = microseconds

    def __sub__(self, earlier: Flushes) -> Flushes:
        return Flushes(self.count - earlier.count, self.microseconds - earlier.microseconds)


def server_at(process: RoleProcess, key: AppKey) -> Server:
    """A gateway's process as the load sees it."""
    assert process.pid is not None
    return Server(f"http://127.0.0.1:{process.port}", process.pid, key)


def cpu_by_name(pids: Mapping[str, int]) -> dict[str, float]:
    """Seconds of CPU so far."""
    return {name: cpu_s_of(pid) for name, pid in pids.items()}


@contextmanager
def site(folder: Path, *, without: str | None = None) -> Iterator[Site]:
    """Start the servers; stop them at the end. `without`: a role that is not started."""
    with Services(folder / "servers") as services:
        one = Site(services, folder / "roles", without=without)
        setting = {"setParameter": 1, "wiredTigerEngineRuntimeConfig": f"cache_size={CACHE}"}
        with one.client:
            one.client.admin.command(setting)
            yield one
