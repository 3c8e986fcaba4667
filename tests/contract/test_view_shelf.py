"""What every shelf of views promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from projections.memory import MemoryShelf
from projections.mongo_driver import ViewDatabase
from projections.mongo_shelf import MongoShelf
from projections.shelf import SwitchRefusedError, ViewShelf
from projections.sqlite_shelf import SqliteShelf
from projections.store import Schema, Table, UnitOfWork

HEADS = Table(name="heads", columns=("name text", "head int"), key_size=1)
ONE = Schema(name="one", version=1, tables=(HEADS,))
NEXT = Schema(name="one", version=2, tables=(HEADS,))
ONE_MORE = Schema(name="one_more", version=1, tables=(HEADS,))
LOG = "log-1"


@pytest.fixture(params=["memory", "sqlite", pytest.param("mongo", marks=pytest.mark.services)])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ViewShelf]:
    if request.param == "memory":
        yield MemoryShelf()
    elif request.param == "sqlite":
        yield SqliteShelf(tmp_path)
    else:
        uri, name = request.getfixturevalue("mongodb_uri"), request.getfixturevalue("mongodb_database")
        database = ViewDatabase.connect(uri, name)
        yield MongoShelf(database)
        database.close()


def write(shelf: ViewShelf, schema: Schema, version: int, head: int) -> None:
    store = shelf.open(schema, version, LOG)
    work = UnitOfWork(store)
    work.put(HEADS, ("a", head))
    store.apply(work, {0: head})
    store.close()


def read(shelf: ViewShelf, schema: Schema, version: int) -> object:
    store = shelf.open(schema, version, LOG)
    row = store.get(HEADS, ("a",))
    store.close()
    return None if row is None else row[1]


def test_versions_stand_side_by_side_until_they_are_thrown_away(shelf: ViewShelf) -> None:
    assert shelf.versions("one") == frozenset()
    write(shelf, ONE, 1, 11)
    write(shelf, ONE, 2, 12)
    write(shelf, ONE_MORE, 7, 17)
    assert shelf.versions("one") == {1, 2}
    assert shelf.versions("one_more") == {7}
    assert [read(shelf, ONE, version) for version in (1, 2)] == [11, 12]
    assert shelf.holds(ONE, 2, LOG)
    assert not shelf.holds(NEXT, 2, LOG)
    assert not shelf.holds(ONE, 2, "log-2")
    assert not shelf.holds(ONE_MORE, 1, LOG)
    shelf.remove("one", 1)
    assert shelf.versions("one") == {2}
    assert read(shelf, ONE, 2) == 12
    assert read(shelf, ONE_MORE, 7) == 17
    assert read(shelf, ONE, 1) is None


def test_of_those_who_switch_at_once_one_does(shelf: ViewShelf) -> None:
    write(shelf, ONE, 1, 1)
    assert shelf.current() == {}
    shelf.switch("one", 1, 2)
    with pytest.raises(SwitchRefusedError):
        shelf.switch("one", 1, 2)
    shelf.switch("one", 2, 3)
    with pytest.raises(SwitchRefusedError):
        shelf.switch("one", 2, 4)
    with pytest.raises(SwitchRefusedError):
        shelf.switch("one_more", 2, 3)
    assert shelf.current() == {"one": 3}
    shelf.switch("one", 3, 1)
    assert shelf.current() == {"one": 1}


def test_another_schema_is_made_anew_in_the_same_place(shelf: ViewShelf) -> None:
    write(shelf, ONE, 1, 1)
    assert read(shelf, NEXT, 1) is None
    assert shelf.holds(NEXT, 1, LOG)
    assert not shelf.holds(ONE, 1, LOG)
    assert shelf.versions("one") == {1}
