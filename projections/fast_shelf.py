"""The fast views are written beside the views: a shelf whose stores tell of each batch that they committed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress

from projections.fast import FastAwayError, FastRows, Span
from projections.fast_documents import VIEWS, Changes, changes_of, place_of, sharding
from projections.shelf import FIRST_VERSION, ViewShelf
from projections.store import Key, Row, Schema, Snapshot, Table, Trial, UnitOfWork, ViewStore

LOOK_S = 1.0
"""How often a Redis is told where a view stands about which nothing is said: an emptied one is written to again."""
PRESENT_MAX = 100_000
"""Documents that were seen to be there. Of others only the names are told, so what nobody reads costs next to nothing."""


class Present:
    """Names of documents that were there when last told of, as far as they fit."""

    def __init__(self, names_max: int = PRESENT_MAX) -> None:
        self._names: OrderedDict[str, None] = OrderedDict()
        self._names_max = names_max

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def learn(self, told: list[str], there: frozenset[str]) -> None:
        """Of these names, those that are there."""
        for name in told:
            if name in there:
                self._names[name] = None
                self._names.move_to_end(name)
            else:
                self._names.pop(name, None)
        while len(self._names) > self._names_max:
            self._names.popitem(last=False)


class ToldStore:
    """A view store that tells the fast views of what it wrote, once it is committed and before `apply` returns.

    So whoever knows that a view holds a position finds it in the fast views too. What cannot be told is left: then a position does not
    follow the one before, and the shard begins anew.
    """

    def __init__(self, store: ViewStore, rows: FastRows, shelf: FastShelf, version: int) -> None:
        self._store = store
        self._rows = rows
        self._shelf = shelf
        self._place = place_of(store, version)
        self.version = version
        self._shard = sharding(shelf.shard_count)
        self._present = Present()
        self._positions: Mapping[int, int] | None = None
        """Where the view stands, as far as this writer knows; None: not since a write failed."""

    @property
    def schema(self) -> Schema:
        """See the port."""
        return self._store.schema

    @property
    def log_id(self) -> str:
        """See the port."""
        return self._store.log_id

    def positions(self) -> dict[int, int]:
        """See the port."""
        self._positions = positions = self._store.positions()
        return dict(positions)

    def get(self, table: Table, key: Key) -> Row | None:
        """See the port."""
        return self._store.get(table, key)

    def newest_row(self, table: Table, prefix: Key, following: int | None = None) -> Row | None:
        """See the port."""
        return self._store.newest_row(table, prefix, following)

    def trial(self) -> Trial | None:
        """See the port."""
        return self._store.trial()

    def noted(self, what: Hashable) -> bool:
        """See the port."""
        return self._store.noted(what)

    def apply(self, work: UnitOfWork, positions: Mapping[int, int]) -> None:
        """See the port."""
        before, self._positions = self._positions, None
        if before is None or not self._shelf.tells(self):
            self._store.apply(work, positions)
            if before is not None:
                self._positions = {**before, **positions}
            return
        # Sorted out while the store waits for its server.
        changes = self._shelf.beside.submit(changes_of, work, self._shard, self._present)
        try:
            self._store.apply(work, positions)
        except BaseException:
            changes.cancel()
            raise
        after = {**before, **positions}
        with suppress(FastAwayError):
            self._tell(changes.result(), before, after, positions)
        self._positions = after

    def stand(self) -> None:
        """Tell where the view stands, as far as that is known; also of shards of which it holds nothing. Raises FastAwayError."""
        positions = self._positions
        if positions is not None:
            stands = {**dict.fromkeys(range(self._shelf.shard_count), 0), **positions}
            self._rows.tell(self._place, [Span(shard, at, at) for shard, at in stands.items()])

    def release(self) -> None:
        """See the port."""
        self._store.release()

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """See the port."""
        return self._store.snapshot()

    def close(self) -> None:
        """See the port."""
        self._shelf.forget(self)
        self._store.close()

    def _tell(
        self,
        changes: Changes,
        before: Mapping[int, int],
        after: Mapping[int, int],
        positions: Mapping[int, int],
    ) -> None:
        # Rows without positions are those of a parked stream that is read on.
        spans = [
            Span(shard, before.get(shard, 0), after.get(shard, 0), changes.get(shard, ()))
            for shard in sorted({*positions, *changes})
        ]
        for span, there in zip(spans, self._rows.tell(self._place, spans), strict=True):
            self._present.learn([change.name for change in span.changes], there)


class FastShelf:
    """The shelf of a process that writes views. Its `close` comes after that of its stores."""

    def __init__(self, shelf: ViewShelf, rows: FastRows, shard_count: int, *, look_s: float = LOOK_S) -> None:
        self._shelf = shelf
        self._rows = rows
        self.shard_count = shard_count
        self._look_s = look_s
        self._current = dict(shelf.current())
        self._stores: set[ToldStore] = set()
        self._turn = threading.Lock()
        self._closing = threading.Event()
        self.beside = ThreadPoolExecutor(1, thread_name_prefix="views-fast")
        self._looking = threading.Thread(target=self._look_for_ever, name="views-fast-look", daemon=True)
        self._looking.start()

    def current(self) -> Mapping[str, int]:
        """See the port."""
        self._current = current = dict(self._shelf.current())
        return current

    def open(self, schema: Schema, version: int, log_id: str) -> ViewStore:
        """See the port."""
        store = self._shelf.open(schema, version, log_id)
        if schema.name not in VIEWS:
            return store
        told = ToldStore(store, self._rows, self, version)
        with self._turn:
            self._stores.add(told)
        return told

    def versions(self, name: str) -> frozenset[int]:
        """See the port."""
        return self._shelf.versions(name)

    def holds(self, schema: Schema, version: int, log_id: str) -> bool:
        """See the port."""
        return self._shelf.holds(schema, version, log_id)

    def switch(self, name: str, old: int, new: int) -> None:
        """See the port."""
        self._shelf.switch(name, old, new)
        self._current[name] = new

    def remove(self, name: str, version: int) -> None:
        """See the port."""
        self._shelf.remove(name, version)

    def tells(self, store: ToldStore) -> bool:
        """Whether this version is the one that is read."""
        return self._current.get(store.schema.name, FIRST_VERSION) == store.version

    def forget(self, store: ToldStore) -> None:
        """Tell no more of a store that is closed."""
        with self._turn:
            self._stores.discard(store)

    def close(self) -> None:
        """End the threads. Idempotent."""
        self._closing.set()
        self._looking.join()
        self.beside.shutdown()

    def _look_for_ever(self) -> None:
        while not self._closing.wait(self._look_s):
            self.look()

    def look(self) -> None:
        """Tell where all stores stand."""
        with self._turn:
            stores = [store for store in self._stores if self.tells(store)]
        with suppress(FastAwayError):
            for store in stores:
                store.stand()
