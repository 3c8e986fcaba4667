"""The database of the MongoDB log: documents, indexes, and the one document that says which log it is."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from eventlog.mongo_driver import Document, MongoDriver
from eventlog.port import LogMismatchError, LogUnavailableError
from eventlog.record import Commit

SCHEMA_VERSION = 1
POSITION_BITS = 48
_POSITION_MASK = (1 << POSITION_BITS) - 1

COMMITS = "commits"
LOG = "log"
LOG_DOCUMENT = {"_id": "log"}
PROBE_DOCUMENT = {"_id": "probe"}

KEY_INDEX = "commits_key"
STREAM_INDEX = "commits_stream"
INDEXES: Mapping[str, tuple[str, ...]] = {
    KEY_INDEX: ("shard", "key"),
    STREAM_INDEX: ("shard", "stream", "first_version"),
}
"""Unique ones, beside that of `_id`, which is (shard, position). They begin with the shard, so that a shard's documents may lie on one
server of many. In this order: a document that both refuse is then reported by its key.
"""
_PRIMARY = "_id_"
FORMER_IDS_MAX = 1_000
"""Restores that a log remembers."""


class LogDocument(msgspec.Struct, frozen=True):
    """Which log a database holds. `created_at`: milliseconds since 1970 UTC."""

    log_id: str
    shard_count: int
    cluster_id: str
    created_at: int
    former_log_ids: tuple[str, ...] = ()
    """The ids under which the frames of a restored log were written, oldest first."""
    moved_to: str | None = None
    """Where the log went; it is not written here any more."""
    is_arriving: bool = False
    """It is being moved here and not whole yet; nobody may use it."""


def document_id(shard: int, position: int) -> int:
    """The `_id` of a position; position 0 lies before the first one."""
    return shard << POSITION_BITS | position


def document_of(commit: Commit) -> Document:
    """The document of a commit."""
    return {
        "_id": commit.shard << POSITION_BITS | commit.position,
        "shard": commit.shard,
        "epoch": commit.epoch,
        "stream": commit.stream,
        "first_version": commit.first_version,
        "events_count": commit.events_count,
        "first_number": commit.first_number,
        "key": commit.key,
        "payload_digest": commit.payload_digest,
        "at": commit.at,
        "frame": commit.frame,
    }


def commit_of(document: Mapping[str, Any]) -> Commit:
    """The commit of a document."""
    return Commit(
        document["shard"],
        document["_id"] & _POSITION_MASK,
        document["epoch"],
        document["stream"],
        document["first_version"],
        document["first_number"],
        document["key"],
        document["payload_digest"],
        document["at"],
        document["events_count"],
        document["frame"],
    )


async def read_log(driver: MongoDriver) -> LogDocument | None:
    """What the database says it is, None if it says nothing. Raises LogMismatchError for another schema, and the driver's errors."""
    found = await driver.find_one(LOG, LOG_DOCUMENT)
    if found is None:
        return None
    version = found.get("schema_version")
    if version != SCHEMA_VERSION:
        raise LogMismatchError(
            f"database {driver.database} has schema version {version}, this program knows {SCHEMA_VERSION}: run the release"
            " that wrote it"
        )
    try:
        return msgspec.convert(found, LogDocument)
    except msgspec.ValidationError as error:
        raise LogMismatchError(
            f"the document that describes the log in database {driver.database} is damaged: {error}"
        ) from error


async def prepare(
    driver: MongoDriver,
    shard_count: int | None,
    cluster_id: str | None,
    log_id: str | None,
    *,
    arriving: bool = False,
) -> LogDocument:
    """Make the log, or check the one that is there; of two that make it at the same time, one does.

    `arriving`: a new one is only being moved here, and one of which that is known may be opened. Raises LogMismatchError, and the
    driver's errors.
    """
    found = await read_log(driver)
    if found is None:
        if shard_count is None:
            raise LogMismatchError(f"database {driver.database} holds no log")
        if await driver.find_one(COMMITS, {}) is not None:
            raise LogMismatchError(
                f"database {driver.database} holds commits, but nothing says of which log; choose another one"
            )
        created_at = time.time_ns() // 1_000_000
        names = log_id or uuid.uuid4().hex, shard_count, cluster_id or uuid.uuid4().hex
        found = await _create(driver, LogDocument(*names, created_at, is_arriving=arriving))
    if found.is_arriving and not arriving:
        raise LogMismatchError(
            f"the log in database {driver.database} is being moved there and is not whole: run the same"
            " `minutebook move` again, or drop the database"
        )
    _check(driver, found, shard_count, cluster_id)
    await _check_indexes(driver)
    return found


