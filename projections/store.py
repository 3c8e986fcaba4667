"""The view-store port: tables with keys, a unit of work that folds a batch to one write per row, snapshots to read from.

A view belongs to one projection version and one log. Its positions {shard: position} are written in the same transaction as its rows,
so that a crash at any moment leaves the view exactly as it stood at its positions. A row is fed by exactly one shard.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

Value = int | str | bytes | None
Key = tuple[Value, ...]
Row = tuple[Value, ...]

SCAN_ROWS_MAX = 5_000
"""The most rows one scan returns; callers page on."""


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """What of a table can be searched for words: text columns, and the int column that orders what is found.

    That column is unique and never changes; a row whose number another row has already is not written.
    """

    searched: tuple[str, ...]
    order: str


class Table(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A table: columns `name type` (int, text, bytes) of which the first `key_size` are the key; a row is a tuple in column order."""

    name: str
    columns: tuple[str, ...]
    key_size: int
    indexes: tuple[tuple[str, ...], ...] = ()
    newest: bool = False
    """Batches ask for the newest row behind the key's first columns, and the writer keeps those in memory, up to a bound.

    For rows that continue their predecessor; none of them is ever deleted.
    """
    wide: bool = False
    """Rows are long and come for many keys at once: better kept in order of arrival, with an index of the keys beside them.

    Measured on SQLite, batches of 20 events for 500 conversations: 14 µs a row against 21 µs, since a page of short keys takes a hundred
    rows before it is split, and a page of long rows eight. Reading a page of 50 touches up to 50 places instead of 7.
    """
    text: Text | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The column names."""
        return tuple(column.split()[0] for column in self.columns)


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """What a projection keeps. Raise `version` whenever rows come out differently: a new version is rebuilt beside the old one."""

    name: str
    version: int
    tables: tuple[Table, ...]


class Phrase(msgspec.Struct, frozen=True):
    """Words that follow each other in a column; `beginning`: the last one matches whatever begins with it."""

    column: str
    text: str
    beginning: bool = False


class TextQuery(msgspec.Struct, frozen=True, kw_only=True):
    """All of some phrases, and at least one of some others unless there are none. Nothing in a phrase is an operator."""

    all_of: tuple[Phrase, ...]
    any_of: tuple[Phrase, ...] = ()


PARKED = Table(
    name="parked",
    columns=("stream text", "from_version int", "shard int", "position int", "at int", "error text"),
    key_size=1,
)
"""Streams that a projection could not read on, from the first version that is not in the view."""
SKIPPED = Table(
    name="skipped",
    columns=("stream text", "version int", "reason text"),
    key_size=2,
)
"""Events that an operator ordered to leave out."""
OWN_TABLES = (PARKED, SKIPPED)
"""Tables that every view has, beside its positions."""


class TableChanges:
    """What a batch did to one table: rows to write whatever stands there, rows to write if absent, keys to delete."""

    __slots__ = ("appends", "deletes", "inserts", "puts", "seen")

    def __init__(self) -> None:
        self.appends: list[Row] = []
        """Rows to insert whose keys nobody has looked at; any other access makes `inserts` of them."""
        self.puts: dict[Key, Row] = {}
        self.inserts: dict[Key, Row] = {}
        self.deletes: set[Key] = set()
        self.seen: dict[Key, Row | None] = {}

    def settle(self, key_size: int) -> None:
        """Make `inserts` of the appended rows."""
        for row in self.appends:
            self.inserts[row[:key_size]] = row
        self.appends.clear()

    @property
    def new_rows(self) -> list[Row]:
        """The rows to write if absent."""
        return [*self.inserts.values(), *self.appends]


class ViewUnavailableError(Exception):
    """The store cannot be read or written (disk full, closed). Nothing of the batch was written; it is no event's fault."""


class StaleWriterError(ViewUnavailableError):
    """Somebody else wrote to this view, or what this writer sent last may or may not be written. Nothing of this batch was.

    What was read for it may be old: ask the store for its positions and start over from there.
    """


class BatchTooLargeError(ViewUnavailableError):
    """The store cannot write so much at once. Nothing was written; the same in smaller batches can be."""


