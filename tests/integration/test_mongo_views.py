"""Views on MongoDB: equal to those on SQLite whatever happened, rebuilt and switched, and written by one at a time."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from typing_extensions import override

from domain.talk import MessageEdited
from eventlog.record import Committed
from projections.memory import MemoryShelf
from projections.mongo import MongoViewStore
from projections.mongo_driver import ConflictError, MongoUnfitError, ViewDatabase
from projections.mongo_shelf import MongoShelf
from projections.mongo_writing import MARK
from projections.projection import Projection
from projections.rebuild import Rebuild, RollBack, digest_of
from projections.shelf import ViewShelf
from projections.sqlite_shelf import SqliteShelf
from projections.store import Row, Schema, StaleWriterError, Table, UnitOfWork, ViewUnavailableError
from projections.views import READ_MODELS
from tests.histories import History
from tests.unit.projections.world import World, content, rows, views_of

LOG = "log-1"
GROUP = "g_1"
HEADS = Schema(
    name="heads", version=1, tables=(Table(name="heads", columns=("name text", "head int"), key_size=1),)
)

pytestmark = pytest.mark.services


@pytest.fixture
def database(mongodb_uri: str, mongodb_database: str) -> Iterator[ViewDatabase]:
    database = ViewDatabase.connect(mongodb_uri, mongodb_database)
    yield database
    database.close()


def emptied(database: ViewDatabase) -> ViewShelf:
    """The shelf with all its views as they were made."""
    for name in database.collections(""):
        if name != "views":
            database._database[name].delete_many({"_id": {"$ne": MARK["_id"]}})
    return MongoShelf(database)


def dump(shelf: ViewShelf, name: str) -> tuple[dict[int, int], list[tuple[str, Row]]]:
    store = shelf.open(READ_MODELS[name].schema, 1, LOG)
    with store.snapshot() as snapshot:
        found = dict(snapshot.positions()), list(snapshot.dump())
    store.close()
    return found


def follow(shelf: ViewShelf, name: str, history: Sequence[Committed], chance: random.Random) -> None:
    """Take the history in batches of any size, some of them twice, with the store opened again now and then."""

    def opened() -> Projection:
        return READ_MODELS[name].over(shelf.open(READ_MODELS[name].schema, 1, LOG))

    projection = opened()
    at = 0
    while at < len(history):
        size = chance.choice((1, 2, 7, 30))
        projection.take(history[max(0, at - chance.choice((0, 0, 5))) : at + size])
        at += size
        if chance.random() < 0.1:
            projection.store.close()
            projection = opened()
            at = 0
    projection.flush_positions()
    projection.store.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), count=st.integers(20, 150))
def test_all_views_of_any_history_are_the_same_in_every_store(
    tmp_path_factory: pytest.TempPathFactory, database: ViewDatabase, seed: int, count: int
) -> None:
    history = History(seed).grow(count)
    shelves: tuple[ViewShelf, ...] = (
        SqliteShelf(tmp_path_factory.mktemp("views")),
        MemoryShelf(),
        emptied(database),
    )
    for name in READ_MODELS:
        for number, shelf in enumerate(shelves):
            follow(shelf, name, history, random.Random(seed + number))
        reference = dump(shelves[0], name)
        assert reference[0]
        assert [dump(shelf, name) for shelf in shelves[1:]] == [reference, reference]


@pytest.mark.slow
async def test_a_view_is_rebuilt_switched_and_rolled_back(database: ViewDatabase) -> None:
    world = World()
    await world.register("alice")
    await world.group(GROUP, "alice", ["bob"])
    seq = 0
    for n in range(5):
        seq = await world.say(GROUP, "alice", f"word{n} 今天", mentions=("bob",))
    await world.commit(GROUP, MessageEdited(actor="alice", at=0, target=seq, content=content("edited")))
    shelf = MongoShelf(database)
    async with views_of(world, shelf) as views:
        for name in READ_MODELS:
            rebuilt = await Rebuild(views, name, share=1).run()
            assert (rebuilt.same, rebuilt.switched, rebuilt.new_version) == (True, True, 2)
        await world.say(GROUP, "bob", "missed by the kept version")
        await views.caught_up(world.positions(), timeout_s=10)
        with views.projection("timeline").store.snapshot() as snapshot:
            before = digest_of(snapshot)
        back = await RollBack(views, "timeline", share=1).run()
        assert (back.old_version, back.new_version, back.events) == (2, 1, 1)
        with views.projection("timeline").store.snapshot() as snapshot:
            assert digest_of(snapshot) == before
        assert shelf.versions("timeline") == {1}
        assert shelf.versions("search") == {1, 2}
        assert len(rows(await views.search.search("default", "bob", "今天"))) == 4
        assert (await Rebuild(views, "timeline", share=1).run()).same
    async with views_of(world, shelf) as views:
        assert [views.version_of(name) for name in READ_MODELS] == [2] * len(READ_MODELS)
        assert len(rows(await views.search.search("default", "bob", "missed"))) == 1


def heads_of(database: ViewDatabase) -> MongoViewStore:
    return MongoViewStore(database, HEADS, 1, LOG)


def head_work(store: MongoViewStore, head: int) -> UnitOfWork:
    work = UnitOfWork(store)
    work.put(HEADS.tables[0], ("a", head))
    return work


def test_what_a_dead_writer_left_open_is_ended_by_the_next(database: ViewDatabase) -> None:
    dead, successor = heads_of(database), heads_of(database)
    dead.apply(head_work(dead, 1), {0: 1})
    writer = dead._writer
    writing = writer._transactions.begun()
    writing.__enter__()
    writer._move({0: 1}, {0: 2})  # From here on, nobody else could move this position for a minute.
    assert successor.positions() == {0: 1}
    successor.apply(head_work(successor, 2), {0: 2})
    with pytest.raises(ConflictError):
        writing.__exit__(None, None, None)
    with pytest.raises(StaleWriterError):
        dead.apply(head_work(dead, 9), {0: 2})
    assert successor.get(HEADS.tables[0], ("a",)) == ("a", 2)


def test_a_projector_that_was_overtaken_is_refused_and_finds_back(database: ViewDatabase) -> None:
    history = History(1).grow(60)
    model = READ_MODELS["timeline"]
    shelf = MongoShelf(database)
    zombie, successor = (model.over(shelf.open(model.schema, 1, LOG)) for _ in range(2))
    zombie.take(history[:30])
    successor.store.positions()
    successor = model.over(successor.store)
    successor.take(history[:50])
    with pytest.raises(StaleWriterError):
        zombie.take(history[:40])
    assert zombie.positions == successor.positions
    zombie.take(history)
    reference = MemoryShelf()
    follow(reference, "timeline", history, random.Random(1))
    assert dump(shelf, "timeline") == dump(reference, "timeline")


def test_a_view_that_was_thrown_away_is_neither_read_nor_written(database: ViewDatabase) -> None:
    shelf, store = MongoShelf(database), heads_of(database)
    store.apply(head_work(store, 1), {0: 1})
    shelf.remove("heads", 1)
    with pytest.raises(ViewUnavailableError), store.snapshot():
        raise AssertionError("it can be read")
    for positions in ({0: 2}, {1: 1}):
        with pytest.raises(ViewUnavailableError):
            store.apply(head_work(store, 2), positions)
    with pytest.raises(ViewUnavailableError):
        store.positions()
    assert heads_of(database).positions() == {}


def test_of_many_who_make_a_view_at_once_one_does(database: ViewDatabase) -> None:
    first = heads_of(database)
    first.apply(head_work(first, 1), {0: 1})
    stores = [MongoViewStore(database, HEADS, 1, "log-2") for _ in range(2)]
    stores[0].apply(head_work(stores[0], 5), {0: 5})
    assert stores[1].positions() == {0: 5}
    assert len({name.split(".")[2] for name in database.collections("heads.")}) == 1


def test_a_server_that_cannot_keep_views_is_refused_in_words(mongodb_uri: str) -> None:
    with pytest.raises(MongoUnfitError, match="address"):
        ViewDatabase.connect("mongo://nowhere", "views")
    with pytest.raises(ViewUnavailableError):
        ViewDatabase.connect("mongodb://127.0.0.1:1/", "views", timeout_ms=200)


class Commands(CommandListener):
    """Remembers what was sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []

    @override
    def started(self, event: CommandStartedEvent) -> None:
        self.sent.append((event.command_name, dict(event.command)))

    @override
    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing to do."""

    @override
    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing to do."""


