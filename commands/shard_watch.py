"""The watch over a node's shards: an owner that writes nothing would never meet the fence, and go on refusing and showing by old state."""

from __future__ import annotations

import asyncio

import structlog

from commands.node import Node
from commands.tasks import TaskOwner
from eventlog.codec import EventCodec
from eventlog.port import Log, LogUnavailableError

_log = structlog.get_logger(__name__)


class ShardWatch:
    """Reads the heads of all shards every `watch_s` and gives up those that somebody opened under a higher epoch.

    Only for clusters: an embedded server keeps others out by a lock. Used between `start` and `close`; `close` before the node's.
    """

    def __init__(self, log: Log, codec: EventCodec, node: Node, watch_s: float = 1.0) -> None:
        self._log = log
        self._codec = codec
        self._node = node
        self._watch_s = watch_s
        self._tasks = TaskOwner("shard-watch", 1)

    def start(self) -> None:
        """Begin to watch."""
        self._tasks.start(self._watch())

    async def close(self) -> None:
        """Stop. Idempotent."""
        await self._tasks.close()

    async def look(self) -> tuple[int, ...]:
        """Look once; returns the shards that were given up. Raises LogUnavailableError.

        What is decided and not flushed meets the fence with the next flush, and is told NotOwner then.
        """
        lost: list[int] = []
        for number, head in (await self._log.heads()).items():
            shard = self._node.shards.get(number)
            if shard is None or shard.lost or head.epoch <= shard.epoch:
                continue
            openings = await self._log.read_stream_tail(number, f"shard-{number}", 1)
            if openings and openings[-1].epoch > shard.epoch:
                shard.lose_to(openings[-1], self._codec)
                lost.append(number)
                _log.warning("shard lost", shard=number, owner=shard.owner, epoch=shard.owner_epoch)
        return tuple(lost)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._watch_s)
            try:
                await self.look()
            except LogUnavailableError as error:
                _log.warning("heads of shards cannot be read", error=type(error).__name__)
