"""What a desk asks the read side about messages of other nodes' shards."""

from __future__ import annotations

import pytest

from commands.node import Node
from commands.settings import NodeSettings
from domain.errors import Problem
from domain.streams import shard_of
from eventlog.bus import Bus
from eventlog.port import LogUnavailableError
from ops.older import OlderFromViews
from projections.memory import MemoryShelf
from tests.unit.projections.world import CODEC, SHARDS, World, views_of

GROUP = "g_1"


async def test_a_forwarded_message_of_another_nodes_shard_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    foreign = shard_of(GROUP, SHARDS)
    async with views_of(world, MemoryShelf(), shared=True) as views:
        await world.group(GROUP, "alice", ["bob"])
        node = Node(world.log, CODEC, Bus(), lambda: 1, NodeSettings(), name="one")
        await node.open([shard for shard in range(SHARDS) if shard != foreign])
        older = OlderFromViews(node, views, world.log)
        # Its owner is another node; the views of this one were told nothing of the message, which bob has seen.
        seq = await world.commit(GROUP, world.message(GROUP, "alice", "just now"), publish=False)
        assert await older.unseen("default", "bob", [(GROUP, seq)]) == frozenset()
        assert await older.unseen("default", "carol", [(GROUP, seq)]) == {(GROUP, seq)}

        async def away() -> None:
            raise LogUnavailableError("away")

        monkeypatch.setattr(world.log, "heads", away)
        with pytest.raises(Problem, match="the event log cannot be read"):
            await older.unseen("default", "bob", [(GROUP, seq)])
        await node.close()
