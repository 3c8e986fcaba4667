"""What of a conversation a question wants at hand."""

from __future__ import annotations

import msgspec

from projections.access import Access
from projections.fast import EVENTS_KEPT
from projections.pages import SEQ_MAX, Walk

MORE = 16
"""Events beside the messages of a page: edits, reactions, members who come and go."""


class Want(msgspec.Struct, frozen=True, gc=False):
    """A conversation as one user asks for it, with events from `first` to `last` (as in `projections.fast.Ask`), at `position` or behind
    it.
    """

    stream: str
    member: str
    first: int = -1
    last: int = 0
    position: int = 0
    small: bool = True
    """Whether what became of messages and who was mentioned is wanted; not for who may see what."""


def want_of(access: Access, walk: Walk, limit: int) -> Want | None:
    """What a page of messages wants; None for one that lies behind what is kept."""
    oldest = access.head - 2 * EVENTS_KEPT
    if access.head <= 0 or (walk.direction != "older" and walk.seq < oldest):
        return None
    if walk.direction == "older":
        end = min(walk.seq - 1, access.head) if walk.seq < SEQ_MAX else access.head
        if end < oldest:
            return None
        # What became of the messages of a page stands behind them.
        return Want(access.stream, access.member, max(1, end - limit - MORE), 0, access.position)
    return Want(access.stream, access.member, max(1, walk.seq - limit // 2 - 1), 0, access.position)
