"""What can be done to a cluster. Each fault returns once the cause is mended, with the moment from which recovery counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from eventlog.kafka_admin import KafkaAdmin
from tests.faults import cutting, restoring, scenarios
from tests.faults.stage import Stage
from tests.faults.waiting import pause

Hurt = Callable[[Stage], Awaitable[float]]
"""Hurts and mends; answers the time of the loop from which recovery counts: that of the fault, or the end of one that lasts."""

KILLED = ("owner", "relay", "projector", "pusher", "gateway")
MEANWHILE_ACKS = 30
"""Sends that must be acknowledged while a server of three is away: the others carry on."""
KAFKA_AWAY_S = 60.0
SLOW_REDIS_S = 5.0
SLOW_REDIS_FOR_S = 8.0


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of fault. `full` and `small`: how many a whole run does, and one of CI's; `hurts_kafka`: it is compared afterwards.

    `small` is 0 where CI has other tests of the same: a cluster that is hurt in every way takes ten minutes on two processors.
    """

    name: str
    hurt: Hurt
    full: int
    small: int
    hurts_kafka: bool = False
    sends_each: int = 1
    """What `full` and `small` count, if not faults: sends of one fault."""


def now() -> float:
    """The time of the loop, in seconds."""
    return asyncio.get_running_loop().time()


def killing(role: str) -> Hurt:
    """kill -9 one process with the role, and start it again."""

    async def hurt(stage: Stage) -> float:
        node = stage.chance.choice(stage.roles.with_role(role))
        at = now()
        await stage.roles.again(node)
        return at

    return hurt


async def kill_primary(stage: Stage) -> float:
    """kill -9 MongoDB's primary; the others elect; it comes back."""
    first = await asyncio.to_thread(stage.mongo.primary)
    at = now()
    await asyncio.to_thread(first.kill)
    await asyncio.to_thread(stage.mongo.primary, other_than=first)
    await stage.load.more(MEANWHILE_ACKS)
    await asyncio.to_thread(first.start)
    await asyncio.to_thread(stage.mongo.await_member, first)
    return at


async def step_down(stage: Stage) -> float:
    """MongoDB's primary gives way in order."""
    at = now()
    await asyncio.to_thread(stage.mongo.step_down, 5)
    await stage.load.more(MEANWHILE_ACKS)
    return at


async def stop_primary(stage: Stage) -> float:
    """SIGSTOP to MongoDB's primary: it stands still, and its connections stay open; then SIGCONT."""
    first = await asyncio.to_thread(stage.mongo.primary)
    at = now()
    first.pause()
    try:
        await asyncio.to_thread(stage.mongo.primary, other_than=first)
        await stage.load.more(MEANWHILE_ACKS)
    finally:
        first.resume()
    await asyncio.to_thread(stage.mongo.await_member, first)
    return at


async def kill_mongodb(stage: Stage) -> float:
    """kill -9 all of MongoDB at once."""
    await asyncio.to_thread(stage.mongo.kill)
    at = now()
    await asyncio.to_thread(stage.mongo.start)
    return at


async def kill_leader(stage: Stage) -> float:
    """kill -9 the broker that leads some partition; another one leads; it comes back."""
    partition = stage.chance.randrange(1 << 16) % await partitions_of(stage)
    leader = await asyncio.to_thread(stage.kafka.leader, stage.topic, partition)
    at = now()
    await asyncio.to_thread(leader.kill)
    await asyncio.to_thread(stage.kafka.leader, stage.topic, partition, other_than=leader)
    await stage.load.more(MEANWHILE_ACKS)
    await asyncio.to_thread(leader.start)
    await asyncio.to_thread(stage.kafka.await_ready)
    return at


def kafka_away(seconds: float) -> Hurt:
    """kill -9 all brokers; for so long nobody carries anything; they come back."""

    async def hurt(stage: Stage) -> float:
        await asyncio.to_thread(stage.kafka.kill)
        await pause(seconds)
        await stage.load.more(MEANWHILE_ACKS)
        at = now()
        await asyncio.to_thread(stage.kafka.start)
        return at

    return hurt


async def delete_topic(stage: Stage) -> float:
    """The topic is deleted with everything in it; the relay makes it anew and fills it."""
    at = now()
    async with KafkaAdmin.connected(stage.kafka_settings) as admin:
        await admin.delete(stage.topic)
    await stage.load.more(MEANWHILE_ACKS)
    return at


async def partitions_of(stage: Stage) -> int:
    """Of the topic."""
    async with KafkaAdmin.connected(stage.kafka_settings) as admin:
        facts = await admin.describe(stage.topic)
    assert facts is not None
    return facts.partitions


async def empty_redis(stage: Stage) -> float:
    """FLUSHALL."""
    at = now()
    said = await asyncio.to_thread(stage.redis.nodes[0].ask, "FLUSHALL")
    assert said == "+OK", said
    return at


async def kill_redis(stage: Stage) -> float:
    """kill -9; it comes back with nothing."""
    at = now()
    await asyncio.to_thread(stage.redis.nodes[0].restart)
    return at


async def slow_redis(stage: Stage) -> float:
    """Every answer of Redis takes five seconds longer, for a while."""
    proxy = stage.proxies["redis"]
    proxy.delay(SLOW_REDIS_S)
    try:
        await pause(SLOW_REDIS_FOR_S)
        await stage.load.more(MEANWHILE_ACKS)
    finally:
        proxy.release()
    return now()


def kinds(*, full: bool) -> Mapping[str, Kind]:
    """All kinds by name, in the order in which they are done; what lasts is shorter unless `full`."""
    away_s = KAFKA_AWAY_S if full else 5.0
    away_revoking_s = KAFKA_AWAY_S if full else 8.0
    found = [
        *(Kind(name=f"kill-{role}", hurt=killing(role), full=50, small=1) for role in KILLED),
        Kind(name="ack-cut-client", hurt=cutting.cut_client, full=250, small=10, sends_each=cutting.SENDS),
        Kind(name="ack-cut-owner", hurt=cutting.cut_owner, full=250, small=10, sends_each=cutting.SENDS),
        Kind(name="mongodb-kill-primary", hurt=kill_primary, full=30, small=1),
        Kind(name="mongodb-step-down", hurt=step_down, full=20, small=0),
        Kind(name="mongodb-stop-primary", hurt=stop_primary, full=20, small=0),
        Kind(name="mongodb-kill-all", hurt=kill_mongodb, full=10, small=0),
        Kind(name="redis-flushall", hurt=empty_redis, full=20, small=1),
        Kind(name="redis-kill", hurt=kill_redis, full=20, small=0),
        Kind(name="redis-slow", hurt=slow_redis, full=10, small=0),
        Kind(name="redis-emptied-quiet", hurt=scenarios.empty_redis_in_quiet, full=3, small=0),
        Kind(name="kafka-kill-leader", hurt=kill_leader, full=20, small=1, hurts_kafka=True),
        Kind(name="kafka-away", hurt=kafka_away(away_s), full=3, small=0, hurts_kafka=True),
        Kind(name="kafka-topic-deleted", hurt=delete_topic, full=2, small=0, hurts_kafka=True),
        Kind(
            name="kafka-away-revoking",
            hurt=scenarios.revoke_without_kafka(away_revoking_s),
            full=1,
            small=1,
            hurts_kafka=True,
        ),
        Kind(name="mongodb-restored", hurt=restoring.restore_older, full=1, small=0, hurts_kafka=True),
    ]
    return {kind.name: kind for kind in found}
