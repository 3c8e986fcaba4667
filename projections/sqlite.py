"""The view store on SQLite: one file per projection version, WAL, synchronous NORMAL.

A file holds its own positions, so it may lose its newest transactions in a power cut: they are read from the log again.
"""

from __future__ import annotations

import functools
import sqlite3
import threading
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from projections.sqlite_words import create_words, match_of, words_of
from projections.sqlite_writing import TableWriter, TextWriter
from projections.store import (
    OWN_TABLES,
    SCAN_ROWS_MAX,
    Key,
    Row,
    Schema,
    Snapshot,
    Table,
    TextQuery,
    UnitOfWork,
    Value,
    ViewUnavailableError,
    prefix_columns,
)

_TYPES = {"int": "INTEGER", "text": "TEXT", "bytes": "BLOB"}
sqlite3.register_adapter(bytes, bytes)
sqlite3.register_adapter(type(None), lambda none: none)
"""Python looks for an adapter of each such value, and takes a microsecond to find that there is none."""
CHECKPOINT_PAGES = 500
"""A checkpoint of 4,000 pages made the log's flush beside it wait for the disk for 60 ms; of 500 for 15."""
CACHE_KIB = 16_384
BUSY_TIMEOUT_S = 5.0
NEWEST_ROWS_MAX = 20_000
"""For each table."""
NOTES_MAX = 50_000


