"""The stores of a cluster: MongoDB, Kafka and Redis. The only module of the server's that needs the extra `cluster` to be installed."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import structlog

from eventlog.carrier import CarrierUnavailableError, TopicMismatchError
from eventlog.checkpoints import Checkpoint
from eventlog.kafka_branch import check_branch
from eventlog.kafka_driver import KafkaSender
from eventlog.kafka_settings import KafkaSettings
from eventlog.kafka_source import KafkaSource
from eventlog.kafka_topic import check_owner, ensure_topic, look_at_topic, partitions_for, topic_name
from eventlog.mongo import MongoLog
from eventlog.mongo_checkpoints import MongoCheckpoint
from eventlog.mongo_driver import MongoDriver
from eventlog.mongo_errors import MongoFailure
from eventlog.mongo_moving import serving_as
from eventlog.mongo_schema import read_log
from eventlog.mongo_secrets import MongoSecrets
from eventlog.mongo_server import connected, opening_failure
from eventlog.mongo_snapshots import MongoSnapshots
from gateways.redis_driver import FastStore, FastStoreUnavailableError, FastStoreUnfitError
from gateways.redis_limits import RedisLimiter
from gateways.redis_presence import RedisPresence
from ops.roles.nodes import check_nodes
from ops.roles.role import Role
from ops.settings import ClusterModel, Settings, SettingsError
from ops.stores import Carrier, Shared, Stores
from projections.mongo_driver import ViewDatabase
from projections.mongo_shelf import MongoShelf
from projections.redis_fast import RedisFast

_log = structlog.get_logger(__name__)

SECRETS_SUFFIX = "_secrets"
"""Secrets lie in a database of their own: their backup goes elsewhere than that of the log."""
VIEWS_SUFFIX = "_views"
_BOOTSTRAP = re.compile(r"(\[[0-9A-Fa-f:]+\]|[\w.-]+):\d{1,5}(,(\[[0-9A-Fa-f:]+\]|[\w.-]+):\d{1,5})*")
BELLS_PAUSE_S = 1.0
"""Between two tries to hear bells while Redis is away."""


@asynccontextmanager
async def cluster_stores(settings: Settings) -> AsyncIterator[Stores]:
    """MongoDB, Kafka and Redis.

    Raises SettingsError for an address that is missing, and of each server that cannot be used its own error, which says what to do:
    LogMismatchError, LogUnavailableError, SecretsUnavailableError, MongoUnfitError, ViewUnavailableError, FastStoreUnavailableError,
    FastStoreUnfitError, TopicMismatchError. Kafka may be away.
    """
    cluster = settings.cluster
    if settings.roles:
        check_nodes(settings)
    uri = address_of(cluster, "mongodb_uri")
    kafka, redis_url = kafka_settings(cluster), address_of(cluster, "redis_url")
    partitions = partitions_for(settings.shards, cluster.kafka_partitions)
    database = cluster.mongodb_database
    async with AsyncExitStack() as stack:
        # First whatever writes nothing, so that a wrong address leaves nothing behind.
        fast = await FastStore.open(redis_url, f"minutebook:{cluster.cluster_id}")
        stack.push_async_callback(fast.close)
        # One client for all but the views, whose calls block.
        mongodb = await connected(uri, database, None, {"application": serving_as(database)})
        stack.push_async_callback(mongodb.close)
        await check_first_start(
            lambda: _holds_log(mongodb),
            (fast.check_unclaimed, lambda: _check_topic_unused(cluster, kafka, partitions)),
        )
        log = await MongoLog.open(mongodb, database, settings.shards, cluster_id=cluster.cluster_id)
        stack.push_async_callback(log.close)
        secrets = await MongoSecrets.open(mongodb, database + SECRETS_SUFFIX)
        stack.push_async_callback(secrets.close)
        snapshots = await MongoSnapshots.open(mongodb, database, log)
        stack.push_async_callback(snapshots.close)
        views = await asyncio.to_thread(ViewDatabase.connect, uri, database + VIEWS_SUFFIX)
        stack.push_async_callback(asyncio.to_thread, views.close)
        checkpoints = {}
        for name in ("reactions", "relay"):
            checkpoints[name] = await MongoCheckpoint.open(mongodb, database, name, log.log_id)
            stack.push_async_callback(checkpoints[name].close)
        await fast.claim(log.log_id, log.former_log_ids)
        carrier = _carrier(cluster, kafka, partitions, log, checkpoints["relay"])
        if settings.roles and Role.RELAY not in settings.roles:
            await _look(cluster, kafka, partitions, log)
        copies = _fast_views(cluster, redis_url, log.shard_count)
        if copies is not None:
            stack.push_async_callback(asyncio.to_thread, copies.close)
        yield Stores(
            log=log,
            secrets=secrets,
            snapshots=snapshots,
            shelf=MongoShelf(views),
            reactions=checkpoints["reactions"],
            carrier=carrier,
            fast=copies,
            shared=_shared(fast, settings.node_name),
        )


async def check_first_start(
    holds_log: Callable[[], Awaitable[bool]], checks: Sequence[Callable[[], Awaitable[None]]]
) -> None:
    """Before a log is made: nothing else may be another cluster's, or the new log would be in the way of the settings that mend it.

    Raises what the checks raise, unless another process has made the log meanwhile: then what they met may be its work.
    """
    if await holds_log():
        return
    for check in checks:
        try:
            await check()
        except (FastStoreUnfitError, TopicMismatchError):
            if await holds_log():
                return
            raise


async def _holds_log(mongodb: MongoDriver) -> bool:
    try:
        return await read_log(mongodb) is not None
    except MongoFailure as error:
        raise opening_failure(error) from error


async def _check_topic_unused(cluster: ClusterModel, kafka: KafkaSettings, partitions: int) -> None:
    """A topic that is there already must be as it has to be, and carry nothing. Kafka may be away."""
    with suppress(CarrierUnavailableError):  # Whoever relays or reads says so.
        await look_at_topic(kafka, topic_name(cluster.cluster_id), partitions, ())


def _fast_views(cluster: ClusterModel, redis_url: str, shard_count: int) -> RedisFast | None:
    if not cluster.fast_views_mb:
        return None
    bytes_max = cluster.fast_views_mb * 1024 * 1024
    return RedisFast(redis_url, f"minutebook:{cluster.cluster_id}", shard_count, bytes_max=bytes_max)


def _shared(fast: FastStore, node: str) -> Shared:
    async def ring(channel: str, text: str) -> None:
        with suppress(FastStoreUnavailableError):  # Whoever would hear it comes to it by himself, later.
            await fast.ring(channel, text)

    async def hear(channel: str, heard: Callable[[str], None]) -> None:
        while True:
            try:
                async with fast.bells(channel) as bells:
                    async for text in bells:
                        if text is not None:
                            heard(text)
            except FastStoreUnavailableError:
                await asyncio.sleep(BELLS_PAUSE_S)

    return Shared(
        presence=RedisPresence(fast, node),
        share=lambda name, rate: RedisLimiter(fast, name, rate, time.monotonic),
        ring=ring,
        hear=hear,
        counters=fast.counters,
    )


async def _look(cluster: ClusterModel, kafka: KafkaSettings, partitions: int, log: MongoLog) -> None:
    """Who does not make the topic must read the same one all the same. Kafka may be away."""
    topic = topic_name(cluster.cluster_id)
    try:
        newest = await look_at_topic(kafka, topic, partitions, {log.log_id, *log.former_log_ids})
        await check_branch(topic, newest, log)
    except CarrierUnavailableError as error:
        _log.warning("the carrier is away; what is durable comes from the log", error=str(error))


def _carrier(
    cluster: ClusterModel, kafka: KafkaSettings, partitions: int, log: MongoLog, checkpoint: Checkpoint
) -> Carrier:
    topic = topic_name(cluster.cluster_id)

    async def prepare() -> None:
        await ensure_topic(kafka, topic, partitions)
        newest = await check_owner(kafka, topic, partitions, {log.log_id, *log.former_log_ids})
        await check_branch(topic, newest, log)

    return Carrier(
        sender=KafkaSender(kafka, topic, partitions, prepare),
        checkpoint=checkpoint,
        partitions=partitions,
        source=lambda: KafkaSource(kafka, topic, partitions, from_end=True),
        shared_source=lambda group: KafkaSource(kafka, topic, partitions, group=f"{topic}.{group}"),
    )


def kafka_settings(cluster: ClusterModel) -> KafkaSettings:
    """How Kafka is reached. Raises SettingsError."""
    bootstrap = address_of(cluster, "kafka_bootstrap")
    if not _BOOTSTRAP.fullmatch(bootstrap):
        raise SettingsError("cluster.kafka_bootstrap: write host:port, several with commas between them")
    return KafkaSettings(bootstrap=bootstrap)


def address_of(cluster: ClusterModel, name: str) -> str:
    """The address of one of the cluster's servers. Raises SettingsError if it is not set."""
    value: str | None = getattr(cluster, name)
    if value is None:
        raise SettingsError(
            f"a cluster needs cluster.{name}: set MINUTEBOOK_CLUSTER__{name.upper()}, or name no server of a cluster"
        )
    return value
