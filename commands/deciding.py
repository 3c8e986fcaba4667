"""Deciding one order against a hot aggregate: the pure middle of the write path."""

from __future__ import annotations

from commands.caller import Answer
from commands.order import Decided, Hot, Order
from domain.errors import Problem
from domain.event import Context, Event, Limits
from domain.streams import id_from_digest
from eventlog.codec import EventCodec
from eventlog.record import FRAME_BYTES_MAX, Draft

FRAME_HEAD_BYTES_MAX = 2_048
"""Of a frame, beside its events: digests, ids, and a stream's name."""
EVENTS_BYTES_MAX = FRAME_BYTES_MAX - FRAME_HEAD_BYTES_MAX
"""What no carrier or store would take is refused while nothing depends on it yet. The default limits stay far below."""


def decide(order: Order, hot: Hot, now: int, limits: Limits, codec: EventCodec) -> Decided | Answer | Problem:
    """What the order does to the tentative state; the state itself is not touched.

    A refusal or a nothing-to-do is a result too, and rests on the newest commit of the stream like any other.
    """
    context = Context(
        tenant=order.tenant,
        actor=order.actor,
        now=now,
        new_id=id_from_digest(order.key),
        limits=limits,
        importing=order.importing,
        unknown_users=order.unknown_users,
        older=order.older,
        unseen=order.unseen,
        written=order.written,
    )
    try:
        events = hot.aggregate.decide(hot.tentative, order.command, context)
    except Problem as problem:
        return problem
    if not events:
        return Answer(order.stream, False, hot.shard)
    seqs = _seqs(hot.tentative.seq, events)
    encoded = codec.encode_events(events, seqs, order.trace)
    if len(encoded) > EVENTS_BYTES_MAX:
        return Problem(
            "too_large", f"what this would record takes {len(encoded)} bytes, at most {EVENTS_BYTES_MAX}"
        )
    draft = Draft(
        order.stream,
        hot.tentative.version + 1,
        order.key,
        order.payload_digest,
        now,
        events,
        seqs,
        encoded,
        order.trace,
    )
    return Decided(order, hot, draft, hot.fold(events))


def _seqs(seq: int, events: tuple[Event, ...]) -> list[int | None]:
    """The seq of each event: public ones count on, private ones have none."""
    seqs: list[int | None] = []
    for event in events:
        if event.PUBLIC:
            seq += 1
            seqs.append(seq)
        else:
            seqs.append(None)
    return seqs