class SqliteViewStore:
    """One view file. Made anew when the file belongs to another log or another schema version."""

    def __init__(self, path: Path, schema: Schema, log_id: str) -> None:
        self.path = path
        self._schema = schema
        self._log_id = log_id
        self._closed = False
        self._readers: list[sqlite3.Connection] = []
        self._readers_lock = threading.Lock()
        self._local = threading.local()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = self._opened()
        self._writers = {
            table.name: TableWriter(table) if table.text is None else TextWriter(table, table.text)
            for table in (*OWN_TABLES, *schema.tables)
        }
        self._newest: dict[str, dict[Key, Row | None]] = {t.name: {} for t in schema.tables if t.newest}
        self._notes: set[Hashable] = set()

    @property
    def schema(self) -> Schema:
        """What the view keeps."""
        return self._schema

    @property
    def log_id(self) -> str:
        """The log that this view was made from."""
        return self._log_id

    def positions(self) -> dict[int, int]:
        """See the port."""
        try:
            return dict(self._writer.execute("SELECT shard, position FROM positions"))
        except sqlite3.Error as error:
            raise ViewUnavailableError(f"{self._schema.name}: {error}") from error

    def get(self, table: Table, key: Key) -> Row | None:
        """See the port. Opens the batch's transaction: one for all reads and writes of a batch costs least."""
        return self._one(_get_sql(table), key)

    def trial(self) -> None:
        """See the port: a row costs a few microseconds."""

    def newest_row(self, table: Table, prefix: Key, following: int | None = None) -> Row | None:
        """See the port."""
        known = self._newest[table.name]
        if prefix in known:
            return known[prefix]
        sql = _scan_sql(table, len(prefix), None, after=False, before=False, descending=True, present=None)
        row = known[prefix] = self._one(sql, (*prefix, 1))
        return row

    def noted(self, what: Hashable) -> bool:
        """See the port."""
        return what in self._notes

    def release(self) -> None:
        """End a batch that writes nothing."""
        if not self._closed and self._writer.in_transaction:
            self._writer.execute("ROLLBACK")

    def apply(self, work: UnitOfWork, positions: Mapping[int, int]) -> None:
        """See the port."""
        try:
            if not self._writer.in_transaction:
                self._writer.execute("BEGIN IMMEDIATE")
            for name, changes in work.changes.items():
                self._writers[name].write(self._writer, changes)
            self._writer.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?)", positions.items())
            self._writer.execute("COMMIT")
        except BaseException as error:
            self.release()
            for rows in self._newest.values():
                rows.clear()
            if isinstance(error, sqlite3.Error):
                raise ViewUnavailableError(f"{self._schema.name}: {error}") from error
            raise
        self._keep(work)

    def _one(self, sql: str, values: Key) -> Row | None:
        try:
            if not self._writer.in_transaction:
                self._writer.execute("BEGIN")
            row: Row | None = self._writer.execute(sql, values).fetchone()
        except sqlite3.Error as error:
            raise ViewUnavailableError(f"{self._schema.name}: {error}") from error
        return row

    def _keep(self, work: UnitOfWork) -> None:
        """Remember what the next batches will ask for, after this one is written."""
        for name, newest in self._newest.items():
            newest.update(work.newest[name])
            if len(newest) > NEWEST_ROWS_MAX:
                newest.clear()
        self._notes |= work.notes
        if len(self._notes) > NOTES_MAX:
            self._notes.clear()

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """A snapshot on this thread's own connection."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connected()
            connection.execute("PRAGMA query_only = ON")
            with self._readers_lock:
                self._readers.append(connection)
        connection.execute("BEGIN")
        connection.execute(
            "SELECT 1 FROM view"
        ).fetchone()  # Without a read the moment would be that of the first one.
        try:
            yield SqliteSnapshot(connection, self._schema)
        finally:
            connection.execute("ROLLBACK")

    def close(self) -> None:
        """Release files and connections. Idempotent; nobody may be inside a snapshot."""
        if self._closed:
            return
        self._closed = True
        with self._readers_lock:
            for connection in self._readers:
                connection.close()
        self._writer.close()

    def _opened(self) -> sqlite3.Connection:
        connection = self._connected()
        connection.execute("PRAGMA journal_mode = WAL")
        identity = (self._log_id, self._schema.name, self._schema.version)
        if _identity(connection) not in (None, identity):
            connection.close()
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            connection = self._connected()
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE IF NOT EXISTS view (log_id TEXT, name TEXT, version INTEGER)")
        if _identity(connection) is None:
            connection.execute("INSERT INTO view VALUES (?, ?, ?)", identity)
        connection.execute(
            "CREATE TABLE IF NOT EXISTS positions (shard INTEGER PRIMARY KEY, position INTEGER) STRICT"
        )
        for table in (*OWN_TABLES, *self._schema.tables):
            for statement in _create(table):
                connection.execute(statement)
        connection.execute("COMMIT")
        return connection

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        return connection


class SqliteSnapshot:
    """A read transaction. What one row answers is asked once: the answer for 200 members of a group asks 200 times where it ends."""

    def __init__(self, connection: sqlite3.Connection, schema: Schema) -> None:
        self._connection = connection
        self._schema = schema
        self._positions: dict[int, int] | None = None
        self._known: dict[tuple[str, Key], Row | None] = {}

    def positions(self) -> Mapping[int, int]:
        """The positions at which the view stands in this moment."""
        if self._positions is None:
            self._positions = dict(self._connection.execute("SELECT shard, position FROM positions"))
        return self._positions

    def get(self, table: Table, key: Key) -> Row | None:
        """The row of that key."""
        return self._one(_get_sql(table), key)

    def _one(self, sql: str, values: Key) -> Row | None:
        asked = (sql, values)
        if asked not in self._known:
            self._known[asked] = self._connection.execute(sql, values).fetchone()
        return self._known[asked]

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
        shape = (len(prefix), index, after is not None, before is not None)
        sql = _scan_sql(table, *shape, descending, present)
        values = (
            *prefix,
            *[bound for bound in (after, before) if bound is not None],
            min(limit, SCAN_ROWS_MAX),
        )
        if limit == 1:
            row = self._one(sql, values)
            return [] if row is None else [row]
        return self._connection.execute(sql, values).fetchall()

    def count(self, table: Table, prefix: Key, *, after: Value = None, before: Value = None) -> int:
        """See the port."""
        sql = _count_sql(table, len(prefix), after is not None, before is not None)
        row = self._one(sql, (*prefix, *[bound for bound in (after, before) if bound is not None]))
        assert row is not None
        return int(row[0] or 0)

    def find_text(
        self, table: Table, query: TextQuery, *, after: int | None, before: int | None, limit: int
    ) -> list[Row]:
        """See the port."""
        assert table.text is not None
        name, words = table.name, words_of(table)
        sql = (
            f"SELECT {name}.* FROM {words} JOIN {name} ON {name}.{table.text.order} = {words}.rowid"
            f" WHERE {words} MATCH ?"
        )
        values: list[Value] = [match_of(query)]
        if after is not None:
            sql += f" AND {words}.rowid > ?"
            values.append(after)
        if before is not None:
            sql += f" AND {words}.rowid < ?"
            values.append(before)
        sql += f" ORDER BY {words}.rowid DESC LIMIT ?"
        return self._connection.execute(sql, (*values, limit)).fetchall()

    def dump(self) -> Iterator[tuple[str, Row]]:
        """See the port."""
        for table in self._schema.tables:
            order = ", ".join(table.names[: table.key_size])
            for row in self._connection.execute(f"SELECT * FROM {table.name} ORDER BY {order}"):
                yield table.name, row


def is_view_of(path: Path, schema: Schema, log_id: str) -> bool:
    """Whether the file is a view of this log and this schema version. Changes nothing."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        return _identity(connection) == (log_id, schema.name, schema.version)
    finally:
        connection.close()


