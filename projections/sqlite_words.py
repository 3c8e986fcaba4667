"""Searching for words on SQLite: an FTS5 index beside a table, which keeps no text of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from operator import itemgetter

from projections.store import Key, Phrase, Row, Table, TableChanges, Text, TextQuery

_TOKENIZER = "unicode61 remove_diacritics 0 categories ''L* N* M* Co So''"
"""Letters, digits, marks and pictures are tokens; the search projection has already parted scripts without spaces."""

AUTOMERGE = 8
"""How many parts of a size the index has before they are merged: twice FTS5's default, for a tenth less work."""


class Words:
    """Keeps the index in step with its table. Triggers would do it too, but FTS5 then writes its index out row by row."""

    def __init__(self, table: Table, text: Text) -> None:
        name, searched = words_of(table), ", ".join(text.searched)
        columns = (text.order, *text.searched)
        where = " AND ".join(f"{column} = ?" for column in table.names[: table.key_size])
        marks = ", ".join("?" * len(columns))
        self._known = f"SELECT {', '.join(columns)} FROM {table.name} WHERE {where}"
        self._add = f"INSERT INTO {name} (rowid, {searched}) VALUES ({marks})"
        self._remove = f"INSERT INTO {name} ({name}, rowid, {searched}) VALUES ('delete', {marks})"
        self._indexed: itemgetter[Row] = itemgetter(*(table.names.index(column) for column in columns))

    def write(
        self, connection: sqlite3.Connection, changes: TableChanges, put: str, insert: str, delete: str
    ) -> None:
        """Write the changes of a batch with the table's statements."""
        self._forget(connection, {*changes.deletes, *changes.puts})
        if changes.deletes:
            connection.executemany(delete, changes.deletes)
        written = list(changes.puts.values())
        if written:
            connection.executemany(put, written)
        cursor = connection.cursor()
        written += [row for row in changes.new_rows if cursor.execute(insert, row).rowcount]
        if written:
            connection.executemany(self._add, map(self._indexed, written))

    def _forget(self, connection: sqlite3.Connection, keys: set[Key]) -> None:
        known = [connection.execute(self._known, key).fetchone() for key in keys]
        stale = [row for row in known if row is not None]
        if stale:
            connection.executemany(self._remove, stale)


def words_of(table: Table) -> str:
    """The name of a table's index."""
    return f"{table.name}_words"


def create_words(table: Table, text: Text) -> Iterator[str]:
    """The statements that make the index."""
    words = words_of(table)
    yield (
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {words} USING fts5({', '.join(text.searched)}, content='{table.name}',"
        f" content_rowid='{text.order}', columnsize=0, tokenize='{_TOKENIZER}')"
    )
    yield f"INSERT INTO {words} ({words}, rank) VALUES ('automerge', {AUTOMERGE})"


def match_of(query: TextQuery) -> str:
    """The query as FTS5 takes it: every phrase in quotes, so that nothing in it is an operator."""
    terms = [_term(phrase) for phrase in query.all_of]
    if query.any_of:
        terms.append(f"({' OR '.join(_term(phrase) for phrase in query.any_of)})")
    return " AND ".join(terms)


def _term(phrase: Phrase) -> str:
    quoted = phrase.text.replace('"', '""')
    return f'{phrase.column} : "{quoted}"{"*" if phrase.beginning else ""}'
