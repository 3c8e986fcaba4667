"""Views on three MongoDB whose primaries are killed: nobody sees less than was seen before, and writers lose nothing."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from docker.local.mongodb import MongoReplicaSet
from projections.memory import MemoryShelf
from projections.mongo_driver import ViewDatabase
from projections.mongo_shelf import MongoShelf
from projections.projection import Projection
from projections.store import ViewStore, ViewUnavailableError
from projections.views import READ_MODELS
from tests.histories import History, missing

_log = logging.getLogger(__name__)
MODEL = READ_MODELS["timeline"]
COMMITS = 900
BATCH = 4
KILLS = 3
TIMEOUT_MS = 2_000

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.crash, pytest.mark.timeout(240)]


class Watched:
    """A task on a thread that goes round until it is told to stop; what it raised is raised at the end."""

    def __init__(self, turn: Callable[[], bool]) -> None:
        self._turn = turn
        self._stopped = threading.Event()
        self._turned = threading.Semaphore(0)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set() and self._turn():
                self._turned.release()
        except BaseException as error:  # noqa: BLE001 - told by `end`
            self._error = error

    def turns(self, count: int) -> None:
        """Wait for so many more turns."""
        for _ in range(count):
            if not self._turned.acquire(timeout=30):
                return

    def end(self, *, stop: bool) -> None:
        """Wait for the end."""
        if stop:
            self._stopped.set()
        self._thread.join()
        if self._error is not None:
            raise self._error


@contextmanager
def database_of(servers: MongoReplicaSet) -> Iterator[ViewDatabase]:
    database = ViewDatabase.connect(servers.uri, "views", timeout_ms=TIMEOUT_MS)
    try:
        yield database
    finally:
        database.close()


class Writer:
    """Takes a history in small batches, through whatever happens to the servers."""

    def __init__(self, projection: Projection, history: History) -> None:
        self._projection = projection
        self._all = history.grow(COMMITS)
        self.refused = 0

    def turn(self) -> bool:
        """One batch; whether there is more."""
        before = dict(self._projection.positions)
        batch = missing(self._all, before)[:BATCH]
        try:
            self._projection.take(batch)
        except ViewUnavailableError:
            self.refused += 1
        else:
            # What was acknowledged is found again, whoever is primary by now; what it held of the rows is forgotten.
            held = dict(self._projection.positions)
            try:
                found = self._projection.store.positions()
            except ViewUnavailableError:
                return True
            assert found == held
        return bool(missing(self._all, self._projection.positions))


class Looker:
    """Another process: what it saw once it sees in every moment from then on."""

    def __init__(self, store: ViewStore) -> None:
        self._store = store
        self.moments = 0

    def turn(self) -> bool:
        """A look and a moment after it."""
        try:
            seen = self._store.positions()
            with self._store.snapshot() as moment:
                shown = moment.positions()
                assert all(shown.get(shard, 0) >= position for shard, position in seen.items())
        except ViewUnavailableError:
            return True
        self.moments += 1
        return True


def test_nobody_sees_less_than_before_when_primaries_are_killed(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    _log.warning("seed %d", seed)
    chance, history = random.Random(seed), History(seed)
    with (
        MongoReplicaSet(tmp_path, nodes=3) as servers,
        database_of(servers) as one,
        database_of(servers) as other,
    ):
        projection = MODEL.over(MongoShelf(one).open(MODEL.schema, 1, "log-1"), parks=False, shared=True)
        writer = Writer(projection, history)
        looker = Looker(MongoShelf(other).open(MODEL.schema, 1, "log-1"))
        writing, looking = Watched(writer.turn), Watched(looker.turn)
        for _ in range(KILLS):
            writing.turns(chance.randint(5, 15))
            first = servers.primary()
            first.kill()
            servers.primary(other_than=first)
            first.start()
            servers.await_member(first)
        writing.end(stop=False)
        looking.end(stop=True)
        assert looker.moments > 0
        reference = MODEL.over(MemoryShelf().open(MODEL.schema, 1, "log-1"))
        reference.take(history.grow(COMMITS))
        with projection.store.snapshot() as found, reference.store.snapshot() as expected:
            assert list(found.dump()) == list(expected.dump())
