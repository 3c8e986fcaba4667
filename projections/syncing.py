"""What a client missed: the answers of `sync` and `hello`, from one moment of the timeline and the inbox."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from domain.streams import inbox_stream
from projections import pages
from projections.access import Access, access_from
from projections.cursors import cursor_of, place_of
from projections.numbers import numbers_of
from projections.personal import ME_EVENTS, ME_HEADS
from projections.shapes import Behind, HelloAnswer, SyncAnswer, SyncedConversation
from projections.store import Snapshot
from projections.tables import head_of
from projections.timeline import memberships

ME = "me"
HELLO_EVENTS_MAX = 1_000
HELLO_BYTES_MAX = 4 * 1024 * 1024
"""Of the events of one hello; what is beyond is `behind`, so that many hellos at once cannot fill the memory."""
SYNC_BYTES_MAX = 512 * 1024
"""Of the events of one sync answer, which is one frame in a bounded queue; more follow by `next`. The highest limit of ordinary
messages has to fit, or who asks for 1,000 gets 999.
"""
SYNC_CONVERSATIONS_MAX = 500
"""The most conversations of one sync answer; more follow by `next`."""
_DONE = -1
"""In a cursor: the named conversation was served to its end."""


Events = list[tuple[int, msgspec.Raw]]
"""(seq, wire event), ascending."""


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a sync goes on: within `conversation_id` behind `seq`, or behind that conversation."""

    conversation_id: str
    seq: int


class Missed:
    """The conversations of one user in one moment."""

    def __init__(self, timeline: Snapshot, inbox: Snapshot, tenant: str, user_id: str) -> None:
        self._timeline = timeline
        self._inbox = inbox
        self._me = inbox_stream(tenant, user_id)
        found = (access_from(timeline, row) for row in memberships(timeline, tenant, user_id))
        self.accesses: dict[str, Access] = {a.conversation_id: a for a in found if a is not None}

    def known(self, conversation_id: str) -> bool:
        """Whether the user may ask for it."""
        return conversation_id == ME or conversation_id in self.accesses

    def listed(self) -> Iterator[str]:
        """What a client is told of unasked; a pair's conversation from its first message on."""
        yield ME
        for conversation_id, access in self.accesses.items():
            head = head_of(self._timeline, access.stream)
            if access.kind == "group" or (head is not None and head.messages):
                yield conversation_id

    def head(self, conversation_id: str) -> int:
        """The highest seq that the user may see."""
        if conversation_id == ME:
            row = self._inbox.get(ME_HEADS, (self._me,))
            return 0 if row is None else _int(row[1])
        return self.accesses[conversation_id].head

    def activity(self, conversation_id: str) -> int:
        """The time of the newest event."""
        if conversation_id == ME:
            row = self._inbox.get(ME_HEADS, (self._me,))
            return 0 if row is None else _int(row[2])
        head = head_of(self._timeline, self.accesses[conversation_id].stream)
        return 0 if head is None else head.at

    def count_after(self, conversation_id: str, after: int) -> int:
        """How many events lie behind `after`, without reading them: within a range seq has no gap."""
        if conversation_id == ME:
            return max(0, self.head(ME) - after)
        parts = self.accesses[conversation_id].parts()
        return sum(max(0, last - max(first - 1, after)) for first, last in parts)

    def events(self, conversation_id: str, after: int, limit: int) -> Events:
        """(seq, wire event), ascending, behind `after`."""
        if conversation_id == ME:
            rows = self._inbox.scan(ME_EVENTS, (self._me,), after=after, limit=limit)
            return [(_int(row[1]), _raw(row[2])) for row in rows]
        rows = pages.events_after(self._timeline, self.accesses[conversation_id], after, limit)
        return [(pages.seq_of(row), pages.wire_of(row)) for row in rows]

    def newest(self, conversation_id: str, limit: int) -> Events:
        """The newest events, ascending."""
        if limit == 0:
            return []
        if conversation_id == ME:
            rows = self._inbox.scan(ME_EVENTS, (self._me,), descending=True, limit=limit)
            return [(_int(row[1]), _raw(row[2])) for row in reversed(rows)]
        access = self.accesses[conversation_id]
        rows = pages.events_before(self._timeline, access, access.head + 1, limit)
        return [(pages.seq_of(row), pages.wire_of(row)) for row in reversed(rows)]

    def row(self, conversation_id: str, events: Events, complete: bool) -> SyncedConversation:
        """The conversation in an answer."""
        raw = [wire for _, wire in events]
        head = self.head(conversation_id)
        if conversation_id == ME:
            return SyncedConversation(
                first_seq=1, head=head, read_seq=head, unread=0, mentions=0, events=raw, complete=complete
            )
        access = self.accesses[conversation_id]
        numbers = numbers_of(self._timeline, self._inbox, access)
        return SyncedConversation(
            first_seq=access.first_seq,
            head=head,
            read_seq=numbers.read_seq,
            unread=numbers.unread,
            mentions=numbers.mentions,
            events=raw,
            complete=complete,
            left=not access.current,
        )


