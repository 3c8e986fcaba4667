"""Words are found alike in every store: what SQLite's tokenizer and phrases say is what the others must say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projections.mongo_driver import ViewDatabase
from projections.search import spaced
from projections.store import Phrase, Schema, Table, Text, TextQuery, UnitOfWork, ViewStore
from tests.contract.view_places import MemoryPlace, MongoPlace, SqlitePlace, ViewPlace

TEXTS = Table(
    name="texts",
    columns=("owner int", "id int", "words text", "place text"),
    key_size=1,
    text=Text(searched=("words", "place"), order="id"),
)
SCHEMA = Schema(name="sample", version=1, tables=(TEXTS,))
PARTS = (
    *("a", "A", "ab", "abc", "b", "é", "É", "e\u0301", "ß", "ſ", "Σ", "ς", "1", "12", "_", "-", ".", '"', "*", " ", "  "),
    *("天", "气", "公", "園", "天 气", "🎉", "タ", "ไ", "\u0e49", "words", "place", " OR ", " NOT ", "NEAR(", ")", ":", "^"),
)  # fmt: skip
WORDS = st.lists(st.sampled_from(PARTS), max_size=6).map("".join)
PHRASES = st.lists(
    st.builds(Phrase, st.sampled_from(("words", "place")), WORDS, st.booleans()), min_size=1, max_size=3
)
ROWS = st.lists(st.tuples(WORDS, st.sampled_from(("p1", "p2", "a", "天 气"))), min_size=1, max_size=8)


@pytest.fixture(params=["memory", pytest.param("mongo", marks=pytest.mark.services)])
def place(request: pytest.FixtureRequest) -> Iterator[ViewPlace]:
    if request.param == "memory":
        yield MemoryPlace()
    else:
        uri, name = request.getfixturevalue("mongodb_uri"), request.getfixturevalue("mongodb_database")
        database = ViewDatabase.connect(uri, name)
        yield MongoPlace(database)
        database.close()


def filled(place: ViewPlace, texts: Sequence[tuple[str, str]]) -> ViewStore:
    place.empty()
    store = place.open(SCHEMA)
    work = UnitOfWork(store)
    for number, (words, where) in enumerate(texts, 1):
        work.append(TEXTS, (number, number * 10, words, where))
    store.apply(work, {0: 1})
    return store


def found(
    store: ViewStore, query: TextQuery, after: int | None = None, before: int | None = None, limit: int = 100
) -> list[object]:
    with store.snapshot() as snapshot:
        return [row[0] for row in snapshot.find_text(TEXTS, query, after=after, before=before, limit=limit)]


@pytest.mark.slow
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=ROWS,
    queries=st.lists(
        st.builds(lambda a, b: TextQuery(all_of=tuple(a), any_of=tuple(b)), PHRASES, st.one_of(st.just([]), PHRASES)),
        min_size=1,
        max_size=6,
    ),
    after=st.one_of(st.none(), st.integers(0, 90)),
    before=st.one_of(st.none(), st.integers(0, 90)),
    limit=st.integers(1, 9),
)  # fmt: skip
def test_every_store_finds_what_sqlite_finds(
    tmp_path_factory: pytest.TempPathFactory,
    place: ViewPlace,
    texts: list[tuple[str, str]],
    queries: list[TextQuery],
    after: int | None,
    before: int | None,
    limit: int,
) -> None:
    reference = filled(SqlitePlace(tmp_path_factory.mktemp("words")), texts)
    store = filled(place, texts)
    for query in queries:
        assert found(store, query) == found(reference, query), query
        assert found(store, query, after, before, limit) == found(reference, query, after, before, limit)
    store.close()
    reference.close()


@pytest.mark.parametrize(
    "query, numbers",
    [
        ("天气", [4, 1]),
        ("今天", [1]),
        ("天天气", [1]),
        ("气天", [2]),
        ("好公", []),
        ("天", [4, 2, 1]),
        ("公园", [3]),
    ],
)
def test_two_ideographs_are_found_where_they_are_neighbours(
    place: ViewPlace, tmp_path: Path, query: str, numbers: list[int]
) -> None:
    texts = [(spaced(text), "p") for text in ("今天天气很好", "气天", "去公园吧", "晴天气温")]
    asked = TextQuery(all_of=(Phrase("words", spaced(query).strip()),))
    for store in (filled(place, texts), filled(SqlitePlace(tmp_path), texts)):
        assert found(store, asked) == numbers
        store.close()