async def _create(driver: MongoDriver, made: LogDocument) -> LogDocument:
    for name, keys in INDEXES.items():
        await driver.create_index(COMMITS, name, keys, unique=True)
    insert = {"$setOnInsert": {"schema_version": SCHEMA_VERSION, **msgspec.to_builtins(made)}}
    await driver.set_once(LOG, LOG_DOCUMENT, insert)
    standing = await read_log(driver)
    if standing is None:
        raise LogUnavailableError(
            f"the log in database {driver.database} was made but does not stand; try again"
        )
    return standing


def _check(driver: MongoDriver, found: LogDocument, shard_count: int | None, cluster_id: str | None) -> None:
    if shard_count is not None and found.shard_count != shard_count:
        raise LogMismatchError(
            f"the log in database {driver.database} was made with {found.shard_count} shards and cannot be"
            f" opened with {shard_count}"
        )
    if cluster_id is not None and found.cluster_id != cluster_id:
        raise LogMismatchError(
            f"database {driver.database} belongs to the cluster {found.cluster_id}, not to {cluster_id}: give each"
            " cluster a database of its own"
        )


def check_stays(driver: MongoDriver, found: LogDocument) -> None:
    """Raises LogMismatchError for a log that was moved away: whoever wrote here would fork it."""
    if found.moved_to is not None:
        raise LogMismatchError(
            f"the log in database {driver.database} was moved to {found.moved_to}: serve that one; this database is only read,"
            " and may be dropped"
        )


async def _check_indexes(driver: MongoDriver) -> None:
    present = await driver.indexes(COMMITS)
    expected = {name: [(key, 1) for key in keys] for name, keys in INDEXES.items()}
    for name, keys in expected.items():
        options = present.get(name)
        if options is None:
            raise LogMismatchError(f"database {driver.database}: index {name} of {COMMITS} is missing")
        others = set(options) - {"v", "key", "unique", "ns"}
        if list(options["key"]) != keys or not options.get("unique") or others:
            raise LogMismatchError(f"database {driver.database}: index {name} of {COMMITS} differs from ours")
    foreign = sorted(present.keys() - expected.keys() - {_PRIMARY})
    if foreign:
        raise LogMismatchError(
            f"database {driver.database}: {COMMITS} has an index that is not ours: {', '.join(foreign)}"
        )


async def renew_log_id(driver: MongoDriver) -> tuple[str, str]:
    """Give a log that nobody serves a new id, as every restore does; (old id, new id).

    Frames keep theirs; what comes after carries the new one, and everything derived from the old log is void. Raises
    LogMismatchError (no log, or somebody else renewed it meanwhile), and the driver's errors.
    """
    found = await read_log(driver)
    if found is None:
        raise LogMismatchError(f"database {driver.database} holds no log")
    renewed = uuid.uuid4().hex
    former = [*found.former_log_ids, found.log_id][-FORMER_IDS_MAX:]
    result = await driver.update_one(
        LOG,
        {**LOG_DOCUMENT, "log_id": found.log_id},
        {"$set": {"log_id": renewed, "former_log_ids": former}},
    )
    if result.matched_count != 1:
        raise LogMismatchError(f"the log in database {driver.database} was given another id meanwhile")
    return found.log_id, renewed


async def remember_former_log_ids(driver: MongoDriver, log_ids: Sequence[str]) -> None:
    """Say under which ids the frames of a log were written that was filled from elsewhere, oldest first.

    Raises LogMismatchError, and the driver's errors.
    """
    former = list(log_ids)[-FORMER_IDS_MAX:]
    result = await driver.update_one(LOG, dict(LOG_DOCUMENT), {"$set": {"former_log_ids": former}})
    if result.matched_count != 1:
        raise LogMismatchError(f"database {driver.database} holds no log")
