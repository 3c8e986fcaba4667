"""The view store in memory: the twin that says what the others must do. A batch makes new dictionaries of the tables that it changes."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager

from projections.shelf import FIRST_VERSION, SwitchRefusedError
from projections.store import (
    OWN_TABLES,
    SCAN_ROWS_MAX,
    Key,
    Row,
    Schema,
    Snapshot,
    StaleWriterError,
    Table,
    TableChanges,
    TextQuery,
    Trial,
    UnitOfWork,
    Value,
    ViewStore,
    ViewUnavailableError,
    prefix_columns,
)
from projections.words import matches

Rows = Mapping[Key, Row]
_TYPES: Mapping[str, type] = {"int": int, "text": str, "bytes": bytes}


class MemoryView:
    """What one version of a view holds; outlives the stores that are opened upon it."""

    def __init__(self, schema: Schema, log_id: str) -> None:
        self.schema = schema
        self.log_id = log_id
        self.rows: dict[str, Rows] = {t.name: {} for t in (*OWN_TABLES, *schema.tables)}
        self.positions: Mapping[int, int] = {}
        self.lock = threading.Lock()
        """Held for a moment by whoever writes or begins a snapshot: several stores, on threads of their own, may be open upon it."""


class MemoryViewStore:
    """One writer over a view in memory."""

    def __init__(self, view: MemoryView) -> None:
        self._view = view
        self._tables = {table.name: table for table in (*OWN_TABLES, *view.schema.tables)}
        self._notes: set[Hashable] = set()
        self._expected = view.positions
        self._closed = False

    @property
    def schema(self) -> Schema:
        """What the view keeps."""
        return self._view.schema

    @property
    def log_id(self) -> str:
        """The log that this view was made from."""
        return self._view.log_id

    def positions(self) -> dict[int, int]:
        """See the port."""
        self._expected = self._view.positions
        return dict(self._expected)

    def get(self, table: Table, key: Key) -> Row | None:
        """See the port."""
        self._check_open()
        return self._view.rows[table.name].get(key)

    def trial(self) -> Trial | None:
        """See the port: nothing is a journey."""
        return None

    def newest_row(self, table: Table, prefix: Key, following: int | None = None) -> Row | None:
        """See the port."""
        self._check_open()
        rows = _MemorySnapshot(self._view).scan(table, prefix, descending=True, limit=1)
        return rows[0] if rows else None

    def noted(self, what: Hashable) -> bool:
        """See the port."""
        return what in self._notes

    def apply(self, work: UnitOfWork, positions: Mapping[int, int]) -> None:
        """See the port."""
        self._check_open()
        view = self._view
        with view.lock:
            if any(
                view.positions.get(shard) != self._expected.get(shard)
                for shard in positions or self._expected
            ):
                raise StaleWriterError(f"{view.schema.name}: a position is not where this writer left it")
            rows = dict(view.rows)
            for name, changes in work.changes.items():
                rows[name] = _changed(self._tables[name], rows[name], changes)
            view.rows = rows
            view.positions = self._expected = {**view.positions, **positions}
        self._notes |= work.notes

    def release(self) -> None:
        """See the port: nothing is held between the calls."""

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """See the port."""
        self._check_open()
        yield _MemorySnapshot(self._view)

    def close(self) -> None:
        """See the port."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise ViewUnavailableError(f"{self._view.schema.name}: closed")


