"""How a projection takes batches from a store that is far away, or full, or somebody else's too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping

import pytest
from typing_extensions import override

from projections.memory import MemoryView, MemoryViewStore
from projections.projection import TRIALS_MAX, Projection
from projections.store import BatchTooLargeError, Key, Row, Table, UnitOfWork, ViewUnavailableError
from projections.views import READ_MODELS
from tests.histories import History, missing

MODEL = READ_MODELS["timeline"]
ROWS_MAX = 10


class FullStore(MemoryViewStore):
    """Takes few rows at once."""

    @override
    def apply(self, work: UnitOfWork, positions: Mapping[int, int]) -> None:
        if sum(len(changes.new_rows) for changes in work.changes.values()) > ROWS_MAX:
            raise BatchTooLargeError
        super().apply(work, positions)


class FarTrial:
    """Only has what was fetched before."""

    def __init__(self, store: FarStore) -> None:
        self._store = store
        self._missing: list[tuple[Table, Key]] = []

    def get(self, table: Table, key: Key) -> Row | None:
        if key not in self._store.fetched[table.name]:
            self._missing.append((table, key))
            return None
        return MemoryViewStore.get(self._store, table, key)

    def newest_row(self, table: Table, prefix: Key, following: int | None = None) -> Row | None:
        if prefix not in self._store.fetched[table.name]:
            self._missing.append((table, prefix))
            return None
        return MemoryViewStore.newest_row(self._store, table, prefix)

    def noted(self, what: Hashable) -> bool:
        return self._store.noted(what)

    def fetch(self) -> bool:
        for table, key in self._missing:
            self._store.fetched[table.name].add(key)
        self._store.journeys += bool(self._missing)
        return bool(self._missing)


class FarStore(MemoryViewStore):
    """Counts the journeys."""

    def __init__(self, view: MemoryView) -> None:
        super().__init__(view)
        self.fetched: defaultdict[str, set[Key]] = defaultdict(set)
        self.journeys = 0

    @override
    def trial(self) -> FarTrial:
        return FarTrial(self)

    @override
    def get(self, table: Table, key: Key) -> Row | None:
        self.journeys += 1
        return super().get(table, key)


def view() -> MemoryView:
    return MemoryView(MODEL.schema, "log-1")


def dump(projection: Projection) -> list[tuple[str, Row]]:
    with projection.store.snapshot() as snapshot:
        return list(snapshot.dump())


def test_a_batch_is_tried_until_all_that_it_asks_for_is_at_hand() -> None:
    history = History(2).grow(120)
    near, store = MODEL.over(MemoryViewStore(view())), FarStore(view())
    far = MODEL.over(store)
    near.take(history)
    far.take(history[:60])
    far.take(history)
    assert dump(far) == dump(near)
    assert 2 <= store.journeys <= 2 * TRIALS_MAX
    assert far.applied_events == near.applied_events
    assert not far.parked_events


def test_a_batch_that_is_too_large_is_taken_in_parts() -> None:
    history = History(2).grow(120)
    near, full = MODEL.over(MemoryViewStore(view())), MODEL.over(FullStore(view()))
    near.take(history)
    full.take(history)
    full.flush_positions()
    near.flush_positions()
    assert dump(full) == dump(near)
    assert full.positions == near.positions == full.store.positions()


def test_after_a_failed_write_a_projection_goes_on_from_where_the_view_stands() -> None:
    history = History(2).grow(60)
    shared = view()
    one, other = MODEL.over(MemoryViewStore(shared)), MODEL.over(MemoryViewStore(shared))
    one.take(history[:30])
    with pytest.raises(ViewUnavailableError):
        other.take(history[:40])
    assert other.positions == one.store.positions()
    other.take(missing(history, other.positions))
    near = MODEL.over(MemoryViewStore(view()))
    near.take(history)
    assert dump(other) == dump(near)
