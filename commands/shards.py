"""The shards a node owns: their heads and epochs, and the event that opens them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from domain.shard import ShardOpened
from eventlog.codec import EventCodec, frame_of, recorded
from eventlog.port import Log
from eventlog.record import KEY_BYTES, Commit, Committed, Draft, Head


class OwnedShard:
    """A shard under this node's epoch. `lost`: a higher epoch stands in the log, so nothing may be written any more."""

    __slots__ = ("epoch", "head", "last_at", "lost", "number")

    def __init__(self, number: int, head: Head) -> None:
        self.number = number
        self.head = head
        self.epoch = head.epoch
        self.last_at = head.at
        self.lost = False


class ShardsNotOpenedError(Exception):
    """Another server took a shard while this one was opening it."""


async def open_shards(
    log: Log, codec: EventCodec, owned: Sequence[int], node: str, now: int
) -> tuple[Mapping[int, OwnedShard], Sequence[Committed]]:
    """Take the shards over: append `shard_opened` with the next epoch at the next position of each, in one flush.

    Whatever an earlier owner still sends then meets a taken position. Raises ShardsNotOpenedError, OutcomeUnknownError, LogUnavailableError.
    """
    heads = await log.heads()
    shards = {number: OwnedShard(number, heads.get(number, Head())) for number in owned}
    opened = {number: _opening(log, codec, shard, node, now) for number, shard in shards.items()}
    outcomes = await log.append({number: [committed.commit] for number, committed in opened.items()})
    for number, shard in shards.items():
        if outcomes[number].appended != 1:
            raise ShardsNotOpenedError(f"shard {number} was taken by another server")
        commit: Commit = opened[number].commit
        shard.head = commit.head
        shard.epoch = commit.epoch
        shard.last_at = commit.at
    return shards, tuple(opened.values())


def _opening(log: Log, codec: EventCodec, shard: OwnedShard, node: str, now: int) -> Committed:
    epoch = shard.head.epoch + 1
    at = max(now, shard.head.at)
    events = (ShardOpened(actor="system", at=at, epoch=epoch, node=node),)
    seqs = (None,)
    key = secrets.token_bytes(KEY_BYTES)
    draft = Draft(
        f"shard-{shard.number}",
        epoch,
        key,
        bytes(KEY_BYTES),
        at,
        events,
        seqs,
        codec.encode_events(events, seqs),
    )
    return recorded(frame_of(draft, log.log_id, shard.number, epoch, shard.head), events, seqs)
