"""The log in a MongoDB replica set: the record of a cluster."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar

from eventlog import mongo_reads as reads
from eventlog.in_flight import InFlight
from eventlog.mongo_driver import MongoDriver, MongoTimeouts
from eventlog.mongo_errors import MongoFailure, named, write_failure
from eventlog.mongo_schema import (
    LOG,
    PROBE_DOCUMENT,
    LogDocument,
    check_stays,
    prepare,
    remember_former_log_ids,
)
from eventlog.mongo_server import MongoPlace, connected, opening_failure
from eventlog.mongo_writes import MongoWriter
from eventlog.port import (
    READ_COMMITS_MAX,
    LogUnavailableError,
    OutcomeUnknownError,
    ShardOutcome,
    check_batches,
)
from eventlog.record import Commit, Head

__all__ = ["MongoLog", "MongoTimeouts"]

R = TypeVar("R")


class MongoLog:
    """One document per commit; one ordered insert per flush at `w: majority, j: true`; reads at majority.

    Any number of processes may have it open. Who may write a shard is settled by its unique positions alone.
    """

    def __init__(self, driver: MongoDriver, document: LogDocument, *, read_only: bool = False) -> None:
        self._driver = driver
        self.document = document
        """What the database said when it was opened."""
        self._appends = InFlight()
        self._writer = None if read_only else MongoWriter(driver, document.log_id)

    @classmethod
    async def open(
        cls,
        uri: MongoPlace,
        database: str,
        shard_count: int | None = None,
        *,
        cluster_id: str | None = None,
        log_id: str | None = None,
        timeouts: MongoTimeouts | None = None,
        arriving: bool = False,
        **driver_options: Any,
    ) -> MongoLog:
        """Open the log of a database, or create it when `shard_count` is given and there is none (`cluster_id` and `log_id` name a
        new log; a given `cluster_id` must be that of an old one). `uri` may be a driver, whose client is shared.

        `arriving` is for who moves a log here: nobody else opens one that is not whole. `driver_options`: see `MongoDriver.connect`.
        Raises LogMismatchError (the URI, the server, the user or the database will not do, and what to do about it),
        LogUnavailableError (no answer; try again).
        """
        driver = await connected(uri, database, timeouts, driver_options)
        making = prepare(driver, shard_count, cluster_id, log_id, arriving=arriving)
        return await cls._opened(driver, making, read_only=False)

    @classmethod
    async def open_read_only(
        cls, uri: MongoPlace, database: str, *, timeouts: MongoTimeouts | None = None, **driver_options: Any
    ) -> MongoLog:
        """Open an existing log for reading only, whoever serves it; `append` raises LogUnavailableError. Raises as `open`."""
        driver = await connected(uri, database, timeouts, driver_options)
        return await cls._opened(driver, prepare(driver, None, None, None), read_only=True)

    @classmethod
    async def _opened(
        cls, driver: MongoDriver, making: Awaitable[LogDocument], *, read_only: bool
    ) -> MongoLog:
        database = driver.database
        try:
            log = cls(driver, await making, read_only=read_only)
            if not read_only:
                check_stays(driver, log.document)
                await log.probe()
        except OutcomeUnknownError as error:
            await driver.close()
            raise LogUnavailableError(f"database {database} cannot be written: {error}") from error
        except MongoFailure as error:
            await driver.close()
            raise opening_failure(error) from error
        except BaseException:
            await driver.close()
            raise
        return log

    @property
    def log_id(self) -> str:
        """From the log's document."""
        return self.document.log_id

    @property
    def shard_count(self) -> int:
        """From the log's document."""
        return self.document.shard_count

    @property
    def cluster_id(self) -> str:
        """Which cluster this database belongs to; a restore keeps it."""
        return self.document.cluster_id

    @property
    def former_log_ids(self) -> Sequence[str]:
        """The ids under which the frames of a restored log were written, oldest first."""
        return self.document.former_log_ids

    async def remember_former_log_ids(self, log_ids: Sequence[str]) -> None:
        """Say whose frames it holds, oldest first, after it was filled from elsewhere. Raises as `heads`."""
        await _read(remember_former_log_ids(self._driver, log_ids))

    async def append(self, batches: Mapping[int, Sequence[Commit]]) -> Mapping[int, ShardOutcome]:
        """See the port. Shards behind a refused document are not tried. Also raises CommitTooLargeError, a ValueError."""
        check_batches(batches, self.shard_count)
        if self._writer is None:
            raise LogUnavailableError("the log is open for reading only")
        if self._appends.closed:
            raise LogUnavailableError("the log is closed")
        with self._appends:
            return await self._writer.append(batches)

    async def read_shard(self, shard: int, after_position: int, limit: int) -> Sequence[Commit]:
        """See the port."""
        return await _read(reads.shard_page(self._driver, shard, after_position, _bounded(limit)))

    async def read_stream(self, shard: int, stream: str, after_version: int, limit: int) -> Sequence[Commit]:
        """See the port."""
        return await _read(reads.stream_page(self._driver, shard, stream, after_version, _bounded(limit)))

    async def read_stream_tail(self, shard: int, stream: str, limit: int) -> Sequence[Commit]:
        """See the port."""
        return await _read(reads.stream_tail(self._driver, shard, stream, _bounded(limit)))

    async def find_keys(self, keys: Sequence[tuple[int, bytes]]) -> Mapping[tuple[int, bytes], Commit]:
        """See the port."""
        return await _read(reads.by_keys(self._driver, keys)) if keys else {}

    async def heads(self) -> Mapping[int, Head]:
        """See the port."""
        return await _read(reads.heads(self._driver, self.shard_count))

    async def probe(self) -> None:
        """See the port. A document beside the record is written at the record's own write concern."""
        if self._writer is None:
            raise LogUnavailableError("the log is open for reading only")
        update = {"$set": {"at": time.time_ns() // 1_000_000}}
        try:
            await self._driver.update_one(LOG, PROBE_DOCUMENT, update, upsert=True)
        except MongoFailure as error:
            raise write_failure(error, begun=False) from error

    async def close(self) -> None:
        """See the port."""
        await self._appends.close()
        await self._driver.close()


async def _read(call: Awaitable[R]) -> R:
    try:
        return await call
    except MongoFailure as error:
        raise LogUnavailableError(named(error)) from error


def _bounded(limit: int) -> int:
    return max(0, min(limit, READ_COMMITS_MAX))
