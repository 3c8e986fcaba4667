"""Puts into the fast views what was asked for and not there: read from the view in one moment, offered at that moment's position."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial

import structlog

from domain.errors import Problem
from domain.streams import qualified, split
from projections.fast import EVENTS_KEPT, FIELDS_MAX, KNOWN_ABSENT, FastAwayError, FastRows, Offer
from projections.fast_documents import (
    HEAD,
    SMALL_FIELDS,
    document_of,
    list_of,
    listed_field,
    member_field,
    own_field,
    pack,
    personal_field,
    place_of,
    sharding,
)
from projections.messages import decode_message
from projections.personal import ME_EVENTS, ME_HEADS, PERSONAL
from projections.store import Row, Snapshot, Table, Value, ViewStore, ViewUnavailableError
from projections.tables import (
    CONVERSATIONS,
    EDITS,
    EVENTS,
    MEMBERS,
    MENTIONS,
    MENTIONS_OF_ALL,
    OWN_MESSAGES,
    REACTIONS,
    RECALLS,
    STATES,
)
from projections.timeline import memberships

_log = structlog.get_logger(__name__)

WAITING_MAX = 1_000
"""Documents that wait to be put there; of more nothing is remembered, they are asked for again."""
PAUSE_S = 0.005
"""Between two of them: filling takes a bounded share of the machine, also of MongoDB."""
TRIES_MAX = 3
"""A document that changes while it is read is refused."""
WHOLE_MEMBERS_MAX = 1_000
"""Of a larger group only members who ask are held."""
ASKING_MAX = 200
"""Members of one conversation that are put there at once."""
_SMALL_TABLES = (STATES, EDITS, REACTIONS, RECALLS, MENTIONS_OF_ALL)

Current = Callable[[str], tuple[ViewStore, int]]
"""The current version of a view."""

Ways = list[list[Offer]]
"""Offers that belong together; where they are not all taken, the next ones are made."""


class TooLargeError(Exception):
    """A document that is not kept."""


class FastFills:
    """One thread, begun with the first document. Calls from any thread."""

    def __init__(self, rows: FastRows, current: Current, shard_count: int) -> None:
        self._rows = rows
        self._current = current
        self._shard_count = shard_count
        self._shard = sharding(shard_count)
        self._waiting: dict[tuple[str, str], set[str]] = {}
        """Kind and name of documents, and the members that asked."""
        self._turn = threading.Condition()
        self._busy = False
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self.filled = 0
        self.refused = 0

    def conversation(self, stream: str, member: str) -> None:
        """A conversation, with this member."""
        self._want("conversation", stream, member)

    def inbox(self, stream: str) -> None:
        """A user's own stream."""
        self._want("inbox", stream)

    def lists(self, member: str) -> None:
        """A user's conversations."""
        self._want("lists", member)

    def close(self) -> None:
        """End with the document under way. Blocks. Idempotent."""
        self._closing.set()
        with self._turn:
            self._turn.notify_all()
        if self._thread is not None:
            self._thread.join()

    def settled(self, timeout_s: float) -> bool:
        """Wait until nothing waits to be put there; whether that came."""
        with self._turn:
            return self._turn.wait_for(lambda: not self._waiting and not self._busy, timeout_s)

    def _want(self, kind: str, name: str, member: str | None = None) -> None:
        with self._turn:
            if self._closing.is_set():
                return
            asking = self._waiting.get((kind, name))
            if asking is None:
                if len(self._waiting) >= WAITING_MAX:
                    return
                asking = self._waiting[kind, name] = set()
            if member is not None and len(asking) < ASKING_MAX:
                asking.add(member)
            if self._thread is None:
                self._thread = threading.Thread(target=self._fill_for_ever, name="views-fill", daemon=True)
                self._thread.start()
            self._turn.notify_all()

    def _fill_for_ever(self) -> None:
        while True:
            with self._turn:
                self._busy = False
                self._turn.notify_all()
                self._turn.wait_for(lambda: self._waiting or self._closing.is_set())
                if self._closing.is_set():
                    return
                kind, name = next(iter(self._waiting))
                asking = self._waiting.pop((kind, name))
                self._busy = True
            try:
                self._fill(kind, name, asking)
            except (FastAwayError, ViewUnavailableError, Problem):
                self.refused += 1  # Whoever asks again begins it again.
            except TooLargeError:
                self.refused += 1
            except Exception as error:  # noqa: BLE001 - the views answer instead
                self.refused += 1
                _log.error("a fast view is not filled", kind=kind, error=type(error).__name__)
            self._closing.wait(PAUSE_S)

    def _fill(self, kind: str, name: str, asking: set[str]) -> None:
        view = "inbox" if kind == "inbox" else "timeline"
        ways: Mapping[str, Callable[[Snapshot, str], Ways]] = {
            "conversation": partial(self._conversation, asking=asking),
            "inbox": self._inbox,
            "lists": self._lists,
        }
        for _ in range(TRIES_MAX):
            store, version = self._current(view)
            with store.snapshot() as snapshot:
                found = ways[kind](snapshot, name)
            if not found:
                return
            place = place_of(store, version)
            if any(all(self._rows.offer(place, offers)) for offers in found):
                self.filled += 1
                return
            self.refused += 1

    def _conversation(self, snapshot: Snapshot, stream: str, asking: set[str]) -> Ways:
        shard = self._shard(stream)
        position = snapshot.positions().get(shard, 0)
        conversation = snapshot.get(CONVERSATIONS, (stream,))
        newest = snapshot.scan(EVENTS, (stream,), descending=True, limit=EVENTS_KEPT)
        if conversation is None or not newest:
            return []
        floor = _int(newest[-1][1]) if len(newest) == EVENTS_KEPT else 1
        small = {HEAD: pack(conversation), **_mentions(stream, newest)}
        for table in _SMALL_TABLES:
            for row in _few(snapshot, table, (stream,), floor - 1):
                small[SMALL_FIELDS[table.name](row[: table.key_size])] = pack(row)
        members, whole = _members(snapshot, stream, asking)
        offer = Offer(
            shard=shard,
            position=position,
            name=document_of(stream),
            small=small,
            events={_int(row[1]): pack(row) for row in newest},
            members=members,
            floor=floor,
            high=_int(newest[0][1]),
        )
        if whole:
            return [[offer]]
        # Of a large group others may be there already: these beside them, else all anew.
        return [[Offer(shard, position, offer.name, members=members, partial=True)], [offer]]

    def _inbox(self, snapshot: Snapshot, stream: str) -> Ways:
        shard = self._shard(stream)
        head = snapshot.get(ME_HEADS, (stream,))
        newest = snapshot.scan(ME_EVENTS, (stream,), descending=True, limit=EVENTS_KEPT)
        marks = _few(snapshot, PERSONAL, (stream,), None)
        offer = Offer(
            shard=shard,
            position=snapshot.positions().get(shard, 0),
            name=document_of(stream),
            small={} if head is None else {HEAD: pack(head)},
            events={_int(row[1]): pack(row) for row in newest},
            members={personal_field(str(row[1])): pack(row) for row in marks},
            floor=_int(newest[-1][1]) if len(newest) == EVENTS_KEPT else 1,
            high=_int(newest[0][1]) if newest else 0,
        )
        return [[offer]]

    def _lists(self, snapshot: Snapshot, member: str) -> Ways:
        streams = [str(row[0]) for row in memberships(snapshot, *split(member))]
        if len(streams) > FIELDS_MAX:
            raise TooLargeError
        positions = snapshot.positions()
        by_shard: dict[int, dict[str, bytes]] = {shard: {} for shard in range(self._shard_count)}
        for stream in streams:
            by_shard[self._shard(stream)][listed_field(stream)] = b""
        return [
            [
                Offer(shard, positions.get(shard, 0), list_of(member), small=small)
                for shard, small in by_shard.items()
            ]
        ]