class Rows(Protocol):
    """What a batch reads: a store, or a unit of work that another is built upon."""

    def get(self, table: Table, key: Key) -> Row | None:
        """The row of that key."""
        ...

    def newest_row(self, table: Table, prefix: Key, following: int | None = None) -> Row | None:
        """The row with the highest last key column, of those whose key columns before it equal `prefix`.

        `following`, where known: the number of the row that comes next. All rows lie below it, mostly the newest just below it, and none
        below 1; so a store need not look for it.
        """
        ...

    def noted(self, what: Hashable) -> bool:
        """Whether an earlier batch noted this; now and then everything is forgotten."""
        ...


class Trial(Rows, Protocol):
    """Rows at hand. What is not is answered as absent, and remembered: then the batch was tried in vain."""

    def fetch(self) -> bool:
        """Bring to hand what was missing; whether anything was. Raises ViewUnavailableError."""
        ...


class UnitOfWork:
    """Collects the changes of a batch and reads its own writes. Not durable until a store applied it."""

    __slots__ = ("_rows", "changes", "newest", "notes")

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.newest: defaultdict[str, dict[Key, Row | None]] = defaultdict(dict)
        self.changes: defaultdict[str, TableChanges] = defaultdict(TableChanges)
        self.notes: set[Hashable] = set()

    def get(self, table: Table, key: Key) -> Row | None:
        """The row as this batch sees it."""
        changes = self.changes[table.name]
        if changes.appends:
            changes.settle(table.key_size)
        row = changes.puts.get(key)
        if row is not None:
            return row
        inserted = changes.inserts.get(key)
        if key in changes.deletes:
            return inserted
        if key in changes.seen:
            row = changes.seen[key]
        else:
            row = changes.seen[key] = self._rows.get(table, key)
        return inserted if row is None else row

    def newest_row(self, table: Table, prefix: Key, following: int | None = None) -> Row | None:
        """The newest row of a `newest` table as this batch sees it."""
        rows = self.newest[table.name]
        if prefix in rows:
            return rows[prefix]
        row = rows[prefix] = self._rows.newest_row(table, prefix, following)
        return row

    def noted(self, what: Hashable) -> bool:
        """Whether this batch or an earlier one noted this."""
        return what in self.notes or self._rows.noted(what)

    def note(self, what: Hashable) -> bool:
        """Note that something is done, which need not be done again but may be; whether it was noted before."""
        if self.noted(what):
            return True
        self.notes.add(what)
        return False

    def append(self, table: Table, row: Row) -> None:
        """`insert` of a row whose key is new to this batch: costs less.

        In a `newest` table it follows all others of its prefix, and `newest_row` was asked before.
        """
        name = table.name
        self.changes[name].appends.append(row)
        if table.newest:
            self.newest[name][row[: table.key_size - 1]] = row

    def put(self, table: Table, row: Row) -> None:
        """Write the row, whatever stood there."""
        changes = self.changes[table.name]
        if changes.appends:
            changes.settle(table.key_size)
        key = row[: table.key_size]
        changes.puts[key] = row
        if changes.inserts:
            changes.inserts.pop(key, None)
        if changes.deletes:
            changes.deletes.discard(key)
        if table.newest:
            newest = self.newest_row(table, key[:-1])
            if newest is None or newest[: table.key_size] == key:
                self.newest[table.name][key[:-1]] = row

    def insert(self, table: Table, row: Row) -> None:
        """Write the row if its key is absent; a present one stays as it is. Needs no read."""
        changes = self.changes[table.name]
        if changes.appends:
            changes.settle(table.key_size)
        key = row[: table.key_size]
        if key in changes.deletes:
            changes.deletes.discard(key)
            changes.puts[key] = row
        elif key not in changes.puts:
            changes.inserts.setdefault(key, row)

    def delete(self, table: Table, key: Key) -> None:
        """Remove the row, if there is one."""
        changes = self.changes[table.name]
        if changes.appends:
            changes.settle(table.key_size)
        changes.puts.pop(key, None)
        changes.inserts.pop(key, None)
        changes.deletes.add(key)

    def nested(self) -> UnitOfWork:
        """A unit of work upon this one: dropped when an event turns out to be poison, else merged."""
        return UnitOfWork(self)

    def merge(self, inner: UnitOfWork) -> None:
        """Take over the changes of a nested unit of work."""
        for name, theirs in inner.changes.items():
            ours = self.changes[name]
            for key in theirs.deletes:
                ours.puts.pop(key, None)
                ours.inserts.pop(key, None)
                ours.deletes.add(key)
            for key, row in theirs.puts.items():
                ours.puts[key] = row
                ours.inserts.pop(key, None)
                ours.deletes.discard(key)
            for key, row in theirs.inserts.items():
                if key not in ours.puts:
                    ours.inserts.setdefault(key, row)
            ours.appends += theirs.appends
        for name, newest in inner.newest.items():
            self.newest[name].update(newest)
        self.notes |= inner.notes

    @property
    def empty(self) -> bool:
        """Whether the batch changed nothing."""
        return not any(c.puts or c.inserts or c.appends or c.deletes for c in self.changes.values())


