"""Snapshots over what the fast views hold: they answer what the view would, or raise NotHeldError."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from projections.fast import KNOWN_ABSENT, Ask, Held
from projections.fast_documents import (
    HEAD,
    MEMBER_FIELDS,
    SMALL_FIELDS,
    document_of,
    listed_field,
    member_field,
    unpack_row,
)
from projections.personal import ME_EVENTS, ME_HEADS, PERSONAL
from projections.store import SCAN_ROWS_MAX, Key, Row, Table, TextQuery, Value
from projections.tables import (
    CONVERSATIONS,
    EVENTS,
    MEMBERS,
    MENTIONS,
    MENTIONS_OF_ALL,
    REACTIONS,
    RECALLS,
)


class NotHeldError(Exception):
    """What is asked for is not at hand. `seq`: an event of `stream` that may be there and was not fetched. `member`: of a member
    nothing is known yet.
    """

    def __init__(self, stream: str = "", seq: int | None = None, *, member: bool = False) -> None:
        super().__init__(stream, seq)
        self.stream = stream
        self.seq = seq
        self.member = member


class Document:
    """What was fetched of one document; rows are decoded when they are asked for."""

    def __init__(self, held: Held, ask: Ask) -> None:
        asked = ask.members
        self.shard = ask.shard
        self.held = held
        self.whole = ask.small
        """Whether all small fields were asked for."""
        self.asked = None if asked is None else set(asked)
        """The fields of members that were asked for; None: all."""
        self._rows: dict[object, Row] = {}

    def small(self, field: str) -> Row | None:
        """The row of a small field; None without one."""
        if not self.whole and field != HEAD:
            raise NotHeldError
        return self._decoded(field, self.held.small.get(field))

    def member(self, field: str) -> Row | None:
        """The row of a member's field; None for one that is known to be absent."""
        value = self.held.members.get(field)
        if value is None:
            raise NotHeldError(member=True)
        return None if value == KNOWN_ABSENT else self._decoded(f"@{field}", value)

    def personal(self, field: str) -> Row | None:
        """The row of a member's field of a document that holds all there are."""
        if self.asked is not None and field not in self.asked:
            raise NotHeldError
        return self._decoded(f"@{field}", self.held.members.get(field))

    def event(self, stream: str, seq: int) -> Row | None:
        """The event; None above the newest one."""
        held = self.held
        if seq > held.high or seq < 1:
            return None
        value = held.events.get(seq)
        if value is None:
            raise NotHeldError(stream, seq if seq >= held.floor else None)
        return self._decoded(seq, value)

    def _decoded(self, key: object, value: bytes | None) -> Row | None:
        if value is None:
            return None
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = unpack_row(value)
        return row


