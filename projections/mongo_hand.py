"""Rows at hand: what a writer remembers of a view on MongoDB, so that a batch asks the server once and not once for each row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping

from projections.mongo_driver import KEYS_MAX, ViewDatabase
from projections.mongo_shapes import TableShape
from projections.store import Key, Row, Table, UnitOfWork

ROWS_MAX = 100_000
"""For each table. What is forgotten is fetched again."""
NOTES_MAX = 50_000


class Hand:
    """Rows as the last applied batch left them. Nobody else writes them: whoever did would make the next batch fail."""

    def __init__(
        self, database: ViewDatabase, shapes: Mapping[str, TableShape], collection_of: Mapping[str, str]
    ) -> None:
        self._database = database
        self._shapes = shapes
        self._collection_of = collection_of
        self.rows: defaultdict[str, dict[Key, Row | None]] = defaultdict(dict)
        self.newest: defaultdict[str, dict[Key, Row | None]] = defaultdict(dict)
        self.notes: set[Hashable] = set()

    def forget(self) -> None:
        """Have nothing at hand."""
        self.rows.clear()
        self.newest.clear()
        self.notes.clear()

    def keep(self, work: UnitOfWork) -> None:
        """What a batch that was applied read and changed. What it only inserted is not kept: most of that is never asked for."""
        for name, changes in work.changes.items():
            rows = self.rows[name]
            rows.update(changes.seen)
            rows.update(dict.fromkeys(changes.deletes))
            rows.update(changes.puts)
            if rows:
                size = self._shapes[name].table.key_size
                for row in changes.new_rows:
                    rows.pop(row[:size], None)
        for name, newest in work.newest.items():
            self.newest[name].update(newest)
        self.notes |= work.notes
        for rows in (*self.rows.values(), *self.newest.values()):
            if len(rows) > ROWS_MAX:
                rows.clear()
        if len(self.notes) > NOTES_MAX:
            self.notes.clear()

    def get(self, table: Table, key: Key) -> Row | None:
        """The row of that key, from the server if need be."""
        rows = self.rows[table.name]
        if key not in rows:
            rows.update(self._fetched(table, [key]))
        return rows[key]

    def newest_row(self, table: Table, prefix: Key, following: int | None = None) -> Row | None:
        """The newest row, from the server if need be."""
        rows = self.newest[table.name]
        if prefix not in rows:
            rows[prefix] = None if following == 1 else self._look_for_newest(table, prefix)
        return rows[prefix]

    def fetch(self, table: Table, keys: Iterable[Key]) -> None:
        """Bring rows to hand."""
        self.rows[table.name].update(self._fetched(table, list(keys)))

    def fetch_newest(self, table: Table, prefixes: Mapping[Key, int | None]) -> None:
        """Bring the newest rows to hand: those that stand where they are expected all at once."""
        rows = self.newest[table.name]
        expected = {(*prefix, following - 1): prefix for prefix, following in prefixes.items() if following}
        found = self._fetched(table, [key for key in expected if key[-1]])
        for key, prefix in expected.items():
            if found.get(key) is not None or key[-1] == 0:
                rows[prefix] = found.get(key)
        for prefix in prefixes:
            if prefix not in rows:
                rows[prefix] = self._look_for_newest(table, prefix)

    def _fetched(self, table: Table, keys: list[Key]) -> dict[Key, Row | None]:
        shape = self._shapes[table.name]
        rows: dict[Key, Row | None] = dict.fromkeys(keys)
        for first in range(0, len(keys), KEYS_MAX):
            matching = {"_id": {"$in": [shape.id_of(key) for key in keys[first : first + KEYS_MAX]]}}
            for row in self._found(shape, matching):
                rows[row[: table.key_size]] = row
        return rows

    def _found(self, shape: TableShape, matching: Mapping[str, object]) -> Iterator[Row]:
        documents = self._database.find(self._collection_of[shape.table.name], matching, batch=KEYS_MAX)
        return map(shape.row_of, documents)

    def _look_for_newest(self, table: Table, prefix: Key) -> Row | None:
        shape = self._shapes[table.name]
        document = self._database.find_one(
            self._collection_of[table.name],
            shape.range(prefix, None, None, None, None),
            sort=shape.order(prefix, None, descending=True),
        )
        return None if document is None else shape.row_of(document)


class HandTrial:
    """A batch's first try: see `Trial`."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand
        self._tables: dict[str, Table] = {}
        self._rows: defaultdict[str, set[Key]] = defaultdict(set)
        self._newest: defaultdict[str, dict[Key, int | None]] = defaultdict(dict)

    def get(self, table: Table, key: Key) -> Row | None:
        """The row, if it is at hand."""
        rows = self._hand.rows[table.name]
        if key in rows:
            return rows[key]
        self._tables[table.name] = table
        self._rows[table.name].add(key)
        return None

    def newest_row(self, table: Table, prefix: Key, following: int | None = None) -> Row | None:
        """The row, if it is at hand."""
        rows = self._hand.newest[table.name]
        if prefix in rows:
            return rows[prefix]
        if following != 1:
            self._tables[table.name] = table
            self._newest[table.name][prefix] = following
        return None

    def noted(self, what: Hashable) -> bool:
        """Whether an applied batch noted this."""
        return what in self._hand.notes

    def fetch(self) -> bool:
        """See the port."""
        for name, keys in self._rows.items():
            self._hand.fetch(self._tables[name], keys)
        for name, prefixes in self._newest.items():
            self._hand.fetch_newest(self._tables[name], prefixes)
        return bool(self._tables)