class _MemorySnapshot:
    """The rows as they were. Every scan sorts: it is for tests."""

    def __init__(self, view: MemoryView) -> None:
        self._schema = view.schema
        with view.lock:
            self._rows = view.rows
            self._positions = view.positions

    def positions(self) -> Mapping[int, int]:
        """See the port."""
        return dict(self._positions)

    def get(self, table: Table, key: Key) -> Row | None:
        """See the port."""
        return self._rows[table.name].get(key)

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
        numbers = [table.names.index(name) for name in prefix_columns(table, index)]
        size = len(prefix)
        found: list[tuple[Key, Row]] = []
        for row in self._rows[table.name].values():
            ordered = tuple(row[number] for number in numbers)
            if ordered[:size] != prefix or (present and row[table.names.index(present)] is None):
                continue
            if size == len(ordered) or _between(ordered[size], after, before):
                found.append((ordered, row))
        found.sort(key=lambda one: [(value is not None, value) for value in one[0]], reverse=descending)
        return [row for _, row in found[: min(limit, SCAN_ROWS_MAX)]]

    def count(self, table: Table, prefix: Key, *, after: Value = None, before: Value = None) -> int:
        """See the port."""
        size = len(prefix)
        return sum(
            key[:size] == prefix and (size == len(key) or _between(key[size], after, before))
            for key in self._rows[table.name]
        )

    def find_text(
        self, table: Table, query: TextQuery, *, after: int | None, before: int | None, limit: int
    ) -> list[Row]:
        """See the port."""
        assert table.text is not None
        order = table.names.index(table.text.order)
        searched = {name: table.names.index(name) for name in table.text.searched}
        found = [
            row
            for row in self._rows[table.name].values()
            if _between(row[order], after, before)
            and matches(query, {name: str(row[number] or "") for name, number in searched.items()})
        ]
        found.sort(key=lambda row: int(row[order] or 0), reverse=True)
        return found[:limit]

    def dump(self) -> Iterator[tuple[str, Row]]:
        """See the port."""
        for table in self._schema.tables:
            rows = self._rows[table.name]
            for key in sorted(rows):
                yield table.name, rows[key]


def _changed(table: Table, rows: Rows, changes: TableChanges) -> Rows:
    size = table.key_size
    order = None if table.text is None else table.names.index(table.text.order)
    changed = dict(rows)
    for key in changes.deletes:
        changed.pop(key, None)
    for key, row in changes.puts.items():
        changed[key] = _checked(table, row)
    numbers = set() if order is None else {row[order] for row in changed.values()}
    for row in changes.new_rows:
        if row[:size] not in changed and (order is None or row[order] not in numbers):
            changed[row[:size]] = _checked(table, row)
            if order is not None:
                numbers.add(row[order])
    return changed


def _checked(table: Table, row: Row) -> Row:
    for column, value in zip(table.columns, row, strict=True):
        if value is not None and not isinstance(value, _TYPES[column.split()[1]]):
            raise TypeError(f"{table.name}: {column} is of another type")
    return row


def _between(value: Value, after: Value, before: Value) -> bool:
    if value is None:
        return after is None and before is None
    return (after is None or value > after) and (before is None or value < before)  # type: ignore[operator]


class MemoryShelf:
    """Views of one process."""

    def __init__(self) -> None:
        self._views: dict[tuple[str, int], MemoryView] = {}
        self._current: dict[str, int] = {}

    def current(self) -> Mapping[str, int]:
        """See the port."""
        return dict(self._current)

    def open(self, schema: Schema, version: int, log_id: str) -> ViewStore:
        """See the port."""
        place = schema.name, version
        if not self.holds(schema, version, log_id):
            self._views[place] = MemoryView(schema, log_id)
        return MemoryViewStore(self._views[place])

    def versions(self, name: str) -> frozenset[int]:
        """See the port."""
        return frozenset(version for view, version in self._views if view == name)

    def holds(self, schema: Schema, version: int, log_id: str) -> bool:
        """See the port."""
        view = self._views.get((schema.name, version))
        return view is not None and (view.schema.version, view.log_id) == (schema.version, log_id)

    def switch(self, name: str, old: int, new: int) -> None:
        """See the port."""
        if self._current.get(name, FIRST_VERSION) != old:
            raise SwitchRefusedError(f"version {old} of {name} is not current")
        self._current[name] = new

    def remove(self, name: str, version: int) -> None:
        """See the port."""
        self._views.pop((name, version), None)
