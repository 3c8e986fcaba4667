"""Unread and mentions, computed when asked: a message writes no row per member."""

from __future__ import annotations

from domain.streams import inbox_stream
from projections.access import Access
from projections.personal import PERSONAL
from projections.shapes import Numbers
from projections.store import SCAN_ROWS_MAX, Snapshot
from projections.tables import EVENTS, MENTIONS, MENTIONS_OF_ALL, OWN_MESSAGES, RECALLS, head_of


def numbers_of(timeline: Snapshot, inbox: Snapshot, access: Access) -> Numbers:
    """The numbers of a conversation: messages by others, not recalled, behind the read mark and the joining, up to the head one sees.

    Behind one's own last message all messages are by others, so counting needs no look at a single message.
    """
    personal = inbox.get(PERSONAL, (inbox_stream(access.tenant, access.user_id), access.conversation_id))
    read_seq, pinned, muted = (0, 0, 0) if personal is None else (_int(column) for column in personal[2:5])
    read_seq = max(read_seq, own_message(timeline, access))
    base = max(read_seq, access.joined_seq)
    unread = mentions = 0
    if base < access.head:
        posted = _messages_up_to(timeline, access, access.head) - _messages_up_to(timeline, access, base)
        if posted:
            recalled = timeline.count(RECALLS, (access.stream,), after=base, before=access.head + 1)
            unread = posted - recalled
            mentions = _mentions(timeline, access, base, bool(recalled))
    return Numbers(
        unread=unread, mentions=mentions, read_seq=read_seq, pinned=bool(pinned), muted=bool(muted)
    )


def own_message(timeline: Snapshot, access: Access) -> int:
    """The seq of one's own last message, 0 without one."""
    if access.kind == "group":
        own = timeline.get(OWN_MESSAGES, (access.stream, access.member))
        return 0 if own is None else _int(own[2])
    head = head_of(timeline, access.stream)
    if head is None or head.author is None:
        return 0
    return head.last_message if head.author == access.user_id else head.other_message


def _messages_up_to(timeline: Snapshot, access: Access, seq: int) -> int:
    rows = timeline.scan(EVENTS, (access.stream,), before=seq + 1, descending=True, limit=1)
    return _int(rows[0][2]) if rows else 0


def _mentions(timeline: Snapshot, access: Access, base: int, some_recalled: bool) -> int:
    end = access.head + 1
    own = timeline.scan(MENTIONS, (access.member, access.stream), after=base, before=end, limit=SCAN_ROWS_MAX)
    of_all = timeline.scan(MENTIONS_OF_ALL, (access.stream,), after=base, before=end, limit=SCAN_ROWS_MAX)
    seqs = {row[2] for row in own} | {row[1] for row in of_all}
    if not some_recalled:
        return len(seqs)
    return sum(timeline.get(RECALLS, (access.stream, seq)) is None for seq in seqs)


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value
