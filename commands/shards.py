"""The shards a node owns: their heads and epochs, and the event that opens them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

import structlog

from commands.ownership import NotOwner
from domain.shard import ShardOpened
from eventlog.codec import EventCodec, frame_of, recorded
from eventlog.port import Log, Refusal
from eventlog.record import KEY_BYTES, Commit, Committed, Draft, Head
from eventlog.registry import UnknownEventError

_log = structlog.get_logger(__name__)

OPENING_TRIES = 50
"""Each misses only if its shard's owner writes between two reads of ours that follow one another."""


class OwnedShard:
    """A shard under this node's epoch. `lost`: a higher epoch stands in the log, so nothing may be written any more."""

    __slots__ = ("epoch", "head", "last_at", "lost", "number", "owner", "owner_epoch")

    def __init__(self, number: int, head: Head) -> None:
        self.number = number
        self.head = head
        self.epoch = head.epoch
        self.last_at = head.at
        self.lost = False
        self.owner: str | None = None
        """Who has it once it is lost, as far as the log told."""
        self.owner_epoch = 0

    def take(self, commit: Commit) -> None:
        """Our own opening stands in the log."""
        self.head, self.epoch, self.last_at = commit.head, commit.epoch, commit.at

    def lose_to(self, present: Commit, codec: EventCodec) -> None:
        """Another node's commit stands where the next one of ours should: write nothing here any more."""
        self.lost = True
        if present.epoch > self.epoch:
            self.owner, self.owner_epoch = _opener_of(codec, present), present.epoch
        else:
            # Someone wrote under an epoch that is not higher than ours, which the fence forbids: stop this shard, keep the others.
            _log.error(
                "a foreign commit stands at our position",
                shard=self.number,
                position=present.position,
                epoch=present.epoch,
            )


class ShardsNotOpenedError(Exception):
    """Another server took a shard while this one was opening it."""


async def open_shards(
    log: Log, codec: EventCodec, owned: Sequence[int], node: str, now: int
) -> tuple[Mapping[int, OwnedShard], Sequence[Committed]]:
    """Take the shards over: append `shard_opened` with the next epoch at the next position of each, in one flush.

    Whatever an earlier owner still sends then meets a taken position. Where that owner wrote just before us, we try again behind it.
    Raises ShardsNotOpenedError, OutcomeUnknownError, LogUnavailableError; some of the shards may have been opened then.
    """
    shards: dict[int, OwnedShard] = {}
    opened: list[Committed] = []
    left = tuple(owned)
    for _ in range(OPENING_TRIES):
        heads = await log.heads()
        tried = {number: OwnedShard(number, heads.get(number, Head())) for number in left}
        openings = {number: _opening(log, codec, shard, node, now) for number, shard in tried.items()}
        outcomes = await log.append({number: [row.commit] for number, row in openings.items()})
        for number, shard in tried.items():
            if outcomes[number].appended:
                shard.take(openings[number].commit)
                shards[number] = shard
                opened.append(openings[number])
            else:
                _check_not_taken(shard, outcomes[number].refusal)
        left = tuple(number for number in left if number not in shards)
        if not left:
            return shards, tuple(opened)
    raise ShardsNotOpenedError(
        f"shard {left[0]} could not be opened: another server writes to it all the time"
    )


def _check_not_taken(shard: OwnedShard, refusal: Refusal | None) -> None:
    """A commit of the epoch that we saw, or none at all, is no reason to give up. Raises ShardsNotOpenedError."""
    present = None if refusal is None else refusal.present
    if present is not None and present.epoch > shard.epoch:
        raise ShardsNotOpenedError(f"shard {shard.number} was taken by another server")


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


def not_owner(shards: Mapping[int, OwnedShard], number: int) -> NotOwner | None:
    """Why a node with these shards answers nothing for the shard; None: it is its own."""
    shard = shards.get(number)
    if shard is None:
        return NotOwner(number)
    return NotOwner(number, shard.owner, shard.owner_epoch) if shard.lost else None


def leaving(number: int) -> NotOwner:
    """A node that stops is the owner of nothing any more: whoever knows another one may ask there."""
    return NotOwner(number, detail="the server is shutting down; try again", retry_after_ms=2_000)


def _opener_of(codec: EventCodec, commit: Commit) -> str | None:
    """The node that a commit opens its shard for; None: it is another commit, or not to be read."""
    try:
        event = codec.decode(commit).events[0].event
    except UnknownEventError:
        return None
    return event.node if isinstance(event, ShardOpened) else None
