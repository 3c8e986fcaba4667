"""Several projectors share the shards: killed, stopped and added while messages flow, the views come out as the log says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from client.rest import RestClient
from domain.aggregates import EVENT_CLASSES
from eventlog.codec import EventCodec
from eventlog.mongo import MongoLog
from eventlog.registry import Registry
from eventlog.sealing import PlainSealing
from tests.e2e.cluster import Place, RoleCluster
from tests.faults.views import ViewsCheck
from tests.integration.house import content

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.services, pytest.mark.timeout(400)]

PASSWORD = "a quiet afternoon"
PEOPLE = 12
WRITERS = 4
ROUND = 80
"""Messages between two events of a test."""
NODES: Mapping[str, tuple[str, ...]] = {
    "server": ("owner", "relay", "gateway"),
    "projector-1": ("projector",),
    "projector-2": ("projector",),
}


@pytest.fixture
async def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RoleCluster]:
    """Two projectors beside one process that does all the rest."""
    place = Place(
        mongodb=request.getfixturevalue("mongodb_uri"),
        kafka=request.getfixturevalue("kafka_bootstrap"),
        redis=request.getfixturevalue("redis_url"),
        database=request.getfixturevalue("mongodb_database"),
    )
    found = RoleCluster(tmp_path, place, NODES)
    try:
        await found.start()
        yield found
    finally:
        await found.kill()


class Flow:
    """Messages between many pairs, so in many shards, as fast as they are taken."""

    def __init__(self) -> None:
        self.sent = 0
        self._more = asyncio.Event()
        self._ended = False

    async def after(self, messages: int) -> None:
        """Wait until so many more were acknowledged."""
        wanted = self.sent + messages
        while self.sent < wanted:
            self._more.clear()
            await self._more.wait()

    @asynccontextmanager
    async def flowing(self, url: str) -> AsyncIterator[None]:
        """As long as the context is open."""
        async with RestClient(url) as rest:
            names = [f"p{number}" for number in range(PEOPLE)]
            for name in names:
                await rest.create_user(name, PASSWORD)
            people = [
                rest.as_user((await rest.log_in(name, PASSWORD, "d")).access_token)
                for name in names[:WRITERS]
            ]
            async with asyncio.TaskGroup() as tasks:
                for number, person in enumerate(people):
                    tasks.create_task(self._write(person, number, names))
                yield
                self._ended = True

    async def _write(self, person: RestClient, number: int, names: list[str]) -> None:
        rooms: dict[str, str] = {}
        for turn in count():
            if self._ended:
                return
            to = names[(number + 1 + turn) % PEOPLE]
            if to != names[number]:
                pair = rooms[to] = rooms.get(to) or await person.open_direct(to)
                await person.post(pair, f"{number}-{turn}", content("hello"))
                self.sent += 1
                self._more.set()


async def check_views(place: Place) -> None:
    """Every view holds all of the log, and exactly what the log makes of it."""
    codec = EventCodec(Registry(EVENT_CLASSES), PlainSealing())
    log = await MongoLog.open_read_only(place.mongodb, place.database)
    check = await asyncio.to_thread(ViewsCheck, place.mongodb, place.database, log.log_id)
    try:
        heads = {shard: head.position for shard, head in (await log.heads()).items()}
        for shard in heads:
            check.take([codec.decode(commit) for commit in await log.read_shard(shard, 0, 5_000)])
        assert await check.differences(heads) == []
    finally:
        check.close()
        await log.close()


async def test_a_killed_projector_is_made_up_for_by_the_others(cluster: RoleCluster) -> None:
    flow = Flow()
    async with flow.flowing(cluster["server"].url):
        await flow.after(ROUND)
        await cluster["projector-1"].kill()
        await flow.after(ROUND)
        await cluster["projector-1"].start()
        await flow.after(ROUND)
        await cluster["projector-2"].kill()
        await flow.after(ROUND)
    await check_views(cluster.place)


async def test_projectors_are_added_and_taken_while_messages_flow(cluster: RoleCluster) -> None:
    await cluster["projector-2"].stop()
    flow = Flow()
    async with flow.flowing(cluster["server"].url):
        await flow.after(ROUND)
        await cluster["projector-2"].start()
        await flow.after(2 * ROUND)
        assert await cluster["projector-1"].stop() == 0
        await flow.after(ROUND)
        await cluster["projector-1"].start()
        await flow.after(ROUND)
    await check_views(cluster.place)