def test_every_commit_asks_for_the_majority_and_the_journal(mongodb_uri: str, mongodb_database: str) -> None:
    commands = Commands()
    database = ViewDatabase.connect(
        f"{mongodb_uri}&w=1&journal=false", mongodb_database, listeners=[commands]
    )
    store = heads_of(database)
    commands.sent.clear()
    store.apply(head_work(store, 1), {0: 1})
    assert store.positions() == {0: 1}
    with store.snapshot() as snapshot:
        snapshot.get(HEADS.tables[0], ("a",))
    database.close()
    (commit,) = (body for name, body in commands.sent if name == "commitTransaction")
    assert commit["writeConcern"] == {"w": "majority", "j": True}
    reads = [body["readConcern"] for name, body in commands.sent if name == "find" and "readConcern" in body]
    assert {concern["level"] for concern in reads} == {"majority", "snapshot"}


@pytest.mark.slow
def test_a_batch_of_more_than_one_command_takes_is_written(database: ViewDatabase) -> None:
    table = Table(name="wide", columns=("name text", "body bytes"), key_size=1)
    store = MongoViewStore(database, Schema(name="wide", version=1, tables=(table,)), 1, LOG)
    work = UnitOfWork(store)
    for number in range(90):
        work.append(table, (f"new{number}", b"x" * 200_000))
    store.apply(work, {0: 1})
    work = UnitOfWork(store)
    for number in range(90):
        work.put(table, (f"new{number}", b"y" * 200_000))
    store.apply(work, {0: 2})
    with store.snapshot() as snapshot:
        assert snapshot.count(table, ()) == 90
        assert snapshot.get(table, ("new89",)) == ("new89", b"y" * 200_000)
    store.close()
