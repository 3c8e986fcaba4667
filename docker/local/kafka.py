"""Kafka in KRaft mode, each process broker and controller at once: one or three of them."""

from __future__ import annotations

import base64
import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

from docker.local.cluster import Cluster
from docker.local.kafka_wire import Metadata, metadata
from docker.local.ports import ports_of
from docker.local.processes import START_S_MAX, Server, wait_until
from docker.local.provision import KAFKA_VERSION, kafka_classpath, one_at_a_time, say

HEAP_MB_MAX = 384
DUMP_S_MAX = 60.0
# Warnings and worse only: a broker that starts well says nothing. One core collects garbage as fast as two here.
_JAVA = (
    *("java", f"-Xmx{HEAP_MB_MAX}m", "-XX:+UseSerialGC"),
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)

_UNKNOWN = Metadata(frozenset(), {})


def settings(node_id: int, ports: Sequence[tuple[int, int]], data: Path) -> dict[str, str]:
    """server.properties of the broker `node_id` (from 1 on) among those with these (broker, controller) ports.

    A record counts as written when two of three hold it; a topic is there because somebody created it, not because
    somebody named it; nothing is ever deleted by age.
    """
    count = len(ports)
    broker, controller = ports[node_id - 1]
    voters = ",".join(f"{number}@127.0.0.1:{port}" for number, (_, port) in enumerate(ports, 1))
    copies, in_sync = str(count), str(max(1, count - 1))
    return {
        "process.roles": "broker,controller",
        "node.id": str(node_id),
        "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{broker}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(data),
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": "4",
        "unclean.leader.election.enable": "false",
        "auto.create.topics.enable": "false",
        "delete.topic.enable": "true",
        "log.retention.ms": "-1",
        "log.cleaner.dedupe.buffer.size": "8388608",
        "group.initial.rebalance.delay.ms": "0",
        # A third of the defaults: a fault test sees a dead broker replaced in three seconds.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
    }


class KafkaNode(Server):
    """One broker; `ports` are those (broker, controller) of the whole cluster, in the order of the ids."""

    # The last brokers to stop find no quorum that would let them go.
    stop_s_max = 5.0

    def __init__(
        self,
        node_id: int,
        ports: Sequence[tuple[int, int]],
        folder: Path,
        cluster_id: str,
        extra: Mapping[str, str],
    ) -> None:
        super().__init__("Kafka", ports[node_id - 1][0], folder)
        self.node_id = node_id
        self.dump_classes_to: Path | None = None
        self._cluster_id = cluster_id
        self._settings = {**settings(node_id, ports, folder / "data"), **extra}

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def prepare(self) -> None:
        super().prepare()
        lines = (f"{name}={value}\n" for name, value in self._settings.items())
        self._properties.write_text("".join(lines))
        meta = self.folder / "data" / "meta.properties"
        if not meta.exists():
            # What `kafka.tools.StorageTool format` writes, without starting a JVM for it.
            meta.write_text(
                f"version=1\ncluster.id={self._cluster_id}\nnode.id={self.node_id}\n"
                f"directory.id={_random_id()}\n"
            )

    def command(self) -> Sequence[str]:
        if self.dump_classes_to is None:
            classes = f"-XX:SharedArchiveFile={class_archive()}"
        else:
            classes = f"-XX:ArchiveClassesAtExit={self.dump_classes_to}"
        return (*_JAVA, classes, "-cp", kafka_classpath(), "kafka.Kafka", str(self._properties))

    def ask(self, *topics: str) -> Metadata:
        """Whom it knows; nobody when it does not answer."""
        try:
            return metadata(self.host, self.port, topics)
        except OSError:
            return _UNKNOWN

    def answers(self) -> bool:
        return self.node_id in self.ask().brokers


class KafkaCluster(Cluster[KafkaNode]):
    """`extra`: settings that win over ours, for every broker."""

    def __init__(self, folder: Path, nodes: int = 1, extra: Mapping[str, str] | None = None) -> None:
        ports = ports_of(folder, 2 * nodes)
        pairs = list(zip(ports[:nodes], ports[nodes:], strict=True))
        cluster_id = _cluster_id(folder)
        super().__init__(
            folder,
            [
                KafkaNode(number, pairs, folder / str(number), cluster_id, extra or {})
                for number in range(1, nodes + 1)
            ],
        )

    def launch(self) -> None:
        provide()
        super().launch()

    @property
    def address(self) -> str:
        return ",".join(node.address for node in self.nodes)

    @property
    def bootstrap(self) -> str:
        """`address` by the name that Kafka's people use."""
        return self.address

    def await_ready(self, timeout_s: float = START_S_MAX) -> None:
        for node in self.nodes:
            node.await_ready(timeout_s)
        everybody = {node.node_id for node in self.nodes}
        wait_until(
            lambda: all(node.ask().brokers == everybody for node in self.nodes),
            timeout_s=timeout_s,
            failure=lambda: f"Kafka's brokers do not find each other; their logs are under {self.folder}.",
        )

    def leader(
        self,
        topic: str,
        partition: int = 0,
        timeout_s: float = START_S_MAX,
        other_than: KafkaNode | None = None,
    ) -> KafkaNode:
        """The broker that leads the partition, waited for; with `other_than`, one that took over from it."""
        found: list[KafkaNode] = []

        def somebody_leads() -> bool:
            for asked in self.nodes:
                if asked is other_than or not asked.running:
                    continue
                leading = asked.ask(topic).leaders.get((topic, partition), -1)
                found[:] = [node for node in self.nodes if node.node_id == leading and node is not other_than]
                if found:
                    return True
            return False

        wait_until(
            somebody_leads,
            timeout_s=timeout_s,
            failure=lambda: f"Kafka has no leader of {topic}/{partition} after {timeout_s:g} s.",
        )
        return found[0]


def class_archive() -> Path:
    """Where the loaded classes of a broker lie ready, which halves what a start costs (5.2 to 2.9 s of CPU).

    A Java that does not like the archive goes on without it; another Java has another one.
    """
    java = Path(shutil.which("java") or "java").resolve()
    mark = blake2b(f"{java} {java.stat().st_mtime_ns}".encode(), digest_size=4).hexdigest()
    return Path(kafka_classpath()).parent.with_name(f"kafka-{KAFKA_VERSION}-{mark}.jsa")


def provide() -> None:
    """Fetch the programs, and run a broker once to leave its class archive; nothing when all is there."""
    kafka_classpath()
    archive = class_archive()
    if archive.exists():
        return
    with one_at_a_time(archive.with_suffix(".lock")):
        if not archive.exists():
            say("Starting Kafka once, so that it starts fast from now on")
            with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
                broker = KafkaCluster(Path(folder)).nodes[0]
                broker.dump_classes_to = Path(folder) / "classes.jsa"
                broker.start()
                broker.stop(DUMP_S_MAX)
                # An archive appears whole or not at all; without one, starts are slow, no more.
                if broker.dump_classes_to.exists():
                    broker.dump_classes_to.rename(archive)


def _random_id() -> str:
    """16 random bytes as Kafka writes them, never beginning with a hyphen."""
    return "m" + base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")[1:]


def _cluster_id(folder: Path) -> str:
    """Kept with the data."""
    record = folder / "cluster_id"
    if not record.exists():
        folder.mkdir(parents=True, exist_ok=True)
        record.write_text(_random_id())
    return record.read_text()
