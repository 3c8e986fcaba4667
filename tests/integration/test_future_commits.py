"""A commit of a future release on a real Kafka and MongoDB: its stream is parked, everything else goes on."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest

from domain.streams import shard_of
from eventlog.bus import Bus
from eventlog.codec import frame_of
from eventlog.feed import Feed
from eventlog.kafka_driver import KafkaSender, KafkaSettings
from eventlog.kafka_source import KafkaSource
from eventlog.kafka_topic import ensure_topic, topic_name
from eventlog.received import Received, received_of
from eventlog.record import Committed, Draft, Head
from eventlog.relay import Relay
from ops.roles.carrying import Following, skipping
from projections.mongo_driver import ViewDatabase
from projections.mongo_shelf import MongoShelf
from projections.runner import RunnerSettings
from projections.sharing import ShardShare
from projections.views import READ_MODELS, Views, ViewsSettings
from tests.integration.carried import FEED, RELAY, Checkpoint
from tests.unit.projections.world import CODEC, SHARDS, World, rows

pytestmark = [pytest.mark.services, pytest.mark.slow]

PARTITIONS = SHARDS
BROKEN, WHOLE = "g_1", "g_2"
WAIT_S = 30.0


async def foretell(world: World, stream: str) -> None:
    """Append a commit whose event no release knows yet."""
    shard = shard_of(stream, SHARDS)
    message = world.message(stream, "alice", "from the future")
    seq = world._next_seq(stream)
    events = CODEC.encode_events((message,), (seq,)).replace(b'"message_posted"', b'"message_foretold"')
    draft = Draft(
        stream=stream,
        first_version=world._versions[stream] + 1,
        key=b"foretold" * 2,
        payload_digest=bytes(16),
        at=world.now,
        events=(message,),
        seqs=(seq,),
        events_json=events,
    )
    commit = frame_of(draft, world.log.log_id, shard, 1, world._heads.get(shard, Head()))
    world._heads[shard] = commit.head
    world._versions[stream] += 1
    await world.log.append({shard: [commit]})


class House:
    """A log, its relay, a projector over MongoDB, and a gateway's bus."""

    def __init__(self, kafka: KafkaSettings, topic: str, database: ViewDatabase) -> None:
        self.world = World()
        self._kafka = kafka
        self._topic = topic
        self._database = database
        self.heard: list[Committed] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        log = self.world.log
        async with AsyncExitStack() as stack:
            await ensure_topic(self._kafka, self._topic, PARTITIONS)
            sender = KafkaSender(self._kafka, self._topic, PARTITIONS)
            self.relay = Relay(log, sender, Checkpoint(), settings=RELAY)
            await self.relay.start()
            stack.push_async_callback(self.relay.close)
            settings = ViewsSettings(runner=RunnerSettings(linger_ms=10), shared=True, shares=True)
            self.views = await Views.open(MongoShelf(self._database), log, Bus(), CODEC, settings)
            stack.push_async_callback(self.views.close)
            share = ShardShare(self.views, log, monotonic_s=time.monotonic, chance=random.Random(1))
            self.projector: Feed[Received] = Feed(
                log,
                KafkaSource(self._kafka, self._topic, PARTITIONS, group=f"{self._topic}.projectors"),
                PARTITIONS,
                positions=share.positions,
                decode=partial(received_of, CODEC),
                handler=self.views.runner.follow,
                lost=share.lost,
                looked=share.looked,
                settings=FEED,
            )
            self.following = Following(await log.heads(), lambda _: None)
            self.following.bus.follow(self._hear)
            self.gateway: Feed[Committed] = Feed(
                log,
                KafkaSource(self._kafka, self._topic, PARTITIONS, from_end=True),
                PARTITIONS,
                positions=self.following.positions,
                decode=skipping(CODEC.decode),
                handler=self.following.publish,
                settings=FEED,
            )
            for feed in (self.projector, self.gateway):
                feed.start()
                stack.push_async_callback(feed.close)
            yield

    def _hear(self, batch: Sequence[Committed]) -> None:
        self.heard.extend(batch)


async def test_a_commit_of_a_future_release_costs_only_its_own_stream(
    kafka_bootstrap: str, topic_prefix: str, mongodb_uri: str, mongodb_database: str
) -> None:
    kafka = KafkaSettings(bootstrap=kafka_bootstrap)
    database = ViewDatabase.connect(mongodb_uri, mongodb_database)
    house = House(kafka, topic_name("tests", topic_prefix.rstrip(".")), database)
    world = house.world
    try:
        async with house.open():
            for stream in (BROKEN, WHOLE):
                await world.group(stream, "alice", ["bob"])
                await world.say(stream, "alice", "before")
            await foretell(world, BROKEN)
            for stream in (BROKEN, WHOLE):
                await world.say(stream, "alice", "after")
            await house.relay.drained()
            heads = world.positions()
            await house.projector.reached(heads)
            await house.gateway.reached(heads)
            await house.views.caught_up(heads, WAIT_S, tuple(READ_MODELS))
            assert house.projector.metrics.failures == house.gateway.metrics.failures == 0
            # The gateway passes on what it can read, of that stream too.
            read = [row for one in house.heard for row in one.events]
            assert [row.seq for row in read if row.stream == BROKEN] == [1, 2, 3, 5]
            assert [row.seq for row in read if row.stream == WHOLE] == [1, 2, 3, 4]
            # Views park the stream, and show it as it was; the others go on.
            parked = {(row.projection, row.stream, row.from_version) for row in await house.views.parked()}
            assert ("timeline", BROKEN, 4) in parked
            assert {stream for _, stream, _ in parked} == {BROKEN}
            for stream, texts in ((BROKEN, {"before"}), (WHOLE, {"before", "after"})):
                access = await house.views.timeline.access("default", "bob", stream)
                assert access is not None
                page = rows(await house.views.timeline.messages(access))
                assert {row["content"]["text"] for row in page} == texts  # type: ignore[index]
    finally:
        database.close()
