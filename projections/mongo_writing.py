"""Writing a batch into MongoDB: one transaction that begins by moving the positions on, so that only who stands there can write.

Every shard's position is a document of its own, so that projectors of different shards of a view do not meet. A writer that is no longer
alone (paused while another took its shards over) expects positions that stand no more, and is refused whole.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping

from projections.mongo_driver import ConflictError, Document, DuplicateError, Transactions, ViewDatabase
from projections.mongo_search import WordsOf
from projections.mongo_shapes import WORDS_FIELD, TableShape
from projections.store import Row, StaleWriterError, TableChanges, UnitOfWork, ViewUnavailableError

ATTEMPTS_MAX = 8
FIRST_PAUSE_S = 0.005
"""Before the second attempt; it doubles with each."""
PATIENT_ATTEMPTS = 4
"""So often whoever stands in the way may be somebody alive, who will be done soon; from then on his transaction is ended."""
WRITERS_KEPT = 4
"""How many of a shard's writers are remembered, the newest last."""

POSITIONS = "positions"
"""The collection of a view's positions: `_id` is the shard. One document more marks that the view is there."""
MARK = {"_id": "view"}
WRITERS = "writers"
"""The collection of the sessions that wrote a shard."""


class TableWriter:
    """Writes one table's changes."""

    def __init__(self, shape: TableShape, collection: str) -> None:
        self.shape = shape
        self._collection = collection
        text = shape.table.text
        self._words = None if text is None else WordsOf(shape, text)
        self._looks = False
        """Whether keys are looked up before they are inserted: from the first one that was there already, until none is."""

    def write(self, transaction: Transactions, changes: TableChanges, *, looking: bool) -> None:
        """Write the changes of a batch. Raises DuplicateError for rows that are there, unless it looks for them."""
        shape = self.shape
        if changes.deletes:
            transaction.delete(self._collection, list(map(shape.id_of, changes.deletes)))
        added, replaced = _parted(changes)
        if replaced:
            transaction.replace(self._collection, self._documents(replaced))
        rows = changes.new_rows
        if rows and (looking or self._looks):
            fresh = self._absent(transaction, rows)
            self._looks = len(fresh) < len(rows)
            rows = fresh
        if added or rows:
            transaction.insert(self._collection, self._documents([*added, *rows]))

    def _documents(self, rows: Iterable[Row]) -> list[Document]:
        documents = [self.shape.document_of(row) for row in rows]
        if self._words is not None:
            for row, document in zip(rows, documents, strict=True):
                document[WORDS_FIELD] = self._words.entries_of(row)
        return documents

    def _absent(self, transaction: Transactions, rows: list[Row]) -> list[Row]:
        """The first row of each key that nothing has yet; of a table with text, also of each number."""
        shape = self.shape
        size = shape.table.key_size
        first = {row[:size]: row for row in reversed(rows)}
        rows = [row for row in rows if first[row[:size]] is row]
        known = transaction.present(self._collection, "_id", [shape.id_of(row[:size]) for row in rows])
        rows = [row for row in rows if (row[0] if size == 1 else row[:size]) not in known]
        if shape.table.text is not None and self._words is not None:
            number = self._words.order_index
            numbered = {row[number]: row for row in reversed(rows)}
            rows = [row for row in rows if numbered[row[number]] is row]
            field = shape.field(shape.table.text.order)
            known = transaction.present(self._collection, field, list(numbered))
            rows = [row for row in rows if row[number] not in known]
        return rows


def _parted(changes: TableChanges) -> tuple[list[Row], list[Row]]:
    """The rows to put: those whose keys the batch saw to be absent, which cost a fifth, and the others."""
    seen = changes.seen
    added = [row for key, row in changes.puts.items() if key in seen and seen[key] is None]
    if not added:
        return [], list(changes.puts.values())
    return added, [row for key, row in changes.puts.items() if key not in seen or seen[key] is not None]


class BatchWriter:
    """Writes whole batches. One thread at a time."""

    def __init__(
        self, database: ViewDatabase, collection_of: Mapping[str, str], tables: Iterable[TableShape]
    ) -> None:
        self._database = database
        self._positions = collection_of[POSITIONS]
        self._writers = collection_of[WRITERS]
        self._tables = {
            shape.table.name: TableWriter(shape, collection_of[shape.table.name]) for shape in tables
        }
        self._transactions = database.writer()
        self._claimed: set[int] = set()

    def write(self, work: UnitOfWork, expected: Mapping[int, int], positions: Mapping[int, int]) -> None:
        """All of the batch, or nothing.

        Raises StaleWriterError when a shard does not stand where it is expected, ViewUnavailableError, OutcomeUnknownError.
        """
        self._claim([shard for shard in positions if shard not in self._claimed])
        looking = False
        pause_s = FIRST_PAUSE_S
        for attempt in range(ATTEMPTS_MAX):
            try:
                with self._transactions.begun():
                    self._move(expected, positions)
                    for name, changes in work.changes.items():
                        self._tables[name].write(self._transactions, changes, looking=looking)
                return
            except DuplicateError:
                if looking:
                    raise ViewUnavailableError("a row's number is another row's") from None
                looking = True
            except ConflictError:
                # Two who are both alive meet again unless one of them waits longer.
                time.sleep(pause_s * (0.5 + random.random()))  # noqa: S311 - spreads tries
                pause_s *= 2
                if attempt >= PATIENT_ATTEMPTS:
                    self._end_others(list(positions))
        raise ViewUnavailableError(f"another writer was in the way {ATTEMPTS_MAX} times")

    def positions(self) -> list[Document]:
        """The durable positions: of what this writer sent last, whatever came of it, and of what it met, they know."""
        return self._transactions.read(self._positions)

    def close(self) -> None:
        """Give the session back."""
        self._transactions.close()

    def _move(self, expected: Mapping[int, int], positions: Mapping[int, int]) -> None:
        """Move the positions on from where they are expected: the first thing that the transaction does, and what all others wait for."""
        moved: list[tuple[Document, Document]] = []
        fresh: list[Document] = []
        for shard, position in positions.items():
            known = expected.get(shard)
            if known is None:
                fresh.append({"_id": shard, "position": position})
            else:
                moved.append(({"_id": shard, "position": known}, {"$set": {"position": position}}))
        if moved and self._transactions.update(self._positions, moved) != len(moved):
            raise StaleWriterError("a position is not where this writer left it")
        if fresh:
            asked = [MARK["_id"], *(one["_id"] for one in fresh)]
            if self._transactions.present(self._positions, "_id", asked) != {MARK["_id"]}:
                raise StaleWriterError("a shard has a position that this writer knows nothing of")
            self._transactions.insert(self._positions, fresh)

    def _claim(self, shards: list[int]) -> None:
        """Be known as a writer of these shards, so that others can end what this one leaves open.

        A transaction outlives its process by a minute, and nobody else could move these positions meanwhile.
        """
        if not shards:
            return
        update = {"$push": {"sessions": {"$each": [self._transactions.id], "$slice": -WRITERS_KEPT}}}
        self._database.update_now(self._writers, [({"_id": shard}, update) for shard in shards])
        self._claimed.update(shards)

    def _end_others(self, shards: list[int]) -> None:
        documents = self._database.find(self._writers, {"_id": {"$in": shards}})
        sessions = {session for document in documents for session in document["sessions"]}
        self._database.end_sessions(sessions - {self._transactions.id})