def _identity(connection: sqlite3.Connection) -> tuple[str, str, int] | None:
    try:
        row: tuple[str, str, int] | None = connection.execute(
            "SELECT log_id, name, version FROM view"
        ).fetchone()
    except sqlite3.OperationalError:
        return None
    return row


def _create(table: Table) -> Iterator[str]:
    order = None if table.text is None else table.text.order
    columns = ", ".join(
        f"{column.split()[0]} {_TYPES[column.split()[1]]}{' PRIMARY KEY' if column.split()[0] == order else ''}"
        for column in table.columns
    )
    key = f"{'PRIMARY KEY' if order is None else 'UNIQUE'} ({', '.join(table.names[: table.key_size])})"
    kind = "STRICT" if table.wide or order is not None else "STRICT, WITHOUT ROWID"
    yield f"CREATE TABLE IF NOT EXISTS {table.name} ({columns}, {key}) {kind}"
    for index in table.indexes:
        name = f"{table.name}_by_{'_'.join(index)}"
        yield f"CREATE INDEX IF NOT EXISTS {name} ON {table.name} ({', '.join(index)})"
    if table.text is not None:
        yield from create_words(table, table.text)


@functools.cache
def _get_sql(table: Table) -> str:
    key = table.names[: table.key_size]
    return f"SELECT * FROM {table.name} WHERE {' AND '.join(f'{name} = ?' for name in key)}"


def _where(table: Table, prefix_size: int, index: tuple[str, ...] | None, after: bool, before: bool) -> str:
    columns = prefix_columns(table, index)
    terms = [f"{name} = ?" for name in columns[:prefix_size]]
    if after:
        terms.append(f"{columns[prefix_size]} > ?")
    if before:
        terms.append(f"{columns[prefix_size]} < ?")
    return f"WHERE {' AND '.join(terms)}" if terms else ""


@functools.cache
def _count_sql(table: Table, prefix_size: int, after: bool, before: bool) -> str:
    return f"SELECT count(*) FROM {table.name} {_where(table, prefix_size, None, after, before)}"


@functools.cache
def _scan_sql(
    table: Table,
    prefix_size: int,
    index: tuple[str, ...] | None,
    after: bool,
    before: bool,
    descending: bool,
    present: str | None,
) -> str:
    where = _where(table, prefix_size, index, after, before)
    if present is not None:
        where += f"{' AND' if where else 'WHERE'} {present} IS NOT NULL"
    direction = " DESC" if descending else ""
    order = ", ".join(f"{name}{direction}" for name in prefix_columns(table, index)[prefix_size:])
    order = f" ORDER BY {order}" if order else ""
    return f"SELECT * FROM {table.name} {where}{order} LIMIT ?"
