"""The carrier as the command line needs it: which log and which topic are meant, opened for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import msgspec
from pymongo.errors import InvalidURI
from pymongo.uri_parser import parse_uri

from eventlog.carrier import TopicMismatchError
from eventlog.kafka_admin import KafkaAdmin
from eventlog.kafka_driver import KafkaReader, KafkaSender, KafkaSettings, reader
from eventlog.kafka_topic import ensure_topic, partitions_for, topic_name
from eventlog.mongo import MongoLog
from eventlog.sqlite import LogMismatchError, SqliteLog
from eventlog.sqlite_schema import remember_former_log_ids
from ops.backup import settle
from ops.folder import DataFolder, FolderLock, remove_database
from ops.from_kafka import RestoredLog, restored_from_kafka
from ops.settings import Settings, SettingsError


class Where(msgspec.Struct, frozen=True):
    """Which log is meant: that of a data folder, or that of a database."""

    data: Path | None = None
    mongodb_uri: str | None = None
    mongodb_database: str = ""


class Report(Protocol):
    """(done, altogether)"""

    def __call__(self, done: int, total: int, /) -> None:
        """Some more is done."""
        ...


def where_of(settings: Settings, data: Path | None, mongodb: str | None) -> Where:
    """The log that options and settings name; a database before a folder. Raises SettingsError."""
    if data is not None and mongodb is not None:
        raise SettingsError("give --data or --mongodb, not both")
    uri = mongodb if mongodb is not None or data is not None else settings.cluster.mongodb_uri
    if uri is None:
        return Where(data=data if data is not None else settings.data)
    try:
        named = parse_uri(uri)["database"]
    except InvalidURI as error:
        raise SettingsError(f"--mongodb: {error}") from None
    return Where(mongodb_uri=uri, mongodb_database=named or settings.cluster.mongodb_database)


def kafka_of(settings: Settings, bootstrap: str | None) -> KafkaSettings:
    """How Kafka is reached. Raises SettingsError."""
    found = bootstrap or settings.cluster.kafka_bootstrap
    if found is None:
        raise SettingsError("no Kafka is named: give --kafka HOST:PORT, or set cluster.kafka_bootstrap")
    return KafkaSettings(bootstrap=found)


@asynccontextmanager
async def open_log(where: Where) -> AsyncIterator[MongoLog | SqliteLog]:
    """The log, for reading only. Raises LogMismatchError, LogUnavailableError."""
    log: MongoLog | SqliteLog
    if where.mongodb_uri is not None:
        log = await MongoLog.open_read_only(where.mongodb_uri, where.mongodb_database)
    else:
        assert where.data is not None
        log = await SqliteLog.open_read_only(DataFolder(where.data).log)
    try:
        yield log
    finally:
        await log.close()


@asynccontextmanager
async def open_topic(kafka: KafkaSettings, cluster_id: str, shard_count: int) -> AsyncIterator[KafkaReader]:
    """The topic, for reading. Raises TopicMismatchError, CarrierUnavailableError."""
    name = topic_name(cluster_id)
    async with KafkaAdmin.connected(kafka) as admin:
        facts = await admin.describe(name)
    if facts is None:
        raise TopicMismatchError(
            f"there is no topic {name} at {kafka.bootstrap}: mend --kafka or --cluster-id, or fill it with "
            "`minutebook repair kafka`"
        )
    partitions_for(shard_count, facts.partitions)
    async with reader(kafka, name, facts.partitions) as found:
        yield found


@asynccontextmanager
async def open_sender(
    kafka: KafkaSettings, cluster_id: str, shard_count: int, wanted: int | None
) -> AsyncIterator[KafkaSender]:
    """A sender to the topic, which is made if it is not there. Raises TopicMismatchError, CarrierUnavailableError."""
    name = topic_name(cluster_id)
    async with KafkaAdmin.connected(kafka) as admin:
        facts = await admin.describe(name)
    partitions = partitions_for(
        shard_count, wanted if facts is None or wanted is not None else facts.partitions
    )
    await ensure_topic(kafka, name, partitions)
    sender = KafkaSender(kafka, name, partitions)
    await sender.start()
    try:
        yield sender
    finally:
        await sender.close()


async def restore_log(
    kafka: KafkaSettings, cluster_id: str, shard_count: int, where: Where, report: Report | None = None
) -> RestoredLog:
    """Make a new log from the topic, in a folder or a database that holds none, and remember whose frames it holds.

    Raises NotRestorableError, LogMismatchError, LogUnavailableError, FolderInUseError, TopicMismatchError,
    CarrierUnavailableError.
    """
    async with open_topic(kafka, cluster_id, shard_count) as topic:
        if where.mongodb_uri is not None:
            mongo = await MongoLog.open(
                where.mongodb_uri, where.mongodb_database, shard_count, cluster_id=cluster_id
            )
            return await _fill_mongo(topic, mongo, report)
        assert where.data is not None
        return await _fill_folder(topic, DataFolder(where.data), shard_count, report)


async def _fill_mongo(topic: KafkaReader, log: MongoLog, report: Report | None) -> RestoredLog:
    try:
        restored = await restored_from_kafka(topic, topic.partitions, log, report)
        await log.remember_former_log_ids(restored.former_log_ids)
    finally:
        await log.close()
    return restored


async def _fill_folder(
    topic: KafkaReader, folder: DataFolder, shard_count: int, report: Report | None
) -> RestoredLog:
    if folder.log.exists():
        raise LogMismatchError(
            f"there is a log in {folder.root} already; a restore needs a folder without one"
        )
    folder.prepare()
    lock = FolderLock(folder)
    lock.acquire()
    try:
        # It gets its name when it is whole, so that an interruption leaves no half log that a server would open.
        partial = folder.log.with_name("log.db.restoring")
        remove_database(partial)
        log = await SqliteLog.open(partial, shard_count)
        try:
            restored = await restored_from_kafka(topic, topic.partitions, log, report)
        except BaseException:
            await log.close()
            remove_database(partial)
            raise
        await log.close()
        remember_former_log_ids(partial, restored.former_log_ids)
        settle(partial)
        partial.replace(folder.log)
    finally:
        lock.release()
    return restored
