"""Reading a view on MongoDB from one moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from projections.mongo_driver import Session, ViewDatabase
from projections.mongo_search import WordsOf
from projections.mongo_shapes import TableShape
from projections.store import SCAN_ROWS_MAX, Key, Row, Schema, Table, TextQuery, Value

DUMP_ROWS = 2_000
"""How many rows of a dump one reply brings."""


class MongoSnapshot:
    """One moment of a view. The server keeps it for five minutes; what is asked later raises ViewUnavailableError.

    What one row answers is asked once: the answer for 200 members of a group asks 200 times where it ends.
    """

    def __init__(
        self,
        database: ViewDatabase,
        session: Session,
        positions: Mapping[int, int],
        schema: Schema,
        shapes: Mapping[str, TableShape],
        collection_of: Mapping[str, str],
    ) -> None:
        self._database = database
        self._session = session
        self._positions = positions
        self._schema = schema
        self._shapes = shapes
        self._collection_of = collection_of
        self._known: dict[object, Row | None] = {}

    def positions(self) -> Mapping[int, int]:
        """The positions at which the view stands in this moment."""
        return self._positions

    def get(self, table: Table, key: Key) -> Row | None:
        """See the port."""
        asked = (table.name, key)
        if asked not in self._known:
            shape = self._shapes[table.name]
            document = self._database.find_one(
                self._collection_of[table.name], {"_id": shape.id_of(key)}, within=self._session
            )
            self._known[asked] = None if document is None else shape.row_of(document)
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
        asked = (table.name, prefix, index, after, before, descending, present)
        if limit == 1 and asked in self._known:
            row = self._known[asked]
            return [] if row is None else [row]
        shape = self._shapes[table.name]
        limit = min(limit, SCAN_ROWS_MAX)
        documents = self._database.find(
            self._collection_of[table.name],
            shape.range(prefix, index, after, before, present),
            sort=shape.order(prefix, index, descending),
            limit=limit,
            batch=limit,
            within=self._session,
        )
        rows = [shape.row_of(document) for document in documents]
        if limit == 1:
            self._known[asked] = rows[0] if rows else None
        return rows

    def count(self, table: Table, prefix: Key, *, after: Value = None, before: Value = None) -> int:
        """See the port."""
        matching = self._shapes[table.name].range(prefix, None, after, before, None)
        return self._database.count(self._collection_of[table.name], matching, within=self._session)

    def find_text(
        self, table: Table, query: TextQuery, *, after: int | None, before: int | None, limit: int
    ) -> list[Row]:
        """See the port."""
        assert table.text is not None
        shape = self._shapes[table.name]
        words = WordsOf(shape, table.text)
        matching = words.filter_of(query, after, before)
        if matching is None:
            return []
        exact = words.exact(query)
        documents = self._database.find(
            self._collection_of[table.name],
            matching,
            sort=[(shape.field(table.text.order), -1)],
            limit=limit if exact else 0,
            batch=limit,
            within=self._session,
        )
        found: list[Row] = []
        for document in documents:
            row = shape.row_of(document)
            if exact or words.matches(query, row):
                found.append(row)
                if len(found) == limit:
                    break
        return found

    def dump(self) -> Iterator[tuple[str, Row]]:
        """See the port."""
        for table in self._schema.tables:
            shape = self._shapes[table.name]
            collection = self._collection_of[table.name]
            for document in self._database.find(
                collection, {}, sort=[("_id", 1)], batch=DUMP_ROWS, within=self._session
            ):
                yield table.name, shape.row_of(document)
