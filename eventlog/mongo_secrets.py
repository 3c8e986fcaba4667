"""Secrets in a MongoDB database of their own, with a user and a backup of its own.

Calls for one subject happen in the order in which they were made, others side by side. What was deleted is gone from the collection;
MongoDB's own log (the oplog) and its files hold the bytes until they are used again, so those belong on an encrypted disk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from eventlog.mongo_driver import MongoDriver, MongoTimeouts
from eventlog.mongo_errors import MongoFailure, named
from eventlog.mongo_server import MongoPlace, connected, opening_failure
from eventlog.port import LogMismatchError, LogUnavailableError
from eventlog.secrets import LIST_MAX, SecretsUnavailableError, check_value

R = TypeVar("R")

SECRETS = "secrets"
PROBE = "probe"
INDEX = "secrets_place"
PLACE = ("kind", "subject", "name")
SCHEMA_VERSION = 1
LINES = 64
"""Queues of calls; a subject's calls stand in one of them."""
RACES_MAX = 16
"""How often `put_if_absent` tries again when a value comes and goes between its two steps."""


class MongoSecrets:
    """The adapter of the secrets port for a cluster: every process sees the same secrets."""

    def __init__(self, driver: MongoDriver) -> None:
        self._driver = driver
        self._lines = [asyncio.Lock() for _ in range(LINES)]

    @classmethod
    async def open(
        cls, uri: MongoPlace, database: str, *, timeouts: MongoTimeouts | None = None, **driver_options: Any
    ) -> MongoSecrets:
        """Open or create the collection. The database must not be that of the log: its backup goes elsewhere.

        Raises SecretsUnavailableError with what is wrong.
        """
        try:
            driver = await connected(uri, database, timeouts, driver_options)
        except (LogMismatchError, LogUnavailableError) as error:
            raise SecretsUnavailableError(str(error)) from error
        try:
            await driver.create_index(SECRETS, INDEX, PLACE, unique=True)
            # A write that a majority has: every later read shows what was answered anywhere before it.
            change = {
                "$set": {"at": time.time_ns() // 1_000_000},
                "$setOnInsert": {"schema_version": SCHEMA_VERSION},
            }
            await driver.upsert(PROBE, {"_id": PROBE}, change)
            await _check_schema(driver)
        except MongoFailure as error:
            await driver.close()
            raise SecretsUnavailableError(str(opening_failure(error))) from error
        except BaseException:
            await driver.close()
            raise
        return cls(driver)

    async def get(self, kind: str, subject: str, name: str) -> bytes | None:
        """See the port."""
        async with self._line(kind, subject):
            return await self._value(kind, subject, name)

    async def put(self, kind: str, subject: str, name: str, value: bytes) -> None:
        """See the port."""
        check_value(value)
        async with self._line(kind, subject):
            update = {"$set": {"value": value}}
            await _surely(self._driver.upsert(SECRETS, _place(kind, subject, name), update))

    async def put_if_absent(self, kind: str, subject: str, name: str, value: bytes) -> bytes:
        """See the port."""
        check_value(value)
        async with self._line(kind, subject):
            for _ in range(RACES_MAX):
                if await self._set_once(kind, subject, name, value):
                    return value
                standing = await self._value(kind, subject, name)
                if standing is not None:
                    return standing
        raise SecretsUnavailableError("a secret that is there cannot be read yet; try again")

    async def compare_and_swap(
        self, kind: str, subject: str, name: str, expected: bytes | None, value: bytes | None
    ) -> bool:
        """See the port."""
        check_value(value)
        async with self._line(kind, subject):
            if expected is None:
                return await self._set_if_absent(kind, subject, name, value)
            place = {**_place(kind, subject, name), "value": expected}
            if value is None:
                return await _surely(self._driver.delete_one(SECRETS, place)) == 1
            result = await _surely(self._driver.update_one(SECRETS, place, {"$set": {"value": value}}))
            return bool(result.matched_count == 1)

    async def delete(self, kind: str, subject: str, name: str) -> bool:
        """See the port."""
        async with self._line(kind, subject):
            return await _surely(self._driver.delete_one(SECRETS, _place(kind, subject, name))) == 1

    async def list(
        self, kind: str, subject: str | None = None, after: tuple[str, str] = ("", ""), limit: int = LIST_MAX
    ) -> Mapping[tuple[str, str], bytes]:
        """See the port."""
        filter_: dict[str, Any] = {"kind": kind}
        if subject is not None:
            filter_["subject"] = subject
        filter_["$or"] = [
            {"subject": {"$gt": after[0]}},
            {"subject": after[0], "name": {"$gt": after[1]}},
        ]
        async with self._line(kind, subject):
            found = await _surely(
                self._driver.find(
                    SECRETS, filter_, sort=[(field, 1) for field in PLACE], limit=min(limit, LIST_MAX)
                )
            )
        return {(document["subject"], document["name"]): document["value"] for document in found}

    async def kinds(self) -> Sequence[str]:
        """See the port."""
        kinds: list[str] = []
        first = [("kind", 1)]
        while True:  # As often as there are kinds: each step is a probe of the index.
            behind = {"kind": {"$gt": kinds[-1] if kinds else ""}}
            async with self._line("", None):
                found = await _surely(self._driver.find(SECRETS, behind, sort=first, limit=1))
            if not found:
                return kinds
            kinds.append(found[0]["kind"])

    async def close(self) -> None:
        """See the port."""
        await self._driver.close()

    async def _value(self, kind: str, subject: str, name: str) -> bytes | None:
        found = await _surely(self._driver.find_one(SECRETS, _place(kind, subject, name)))
        return None if found is None else found["value"]

    async def _set_once(self, kind: str, subject: str, name: str, value: bytes) -> bool:
        update = {"$setOnInsert": {"value": value}}
        return await _surely(self._driver.set_once(SECRETS, _place(kind, subject, name), update))

    async def _set_if_absent(self, kind: str, subject: str, name: str, value: bytes | None) -> bool:
        """`compare_and_swap` that expects nothing. A value that is met must be durable to say no."""
        for _ in range(RACES_MAX):
            if value is not None and await self._set_once(kind, subject, name, value):
                return True
            standing = await self._value(kind, subject, name)
            if value is None or standing is not None:
                return standing is None
        raise SecretsUnavailableError("a secret that is there cannot be read yet; try again")

    @asynccontextmanager
    async def _line(self, kind: str, subject: str | None) -> AsyncIterator[None]:
        """Wait for the earlier calls for this subject; without one, for all earlier calls."""
        lines: Sequence[asyncio.Lock] = self._lines
        if subject is not None:
            number = hash((kind, subject)) % LINES
            lines = lines[number : number + 1]
        async with AsyncExitStack() as held:
            for line in lines:
                await held.enter_async_context(line)
            yield


async def _check_schema(driver: MongoDriver) -> None:
    found = await driver.find_one(PROBE, {"_id": PROBE})
    version = SCHEMA_VERSION if found is None else found.get("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise SecretsUnavailableError(
            f"database {driver.database} has schema version {version}, this program knows {SCHEMA_VERSION}: run the release that"
            " wrote it"
        )


def _place(kind: str, subject: str, name: str) -> dict[str, Any]:
    return {"kind": kind, "subject": subject, "name": name}


async def _surely(call: Awaitable[R]) -> R:
    try:
        return await call
    except MongoFailure as error:
        raise SecretsUnavailableError(named(error)) from error
