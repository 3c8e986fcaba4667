"""Writing a batch's rows into SQLite tables, and into the indexes of words beside them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from operator import itemgetter

from typing_extensions import override

from projections.sqlite_words import words_of
from projections.store import Key, Row, Table, TableChanges, Text

INSERTED_ROWS = 20
"""How many rows one statement inserts: the fixed work of a statement is a quarter of what a row costs."""


class TableWriter:
    """The statements of a table."""

    def __init__(self, table: Table) -> None:
        key = table.names[: table.key_size]
        self._where = " AND ".join(f"{name} = ?" for name in key)
        marks = f"({', '.join('?' * len(table.columns))})"
        sets = ", ".join(f"{name} = excluded.{name}" for name in table.names[table.key_size :])
        conflict = f"DO UPDATE SET {sets}" if sets else "DO NOTHING"
        self._put = f"INSERT INTO {table.name} VALUES {marks} ON CONFLICT ({', '.join(key)}) {conflict}"
        self._insert = f"INSERT OR IGNORE INTO {table.name} VALUES {marks}"
        self._insert_many = self._insert + f", {marks}" * (INSERTED_ROWS - 1)
        self._delete = f"DELETE FROM {table.name} WHERE {self._where}"

    def write(self, connection: sqlite3.Connection, changes: TableChanges) -> None:
        """Write the changes of a batch."""
        self._change(connection, changes)
        self._insert_all(connection, changes.new_rows)

    def _insert_all(self, connection: sqlite3.Connection, rows: list[Row]) -> None:
        single = len(rows) % INSERTED_ROWS
        for several in _several(rows[single:]):
            connection.execute(self._insert_many, several)
        if single:
            connection.executemany(self._insert, rows[:single])

    def _change(self, connection: sqlite3.Connection, changes: TableChanges) -> None:
        if changes.deletes:
            connection.executemany(self._delete, changes.deletes)
        if changes.puts:
            connection.executemany(self._put, changes.puts.values())


class TextWriter(TableWriter):
    """Keeps the index of words in step with its table. Triggers would do it too, but FTS5 then writes its index out row by row."""

    def __init__(self, table: Table, text: Text) -> None:
        super().__init__(table)
        columns = (text.order, *text.searched)
        words, searched, marks = words_of(table), ", ".join(text.searched), ", ".join("?" * len(columns))
        self._known = f"SELECT {', '.join(columns)} FROM {table.name} WHERE {self._where}"
        self._add = f"INSERT INTO {words} (rowid, {searched}) VALUES ({marks})"
        self._remove = f"INSERT INTO {words} ({words}, rowid, {searched}) VALUES ('delete', {marks})"
        self._indexed: itemgetter[Row] = itemgetter(*(table.names.index(column) for column in columns))

    @override
    def write(self, connection: sqlite3.Connection, changes: TableChanges) -> None:
        """Write the changes of a batch."""
        self._forget(connection, {*changes.deletes, *changes.puts})
        self._change(connection, changes)
        written = [*changes.puts.values(), *self._inserted(connection, changes.new_rows)]
        if written:
            connection.executemany(self._add, map(self._indexed, written))

    def _inserted(self, connection: sqlite3.Connection, rows: list[Row]) -> Sequence[Row]:
        """Insert; the rows that were not there before."""
        before = connection.total_changes
        connection.execute("SAVEPOINT inserting")
        self._insert_all(connection, rows)
        if connection.total_changes - before < len(rows):
            connection.execute("ROLLBACK TO inserting")
            rows = [row for row in rows if connection.execute(self._insert, row).rowcount]
        connection.execute("RELEASE inserting")
        return rows

    def _forget(self, connection: sqlite3.Connection, keys: set[Key]) -> None:
        known = [connection.execute(self._known, key).fetchone() for key in keys]
        stale = [row for row in known if row is not None]
        if stale:
            connection.executemany(self._remove, stale)


def _several(rows: list[Row]) -> Iterator[Row]:
    """The values of so many rows as one statement inserts, for each of these statements."""
    for first in range(0, len(rows), INSERTED_ROWS):
        yield tuple(chain.from_iterable(rows[first : first + INSERTED_ROWS]))
