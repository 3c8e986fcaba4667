"""Everything that a fault happens to: three servers of each kind, every role as a process, the load, and the evidence."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from docker.local.kafka import KafkaCluster
from docker.local.mongodb import MongoReplicaSet
from docker.local.ports import HOST, free_port
from docker.local.redis import RedisServers
from docker.local.services import Services
from eventlog.kafka_settings import KafkaSettings
from eventlog.kafka_topic import topic_name
from eventlog.mongo_checkpoints import MongoCheckpoint
from ops.audit.comparing import Comparison
from ops.carrying import open_topic
from tests.e2e.cluster import Place, RoleCluster
from tests.faults.checker import Checker, LogBook, Verdict
from tests.faults.ledger import Sent
from tests.faults.load import PER_SECOND, Load, open_load
from tests.faults.proxy import Proxy
from tests.faults.views import ViewsCheck
from tests.faults.waiting import NotReachedError, pause

DATABASE = "faults"
PARTITIONS = 16
RSS_MB_MAX = 400
RELAYED_S_MAX = 90.0
RELAYED_LOOK_S = 0.1
NODES: Mapping[str, tuple[str, ...]] = {
    "owner-1": ("owner",),
    "owner-2": ("owner",),
    "relay-1": ("relay",),
    "projector-1": ("projector",),
    "projector-2": ("projector",),
    "pusher-1": ("pusher",),
    "jobs-1": ("jobs",),
    "gateway-1": ("gateway",),
    "gateway-2": ("gateway",),
}
"""Every role apart, so that each can be killed by itself."""


class Stage:
    """Open with `open_stage`."""

    def __init__(
        self, services: Services, roles: RoleCluster, proxies: Mapping[str, Proxy], chance: random.Random
    ) -> None:
        self.services = services
        self.roles = roles
        self.proxies = proxies
        """`redis`, and each owner by its node: what others reach it through."""
        self.chance = chance
        self.others: list[Sent] = []
        """Sends beside those of the load, acknowledged."""
        self.rss_mb: dict[str, int] = {}
        """The most that each process was seen to hold."""
        self._load: Load | None = None
        self._checker: Checker | None = None
        self._views: ViewsCheck | None = None

    @property
    def mongo(self) -> MongoReplicaSet:
        """Its three nodes."""
        servers = self.services.clusters["mongodb"]
        assert isinstance(servers, MongoReplicaSet)
        return servers

    @property
    def kafka(self) -> KafkaCluster:
        """Its three brokers."""
        servers = self.services.clusters["kafka"]
        assert isinstance(servers, KafkaCluster)
        return servers

    @property
    def redis(self) -> RedisServers:
        """One."""
        servers = self.services.clusters["redis"]
        assert isinstance(servers, RedisServers)
        return servers

    @property
    def load(self) -> Load:
        """The users."""
        assert self._load is not None
        return self._load

    @property
    def checker(self) -> Checker:
        """The evidence."""
        assert self._checker is not None
        return self._checker

    @property
    def gateways(self) -> list[str]:
        """Their addresses."""
        return [self.roles[node].url for node in self.roles.with_role("gateway")]

    @property
    def kafka_settings(self) -> KafkaSettings:
        """How Kafka is reached."""
        return KafkaSettings(bootstrap=self.roles.place.kafka)

    @property
    def topic(self) -> str:
        """Where commits are carried."""
        return topic_name(self.roles.place.database)

    @asynccontextmanager
    async def under_load(self, per_second: float = PER_SECOND) -> AsyncIterator[None]:
        """New users, who are there until the end; and the log opened for looking."""
        book = await self._look()
        try:
            self._checker = Checker(book)
            self._load = await open_load(self.gateways, self.chance, per_second)
            async with self._load.running():
                await self._load.settle()
                await self.check()  # How the users came to be is no fault's doing.
                yield
        finally:
            await self._look_away()

    async def _look(self) -> LogBook:
        place = self.roles.place
        book = await LogBook.open(place.mongodb, place.database)
        self._views = await asyncio.to_thread(ViewsCheck, place.mongodb, place.database, book.log.log_id)
        return book

    async def _look_away(self) -> None:
        if self._views is not None:
            await asyncio.to_thread(self._views.close)
        if self._checker is not None:
            await self.checker.book.close()

    async def look_again(self) -> None:
        """The log is another one, older than what was seen of it: the evidence begins anew with what it holds."""
        await self._look_away()
        book = await self._look()
        assert self._views is not None
        await asyncio.to_thread(self._views.take, await book.read_on())
        self.checker.begin_again(book)
        self.load.forget()

    async def mend(self) -> None:
        """After a kind that went wrong: everything runs again, everybody has read everything, and what was wrong is forgotten."""
        for proxy in self.proxies.values():
            proxy.release()
        for cluster in self.services.clusters.values():
            for node in cluster.nodes:
                node.resume()
        await asyncio.to_thread(self.services.start)
        await self.roles.start()
        await self.load.settle()
        await self.check()

    # What must hold

    async def check(self, others: Iterable[Sent] = ()) -> Verdict:
        """After the load settled: the log, the readers, the processes."""
        fresh = await self.checker.book.read_on()
        assert self._views is not None
        await asyncio.to_thread(self._views.take, fresh)
        verdict = self.checker.check(self.load.members, [*self.others, *others])
        self.others = []
        for node, process in self.roles.processes.items():
            if not process.running:
                verdict.find(f"{node} ended by itself: {process.log[-300:]}")
                continue
            rss_mb = resident_mb(process.process_id)
            self.rss_mb[node] = max(rss_mb, self.rss_mb.get(node, 0))
            if rss_mb > RSS_MB_MAX:
                verdict.find(f"{node} holds {rss_mb} MB")
        return verdict

    async def views_differ(self) -> list[str]:
        """After `check`: where a view is not what the log makes of it."""
        assert self._views is not None
        return await self._views.differences(self.checker.book.heads())

    async def kafka_differs(self) -> list[str]:
        """After `check`, once the relay says that everything is sent: where Kafka is not what the log is."""
        book = self.checker.book
        await self._relayed()
        shards = book.log.shard_count
        async with open_topic(self.kafka_settings, self.roles.place.database, shards) as topic:
            comparison = Comparison(book.log, topic, topic.partitions, former_log_ids=book.former_log_ids)
            return [f"Kafka: {difference}" async for difference in comparison.differences()]

    async def _relayed(self) -> None:
        """The relay's checkpoint has come to the heads."""
        place, book = self.roles.place, self.checker.book
        heads = book.heads()
        checkpoint = await MongoCheckpoint.open(place.mongodb, place.database, "relay", book.log.log_id)
        deadline = asyncio.get_running_loop().time() + RELAYED_S_MAX
        try:
            while lacking := behind(await checkpoint.load(), heads):
                if asyncio.get_running_loop().time() > deadline:
                    raise NotReachedError(f"after {RELAYED_S_MAX:g} s the relay has not sent {lacking}")
                await pause(RELAYED_LOOK_S)
        finally:
            await checkpoint.close()


