"""The topic: what it must be, made at the first start and checked at every one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping, Sequence

import msgspec
import structlog

from eventlog.carrier import CarriedRecord, CarrierUnavailableError, TopicMismatchError
from eventlog.kafka_admin import KafkaAdmin, TopicExistsError, TopicFacts
from eventlog.kafka_driver import reader
from eventlog.kafka_settings import BATCH_BYTES_MAX, KafkaSettings
from eventlog.record import FRAME_BYTES_MAX

_log = structlog.get_logger(__name__)

TOPIC_PREFIX = "minutebook"
RECORD_ROOM_BYTES = 64 * 1024
"""Key, headers and the batch around them, beside the frame."""
MESSAGE_BYTES_MAX = FRAME_BYTES_MAX + RECORD_ROOM_BYTES
"""The largest batch that the topic takes; smaller ones are closed at `BATCH_BYTES_MAX`."""
REPLICAS_WANTED = 3
PARTITIONS_MAX = 16
"""Without another wish. A partition costs files and memory on every broker, and its records of a flush are a batch of their own to everybody:
with 64 of them, batches of one at 1,000 commits/s. As many processes of a group can share the work."""
FOR_EVER = "-1"
ANY_TIME = str(2**63 - 1)
TOPIC_NAME_MAX = 249
SETTLE_TRIES = 100
SETTLE_PAUSE_S = 0.1

assert BATCH_BYTES_MAX <= MESSAGE_BYTES_MAX


class TopicSpec(msgspec.Struct, frozen=True):
    """What a topic must be."""

    name: str
    partitions: int
    replicas: int
    configs: Mapping[str, str]


def topic_name(cluster_id: str, prefix: str = TOPIC_PREFIX) -> str:
    """The topic of a cluster's commits. Raises ValueError for an id that is no part of a topic's name."""
    name = f"{prefix}.{cluster_id}.commits"
    if not re.fullmatch(r"[A-Za-z0-9_-]+", cluster_id) or len(name) > TOPIC_NAME_MAX:
        raise ValueError(f"{cluster_id!r} is no cluster id: letters, digits, - and _ only")
    return name


def partitions_for(shard_count: int, wanted: int | None = None) -> int:
    """The number of partitions: the one wanted, else the largest divisor of the shards up to PARTITIONS_MAX.

    Raises TopicMismatchError for one that does not divide the number of shards: two shards of a partition would part.
    """
    if wanted is None:
        return next(n for n in range(min(shard_count, PARTITIONS_MAX), 0, -1) if shard_count % n == 0)
    if wanted < 1 or shard_count % wanted:
        raise TopicMismatchError(
            f"{wanted} partitions cannot carry {shard_count} shards: set cluster.kafka_partitions to a divisor of {shard_count}"
        )
    return wanted


def topic_spec(name: str, partitions: int, brokers: int) -> TopicSpec:
    """What the topic must be on so many brokers: three copies of which two must answer, as far as there are brokers."""
    replicas = min(REPLICAS_WANTED, brokers)
    return TopicSpec(
        name,
        partitions,
        replicas,
        {
            # A lost event store is rebuilt from here, so nothing is ever thrown away, neither by age, size nor key.
            "retention.ms": FOR_EVER,
            "retention.bytes": FOR_EVER,
            "cleanup.policy": "delete",
            "min.insync.replicas": _in_sync(replicas),
            "unclean.leader.election.enable": "false",
            "max.message.bytes": str(MESSAGE_BYTES_MAX),
            # Records carry the times of their commits; a clock that once went wrong must not stop the line.
            "message.timestamp.type": "CreateTime",
            "message.timestamp.before.max.ms": ANY_TIME,
            "message.timestamp.after.max.ms": ANY_TIME,
        },
    )


async def ensure_topic(settings: KafkaSettings, name: str, partitions: int) -> bool:
    """Make the topic if it is not there, check it if it is; whether it was made.

    Raises TopicMismatchError, CarrierUnavailableError.
    """
    async with KafkaAdmin.connected(settings) as admin:
        await admin.check_version()
        found = await admin.describe(name)
        spec = topic_spec(name, partitions, await admin.brokers())
        is_new = False
        if found is None:
            is_new = await _make(admin, spec)
            found = await _settled(admin, name)
        check_topic(found, spec)
    return is_new


async def look_at_topic(
    settings: KafkaSettings, name: str, partitions: int, log_ids: Collection[str]
) -> Sequence[CarriedRecord]:
    """Check the topic if it is there, for who does not make it; its newest records. Raises as `check_owner`."""
    async with KafkaAdmin.connected(settings) as admin:
        await admin.check_version()
        found = await admin.describe(name)
        if found is None:
            return ()
        check_topic(found, topic_spec(name, partitions, await admin.brokers()))
    return await check_owner(settings, name, partitions, log_ids)


async def _make(admin: KafkaAdmin, spec: TopicSpec) -> bool:
    """Whether it was made here; somebody else may have started at the same moment."""
    try:
        await admin.create(spec.name, spec.partitions, spec.replicas, spec.configs)
    except TopicExistsError:
        return False
    return True


async def _settled(admin: KafkaAdmin, name: str) -> TopicFacts:
    """The topic, once the broker that is asked knows of it."""
    for _ in range(SETTLE_TRIES):
        found = await admin.describe(name)
        if found is not None and found.partitions:
            return found
        await asyncio.sleep(SETTLE_PAUSE_S)
    raise CarrierUnavailableError(f"Kafka does not tell of the topic {name} that was just made; try again")


def check_topic(found: TopicFacts, spec: TopicSpec) -> None:
    """Raises TopicMismatchError, one line with what to do, if the topic is not as it must be.

    Fewer copies than brokers allow are a choice; what could lose, refuse or misplace a record is an error.
    """
    if found.partitions != spec.partitions:
        raise TopicMismatchError(
            f"the topic {spec.name} has {found.partitions} partitions, not {spec.partitions}: set cluster.kafka_partitions "
            f"to {found.partitions} if that divides the shards, or delete the topic and start again (it is refilled from the log)"
        )
    if found.replicas < spec.replicas:
        _log.warning(
            "a topic has fewer copies than it could",
            topic=spec.name,
            copies=found.replicas,
            possible=spec.replicas,
        )
    configs = {**spec.configs, "min.insync.replicas": _in_sync(found.replicas)}
    wrong = {
        key: wanted
        for key, wanted in configs.items()
        if (is_value := found.configs.get(key)) is not None and not _serves(key, is_value, wanted)
    }
    if wrong:
        listed = ", ".join(f"{key} is {found.configs[key]}" for key in wrong)
        added = ",".join(f"{key}={value}" for key, value in wrong.items())
        raise TopicMismatchError(
            f"the topic {spec.name} is set otherwise than it must be ({listed}): run kafka-configs.sh --bootstrap-server … "
            f"--alter --entity-type topics --entity-name {spec.name} --add-config {added}"
        )


def _in_sync(replicas: int) -> str:
    return str(max(1, replicas - 1))


def _serves(key: str, found: str, wanted: str) -> bool:
    if key in ("max.message.bytes", "min.insync.replicas"):
        return int(found) >= int(wanted)
    return found == wanted


async def check_owner(
    settings: KafkaSettings, name: str, partitions: int, log_ids: Collection[str]
) -> Sequence[CarriedRecord]:
    """The newest record of each partition. Raises TopicMismatchError if one is of a log that is none of these: another cluster uses
    the name.

    `log_ids`: the log's own and its former ones. Also raises CarrierUnavailableError.
    """
    async with reader(settings, name, partitions) as topic:
        newest = await topic.newest()
    for record in newest:
        told = dict(record.headers).get("log_id", b"").decode(errors="replace")
        if told not in log_ids:
            raise TopicMismatchError(
                f"the topic {name} carries the log {told!r}, which this cluster never had: set cluster.cluster_id to a "
                "name of its own, or delete the topic if it is of a cluster that is no more"
            )
    return newest
