"""Snapshots on MongoDB: whatever is wrong with one, it is as if it were not there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from eventlog.mongo_snapshots import MongoSnapshots
from eventlog.port import Log
from eventlog.snapshots import Snapshot
from tests.contract.test_snapshots import PARTS, STREAM, log_with

pytestmark = pytest.mark.services

Place = tuple[str, str]


@pytest.fixture
def place(mongodb_uri: str, mongodb_database: str) -> Place:
    """(URI, database)"""
    return mongodb_uri, mongodb_database


@pytest.fixture
def bare(place: Place) -> Any:
    """The database itself."""
    with MongoClient[dict[str, Any]](place[0]) as client:
        yield client[place[1]]


@pytest.fixture
async def saved(place: Place) -> AsyncIterator[MongoSnapshots]:
    """A store with one good snapshot."""
    store = await MongoSnapshots.open(*place, await log_with(10))
    await store.save(STREAM, 10, 1, 1, PARTS)
    yield store
    await store.close()


async def loaded(place: Place, log: Log) -> Snapshot | None:
    """What another process finds."""
    store = await MongoSnapshots.open(*place, log)
    try:
        return await store.load(STREAM)
    finally:
        await store.close()


async def test_another_process_finds_the_snapshot(saved: MongoSnapshots, place: Place) -> None:
    assert await loaded(place, await log_with(10)) == Snapshot(STREAM, 10, 1, 1, PARTS)


@pytest.mark.parametrize("version", [0, 9])
async def test_a_snapshot_beyond_the_log_is_discarded(
    saved: MongoSnapshots, place: Place, version: int
) -> None:
    assert await loaded(place, await log_with(version)) is None


async def test_a_snapshot_of_another_log_is_discarded(saved: MongoSnapshots, place: Place) -> None:
    assert await loaded(place, await log_with(10, "restored")) is None


Damage = Callable[[Database[dict[str, Any]]], object]


@pytest.mark.parametrize(
    "damage",
    [
        lambda db: db.snapshot_parts.update_one({"name": "head"}, {"$set": {"data": b"\0"}}),
        lambda db: db.snapshot_parts.update_one({"name": "head"}, {"$set": {"name": "other"}}),
        lambda db: db.snapshot_parts.delete_one({"name": "empty"}),
        lambda db: db.snapshots.update_one({}, {"$inc": {"version": -1}}),
        lambda db: db.snapshots.update_one({}, {"$set": {"schema": 7}}),
    ],
)
async def test_a_damaged_snapshot_is_discarded(saved: MongoSnapshots, bare: Any, damage: Damage) -> None:
    damage(bare)
    assert await saved.load(STREAM) is None


async def test_only_parts_that_changed_are_written(saved: MongoSnapshots, bare: Any) -> None:
    parts = {f"members/{n}": b"%d" % n for n in range(50)}
    await saved.save(STREAM, 4, 3, 1, parts)
    bare.snapshot_parts.update_many({}, {"$set": {"seen": True}})
    await saved.save(STREAM, 5, 4, 1, parts | {"members/7": b"changed"})
    # A part that is written again is a new document.
    assert [part["name"] for part in bare.snapshot_parts.find({"seen": None})] == ["members/7"]


async def test_a_closed_store_has_nothing_and_fails_nobody(saved: MongoSnapshots) -> None:
    await saved.close()
    await saved.save(STREAM, 11, 3, 1, PARTS)
    assert await saved.load(STREAM) is None
