"""What every view store promises: rows as written, batches whole with their positions, snapshots of one moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projections.mongo_driver import ViewDatabase
from projections.store import (
    Key,
    Phrase,
    Row,
    Schema,
    Snapshot,
    StaleWriterError,
    Table,
    Text,
    TextQuery,
    UnitOfWork,
    ViewStore,
    ViewUnavailableError,
)
from tests.contract.view_places import MemoryPlace, MongoPlace, SqlitePlace, ViewPlace

PLAIN = Table(
    name="plain", columns=("name text", "number int", "body bytes"), key_size=2, indexes=(("number",),)
)
CACHED = Table(name="hot", columns=("name text", "number int"), key_size=1)
MARKS = Table(name="marks", columns=("name text", "number int"), key_size=2)
EVENTS = Table(
    name="events", columns=("name text", "number int", "body text"), key_size=2, newest=True, wide=True
)
TEXTS = Table(
    name="texts",
    columns=("owner text", "id int", "words text", "place text"),
    key_size=1,
    text=Text(searched=("words", "place"), order="id"),
)
SCHEMA = Schema(name="sample", version=1, tables=(PLAIN, CACHED, MARKS, EVENTS, TEXTS))

NAMES = st.sampled_from(["", "a", "b", "ab", "ä", "\U0010ffff"])
NUMBERS = st.integers(-3, 3)
ROWS = st.one_of(
    st.tuples(st.just(PLAIN), st.tuples(NAMES, NUMBERS, st.one_of(st.none(), st.binary(max_size=3)))),
    st.tuples(st.just(CACHED), st.tuples(NAMES, NUMBERS)),
    st.tuples(st.just(MARKS), st.tuples(NAMES, NUMBERS)),
)
CHANGES = st.tuples(st.sampled_from(["put", "insert", "delete", "get"]), ROWS)
BATCHES = st.lists(
    st.tuples(st.lists(CHANGES, max_size=8), st.sampled_from(["apply", "drop", "tear", "reopen"])), max_size=8
)

Model = dict[tuple[str, Key], Row]


MONGO = pytest.param("mongo", marks=pytest.mark.services)


@pytest.fixture(params=["memory", "sqlite", MONGO])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ViewPlace]:
    if request.param == "memory":
        yield MemoryPlace()
    elif request.param == "sqlite":
        yield SqlitePlace(tmp_path)
    else:
        uri, name = request.getfixturevalue("mongodb_uri"), request.getfixturevalue("mongodb_database")
        database = ViewDatabase.connect(uri, name)
        yield MongoPlace(database)
        database.close()


def opened(place: ViewPlace, log_id: str = "log-1", schema: Schema = SCHEMA) -> ViewStore:
    return place.open(schema, log_id)


def change(work: UnitOfWork, model: Model, kind: str, table: Table, row: Row) -> None:
    """The same change to a unit of work and to a plain dictionary."""
    key = row[: table.key_size]
    if kind == "put":
        work.put(table, row)
        model[table.name, key] = row
    elif kind == "insert":
        work.insert(table, row)
        model.setdefault((table.name, key), row)
    elif kind == "delete":
        work.delete(table, key)
        model.pop((table.name, key), None)
    else:
        assert work.get(table, key) == model.get((table.name, key))


def everything(snapshot: Snapshot) -> Model:
    found: Model = {}
    for table in SCHEMA.tables:
        for row in snapshot.scan(table, (), limit=1_000):
            found[table.name, row[: table.key_size]] = row
    return found


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=BATCHES)
def test_a_store_is_a_dictionary_with_all_or_nothing_batches(
    place: ViewPlace,
    batches: list[tuple[list[tuple[str, tuple[Table, Row]]], str]],
) -> None:
    place.empty()
    store = opened(place)
    durable: Model = {}
    position = 0
    try:
        for changes, ending in batches:
            work, model = UnitOfWork(store), dict(durable)
            for kind, (table, row) in changes:
                change(work, model, kind, table, row)
            if ending == "apply":
                position += 1
                store.apply(work, {3: position})
                durable = model
            elif ending == "drop":
                store.release()
            elif ending == "tear":
                work.put(PLAIN, ("a", 0, object()))  # type: ignore[arg-type]
                with pytest.raises(Exception, match=r"(?i)type|bind"):
                    store.apply(work, {3: position + 1})
            else:
                store.close()
                store = opened(place)
            with store.snapshot() as snapshot:
                assert everything(snapshot) == durable
                assert snapshot.positions() == ({3: position} if position else {})
            assert store.positions() == ({3: position} if position else {})
    finally:
        store.close()


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(NAMES, NUMBERS, st.one_of(st.none(), st.binary(max_size=3))), max_size=15),
    name=NAMES,
    after=st.one_of(st.none(), NUMBERS),
    before=st.one_of(st.none(), NUMBERS),
    descending=st.booleans(),
    limit=st.integers(1, 5),
    present=st.booleans(),
)
def test_scans_are_ordered_and_bounded(
    place: ViewPlace,
    rows: list[Row],
    name: str,
    after: int | None,
    before: int | None,
    descending: bool,
    limit: int,
    present: bool,
) -> None:
    place.empty()
    store = opened(place)
    work = UnitOfWork(store)
    model: dict[Key, Row] = {}
    for row in rows:
        work.put(PLAIN, row)
        model[row[:2]] = row
    store.apply(work, {0: 1})

    def fits(number: object) -> bool:
        assert isinstance(number, int)
        return (after is None or number > after) and (before is None or number < before)

    of_name = [row for row in model.values() if row[0] == name and fits(row[1])]
    shown = [row for row in of_name if not present or row[2] is not None]
    shown.sort(key=lambda row: row[1], reverse=descending)  # type: ignore[arg-type, return-value]
    by_number = [row for row in model.values() if after is not None and row[1] == after]
    with store.snapshot() as snapshot:
        found = snapshot.scan(
            PLAIN,
            (name,),
            after=after,
            before=before,
            descending=descending,
            limit=limit,
            present="body" if present else None,
        )
        assert found == shown[:limit]
        assert snapshot.count(PLAIN, (name,), after=after, before=before) == len(of_name)
        if after is not None:
            indexed = snapshot.scan(PLAIN, (after,), index=("number",), limit=100)
            assert indexed == sorted(by_number, key=lambda row: str(row[0]).encode())
    store.close()


def test_a_snapshot_stays_at_its_moment(place: ViewPlace) -> None:
    store = opened(place)
    work = UnitOfWork(store)
    work.put(CACHED, ("a", 1))
    store.apply(work, {0: 1})
    with store.snapshot() as snapshot:
        assert snapshot.get(CACHED, ("a",)) == ("a", 1)
        work = UnitOfWork(store)
        work.put(CACHED, ("a", 2))
        store.apply(work, {0: 2})
        assert snapshot.get(CACHED, ("a",)) == ("a", 1)
        assert snapshot.positions() == {0: 1}
    with store.snapshot() as snapshot:
        work = UnitOfWork(store)
        work.put(CACHED, ("a", 3))
        store.apply(work, {0: 3})
        assert snapshot.get(CACHED, ("a",)) == ("a", 2), "its moment is that of entering"
    store.close()


@pytest.mark.parametrize(
    "log_id, version", [("log-2", 1), ("log-1", 2)], ids=["another log", "another schema version"]
)
def test_another_log_or_version_voids_the_view(place: ViewPlace, log_id: str, version: int) -> None:
    store = opened(place)
    work = UnitOfWork(store)
    work.put(CACHED, ("a", 1))
    store.apply(work, {0: 1})
    store.close()
    other = Schema(name="sample", version=version, tables=SCHEMA.tables)
    store = opened(place, log_id, other)
    assert store.positions() == {}
    assert store.get(CACHED, ("a",)) is None
    store.close()


def test_the_newest_row_is_known_through_batches_and_restarts(place: ViewPlace) -> None:
    store = opened(place)
    work = UnitOfWork(store)
    assert work.newest_row(EVENTS, ("a",)) is None
    work.append(EVENTS, ("a", 1, "one"))
    inner = work.nested()
    assert inner.newest_row(EVENTS, ("a",)) == ("a", 1, "one")
    inner.append(EVENTS, ("a", 2, "two"))
    assert work.newest_row(EVENTS, ("a",)) == ("a", 1, "one")
    work.merge(inner)
    assert work.newest_row(EVENTS, ("a",)) == ("a", 2, "two")
    store.apply(work, {0: 1})
    work = UnitOfWork(store)
    work.put(EVENTS, ("a", 1, "changed"))
    work.put(EVENTS, ("a", 2, "changed too"))
    assert work.newest_row(EVENTS, ("a",)) == ("a", 2, "changed too")
    store.release()
    assert UnitOfWork(store).newest_row(EVENTS, ("a",)) == ("a", 2, "two")
    store.apply(work, {0: 2})
    store.close()
    store = opened(place)
    assert UnitOfWork(store).newest_row(EVENTS, ("a",)) == ("a", 2, "changed too")
    assert store.get(EVENTS, ("a", 1)) == ("a", 1, "changed")
    store.close()


def test_notes_are_kept_when_their_batch_was_applied(place: ViewPlace) -> None:
    store = opened(place)
    work = UnitOfWork(store)
    inner = work.nested()
    assert not inner.note("inner")
    assert inner.note("inner")
    forgotten = work.nested()
    assert not forgotten.note("poison")
    work.merge(inner)
    assert work.note("inner")
    work.put(PLAIN, ("a", 0, object()))  # type: ignore[arg-type]
    with pytest.raises(Exception, match=r"(?i)type|bind"):
        store.apply(work, {0: 1})
    assert not store.noted("inner")
    work = UnitOfWork(store)
    assert not work.note("again")
    work.merge(inner)
    store.apply(work, {0: 1})
    assert [store.noted(what) for what in ("inner", "again", "poison")] == [True, True, False]
    store.close()


@pytest.mark.parametrize("place", ["memory", MONGO], indirect=True)  # A file belongs to one process.
def test_a_writer_that_is_no_longer_alone_is_refused_until_it_asks_where_the_view_stands(
    place: ViewPlace,
) -> None:
    first = opened(place)
    work = UnitOfWork(first)
    work.put(CACHED, ("a", 1))
    first.apply(work, {0: 1, 1: 1})
    second = opened(place)
    work = UnitOfWork(second)
    work.put(CACHED, ("a", 2))
    second.apply(work, {0: 2})
    for _ in range(2):
        work = UnitOfWork(first)
        work.put(CACHED, ("a", 3))
        with pytest.raises(StaleWriterError):
            first.apply(work, {1: 2, 0: 2})
    with pytest.raises(StaleWriterError):
        first.apply(work, {})
    assert first.positions() == {0: 2, 1: 1}
    assert first.get(CACHED, ("a",)) == ("a", 2)
    first.apply(work, {0: 3})
    work = UnitOfWork(second)
    work.put(MARKS, ("b", 1))
    second.apply(work, {1: 2})
    assert first.positions() == {0: 3, 1: 2}, "writers of different shards do not meet"
    first.close()
    second.close()


def test_a_store_that_cannot_be_written_says_so(place: ViewPlace) -> None:
    store = opened(place)
    work = UnitOfWork(store)
    work.put(CACHED, ("a", 1))
    store.close()
    with pytest.raises(ViewUnavailableError):
        store.apply(work, {0: 1})
    with pytest.raises(ViewUnavailableError):
        store.get(CACHED, ("a",))


def test_a_nested_unit_of_work_is_merged_or_forgotten(place: ViewPlace) -> None:
    store = opened(place)
    work = UnitOfWork(store)
    work.put(CACHED, ("kept", 1))
    forgotten = work.nested()
    forgotten.put(CACHED, ("kept", 2))
    forgotten.delete(PLAIN, ("x", 1))
    inner = work.nested()
    assert inner.get(CACHED, ("kept",)) == ("kept", 1)
    inner.put(CACHED, ("kept", 3))
    inner.insert(CACHED, ("new", 1))
    inner.put(TEXTS, ("me", 1, "hello", "p"))
    work.merge(inner)
    store.apply(work, {0: 1})
    assert store.get(CACHED, ("kept",)) == ("kept", 3)
    assert store.get(CACHED, ("new",)) == ("new", 1)
    assert store.get(TEXTS, ("me",)) == ("me", 1, "hello", "p")
    store.close()


def found(
    store: ViewStore, *phrases: Phrase, after: int | None = None, before: int | None = None
) -> list[object]:
    """The numbers of the texts with all these phrases."""
    with store.snapshot() as snapshot:
        rows = snapshot.find_text(TEXTS, TextQuery(all_of=phrases), after=after, before=before, limit=10)
        return [row[1] for row in rows]


def words(text: str, beginning: bool = False) -> Phrase:
    return Phrase("words", text, beginning)


def test_texts_are_found_newest_first_until_they_are_removed(place: ViewPlace) -> None:
    store = opened(place)
    work = UnitOfWork(store)
    for number, text in enumerate(("hello world", "hello there", "help"), 1):
        work.insert(TEXTS, (f"owner{number}", number, text, "p1"))
    store.apply(work, {0: 1})
    assert found(store, words("hel", beginning=True)) == [3, 2, 1]
    assert found(store, words("hello")) == [2, 1]
    assert found(store, words("hello"), before=2) == [1]
    assert found(store, words("hello"), after=1) == [2]
    work = UnitOfWork(store)
    work.put(TEXTS, ("owner1", 1, "changed", "p1"))
    work.delete(TEXTS, ("owner2",))
    store.apply(work, {0: 2})
    assert found(store, words("hello")) == []
    assert found(store, words("changed"), Phrase("place", "p1")) == [1]
    store.close()


def test_a_text_is_found_with_any_of_some_phrases(place: ViewPlace) -> None:
    store = opened(place)
    work = UnitOfWork(store)
    for number, word in enumerate(("p1", "p2", "p3"), 1):
        work.insert(TEXTS, (f"owner{number}", number, "same words here", word))
    store.apply(work, {0: 1})
    places = (Phrase("place", "p3"), Phrase("place", "p1"), Phrase("place", "p4"))
    query = TextQuery(all_of=(words("words here"), words("sa", beginning=True)), any_of=places)
    with store.snapshot() as snapshot:
        rows = snapshot.find_text(TEXTS, query, after=None, before=None, limit=10)
        assert rows == [("owner3", 3, "same words here", "p3"), ("owner1", 1, "same words here", "p1")]
        assert snapshot.find_text(TEXTS, query, after=None, before=None, limit=1) == rows[:1]
    store.close()


def test_a_text_whose_number_another_has_is_left_out(place: ViewPlace) -> None:
    store = opened(place)
    for position, (owner, text) in enumerate((("one", "first"), ("two", "second")), 1):
        work = UnitOfWork(store)
        work.insert(TEXTS, (owner, 1, text, "p1"))
        store.apply(work, {0: position})
    assert found(store, words("first")) == [1]
    assert found(store, words("second")) == []
    store.close()


def test_a_long_batch_inserts_what_is_absent(place: ViewPlace) -> None:
    store = opened(place)
    work = UnitOfWork(store)
    work.insert(CACHED, ("name7", -1))
    work.insert(TEXTS, ("owner7", 1_007, "kept words", "p1"))
    store.apply(work, {0: 1})
    work = UnitOfWork(store)
    for number in range(45):
        work.insert(CACHED, (f"name{number}", number))
        work.append(TEXTS, (f"owner{number}", 30 if number == 40 else number, f"word{number} words", "p1"))
    store.apply(work, {0: 2})
    with store.snapshot() as snapshot:
        assert snapshot.count(CACHED, ()) == 45
        assert snapshot.get(CACHED, ("name7",)) == ("name7", -1)
        query = TextQuery(all_of=(words("words"),))
        rows = snapshot.find_text(TEXTS, query, after=None, before=None, limit=100)
        assert rows == [("owner7", 1_007, "kept words", "p1")] + [
            (f"owner{number}", number, f"word{number} words", "p1")
            for number in reversed(range(45))
            if number not in (7, 40)
        ]
    assert found(store, words("word40")) == found(store, words("word7")) == []
    assert found(store, words("word30")) == [30]
    store.close()


@pytest.mark.parametrize(
    "text",
    ['"', '""', 'a" OR words : "b', "NOT a", "a)", "(a", "place : p1", "a*", "^a", "NEAR(a b)", "\\", "-a"],
)
def test_nothing_in_a_phrase_is_an_operator(place: ViewPlace, text: str) -> None:
    store = opened(place)
    work = UnitOfWork(store)
    work.insert(TEXTS, ("one", 1, "b", "p1"))
    work.insert(TEXTS, ("two", 2, f"x {text} y", "p2"))
    store.apply(work, {0: 1})
    assert 1 not in found(store, words("b"), words(text))
    assert found(store, words("x"), words(text)) in ([], [2])
    assert found(store, words("x"), words("y"), words(f"q {text}")) == []
    store.close()