class FastMoment:
    """What was fetched of documents, as `projections.store.Snapshot`. `lists`: of these users all conversations are known."""

    def __init__(self) -> None:
        self.documents: dict[str, Document] = {}
        self.lists: dict[str, list[str]] = {}

    def add(self, name: str, document: Document) -> None:
        """Have a document at hand, or more of one."""
        known = self.documents.get(name)
        if known is None:
            self.documents[name] = document
            return
        if (known.held.position, known.held.floor, known.held.high) != (
            document.held.position,
            document.held.floor,
            document.held.high,
        ):
            raise NotHeldError  # It moved on between two fetches.
        known.held.events.update(document.held.events)
        known.held.members.update(document.held.members)
        if document.whole:
            known.held.small, known.whole = document.held.small, True
        if known.asked is not None:
            known.asked = None if document.asked is None else known.asked | document.asked

    def list_all(self, member: str, lists: Sequence[Held]) -> None:
        """Know all conversations of a user."""
        streams = {field[1:] for held in lists for field in held.small if field[0] == listed_field("")}
        self.lists[member] = sorted(streams)

    def positions(self) -> Mapping[int, int]:
        """See the port: of the shards that something was fetched of."""
        return {document.shard: document.held.position for document in self.documents.values()}

    def get(self, table: Table, key: Key) -> Row | None:
        """See the port."""
        name, stream = table.name, str(key[0])
        document = self._document(stream)
        if name == EVENTS.name:
            assert isinstance(key[1], int)
            return document.event(stream, key[1])
        if name in MEMBER_FIELDS:
            field = MEMBER_FIELDS[name](key)
            return document.personal(field) if name == PERSONAL.name else document.member(field)
        if name not in (CONVERSATIONS.name, ME_HEADS.name):
            self._require_kept(document, key[1])
        return document.small(SMALL_FIELDS[name](key))

    def scan(
        self,
        table: Table,
        prefix: Key,
        *,
        index: tuple[str, ...] | None = None,
        after: Value = None,
        before: Value = None,
        descending: bool = False,
        limit: int,
        present: str | None = None,
    ) -> list[Row]:
        """See the port."""
        limit = min(limit, SCAN_ROWS_MAX)
        if table is MEMBERS and index == ("member",):
            return self._memberships(str(prefix[0]), after, limit)
        low = after if isinstance(after, int) else 0
        if table is REACTIONS and len(prefix) == 3:
            return self._reactions(prefix, low)[:limit]
        high = before if isinstance(before, int) else None
        if table is MENTIONS:
            return self._numbered(str(prefix[1]), "n", low, high, f":{prefix[0]!s}")[:limit]
        if table is MENTIONS_OF_ALL:
            return self._numbered(str(prefix[0]), "a", low, high)[:limit]
        if table is EVENTS or table is ME_EVENTS:
            column = None if present is None else table.names.index(present)
            return self._events(str(prefix[0]), low, high, descending, limit, column)
        raise NotHeldError

    def count(self, table: Table, prefix: Key, *, after: Value = None, before: Value = None) -> int:
        """See the port."""
        if table is not RECALLS or not isinstance(after, int) or not isinstance(before, int):
            raise NotHeldError
        return len(self._numbers(str(prefix[0]), "r", after, before))

    def find_text(
        self, table: Table, query: TextQuery, *, after: int | None, before: int | None, limit: int
    ) -> list[Row]:
        """See the port: no words are held."""
        raise NotHeldError

    def dump(self) -> Iterator[tuple[str, Row]]:
        """See the port: never all rows are held."""
        raise NotHeldError

    def _document(self, stream: str) -> Document:
        document = self.documents.get(document_of(stream))
        if document is None:
            raise NotHeldError
        return document

    def _require_kept(self, document: Document, target: Value) -> None:
        if not isinstance(target, int) or target < document.held.floor:
            raise NotHeldError

    def _events(
        self, stream: str, low: int, high: int | None, descending: bool, limit: int, column: int | None
    ) -> list[Row]:
        document = self._document(stream)
        first, last = low + 1, document.held.high if high is None else min(document.held.high, high - 1)
        rows: list[Row] = []
        for seq in range(last, first - 1, -1) if descending else range(first, last + 1):
            if len(rows) >= limit:
                break
            row = document.event(stream, seq)
            if row is not None and (column is None or row[column] is not None):
                rows.append(row)
        return rows

    def _memberships(self, member: str, after: Value, limit: int) -> list[Row]:
        if member not in self.lists:
            raise NotHeldError
        rows: list[Row] = []
        for stream in self.lists[member]:
            if (after is None or stream > str(after)) and len(rows) < limit:
                row = self._document(stream).member(member_field(member))
                if row is None:
                    raise NotHeldError
                rows.append(row)
        return rows

    def _reactions(self, prefix: Key, low: int) -> list[Row]:
        stream, target, emoji = prefix
        document = self._document(str(stream))
        self._require_kept(document, target)
        if not document.whole:
            raise NotHeldError
        beginning = f"x{target!s}:"
        rows = [document.small(field) for field in document.held.small if field.startswith(beginning)]
        found = [row for row in rows if row is not None and row[2] == emoji and _int(row[4]) > low]
        return sorted(found, key=lambda row: _int(row[4]))

    def _numbers(self, stream: str, letter: str, after: int, before: int, end: str = "") -> list[int]:
        """The numbers of small fields `<letter><number><end>` in between, ascending."""
        document = self._document(stream)
        self._require_kept(document, after + 1)
        if not document.whole:
            raise NotHeldError
        found = []
        for field in document.held.small:
            if field[0] == letter and field != HEAD:
                number, colon, rest = field[1:].partition(":")
                if colon + rest == end and after < int(number) < before:
                    found.append(int(number))
        return sorted(found)

    def _numbered(self, stream: str, letter: str, low: int, high: int | None, end: str = "") -> list[Row]:
        if high is None:
            raise NotHeldError
        document = self._document(stream)
        rows = [
            document.small(f"{letter}{number}{end}")
            for number in self._numbers(stream, letter, low, high, end)
        ]
        return [row for row in rows if row is not None]


def _int(value: Value) -> int:
    assert isinstance(value, int)
    return value
