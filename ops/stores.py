"""Where a server keeps what it keeps: files in its data folder, or the servers of a cluster. Everything after this is the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from commands.reactions import Checkpoint
from eventlog.carrier import Sender, Source
from eventlog.checkpoints import FileCheckpoint
from eventlog.kafka_driver import KafkaSender
from eventlog.kafka_settings import KafkaSettings
from eventlog.kafka_source import KafkaSource
from eventlog.kafka_topic import check_owner, ensure_topic, partitions_for, topic_name
from eventlog.mongo import MongoLog
from eventlog.mongo_checkpoints import MongoCheckpoint
from eventlog.mongo_secrets import MongoSecrets
from eventlog.mongo_snapshots import MongoSnapshots
from eventlog.port import Log
from eventlog.secrets import Secrets
from eventlog.snapshots import Snapshots, SqliteSnapshots
from eventlog.sqlite import SqliteLog
from eventlog.sqlite_secrets import SqliteSecrets
from gateways.redis_driver import FastStore
from ops.folder import DataFolder
from ops.settings import ClusterModel, Settings, SettingsError
from projections.mongo_driver import ViewDatabase
from projections.mongo_shelf import MongoShelf
from projections.shelf import ViewShelf
from projections.sqlite_shelf import SqliteShelf

SECRETS_SUFFIX = "_secrets"
"""Secrets lie in a database of their own: their backup goes elsewhere than that of the log."""
VIEWS_SUFFIX = "_views"


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """How commits reach other processes, where the relay stands, and how they come from the carrier's end on."""

    sender: Sender
    checkpoint: Checkpoint
    partitions: int
    source: Callable[[], Source]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """All stores of a server, open. `carrier` and `fast` are there in a cluster only."""

    log: Log
    secrets: Secrets
    snapshots: Snapshots
    shelf: ViewShelf
    reactions: Checkpoint
    carrier: Carrier | None = None
    fast: FastStore | None = None


@asynccontextmanager
async def embedded_stores(settings: Settings, folder: DataFolder) -> AsyncIterator[Stores]:
    """Files in the data folder. Raises LogMismatchError, LogUnavailableError, SecretsUnavailableError."""
    async with AsyncExitStack() as stack:
        secrets = await SqliteSecrets.open(folder.secrets)
        stack.push_async_callback(secrets.close)
        log = await SqliteLog.open(folder.log, settings.shards)
        stack.push_async_callback(log.close)
        snapshots = await SqliteSnapshots.open(folder.snapshots, log)
        stack.push_async_callback(snapshots.close)
        yield Stores(
            log=log,
            secrets=secrets,
            snapshots=snapshots,
            shelf=SqliteShelf(folder.views),
            reactions=FileCheckpoint(folder.reactions, log.log_id),
        )


@asynccontextmanager
async def cluster_stores(settings: Settings) -> AsyncIterator[Stores]:
    """MongoDB, Kafka and Redis.

    Raises SettingsError for an address that is missing, and of each server that cannot be used its own error, which says what to do:
    LogMismatchError, LogUnavailableError, SecretsUnavailableError, MongoUnfitError, ViewUnavailableError, FastStoreUnavailableError.
    Kafka may be away.
    """
    cluster = settings.cluster
    uri = _needed(cluster, "mongodb_uri")
    bootstrap, redis_url = _needed(cluster, "kafka_bootstrap"), _needed(cluster, "redis_url")
    database = cluster.mongodb_database
    async with AsyncExitStack() as stack:
        log = await MongoLog.open(uri, database, settings.shards, cluster_id=cluster.cluster_id)
        stack.push_async_callback(log.close)
        secrets = await MongoSecrets.open(uri, database + SECRETS_SUFFIX)
        stack.push_async_callback(secrets.close)
        snapshots = await MongoSnapshots.open(uri, database, log)
        stack.push_async_callback(snapshots.close)
        views = await asyncio.to_thread(ViewDatabase.connect, uri, database + VIEWS_SUFFIX)
        stack.push_async_callback(asyncio.to_thread, views.close)
        checkpoints = {}
        for name in ("reactions", "relay"):
            checkpoints[name] = await MongoCheckpoint.open(uri, database, name, log.log_id)
            stack.push_async_callback(checkpoints[name].close)
        fast = await FastStore.open(redis_url, f"minutebook:{cluster.cluster_id}")
        stack.push_async_callback(fast.close)
        yield Stores(
            log=log,
            secrets=secrets,
            snapshots=snapshots,
            shelf=MongoShelf(views),
            reactions=checkpoints["reactions"],
            carrier=_carrier(cluster, bootstrap, log, checkpoints["relay"]),
            fast=fast,
        )


def _carrier(cluster: ClusterModel, bootstrap: str, log: MongoLog, checkpoint: Checkpoint) -> Carrier:
    kafka = KafkaSettings(bootstrap=bootstrap)
    topic = topic_name(cluster.cluster_id)
    partitions = partitions_for(log.shard_count, cluster.kafka_partitions)

    async def prepare() -> None:
        await ensure_topic(kafka, topic, partitions)
        await check_owner(kafka, topic, partitions, {log.log_id, *log.former_log_ids})

    return Carrier(
        sender=KafkaSender(kafka, topic, partitions, prepare),
        checkpoint=checkpoint,
        partitions=partitions,
        source=lambda: KafkaSource(kafka, topic, partitions, from_end=True),
    )


def _needed(cluster: ClusterModel, name: str) -> str:
    value: str | None = getattr(cluster, name)
    if value is None:
        raise SettingsError(
            f"a cluster needs cluster.{name}: set MINUTEBOOK_CLUSTER__{name.upper()}, or name no server of a cluster"
        )
    return value