class Snapshot(Protocol):
    """One moment of a view: everything read from it belongs together."""

    def positions(self) -> Mapping[int, int]:
        """The positions at which the view stands in this moment."""
        ...

    def get(self, table: Table, key: Key) -> Row | None:
        """The row of that key."""
        ...

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
        """Rows whose first key (or index) columns equal `prefix`, in order of the columns that follow.

        `after` and `before` are exclusive bounds of the first column behind the prefix; `present` names a column that must not be null.
        """
        ...

    def count(self, table: Table, prefix: Key, *, after: Value = None, before: Value = None) -> int:
        """The number of rows that a scan without limit would give."""
        ...

    def find_text(
        self, table: Table, query: TextQuery, *, after: int | None, before: int | None, limit: int
    ) -> list[Row]:
        """Rows of a table with `text` that match, highest order first; `after` and `before` are exclusive bounds of it."""
        ...

    def dump(self) -> Iterator[tuple[str, Row]]:
        """All rows of all the projection's tables in canonical order, for digests; not the positions, not what is parked."""
        ...


class ViewStore(Protocol):
    """The view of one projection version. `apply` and `get` belong to one writer thread; snapshots to any thread. All calls block."""

    @property
    def schema(self) -> Schema:
        """What the view keeps."""
        ...

    @property
    def log_id(self) -> str:
        """The log that this view was made from."""
        ...

    def positions(self) -> dict[int, int]:
        """The durable positions. Raises ViewUnavailableError."""
        ...

    def get(self, table: Table, key: Key) -> Row | None:
        """A row as the last `apply` left it. Raises ViewUnavailableError."""
        ...

    def newest_row(self, table: Table, prefix: Key, following: int | None = None) -> Row | None:
        """The newest row of a `newest` table as the last `apply` left it. Raises ViewUnavailableError."""
        ...

    def trial(self) -> Trial | None:
        """What to try a batch upon first, so that all that it asks for is fetched at once; None where a row costs no journey."""
        ...

    def noted(self, what: Hashable) -> bool:
        """Whether an applied batch noted this; now and then everything is forgotten."""
        ...

    def apply(self, work: UnitOfWork, positions: Mapping[int, int]) -> None:
        """Write the batch and the positions in one transaction: all or nothing.

        Raises ViewUnavailableError; as BatchTooLargeError or StaleWriterError where a smaller batch, or asking for the positions, helps.
        """
        ...

    def release(self) -> None:
        """End a batch that writes nothing: what `get` holds is let go."""
        ...

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """A snapshot, from entering to leaving."""
        ...

    def close(self) -> None:
        """Release files and connections. Idempotent."""
        ...


def prefix_columns(table: Table, index: tuple[str, ...] | None) -> Sequence[str]:
    """The columns of an index followed by the key's, or of the key alone."""
    key = table.names[: table.key_size]
    if index is None:
        return key
    if index not in table.indexes:
        raise ValueError(f"{table.name} has no index {index}")
    return (*index, *(name for name in key if name not in index))
