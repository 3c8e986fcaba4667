"""The contract of the snapshot store: what is loaded can be trusted, everything else is as if it were not
there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from domain.streams import shard_of
from eventlog.memory import MemoryLog
from eventlog.mongo_snapshots import MongoSnapshots
from eventlog.port import Log
from eventlog.snapshots import MemorySnapshots, Snapshot, Snapshots, SqliteSnapshots
from tests.contract.log_samples import LOG_ID, SHARD_COUNT, ShardMaker, append_one

STREAM = "g_one"
PARTS = {"head": b"state", "members/0": bytes(range(256)), "empty": b""}


async def log_with(version: int, log_id: str = LOG_ID) -> Log:
    """A log whose stream has so many events."""
    log = MemoryLog(log_id, SHARD_COUNT)
    if version:
        maker = ShardMaker(shard_of(STREAM, SHARD_COUNT), log_id)
        await append_one(log, maker.make(STREAM, count=version))
    return log


Opener = Callable[[Log], Awaitable[Snapshots]]


@pytest.fixture(params=["memory", "sqlite", pytest.param("mongodb", marks=pytest.mark.services)])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the store of the test for a log."""

    async def open_memory(log: Log) -> Snapshots:
        return MemorySnapshots()

    async def open_sqlite(log: Log) -> Snapshots:
        return await SqliteSnapshots.open(tmp_path / "snapshots.db", log)

    async def open_mongodb(log: Log) -> Snapshots:
        return await MongoSnapshots.open(uri, database, log)

    if request.param == "mongodb":
        uri: str = request.getfixturevalue("mongodb_uri")
        database: str = request.getfixturevalue("mongodb_database")
        return open_mongodb
    return open_memory if request.param == "memory" else open_sqlite


@pytest.fixture
async def snapshots(opener: Opener) -> AsyncIterator[Snapshots]:
    """An empty store over a log with 10 events of the stream."""
    store = await opener(await log_with(10))
    yield store
    await store.close()


async def test_the_newest_snapshot_of_a_stream_is_loaded(snapshots: Snapshots) -> None:
    assert await snapshots.load(STREAM) is None
    await snapshots.save(STREAM, 4, 3, 1, PARTS)
    assert await snapshots.load(STREAM) == Snapshot(STREAM, 4, 3, 1, PARTS)
    newer = {"head": b"later", "members/0": PARTS["members/0"]}
    await snapshots.save(STREAM, 7, 5, 1, newer)
    assert await snapshots.load(STREAM) == Snapshot(STREAM, 7, 5, 1, newer)
    assert await snapshots.load("g_two") is None


async def test_a_snapshot_of_another_schema_is_not_there(snapshots: Snapshots) -> None:
    await snapshots.save(STREAM, 4, 3, 2, PARTS)
    assert await snapshots.load(STREAM, 1) is None
    assert await snapshots.load(STREAM, 2) is not None


async def saved(path: Path) -> None:
    """A store with one good snapshot, closed."""
    store = await SqliteSnapshots.open(path, await log_with(10))
    await store.save(STREAM, 10, 1, 1, PARTS)
    await store.close()


async def loaded(path: Path, log: Log) -> Snapshot | None:
    """What a new process finds."""
    store = await SqliteSnapshots.open(path, log)
    try:
        return await store.load(STREAM)
    finally:
        await store.close()


async def test_a_snapshot_survives_a_restart(tmp_path: Path) -> None:
    await saved(tmp_path / "s.db")
    assert await loaded(tmp_path / "s.db", await log_with(10)) == Snapshot(STREAM, 10, 1, 1, PARTS)


@pytest.mark.parametrize("version", [0, 9])
async def test_a_snapshot_beyond_the_log_is_discarded(tmp_path: Path, version: int) -> None:
    await saved(tmp_path / "s.db")
    assert await loaded(tmp_path / "s.db", await log_with(version)) is None


async def test_a_snapshot_of_another_log_is_discarded(tmp_path: Path) -> None:
    await saved(tmp_path / "s.db")
    assert await loaded(tmp_path / "s.db", await log_with(10, "restored")) is None


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE parts SET data = x'00' WHERE name = 'head'",
        "UPDATE parts SET data = x'00', digest = x'00' WHERE name = 'head'",
        "UPDATE parts SET name = 'other' WHERE name = 'head'",
        "DELETE FROM parts WHERE name = 'empty'",
        "UPDATE snapshots SET version = version - 1",
        "UPDATE snapshots SET schema = 7",
    ],
)
async def test_a_damaged_snapshot_is_discarded(tmp_path: Path, damage: str) -> None:
    await saved(tmp_path / "s.db")
    db = sqlite3.connect(tmp_path / "s.db")
    db.execute(damage)
    db.commit()
    db.close()
    assert await loaded(tmp_path / "s.db", await log_with(10)) is None


async def test_only_parts_that_changed_are_written(tmp_path: Path) -> None:
    store = await SqliteSnapshots.open(tmp_path / "s.db", await log_with(10))
    parts = {f"members/{n}": b"%d" % n for n in range(50)}
    await store.save(STREAM, 4, 3, 1, parts)
    await store.save(STREAM, 5, 4, 1, parts | {"members/7": b"changed"})
    await store.close()
    db = sqlite3.connect(tmp_path / "s.db")
    # REPLACE gives a rewritten row a new rowid, so the rowids tell what was written.
    rewritten = [name for (name,) in db.execute("SELECT name FROM parts WHERE rowid > 50")]
    db.close()
    assert rewritten == ["members/7"]


async def test_a_file_that_is_no_database_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(b"no database " * 1000)
    store = await SqliteSnapshots.open(tmp_path / "s.db", await log_with(10))
    await store.save(STREAM, 4, 3, 1, PARTS)
    assert await store.load(STREAM) is not None
    await store.close()


async def test_a_closed_store_has_nothing_and_fails_nobody(tmp_path: Path) -> None:
    store = await SqliteSnapshots.open(tmp_path / "s.db", await log_with(10))
    await store.close()
    await store.save(STREAM, 4, 3, 1, PARTS)
    assert await store.load(STREAM) is None