def _few(snapshot: Snapshot, table: Table, prefix: tuple[Value, ...], after: int | None) -> list[Row]:
    rows = snapshot.scan(table, prefix, after=after, limit=FIELDS_MAX)
    if len(rows) == FIELDS_MAX:
        raise TooLargeError
    return rows


def _mentions(stream: str, events: list[Row]) -> dict[str, bytes]:
    """The mentions of members in these events, whose table is not ordered by conversation."""
    tenant = split(stream)[0]
    found: dict[str, bytes] = {}
    for _, seq, _, ordinal, wire, *_ in events:
        if ordinal is not None and isinstance(wire, bytes) and b'"mentions"' in wire:
            for user_id in decode_message(wire).data.mentions:
                if user_id != "all":
                    row = (qualified(tenant, user_id), stream, seq)
                    found[SMALL_FIELDS[MENTIONS.name](row)] = pack(row)
    return found


def _members(snapshot: Snapshot, stream: str, asking: set[str]) -> tuple[dict[str, bytes], bool]:
    """The fields of members: all, and who asked and is none; of a large group only who asked. And whether it is all."""
    rows = snapshot.scan(MEMBERS, (stream,), limit=WHOLE_MEMBERS_MAX + 1)
    whole = len(rows) <= WHOLE_MEMBERS_MAX
    if whole:
        own = snapshot.scan(OWN_MESSAGES, (stream,), limit=WHOLE_MEMBERS_MAX + 1)
        present = {str(row[1]): row for row in rows}
        messages = {str(row[1]): row for row in own}
    else:
        found = {member: snapshot.get(MEMBERS, (stream, member)) for member in asking}
        present = {member: row for member, row in found.items() if row is not None}
        sent = {member: snapshot.get(OWN_MESSAGES, (stream, member)) for member in asking}
        messages = {member: row for member, row in sent.items() if row is not None}
    fields: dict[str, bytes] = {}
    for member in {*present, *asking}:
        for name, rows_of in ((member_field(member), present), (own_field(member), messages)):
            row = rows_of.get(member)
            fields[name] = KNOWN_ABSENT if row is None else pack(row)
    return fields, whole


def _int(value: Value) -> int:
    assert isinstance(value, int)
    return value
