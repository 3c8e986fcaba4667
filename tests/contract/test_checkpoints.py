"""Checkpoints: what was saved is there again, for the same log only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import pytest

from eventlog.checkpoints import FileCheckpoint
from eventlog.mongo_checkpoints import MongoCheckpoint


class Checkpoint(Protocol):
    """What both are."""

    async def load(self) -> Mapping[int, int]:
        """The positions."""
        ...

    async def save(self, positions: Mapping[int, int]) -> None:
        """Keep them."""
        ...


Opened = Callable[[str], Awaitable[Checkpoint]]


@pytest.fixture(params=["file", pytest.param("mongodb", marks=pytest.mark.services)])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opened]:
    """Opens the checkpoint anew, for a log."""
    async with AsyncExitStack() as stack:

        async def in_file(log_id: str) -> Checkpoint:
            return FileCheckpoint(tmp_path / "reactions.json", log_id)

        async def in_mongodb(log_id: str) -> Checkpoint:
            uri, database = (
                request.getfixturevalue("mongodb_uri"),
                request.getfixturevalue("mongodb_database"),
            )
            checkpoint = await MongoCheckpoint.open(uri, database, "reactions", log_id)
            stack.push_async_callback(checkpoint.close)
            return checkpoint

        yield in_file if request.param == "file" else in_mongodb


async def test_what_was_saved_is_there_again(opened: Opened) -> None:
    first = await opened("log-1")
    assert await first.load() == {}
    await first.save({})
    await first.save({1: 5, 64: 7})
    await first.save({1: 4, 64: 9})
    assert await first.load() == {1: 4, 64: 9}
    assert await (await opened("log-1")).load() == {1: 4, 64: 9}


async def test_another_log_knows_nothing_of_it(opened: Opened) -> None:
    await (await opened("log-1")).save({1: 5, 2: 6})
    second = await opened("log-2")
    assert await second.load() == {}
    await second.save({2: 1})
    assert await second.load() == {2: 1}


@pytest.mark.services
async def test_followers_share_one_by_shards(mongodb_uri: str, mongodb_database: str) -> None:
    one = await MongoCheckpoint.open(mongodb_uri, mongodb_database, "relay", "log")
    other = await MongoCheckpoint.open(mongodb_uri, mongodb_database, "relay", "log")
    await one.save({0: 3})
    await other.save({1: 4})
    assert await one.load() == {0: 3, 1: 4}
    await one.close()
    await other.close()
