"""Checkpoints of relays in MongoDB, shared by shard."""

from __future__ import annotations

import pytest

from eventlog.mongo_checkpoints import MongoCheckpoint

pytestmark = [pytest.mark.services, pytest.mark.slow]


async def test_two_relays_share_a_checkpoint_by_shard(mongodb_uri: str, mongodb_database: str) -> None:
    first = await MongoCheckpoint.open(mongodb_uri, mongodb_database, "relay", "log-a")
    second = await MongoCheckpoint.open(mongodb_uri, mongodb_database, "relay", "log-a")
    other = await MongoCheckpoint.open(mongodb_uri, mongodb_database, "relay", "log-b")
    assert await first.load() == {}
    await first.save({0: 7, 2: 9})
    await second.save({1: 4, 64: 1})
    await second.save({})
    # A topic that is filled again sends the relay back.
    await first.save({0: 0})
    assert await second.load() == {0: 0, 1: 4, 2: 9, 64: 1}
    assert await other.load() == {}
    for checkpoint in (first, second, other):
        await checkpoint.close()
