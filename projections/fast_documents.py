"""Which rows of the timeline and the inbox view make which documents of the fast views."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from domain.streams import shard_of
from projections.fast import HEAD_FIELD, Change
from projections.personal import ME_EVENTS, ME_HEADS, PERSONAL
from projections.store import Row, TableChanges, UnitOfWork, ViewStore
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

VIEWS = ("timeline", "inbox")
"""What is copied."""
HEAD = HEAD_FIELD

pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode


def unpack_row(value: bytes) -> Row:
    """The row that `pack` made bytes of."""
    return tuple(_unpack(value))


def place_of(store: ViewStore, version: int) -> str:
    """What the fast views call this version of a view."""
    return f"{store.schema.name}.v{version}.{store.schema.version}.{store.log_id}"


def document_of(stream: str) -> str:
    """The document of a conversation or of a user's own stream."""
    return f"c{stream}"


def list_of(member: str) -> str:
    """The document of the conversations that a shard knows a user to be or to have been in; `member` is qualified."""
    return f"u{member}"


# Fields. Of what belongs to a message they begin with a letter and the message's seq, so that old ones can be told.


def member_field(member: str) -> str:
    """Of a MEMBERS row."""
    return f"m{member}"


def own_field(member: str) -> str:
    """Of an OWN_MESSAGES row."""
    return f"o{member}"


def personal_field(conversation_id: str) -> str:
    """Of a PERSONAL row."""
    return f"p{conversation_id}"


def listed_field(stream: str) -> str:
    """Of a conversation in a user's list."""
    return f"={stream}"


SMALL_FIELDS: Mapping[str, Callable[[Any], str]] = {
    CONVERSATIONS.name: lambda _: HEAD,
    STATES.name: lambda key: f"s{key[1]}",
    EDITS.name: lambda key: f"d{key[1]}:{key[2]}",
    REACTIONS.name: lambda key: f"x{key[1]}:{key[2]}:{key[3]}",
    RECALLS.name: lambda key: f"r{key[1]}",
    MENTIONS.name: lambda key: f"n{key[2]}:{key[0]}",
    MENTIONS_OF_ALL.name: lambda key: f"a{key[1]}",
    ME_HEADS.name: lambda _: HEAD,
}
MEMBER_FIELDS: Mapping[str, Callable[[Any], str]] = {
    MEMBERS.name: lambda key: member_field(str(key[1])),
    OWN_MESSAGES.name: lambda key: own_field(str(key[1])),
    PERSONAL.name: lambda key: personal_field(str(key[1])),
}
EVENT_TABLES = frozenset({EVENTS.name, ME_EVENTS.name})
_KEY_SIZES = {
    table.name: table.key_size
    for table in (
        CONVERSATIONS, STATES, EDITS, REACTIONS, RECALLS, MENTIONS, MENTIONS_OF_ALL, ME_HEADS, MEMBERS, OWN_MESSAGES, PERSONAL,
    )
}  # fmt: skip

Changes = Mapping[int, list[Change]]
"""By shard."""


@lru_cache(maxsize=8)
def sharding(shard_count: int) -> Callable[[str], int]:
    """The shard of a document."""

    @lru_cache(maxsize=50_000)
    def shard(stream: str) -> int:
        return shard_of(stream, shard_count)

    return shard


class _Gathered:
    """What a batch did to documents, by shard and name."""

    def __init__(self, shard: Callable[[str], int], present: Container[str]) -> None:
        self._shard = shard
        self._present = present
        self.changes: defaultdict[int, dict[str, Change]] = defaultdict(dict)

    def of(self, stream: str, name: str | None = None) -> Change | None:
        """Where to write what the stream did to a document; None for one that is believed not to be there."""
        name = document_of(stream) if name is None else name
        changes = self.changes[self._shard(stream)]
        change = changes.get(name)
        if change is None:
            unseen = name not in self._present
            change = changes[name] = Change(name, [], {}, {}, {}, unseen)
        return None if change.unseen else change


def changes_of(work: UnitOfWork, shard: Callable[[str], int], present: Container[str]) -> Changes:
    """What a batch did to the documents. Of those that are not in `present` only their names."""
    gathered = _Gathered(shard, present)
    for table, changes in work.changes.items():
        if table in EVENT_TABLES:
            _events(gathered, changes)
        elif table in SMALL_FIELDS:
            _small(gathered, table, changes)
        elif table in MEMBER_FIELDS:
            _members(gathered, table, changes)
    return {number: list(documents.values()) for number, documents in gathered.changes.items()}


def _rows(changes: TableChanges) -> list[Row]:
    """What is written, in the order in which a later row counts."""
    if not changes.puts:
        return changes.new_rows
    return [*changes.new_rows, *changes.puts.values()]


def _events(gathered: _Gathered, changes: TableChanges) -> None:
    known: dict[Any, dict[int, bytes] | None] = {}
    for row in _rows(changes):
        stream = row[0]
        if stream in known:
            events = known[stream]
        else:
            change = gathered.of(str(stream))
            events = known[stream] = None if change is None else change.events
        if events is not None:
            seq: Any = row[1]
            events[seq] = pack(row)


def _small(gathered: _Gathered, table: str, changes: TableChanges) -> None:
    field_of, size = SMALL_FIELDS[table], _KEY_SIZES[table]
    column = 1 if table == MENTIONS.name else 0
    for key in changes.deletes:
        change = gathered.of(str(key[column]))
        if change is not None:
            change.gone.append(field_of(key))
    for row in _rows(changes):
        change = gathered.of(str(row[column]))
        if change is not None:
            change.small[field_of(row[:size])] = pack(row)


def _members(gathered: _Gathered, table: str, changes: TableChanges) -> None:
    field_of, size = MEMBER_FIELDS[table], _KEY_SIZES[table]
    for row in _rows(changes):
        stream = str(row[0])
        change = gathered.of(stream)
        if change is not None:
            change.members[field_of(row[:size])] = pack(row)
        if table == MEMBERS.name:
            change = gathered.of(stream, list_of(str(row[1])))
            if change is not None:
                change.small[listed_field(stream)] = b""
