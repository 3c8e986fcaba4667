"""Rows of tables as documents of MongoDB, and ranges of keys as filters.

The key is `_id`: a value for one key column, else an embedded document of the key columns in their order. MongoDB compares embedded
documents field by field, so the index of `_id`, which every collection has anyway, is sorted as the key columns are: by their UTF-8 bytes
and as numbers. A shorter document is less than each that begins with it, which makes every range behind a prefix one range of that index.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

from projections.mongo_driver import GREATEST, LONG, Document, Index, Sort
from projections.store import Key, Row, Table, Value, prefix_columns

WORDS_FIELD = "~"
"""Of a table with text: what the index of words holds. No column is called so."""
_ORDERED = ("int", "text")
"""What MongoDB orders as the port does: of bytes it compares the lengths first."""


class TableShape:
    """How one table lies in its collection. Raises ValueError for a table whose order MongoDB cannot keep."""

    def __init__(self, table: Table) -> None:
        self.table = table
        size = table.key_size
        self._key_names = table.names[:size]
        self._other_names = table.names[size:]
        self._document_names = ("_id", *self._other_names)
        self._size = size
        self._single = size == 1
        types = dict(column.split() for column in table.columns)
        ordered = {*self._key_names, *(name for index in table.indexes for name in index)}
        if any(types[name] not in _ORDERED for name in ordered):
            raise ValueError(f"{table.name}: only {' and '.join(_ORDERED)} columns can be ordered")
        self.id_of: Callable[[Key], Any] = itemgetter(0) if self._single else self._embedded
        self._others = _values_of(self._other_names)

    def document_of(self, row: Row) -> Document:
        """The document of a row."""
        identity = row[0] if self._single else dict(zip(self._key_names, row, strict=False))
        return dict(zip(self._document_names, (identity, *row[self._size :]), strict=True))

    def row_of(self, document: Document) -> Row:
        """The row of a document."""
        identity = document["_id"]
        key = (identity,) if self._single else identity.values()
        return tuple(
            [int(value) if type(value) is LONG else value for value in (*key, *self._others(document))]
        )

    def indexes(self) -> list[Index]:
        """The indexes beside the key's, each with the key behind it, so that it sorts what it finds."""
        indexes = [
            Index(tuple((self.field(name), 1) for name in prefix_columns(self.table, columns)))
            for columns in self.table.indexes
        ]
        if self.table.text is not None:
            order = self.field(self.table.text.order)
            indexes += [Index(((order, 1),), unique=True), Index(((WORDS_FIELD, 1), (order, -1)))]
        return indexes

    def field(self, column: str) -> str:
        """Where a column stands in the documents."""
        if column not in self._key_names:
            return column
        return "_id" if self._single else f"_id.{column}"

    def range(
        self, prefix: Key, index: tuple[str, ...] | None, after: Value, before: Value, present: str | None
    ) -> Document:
        """The filter of a scan."""
        if index is None:
            matching = self._key_range(prefix, after, before)
        else:
            columns = prefix_columns(self.table, index)
            fields = [self.field(name) for name in columns[: len(prefix) + 1]]
            matching = dict(zip(fields, prefix, strict=False))
            bounds = _bounds(after, before)
            if bounds:
                matching[fields[len(prefix)]] = bounds
        if present is not None:
            matching = {"$and": [matching, {self.field(present): {"$ne": None}}]}
        return matching

    def order(self, prefix: Key, index: tuple[str, ...] | None, descending: bool) -> Sort:
        """The order of a scan."""
        direction = -1 if descending else 1
        if index is None:
            return [("_id", direction)]
        return [(self.field(name), direction) for name in prefix_columns(self.table, index)[len(prefix) :]]

    def _embedded(self, key: Key) -> Document:
        return dict(zip(self._key_names, key, strict=True))

    def _key_range(self, prefix: Key, after: Value, before: Value) -> Document:
        if len(prefix) == self.table.key_size:
            return {"_id": self.id_of(prefix)}
        if self._single:
            bounds = _bounds(after, before)
            return {"_id": bounds} if bounds else {}
        same = dict(zip(self._key_names, prefix, strict=False))
        column, *behind = self._key_names[len(prefix) :]
        bounds = {}
        if after is not None:
            bounds["$gt"] = same | {column: after} | dict.fromkeys(behind[:1], GREATEST)
        elif same:
            bounds["$gte"] = same
        if before is not None:
            bounds["$lt"] = same | {column: before}
        elif same:
            bounds["$lt"] = same | {column: GREATEST}
        return {"_id": bounds} if bounds else {}


def _bounds(after: Value, before: Value) -> Document:
    bounds: Document = {}
    if after is not None:
        bounds["$gt"] = after
    if before is not None:
        bounds["$lt"] = before
    return bounds


def _values_of(names: tuple[str, ...]) -> Callable[[Document], tuple[Value, ...]]:
    if not names:
        return lambda _: ()
    if len(names) == 1:
        (name,) = names
        return lambda document: (document[name],)
    return itemgetter(*names)
