"""What a writer tells the fast views: each batch once it is committed, of the version that is read, and never more than happened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from typing_extensions import override

from projections.fast import Ask, Change, FastAwayError, Held, Miss, Offer, Span
from projections.fast_documents import document_of
from projections.fast_memory import FastMemory
from projections.fast_shelf import FastShelf, Present
from projections.memory import MemoryShelf
from projections.projection import Projection
from projections.store import UnitOfWork, ViewUnavailableError
from projections.tables import EVENTS
from projections.views import READ_MODELS
from tests.unit.projections.world import SHARDS, World, added

GROUP = "g_1"
LOG = "log-1"
NEVER_S = 3_600.0


class Heard(FastMemory):
    """Remembers what it was told, unless it is away."""

    def __init__(self) -> None:
        super().__init__(SHARDS)
        self.spans: list[tuple[str, Span]] = []
        self.away = False

    @override
    def tell(self, view: str, spans: Sequence[Span]) -> list[frozenset[str]]:
        if self.away:
            raise FastAwayError("away")
        self.spans += ((view, span) for span in spans)
        return super().tell(view, spans)


@pytest.fixture
def rows() -> Heard:
    return Heard()


@pytest.fixture
def shelf(rows: Heard) -> Iterator[FastShelf]:
    made = FastShelf(MemoryShelf(), rows, SHARDS, look_s=NEVER_S)
    yield made
    made.close()


def opened(shelf: FastShelf, version: int = 1) -> Projection:
    model = READ_MODELS["timeline"]
    return model.over(shelf.open(model.schema, version, LOG), shared=True)


def world() -> World:
    made = World()
    made.made(GROUP, added("ann", "ann"))
    made.made(GROUP, made.message(GROUP, "ann", "one"))
    made.made(GROUP, made.message(GROUP, "ann", "two"))
    return made


def test_a_batch_is_told_with_the_positions_around_it(shelf: FastShelf, rows: Heard) -> None:
    history = world().history
    shard = history[0].commit.shard
    projection = opened(shelf)
    projection.take(history[:1])
    projection.take(history[1:])
    spans = [(span.shard, span.before, span.after) for _, span in rows.spans]
    assert spans == [(shard, 0, 1), (shard, 1, 3)]
    names = {change.name for _, span in rows.spans for change in span.changes}
    assert names == {document_of(GROUP), "uann"}


def test_rows_are_told_only_of_what_is_known_to_be_there(shelf: FastShelf, rows: Heard) -> None:
    history = world().history
    projection = opened(shelf)
    projection.take(history[:1])
    (view, span) = rows.spans[-1]
    name = document_of(GROUP)
    assert [change.unseen for change in span.changes] == [True, True]
    shard = span.shard
    rows.offer(view, [Offer(shard, 1, name, high=1)])
    projection.take(history[1:2])
    # The writer did not know of it, so it went, and is known from now on.
    assert rows.fetch(view, [Ask(shard, 2, name)]) == [Miss.ABSENT]
    rows.offer(view, [Offer(shard, 2, name, high=2)])
    projection.take(history[2:])
    (held,) = rows.fetch(view, [Ask(shard, 3, name)])
    assert isinstance(held, Held)
    assert (held.high, list(held.events)) == (3, [3])


def test_a_version_that_nobody_reads_is_not_told_of(shelf: FastShelf, rows: Heard) -> None:
    history = world().history
    beside = opened(shelf, 2)
    beside.take(history[:2])
    assert rows.spans == []
    shelf.switch("timeline", 1, 2)
    beside.take(history[2:])
    assert [span.before for _, span in rows.spans] == [2]


def test_what_could_not_be_told_begins_the_shard_anew(shelf: FastShelf, rows: Heard) -> None:
    history = world().history
    projection = opened(shelf)
    projection.take(history[:1])
    view, span = rows.spans[0]
    rows.offer(view, [Offer(span.shard, 1, document_of(GROUP), high=1)])
    rows.away = True
    projection.take(history[1:2])
    shelf.look()
    rows.away = False
    assert projection.positions[span.shard] == 2
    projection.take(history[2:])
    assert rows.fetch(view, [Ask(span.shard, 3, document_of(GROUP))]) == [Miss.ABSENT]


def test_a_look_tells_where_everything_stands(shelf: FastShelf, rows: Heard) -> None:
    projection = opened(shelf)
    projection.take(world().history)
    rows.empty()
    shelf.look()
    view = rows.spans[-1][0]
    positions = {shard: projection.positions.get(shard, 0) for shard in range(SHARDS)}
    assert (
        rows.fetch(view, [Ask(shard, at, "c") for shard, at in positions.items()]) == [Miss.ABSENT] * SHARDS
    )


def test_rows_without_positions_are_told_at_the_position_that_holds(shelf: FastShelf, rows: Heard) -> None:
    projection = opened(shelf)
    history = world().history
    projection.take(history)
    shard = history[0].commit.shard
    work = UnitOfWork(projection.store)
    work.put(EVENTS, (GROUP, 2, 1, None, b"{}", 0, 0, None, 0))
    projection.store.apply(work, {})
    _, span = rows.spans[-1]
    assert span == Span(shard, 3, 3, [Change(document_of(GROUP), unseen=True)])


def test_nothing_is_told_of_what_was_not_committed(shelf: FastShelf, rows: Heard) -> None:
    projection = opened(shelf)
    history = world().history
    projection.take(history[:1])
    told = len(rows.spans)
    projection.store.close()
    with pytest.raises(ViewUnavailableError):
        projection.take(history[1:])
    shelf.look()
    assert len(rows.spans) == told


def test_only_so_many_documents_are_remembered() -> None:
    present = Present(names_max=2)
    present.learn(["a", "b", "c"], frozenset("abc"))
    assert [name in present for name in "abc"] == [False, True, True]
    present.learn(["b"], frozenset())
    assert [name in present for name in "abc"] == [False, False, True]
