"""The view store on MongoDB: a collection for each table, and each shard's position in the transaction that writes its rows.

The decision and what was measured: docs/decisions/0010-views-on-mongodb.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from projections.mongo_driver import Document, MongoUnfitError, ViewDatabase
from projections.mongo_hand import Hand, HandTrial
from projections.mongo_reading import MongoSnapshot
from projections.mongo_shapes import TableShape
from projections.mongo_writing import MARK, POSITIONS, WRITERS, BatchWriter
from projections.store import (
    OWN_TABLES,
    Key,
    Row,
    Schema,
    Snapshot,
    StaleWriterError,
    Table,
    UnitOfWork,
    ViewUnavailableError,
)

VIEWS = "views"
"""One document for each version of a view that stands: whose it is, and under which name its collections were made."""
OPEN_ATTEMPTS = 5


class MongoViewStore:
    """One version of a view; any number of processes may open it. Made anew when it belongs to another log or another schema.

    `version` is the rebuild's. The database is the caller's, who closes it after the store.
    """

    def __init__(self, database: ViewDatabase, schema: Schema, version: int, log_id: str) -> None:
        self._database = database
        self._schema = schema
        self._log_id = log_id
        self._closed = False
        self._shapes = {table.name: TableShape(table) for table in (*OWN_TABLES, *schema.tables)}
        self._collection_of: dict[str, str] = {}
        self._open(version)
        self._writer = BatchWriter(database, self._collection_of, self._shapes.values())
        self._expected: dict[int, int] | None = None
        self._hand = Hand(database, self._shapes, self._collection_of)
        self.positions()

    @property
    def schema(self) -> Schema:
        """What the view keeps."""
        return self._schema

    @property
    def log_id(self) -> str:
        """The log that this view was made from."""
        return self._log_id

    def positions(self) -> dict[int, int]:
        """See the port. Batches go on from here: what was remembered of the rows is forgotten."""
        self._check_open()
        self._expected = self._positions_in(self._writer.positions())
        self._hand.forget()
        return dict(self._expected)

    def get(self, table: Table, key: Key) -> Row | None:
        """See the port."""
        self._check_open()
        return self._hand.get(table, key)

    def newest_row(self, table: Table, prefix: Key, following: int | None = None) -> Row | None:
        """See the port."""
        self._check_open()
        return self._hand.newest_row(table, prefix, following)

    def trial(self) -> HandTrial:
        """See the port."""
        return HandTrial(self._hand)

    def noted(self, what: Hashable) -> bool:
        """See the port."""
        return what in self._hand.notes

    def apply(self, work: UnitOfWork, positions: Mapping[int, int]) -> None:
        """See the port. After StaleWriterError and OutcomeUnknownError, batches are refused until `positions` was asked."""
        self._check_open()
        expected = self._expected
        if expected is None:
            raise StaleWriterError(f"{self._schema.name}: where the view stands was not asked since it moved")
        try:
            self._expected = None
            # Rows without positions, as of a parked stream that is read on, are guarded by all that is known.
            self._writer.write(work, expected, positions or expected)
        except ViewUnavailableError:
            self._hand.forget()
            raise
        except BaseException:
            self._hand.forget()
            self._expected = expected
            raise
        self._expected = {**expected, **positions}
        self._hand.keep(work)

    def release(self) -> None:
        """See the port: nothing is held between the calls."""

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """See the port. Its moment is that of entering."""
        self._check_open()
        with self._database.moment(self._collection_of[POSITIONS]) as (session, documents):
            positions = self._positions_in(documents)
            yield MongoSnapshot(
                self._database, session, positions, self._schema, self._shapes, self._collection_of
            )

    def close(self) -> None:
        """See the port."""
        if not self._closed:
            self._closed = True
            self._writer.close()

    def _open(self, version: int) -> None:
        """Find the collections, or make them under a name of their own, which becomes the view's all at once."""
        place = place_of(self._schema.name, version)
        identity = {"log_id": self._log_id, "schema": self._schema.version}
        for _ in range(OPEN_ATTEMPTS):
            known = self._database.find_one(VIEWS, {"_id": place})
            if known is not None and identity.items() <= known.items():
                self._name(f"{place}.{known['made']}.")
                return
            if (
                known is not None
                and known["log_id"] == self._log_id
                and known["schema"] > self._schema.version
            ):
                # Whoever made it anew would throw away what a newer process writes at this moment.
                raise MongoUnfitError(
                    f"the view {place} was written by a newer release (schema {known['schema']}, this program knows"
                    f" {self._schema.version}): run that release, or drop the database of the views, which are made anew"
                )
            made = secrets.token_hex(4)
            self._name(f"{place}.{made}.")
            self._create()
            if known is None:
                won = self._database.insert_one(VIEWS, {"_id": place, **identity, "made": made})
            else:
                change = {"$set": {**identity, "made": made}}
                won = self._database.change_one(VIEWS, {"_id": place, "made": known["made"]}, change)
            mine = set(self._collection_of.values())
            if won:
                others = set(self._database.collections(f"{place}.")) - mine
                self._database.drop(others)
                self._create()  # Whoever won before may have taken these for left behind.
                return
            self._database.drop(mine)
        raise ViewUnavailableError(f"{self._schema.name}: others make it anew again and again")

    def _name(self, prefix: str) -> None:
        self._collection_of = {name: prefix + name for name in (*self._shapes, WRITERS, POSITIONS)}

    def _create(self) -> None:
        for name, shape in self._shapes.items():
            self._database.create(self._collection_of[name], shape.indexes())
        for name in (WRITERS, POSITIONS):
            self._database.create(self._collection_of[name])
        self._database.insert_one(self._collection_of[POSITIONS], MARK)

    def _positions_in(self, documents: Iterable[Document]) -> dict[int, int]:
        """The positions. Raises ViewUnavailableError when this version of the view was thrown away."""
        found = {document["_id"]: document for document in documents}
        if found.pop(MARK["_id"], None) is None:
            raise ViewUnavailableError(f"{self._schema.name}: this version was thrown away")
        return {int(shard): int(document["position"]) for shard, document in found.items()}

    def _check_open(self) -> None:
        if self._closed:
            raise ViewUnavailableError(f"{self._schema.name}: closed")


def place_of(name: str, version: int) -> str:
    """What a view's version is called."""
    return f"{name}.v{version}"
