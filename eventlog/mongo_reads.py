"""The reading half of the MongoDB log, at read concern majority: only what cannot be rolled back, and never a hole.

Inserts of a shard stand in the server's own log in the order of their positions, and a majority read sees a prefix of that. Raises the
errors of the driver.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eventlog.mongo_driver import MongoDriver
from eventlog.mongo_schema import COMMITS, commit_of, document_id
from eventlog.record import Commit, Head

KEYS_PER_QUERY_MAX = 1_000
IDS_PER_QUERY_MAX = 5_000
HEADS_PER_QUERY_MAX = 100
"""Shards whose heads one command asks for."""

_NEWEST_FIRST = [("first_version", -1)]
_BY_VERSION = [("first_version", 1)]
_BY_POSITION = [("_id", 1)]


async def shard_page(driver: MongoDriver, shard: int, after_position: int, limit: int) -> Sequence[Commit]:
    """Commits of a shard behind a position."""
    bounds = {"$gt": document_id(shard, max(after_position, 0)), "$lt": document_id(shard + 1, 0)}
    found = await driver.find(COMMITS, {"_id": bounds}, sort=_BY_POSITION, limit=limit)
    return [commit_of(document) for document in found]


async def stream_page(
    driver: MongoDriver, shard: int, stream: str, after_version: int, limit: int
) -> Sequence[Commit]:
    """Commits of a stream that reach beyond a version."""
    of_stream = {"shard": shard, "stream": stream}
    start = 0
    if after_version > 0:
        # The commit that holds the next version may begin before it. Asked first: what is appended meanwhile then lies behind `start`.
        before = await driver.find(
            COMMITS,
            {**of_stream, "first_version": {"$lte": after_version + 1}},
            sort=_NEWEST_FIRST,
            limit=1,
            fields=("first_version", "events_count"),
        )
        for document in before:
            start = document["first_version"]
            if start + document["events_count"] <= after_version + 1:
                start += 1
    found = await driver.find(
        COMMITS, {**of_stream, "first_version": {"$gte": start}}, sort=_BY_VERSION, limit=limit
    )
    commits = [commit_of(document) for document in found]
    return [commit for commit in commits if commit.first_version + commit.events_count > after_version + 1]


async def stream_tail(driver: MongoDriver, shard: int, stream: str, limit: int) -> Sequence[Commit]:
    """The newest commits of a stream, ascending."""
    of_stream = {"shard": shard, "stream": stream}
    found = await driver.find(COMMITS, of_stream, sort=_NEWEST_FIRST, limit=limit)
    return [commit_of(document) for document in reversed(found)]


async def stream_version_stands(driver: MongoDriver, commit: Commit) -> bool:
    """Whether a commit with this first version of this stream is there."""
    place = {"shard": commit.shard, "stream": commit.stream, "first_version": commit.first_version}
    return bool(await driver.find(COMMITS, place, limit=1, fields=("_id",)))


async def by_keys(
    driver: MongoDriver, keys: Sequence[tuple[int, bytes]]
) -> Mapping[tuple[int, bytes], Commit]:
    """The commits with these keys: a query per thousand, whose branches use the index of keys."""
    found: dict[tuple[int, bytes], Commit] = {}
    for start in range(0, len(keys), KEYS_PER_QUERY_MAX):
        by_shard: dict[int, set[bytes]] = {}
        for shard, key in keys[start : start + KEYS_PER_QUERY_MAX]:
            by_shard.setdefault(shard, set()).add(key)
        branches = [{"shard": shard, "key": {"$in": list(some)}} for shard, some in by_shard.items()]
        documents = await driver.find(COMMITS, {"$or": branches}, limit=KEYS_PER_QUERY_MAX)
        found.update({(document["shard"], document["key"]): commit_of(document) for document in documents})
    return found


async def at_places(
    driver: MongoDriver, places: Sequence[tuple[int, int]]
) -> Mapping[tuple[int, int], Commit]:
    """The commits at these (shard, position)."""
    found: dict[tuple[int, int], Commit] = {}
    for start in range(0, len(places), IDS_PER_QUERY_MAX):
        ids = [document_id(*place) for place in places[start : start + IDS_PER_QUERY_MAX]]
        documents = await driver.find(COMMITS, {"_id": {"$in": ids}}, limit=len(ids))
        for commit in map(commit_of, documents):
            found[commit.shard, commit.position] = commit
    return found


async def ids_present(driver: MongoDriver, ids: Sequence[int]) -> set[int]:
    """Which of these documents are there."""
    found = await driver.find(COMMITS, {"_id": {"$in": list(ids)}}, limit=len(ids), fields=("_id",))
    return {int(document["_id"]) for document in found}


async def heads(driver: MongoDriver, shard_count: int) -> Mapping[int, Head]:
    """The last commit of every shard: one probe of the primary key each, and one command for very many of them.

    Every process of a cluster looks at the heads once a second.
    """
    found: dict[int, Head] = {}
    shards = range(shard_count + 1)
    for start in range(0, len(shards), HEADS_PER_QUERY_MAX):
        first, *others = [_newest_of(shard) for shard in shards[start : start + HEADS_PER_QUERY_MAX]]
        unions = [{"$unionWith": {"coll": COMMITS, "pipeline": other}} for other in others]
        documents = await driver.aggregate(COMMITS, [*first, *unions], limit=HEADS_PER_QUERY_MAX)
        found.update({document["shard"]: commit_of(document).head for document in documents})
    return found


def _newest_of(shard: int) -> list[Mapping[str, Any]]:
    bounds = {"$gt": document_id(shard, 0), "$lt": document_id(shard + 1, 0)}
    return [{"$match": {"_id": bounds}}, {"$sort": {"_id": -1}}, {"$limit": 1}]
