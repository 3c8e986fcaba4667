"""Pages of events and messages, cut to what the caller may see."""

from __future__ import annotations

from typing import Literal

import msgspec

from domain.errors import invalid
from projections.access import Access
from projections.cursors import cursor_of, place_of
from projections.store import Row, Snapshot
from projections.tables import EVENTS

SEQ_MAX = 2**63 - 1


class Walk(msgspec.Struct, frozen=True, array_like=True):
    """Where a page of messages starts and where its `next` leads. `newer` and `older` exclude `seq`; `around` includes it."""

    direction: Literal["newer", "older", "around"]
    seq: int


def wire_of(row: Row) -> msgspec.Raw:
    """The wire event of an EVENTS row."""
    wire = row[4]
    assert isinstance(wire, bytes)
    return msgspec.Raw(wire)


def seq_of(row: Row) -> int:
    """The seq of an EVENTS row."""
    seq = row[1]
    assert isinstance(seq, int)
    return seq


def events_after(
    snapshot: Snapshot, access: Access, after: int, limit: int, *, messages: bool = False
) -> list[Row]:
    """EVENTS rows with seq > `after` in the ranges, ascending, at most `limit`."""
    rows: list[Row] = []
    for first, last in access.parts():
        if last <= after or len(rows) >= limit:
            continue
        rows += snapshot.scan(
            EVENTS,
            (access.stream,),
            after=max(after, first - 1),
            before=last + 1,
            limit=limit - len(rows),
            present="ordinal" if messages else None,
        )
    return rows


def events_before(
    snapshot: Snapshot, access: Access, before: int, limit: int, *, messages: bool = False
) -> list[Row]:
    """EVENTS rows with seq < `before` in the ranges, descending, at most `limit`."""
    rows: list[Row] = []
    for first, last in reversed(access.parts()):
        if first >= before or len(rows) >= limit:
            continue
        rows += snapshot.scan(
            EVENTS,
            (access.stream,),
            after=first - 1,
            before=min(before, last + 1),
            descending=True,
            limit=limit - len(rows),
            present="ordinal" if messages else None,
        )
    return rows


def message_walk(
    access: Access, after: int | None, before: int | None, around: int | None, cursor: str | None
) -> Walk:
    """The walk that the parameters ask for; a cursor continues the one that gave it."""
    if sum(bound is not None for bound in (after, before, around)) > 1:
        raise invalid("around", "at most one of after, before and around can be given")
    if cursor is not None:
        conversation_id, walk = place_of("messages", cursor, tuple[str, Walk])
        if conversation_id != access.conversation_id:
            raise invalid("cursor", "is of another conversation")
        return walk
    if after is not None:
        return Walk("newer", after)
    if around is not None:
        return Walk("around", around)
    return Walk("older", SEQ_MAX if before is None else before)


def message_page(
    snapshot: Snapshot, access: Access, walk: Walk, limit: int
) -> tuple[list[bytes], str | None]:
    """The wire events of a page of messages, ascending, and the cursor of the next page."""
    if walk.direction == "older":
        rows = events_before(snapshot, access, walk.seq, limit + 1, messages=True)
        more = len(rows) > limit
        rows = rows[:limit][::-1]
        following = Walk("older", seq_of(rows[0])) if more else None
    else:
        start, earlier = walk.seq, []
        if walk.direction == "around":
            earlier = events_before(snapshot, access, walk.seq, limit // 2, messages=True)[::-1]
            start = walk.seq - 1
        wanted = limit - len(earlier)
        later = events_after(snapshot, access, start, wanted + 1, messages=True)
        more = len(later) > wanted
        rows = [*earlier, *later[:wanted]]
        following = Walk("newer", seq_of(rows[-1])) if more else None
    cursor = None if following is None else cursor_of("messages", (access.conversation_id, following))
    return [bytes(wire_of(row)) for row in rows], cursor