def behind(held: Mapping[int, int], heads: Mapping[int, int]) -> dict[int, tuple[int, int]]:
    """{shard: (held, head)} where something is lacking."""
    return {shard: (held.get(shard, 0), head) for shard, head in heads.items() if held.get(shard, 0) < head}


def resident_mb(process_id: int) -> int:
    """What a process holds in memory now."""
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1_024
    return 0


@asynccontextmanager
async def open_stage(folder: Path, seed: int) -> AsyncIterator[Stage]:
    """Start servers, proxies and roles; all are killed at the end."""
    async with AsyncExitStack() as stack:
        services = Services(folder / "mongodb-and-kafka", 3, ("mongodb", "kafka"))
        services.clusters["redis"] = RedisServers(folder / "redis")
        stack.push_async_callback(asyncio.to_thread, services.kill)
        await asyncio.to_thread(services.start)
        addresses = services.describe()
        listening = {node: free_port() for node, roles in NODES.items() if "owner" in roles}
        proxies = {"redis": Proxy((HOST, services.clusters["redis"].nodes[0].port))}
        proxies |= {node: Proxy((HOST, port)) for node, port in listening.items()}
        for proxy in proxies.values():
            await stack.enter_async_context(proxy)
        place = Place(
            mongodb=addresses["mongodb"],
            kafka=addresses["kafka"],
            redis=f"redis://{proxies['redis'].address}/0",
            database=DATABASE,
        )
        roles = RoleCluster(
            folder / "roles",
            place,
            NODES,
            listening=listening,
            ways={node: proxies[node].port for node in listening},
            more={"MINUTEBOOK_CLUSTER__KAFKA_PARTITIONS": str(PARTITIONS)},
        )
        stack.push_async_callback(roles.kill)
        await roles.start()
        yield Stage(services, roles, proxies, random.Random(seed))
