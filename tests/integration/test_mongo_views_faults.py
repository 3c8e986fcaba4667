"""Views on a MongoDB that answers what a test orders: every failure is told as the port says, and nothing is half written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from docker.local.mongodb import MongoReplicaSet
from projections.memory import MemoryShelf
from projections.mongo_driver import OutcomeUnknownError, ViewDatabase
from projections.mongo_shelf import MongoShelf
from projections.projection import Projection
from projections.shelf import ViewShelf
from projections.store import ViewUnavailableError
from projections.views import READ_MODELS
from tests.histories import History

SNAPSHOT_TOO_OLD = 239
SNAPSHOT_UNAVAILABLE = 246
WRITE_CONFLICT = 112
MODEL = READ_MODELS["timeline"]

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoReplicaSet]:
    options = ("--setParameter", "enableTestCommands=1")
    with MongoReplicaSet(tmp_path_factory.mktemp("mongodb"), options=options) as servers:
        yield servers


@pytest.fixture
def database(servers: MongoReplicaSet, tmp_path: Path) -> Iterator[ViewDatabase]:
    database = ViewDatabase.connect(servers.uri, f"views_{abs(hash(tmp_path))}", timeout_ms=1_500)
    yield database
    database.close()


@contextmanager
def failing(database: ViewDatabase, mode: object, commands: list[str], **failure: Any) -> Iterator[None]:
    point = {"configureFailPoint": "failCommand", "data": {"failCommands": commands, **failure}}
    database._client.admin.command({**point, "mode": mode})
    try:
        yield
    finally:
        database._client.admin.command({**point, "mode": "off"})


def opened(shelf: ViewShelf) -> Projection:
    return MODEL.over(shelf.open(MODEL.schema, 1, "log-1"), parks=False)


def check(projection: Projection, count: int) -> None:
    """The view is what so many commits make of it."""
    reference = opened(MemoryShelf())
    reference.take(History(4).grow(count))
    with projection.store.snapshot() as found, reference.store.snapshot() as expected:
        assert list(found.dump()) == list(expected.dump())


@pytest.mark.parametrize(
    "failure",
    [{"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}}, {"closeConnection": True}],
    ids=["it happened", "it did not happen"],
)  # fmt: skip
def test_a_commit_whose_outcome_stays_unknown_is_found_out(
    database: ViewDatabase, failure: dict[str, object]
) -> None:
    history = History(4).grow(80)
    projection = opened(MongoShelf(database))
    projection.take(history[:20])
    with (
        failing(database, "alwaysOn", ["commitTransaction"], **failure),
        pytest.raises(OutcomeUnknownError),
    ):
        projection.take(history[:50])
    projection.take(history[:80])
    check(projection, 80)


def test_a_conflict_is_met_again_until_it_is_gone(database: ViewDatabase) -> None:
    history = History(4).grow(60)
    projection = opened(MongoShelf(database))
    projection.take(history[:20])
    labels = {"errorCode": WRITE_CONFLICT, "errorLabels": ["TransientTransactionError"]}
    with failing(database, {"times": 3}, ["update", "insert"], **labels):
        projection.take(history[:40])
    with (
        failing(database, "alwaysOn", ["insert"], **labels),
        pytest.raises(ViewUnavailableError, match="in the way"),
    ):
        projection.take(history[:60])
    projection.take(history[:60])
    check(projection, 60)


def test_a_moment_that_is_too_old_says_so(database: ViewDatabase) -> None:
    projection = opened(MongoShelf(database))
    projection.take(History(4).grow(20)[:20])
    with (
        projection.store.snapshot() as snapshot,
        failing(database, "alwaysOn", ["find"], errorCode=SNAPSHOT_TOO_OLD),
    ):
        with pytest.raises(ViewUnavailableError):
            snapshot.get(MODEL.schema.tables[1], ("g_1",))
        with pytest.raises(ViewUnavailableError):
            list(snapshot.dump())


def test_a_moment_before_the_newest_index_is_chosen_again(database: ViewDatabase) -> None:
    projection = opened(MongoShelf(database))
    projection.take(History(4).grow(20)[:20])
    with (
        failing(database, {"times": 3}, ["find"], errorCode=SNAPSHOT_UNAVAILABLE),
        projection.store.snapshot() as found,
    ):
        assert found.positions() == projection.store.positions()


def test_a_server_that_does_not_answer_is_told_of_in_time(database: ViewDatabase) -> None:
    projection = opened(MongoShelf(database))
    history = History(4).grow(40)
    projection.take(history[:20])
    with failing(database, "alwaysOn", ["find", "update", "insert"], closeConnection=True):
        for ask in (
            lambda: projection.store.get(MODEL.schema.tables[1], ("g_9",)),
            projection.store.positions,
            lambda: projection.take(history[:40]),
        ):
            with pytest.raises(ViewUnavailableError):
                ask()
        with pytest.raises(ViewUnavailableError), projection.store.snapshot():
            raise AssertionError("it was entered")
    projection.take(history[:40])
    check(projection, 40)
