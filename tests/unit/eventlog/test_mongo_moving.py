"""Who uses a database, as its server tells of its connections."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from eventlog.mongo_driver import MongoDriver
from eventlog.mongo_moving import CONNECTIONS_TOLD_MAX, moving_as, serving_as, users_of

DATABASE = "chat.of (one)"


class Busy:
    """A server with more connections than fit into a reply; it chooses, then cuts, as `aggregate` does."""

    database = DATABASE

    def __init__(self, names: Sequence[str]) -> None:
        self._connections = [
            {"appName": name, "client": f"10.0.0.1:{port}"} for port, name in enumerate(names)
        ]

    async def admin(
        self, _command: str, *, pipeline: Sequence[Mapping[str, Any]], cursor: Mapping[str, int]
    ) -> Mapping[str, Any]:
        found = self._connections
        for stage in pipeline:
            if "$match" in stage:
                pattern = stage["$match"]["appName"]["$regex"]
                found = [one for one in found if re.search(pattern, one["appName"])]
        return {"cursor": {"firstBatch": found[: cursor["batchSize"]]}}


async def users(*names: str) -> Sequence[str]:
    """Who is seen among a thousand others by a move that is named `own`."""
    others = ["something else"] * CONNECTIONS_TOLD_MAX
    return await users_of(cast(MongoDriver, Busy([*others, *names])), moving_as(DATABASE, "own"))


async def test_a_server_and_another_move_are_seen_among_a_thousand_others() -> None:
    found = await users(serving_as(DATABASE), moving_as(DATABASE, "own"), moving_as(DATABASE, "other"))
    assert found == ["10.0.0.1:1000", "10.0.0.1:1002"]


async def test_servers_of_other_databases_are_none() -> None:
    assert await users(serving_as(f"{DATABASE}x"), serving_as("chatXof (one)"), "a Minutebook") == []
