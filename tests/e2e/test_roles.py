"""The roles of a cluster as processes, over real MongoDB, Kafka and Redis: killed one by one, they lose and repeat nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from client.rest import RestClient
from domain.aggregates import EVENT_CLASSES
from domain.talk import MessagePosted
from eventlog.codec import EventCodec
from eventlog.integrity import verify_shard
from eventlog.mongo import MongoLog
from eventlog.registry import Registry
from eventlog.sealing import PlainSealing
from tests.e2e.cluster import Place, RoleCluster
from tests.e2e.process import ServerProcess
from tests.integration.house import Line, content

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.services, pytest.mark.timeout(240)]

PASSWORD = "a quiet afternoon"
PAGE_COMMITS = 5_000


async def posted(place: Place) -> list[tuple[str, int | None, str]]:
    """(conversation, seq, client message id) of every message in the log, whose chains are found whole."""
    codec = EventCodec(Registry(EVENT_CLASSES), PlainSealing())
    log = await MongoLog.open_read_only(place.mongodb, place.database)
    found: list[tuple[str, int | None, str]] = []
    try:
        for shard in range(log.shard_count):
            assert [finding async for finding in verify_shard(log, shard)] == []
            after = 0
            while commits := await log.read_shard(shard, after, PAGE_COMMITS):
                after = commits[-1].position
                found += [
                    (row.stream, row.seq, row.event.client_msg_id)
                    for commit in commits
                    for row in codec.decode(commit).events
                    if isinstance(row.event, MessagePosted)
                ]
    finally:
        await log.close()
    return found


@pytest.fixture
async def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RoleCluster]:
    """Two owners with 32 shards each, a projector, a pusher, jobs and two gateways."""
    place = Place(
        mongodb=request.getfixturevalue("mongodb_uri"),
        kafka=request.getfixturevalue("kafka_bootstrap"),
        redis=request.getfixturevalue("redis_url"),
        database=request.getfixturevalue("mongodb_database"),
    )
    found = RoleCluster(tmp_path, place)
    try:
        await found.start()
        yield found
    finally:
        await found.kill()


class Person:
    """Sends over one gateway, and writes down which seqs came to it."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.seen: list[int] = []
        self.line = Line(None)
        self.acks: dict[str, int] = {}

    async def connect(self, gateway: ServerProcess, conversation_id: str) -> None:
        """Log in there, and be told what was missed."""
        async with RestClient(gateway.url) as rest:
            token = (await rest.log_in(self.user_id, PASSWORD, "d1")).access_token
        self.line = Line(None)
        await self.line.connect(gateway.socket_url)
        have = {conversation_id: self.seen[-1]} if self.seen else {}
        self.line.say("hello", token=token, have=have)
        await self.line.next("events", complete=True)

    async def send(self, conversation_id: str, key: str) -> None:
        """Until it is acknowledged; what is refused for a moment is sent again with the same key."""
        while key not in self.acks:
            self.line.say(
                "send", ref=key, conversation_id=conversation_id, client_msg_id=key, content=content(key)
            )
            await self.line.until(lambda: key in self.line.answered)
            for frame in self.line.of("ack"):
                self.acks[frame["ref"]] = frame["seq"]
            self.line.answered.discard(key)

    def leave(self, conversation_id: str) -> None:
        """Write down what came, and hang up."""
        self.seen += self.line.seqs(conversation_id)
        self.line.close()


async def test_killed_roles_lose_and_repeat_nothing(cluster: RoleCluster) -> None:
    one, two = cluster["gateway-1"], cluster["gateway-2"]
    async with RestClient(one.url) as rest:
        for user_id in ("ann", "bob"):
            await rest.create_user(user_id, PASSWORD)
        ann_rest = rest.as_user((await rest.log_in("ann", PASSWORD, "d0")).access_token)
        room = str((await ann_rest.create_group("room", ["bob"])).conversation_id)
    ann, bob = Person("ann"), Person("bob")
    await ann.connect(one, room)
    await bob.connect(two, room)
    for sent, node in enumerate(("", "owner-1", "owner-2", "projector-1", "pusher-1", "jobs-1")):
        if node:
            await cluster.again(node)
        async with asyncio.TaskGroup() as tasks:
            for person in (ann, bob):
                tasks.create_task(person.send(room, f"{person.user_id}-{sent}"))
    head = max(*ann.acks.values(), *bob.acks.values())
    for person in (ann, bob):
        await person.line.until(lambda person=person: person.line.newest.get(room, 0) >= head)  # type: ignore[misc]
    # The gateway dies; its user comes back over the other one and is told what he missed.
    bob.leave(room)
    await two.kill()
    await ann.send(room, "ann-alone")
    await bob.connect(one, room)
    await ann.send(room, "ann-last")
    head = ann.acks["ann-last"]
    for person in (ann, bob):
        await person.line.until(lambda person=person: person.line.newest.get(room, 0) >= head)  # type: ignore[misc]
        person.leave(room)

    found = await posted(cluster.place)
    assert sorted(key for _, _, key in found) == sorted([*ann.acks, *bob.acks])
    assert {key: seq for _, seq, key in found} == {**ann.acks, **bob.acks}
    for person in (ann, bob):
        assert person.seen == list(range(person.seen[0], head + 1)), person.user_id
