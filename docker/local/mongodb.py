"""MongoDB: a replica set of one or three, or (for a test of misconfiguration) a server outside any set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docker.local.cluster import Cluster
from docker.local.failures import ServicesError
from docker.local.mongo_wire import run_command
from docker.local.ports import ports_of
from docker.local.processes import START_S_MAX, Server, wait_until
from docker.local.provision import mongodb_programs

REPLICA_SET = "rs0"
CACHE_GB = "0.25"
OPLOG_MB = "512"
# A tenth of the servers' own defaults: a fault test sees an election in two seconds instead of ten.
ELECTION_MS = 2_000
HEARTBEAT_MS = 500
# How long one that stops still answers, for clients to notice; 15 s by default.
QUIESCE_MS = 500
REPLY_S_MAX = 1.0
ORDER_S_MAX = 30.0
_ALREADY_INITIALIZED = 23


class MongoNode(Server):
    """One mongod; `options` are further words for it."""

    def __init__(self, port: int, folder: Path, replica_set: str | None, options: Sequence[str] = ()) -> None:
        super().__init__("MongoDB", port, folder)
        self._replica_set = replica_set
        self._options = options

    def command(self) -> Sequence[str]:
        programs = mongodb_programs()
        member = (
            () if self._replica_set is None else ("--replSet", self._replica_set, "--oplogSize", OPLOG_MB)
        )
        return (
            *(str(programs.mongod), "--dbpath", str(self.folder / "data")),
            *("--bind_ip", self.host, "--port", str(self.port), "--nounixsocket", "--quiet"),
            *("--wiredTigerCacheSizeGB", CACHE_GB, "--setParameter", "diagnosticDataCollectionEnabled=false"),
            *("--setParameter", f"shutdownTimeoutMillisForSignaledShutdown={QUIESCE_MS}"),
            *(*member, *self._options),
        )

    def environment(self) -> Mapping[str, str]:
        return {"LD_LIBRARY_PATH": str(mongodb_programs().libraries)}

    def ask(self, command: Mapping[str, Any], timeout_s: float = REPLY_S_MAX) -> dict[str, Any]:
        """Its reply; empty when it gives none in time, as a paused one does."""
        try:
            return run_command(self.host, self.port, command, timeout_s)
        except OSError:
            return {}

    def answers(self) -> bool:
        return self.ask({"hello": 1}).get("ok") == 1

    @property
    def is_primary(self) -> bool:
        """Whether it says that it takes writes."""
        return self.running and self.ask({"hello": 1}).get("isWritablePrimary") is True

    @property
    def is_member(self) -> bool:
        """Whether it serves in its set, as primary or secondary."""
        hello = self.ask({"hello": 1})
        return hello.get("isWritablePrimary") is True or hello.get("secondary") is True


class MongoReplicaSet(Cluster[MongoNode]):
    """`replica_set=None`: one server that belongs to none, as Minutebook refuses it."""

    def __init__(
        self,
        folder: Path,
        nodes: int = 1,
        replica_set: str | None = REPLICA_SET,
        options: Sequence[str] = (),
    ) -> None:
        if replica_set is None and nodes != 1:
            raise ValueError("servers outside a replica set stand alone")
        self.replica_set = replica_set
        ports = ports_of(folder, nodes)
        super().__init__(
            folder,
            [
                MongoNode(port, folder / str(number), replica_set, options)
                for number, port in enumerate(ports, 1)
            ],
        )

    @property
    def address(self) -> str:
        members = ",".join(node.address for node in self.nodes)
        return f"mongodb://{members}/" + (f"?replicaSet={self.replica_set}" if self.replica_set else "")

    @property
    def uri(self) -> str:
        """`address` by the name that MongoDB's people use."""
        return self.address

    def await_ready(self, timeout_s: float = START_S_MAX) -> None:
        for node in self.nodes:
            node.await_ready(timeout_s)
        if self.replica_set is None:
            return
        self._initiate()
        self.primary(timeout_s)
        for node in self.nodes:
            self.await_member(node, timeout_s)

    def primary(self, timeout_s: float = START_S_MAX, other_than: MongoNode | None = None) -> MongoNode:
        """The node that takes writes, waited for; with `other_than`, one that took over from that one."""
        found: list[MongoNode] = []

        def somebody_leads() -> bool:
            found[:] = [node for node in self.nodes if node is not other_than and node.is_primary]
            return bool(found)

        wait_until(
            somebody_leads,
            timeout_s=timeout_s,
            failure=lambda: (
                f"MongoDB has no primary after {timeout_s:g} s; its logs are under {self.folder}."
            ),
        )
        return found[0]

    def await_member(self, node: MongoNode, timeout_s: float = START_S_MAX) -> None:
        """Wait until `node` serves again, as primary or secondary."""
        wait_until(
            lambda: node.is_member,
            timeout_s=timeout_s,
            failure=lambda: f"MongoDB on {node.address} does not join its set; see {node.log}.",
        )

    def step_down(self, seconds: int = 10) -> MongoNode:
        """Make the primary give way in order, for `seconds`; returns the new one. Three nodes only."""
        before = self.primary()
        order = {"replSetStepDown": seconds, "secondaryCatchUpPeriodSecs": min(5, seconds - 1)}
        reply = before.ask(order, ORDER_S_MAX)
        if reply and reply.get("ok") != 1:
            raise ServicesError(f"MongoDB on {before.address} did not step down: {reply.get('errmsg')}")
        return self.primary(other_than=before)

    def _initiate(self) -> None:
        config = {
            "_id": self.replica_set,
            "members": [{"_id": index, "host": node.address} for index, node in enumerate(self.nodes)],
            "settings": {"electionTimeoutMillis": ELECTION_MS, "heartbeatIntervalMillis": HEARTBEAT_MS},
        }
        reply = self.nodes[0].ask({"replSetInitiate": config}, ORDER_S_MAX)
        if reply.get("ok") != 1 and reply.get("code") != _ALREADY_INITIALIZED:
            raise ServicesError(f"MongoDB cannot form its replica set: {reply.get('errmsg', 'no answer')}")