def sync_answer(
    missed: Missed,
    have: Mapping[str, int],
    log_id: str,
    *,
    limit: int,
    recent: int,
    only: bool,
    cursor: str | None,
) -> SyncAnswer:
    """One page of a sync. Conversations come by id, so that pages neither repeat nor lose one while new events arrive."""
    place = None if cursor is None else place_of("sync", cursor, Place)
    ids = {name for name in have if missed.known(name)}
    if not only:
        ids.update(missed.listed())
    conversations: dict[str, SyncedConversation] = {}
    following: Place | None = None
    previous = Place("", _DONE)
    bytes_left = SYNC_BYTES_MAX
    for conversation_id in sorted(ids):
        after = have.get(conversation_id)
        if place is not None and conversation_id <= place.conversation_id:
            if conversation_id < place.conversation_id or place.seq == _DONE:
                continue
            after = None if after is None else max(after, place.seq)
        if limit <= 0 or bytes_left <= 0 or len(conversations) >= SYNC_CONVERSATIONS_MAX:
            following = previous
            break
        row, events, end = _synced(
            missed, conversation_id, have.get(conversation_id), after, limit, bytes_left, recent
        )
        if row is None:
            following = previous
            break
        conversations[conversation_id] = row
        limit -= len(events)
        bytes_left -= _bytes_of(events)
        previous = Place(conversation_id, end)
        if end != _DONE:
            following = previous
            break
    return SyncAnswer(
        log_id=log_id,
        conversations=conversations,
        complete=following is None,
        next=None if following is None else cursor_of("sync", following),
    )


def _synced(
    missed: Missed,
    conversation_id: str,
    have: int | None,
    after: int | None,
    limit: int,
    bytes_left: int,
    recent: int,
) -> tuple[SyncedConversation | None, Events, int]:
    """(row, its events, where it ends); no row when its newest events do not fit any more."""
    if have is None or after is None:
        newest = missed.newest(conversation_id, recent)
        if len(newest) > limit or (bytes_left < SYNC_BYTES_MAX and _bytes_of(newest) > bytes_left):
            return None, [], _DONE
        return missed.row(conversation_id, newest, True), newest, _DONE
    head = missed.head(conversation_id)
    if have > head:
        return SyncedConversation(reset=True, head=head), [], _DONE
    found = missed.events(conversation_id, after, limit + 1)
    events = _within(found[:limit], bytes_left)
    complete = len(events) == len(found)
    return missed.row(conversation_id, events, complete), events, _DONE if complete else events[-1][0]


def _within(events: Events, bytes_max: int) -> Events:
    """The first events that fit, at least one."""
    size = 0
    for index, (_, wire) in enumerate(events):
        size += len(bytes(wire))
        if size > bytes_max and index:
            return events[:index]
    return events


def _bytes_of(events: Events) -> int:
    return sum(len(bytes(wire)) for _, wire in events)


def hello_answer(missed: Missed, have: Mapping[str, int]) -> HelloAnswer:
    """What a hello with `have` is told."""
    names = sorted((name for name in have if missed.known(name)), key=missed.activity, reverse=True)
    conversations: dict[str, SyncedConversation] = {}
    behind: list[Behind] = []
    remaining = HELLO_EVENTS_MAX
    bytes_left = HELLO_BYTES_MAX
    exhausted = False
    for name in names:
        head = missed.head(name)
        if have[name] > head:
            conversations[name] = SyncedConversation(reset=True, head=head)
            continue
        count = missed.count_after(name, have[name])
        too_many = count > HELLO_EVENTS_MAX
        exhausted = exhausted or (count > remaining and not too_many)
        if too_many or (exhausted and count):
            behind.append(Behind(name, have[name], head))
            continue
        events = missed.events(name, have[name], count) if count else []
        size = _bytes_of(events)
        if size > bytes_left:
            exhausted = True
            behind.append(Behind(name, have[name], head))
            continue
        conversations[name] = missed.row(name, events, True)
        remaining -= count
        bytes_left -= size
    upto = {name: missed.head(name) for name in names}
    return HelloAnswer(conversations=conversations, behind=behind, upto=upto)


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def _raw(value: object) -> msgspec.Raw:
    assert isinstance(value, bytes)
    return msgspec.Raw(value)
