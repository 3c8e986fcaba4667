"""What the fast views promise, in memory and on Redis: the views' own answers or none, whatever was lost, told twice or told late."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projections.fast import Ask, Change, FastRows, Held, Miss, Offer, Span
from projections.fast_memory import FastMemory
from projections.memory import MemoryShelf
from projections.redis_fast import RedisFast
from tests.contract.fast_house import House, questions_of
from tests.histories import History
from tests.unit.projections.world import SHARDS

VIEW = "timeline.v1.1.log-1"
EVENTS_KEPT = 8
KINDS = ["memory", pytest.param("redis", marks=pytest.mark.services)]

Maker = Callable[..., FastRows]


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Iterator[Maker]:
    """Makes rows of nothing, with bounds of one's own; the newest ones count."""
    if request.param == "memory":
        yield lambda **bounds: FastMemory(**{"shard_count": SHARDS, "events_kept": EVENTS_KEPT, **bounds})
        return
    url, prefix = request.getfixturevalue("redis_url"), request.getfixturevalue("redis_prefix")
    made: list[RedisFast] = []

    def make(**bounds: int) -> FastRows:
        shard_count = bounds.pop("shard_count", SHARDS)
        place = f"{prefix}{len(made)}"
        rows = RedisFast(
            url,
            place,
            shard_count,
            read_timeout_s=10,
            write_timeout_s=10,
            **{"events_kept": EVENTS_KEPT, **bounds},
        )
        made.append(rows)
        return rows

    yield make
    for rows in made:
        rows.close()


@pytest.fixture
def rows(make: Maker) -> FastRows:
    return make()


def begin(rows: FastRows, position: int = 5) -> None:
    """Have the shard stand there."""
    assert rows.tell(VIEW, [Span(0, position, position)]) == [frozenset()]


def offer(position: int, name: str = "cg_1", **more: object) -> Offer:
    events = more.pop("events", {1: b"one", 2: b"two"})
    assert isinstance(events, dict)
    return Offer(0, position, name, events=events, high=max(events, default=0), **more)  # type: ignore[arg-type]


def fetched(rows: FastRows, needed: int = 0, name: str = "cg_1", first: int = 1) -> Held | Miss:
    (held,) = rows.fetch(VIEW, [Ask(0, needed, name, None, first, 0)])
    return held


def test_what_was_never_told_is_behind_and_takes_nothing(rows: FastRows) -> None:
    assert rows.offer(VIEW, [offer(5)]) == [False]
    assert fetched(rows) is Miss.BEHIND


def test_a_document_is_what_was_offered_and_what_was_told_since(rows: FastRows) -> None:
    begin(rows)
    assert fetched(rows) is Miss.ABSENT
    small, members = {"c": b"row", "s1": b"state"}, {"mann": b"ann", "oann": b""}
    assert rows.offer(VIEW, [offer(5, small=small, members=members)]) == [True]
    assert fetched(rows, 5) == Held(5, 1, 2, small, members, {1: b"one", 2: b"two"})
    assert fetched(rows, 6) is Miss.BEHIND
    change = Change("cg_1", ["s1"], {"s2": b"new"}, {3: b"three"}, {"mbob": b"bob"})
    assert rows.tell(VIEW, [Span(0, 5, 7, [change, Change("cg_2")])]) == [frozenset({"cg_1"})]
    held = fetched(rows, 7)
    assert isinstance(held, Held)
    assert (held.position, held.high, held.small) == (7, 3, {"c": b"row", "s2": b"new"})
    assert held.events == {1: b"one", 2: b"two", 3: b"three"}
    assert held.members == {**members, "mbob": b"bob"}


def test_only_what_is_asked_for_comes(rows: FastRows) -> None:
    begin(rows)
    events = {seq: b"%d" % seq for seq in range(3, 7)}
    small = {"c": b"row", "s4": b"state"}
    rows.offer(VIEW, [offer(5, small=small, members={"ma": b"a", "mb": b"b"}, events=events, floor=3)])
    asks = [
        Ask(0, 5, "cg_1", ("mb", "mc"), -2, 0),
        Ask(0, 5, "cg_1", (), 1, 4, small=False),
        Ask(0, 5, "cg_1", ()),
        Ask(0, 5, "cg_1", (), 7, 0),
    ]
    newest, range_, head, nothing = rows.fetch(VIEW, asks)
    assert newest == Held(5, 3, 6, small, {"mb": b"b"}, {5: b"5", 6: b"6"})
    assert range_ == Held(5, 3, 6, {"c": b"row"}, {}, {3: b"3", 4: b"4", 6: b"6"})
    assert head == nothing == Held(5, 3, 6, small, {}, {6: b"6"})


def test_a_span_that_does_not_follow_begins_anew(rows: FastRows) -> None:
    begin(rows)
    rows.offer(VIEW, [offer(5)])
    assert rows.tell(VIEW, [Span(0, 6, 9, [Change("cg_1", events={3: b"x"})])]) == [frozenset()]
    assert fetched(rows, 9) is Miss.ABSENT
    # What was read before that cannot be put there any more.
    assert rows.offer(VIEW, [offer(8), offer(9)]) == [False, True]


def test_told_late_or_by_two_changes_nothing(rows: FastRows) -> None:
    begin(rows)
    rows.offer(VIEW, [offer(5)])
    span = Span(0, 5, 7, [Change("cg_1", events={3: b"three"})])
    rows.tell(VIEW, [span])
    held = fetched(rows, 7)
    for late in (span, Span(0, 4, 6, [Change("cg_1", events={3: b"old"})]), Span(0, 5, 5)):
        assert rows.tell(VIEW, [late]) == [frozenset()]
        assert fetched(rows, 7) == held


def test_a_document_that_changed_behind_its_position_is_refused(rows: FastRows) -> None:
    begin(rows)
    rows.tell(VIEW, [Span(0, 5, 7, [Change("cg_1", unseen=True)])])
    assert rows.offer(VIEW, [offer(6), offer(6, "cg_2"), offer(7)]) == [False, True, True]


def test_a_document_from_ahead_waits_for_its_shard(rows: FastRows) -> None:
    begin(rows)
    assert rows.offer(VIEW, [offer(7), offer(6, "cg_2")]) == [True, True]
    assert fetched(rows, 5) is Miss.BEHIND
    changes = [Change("cg_1", events={2: b"two"}), Change("cg_2", events={3: b"x"})]
    assert rows.tell(VIEW, [Span(0, 5, 7, changes)]) == [frozenset({"cg_1", "cg_2"})]
    held = fetched(rows, 7)
    assert isinstance(held, Held)
    assert held.events == {1: b"one", 2: b"two"}
    # Whether the span's changes are in it cannot be told.
    assert fetched(rows, 7, "cg_2") is Miss.ABSENT


def test_what_was_believed_absent_is_dropped_and_told_of(rows: FastRows) -> None:
    begin(rows)
    rows.offer(VIEW, [offer(5)])
    assert rows.tell(VIEW, [Span(0, 5, 6, [Change("cg_1", unseen=True)])]) == [frozenset({"cg_1"})]
    assert fetched(rows, 6) is Miss.ABSENT
    assert rows.tell(VIEW, [Span(0, 6, 7, [Change("cg_1", unseen=True)])]) == [frozenset()]


def test_rows_without_a_new_position_drop_what_they_touch(rows: FastRows) -> None:
    begin(rows)
    rows.offer(VIEW, [offer(5)])
    rows.tell(VIEW, [Span(0, 5, 5, [Change("cg_1", events={2: b"skipped"})])])
    assert fetched(rows, 5) is Miss.ABSENT
    assert rows.offer(VIEW, [offer(5)]) == [False]
    rows.tell(VIEW, [Span(0, 5, 6)])
    assert rows.offer(VIEW, [offer(6)]) == [True]


def test_members_come_to_a_document_that_is_there(rows: FastRows) -> None:
    begin(rows)
    partial = offer(5, members={"mbob": b"bob"}, events={}, partial=True)
    assert rows.offer(VIEW, [partial]) == [False]
    rows.offer(VIEW, [offer(5, members={"mann": b"ann"})])
    assert rows.offer(VIEW, [partial]) == [True]
    held = fetched(rows)
    assert isinstance(held, Held)
    assert (held.high, held.members) == (2, {"mann": b"ann", "mbob": b"bob"})


def test_old_events_go_with_what_belongs_to_them(rows: FastRows) -> None:
    begin(rows)
    small = {"c": b"row", "s1": b"old", "x2:+:ann": b"old", "s16": b"kept"}
    rows.offer(VIEW, [offer(5, small=small)])
    for seq in range(3, 18):
        rows.tell(VIEW, [Span(0, seq + 2, seq + 3, [Change("cg_1", events={seq: b"%d" % seq})])])
    held = fetched(rows)
    assert isinstance(held, Held)
    assert held.floor == 10
    assert list(held.events) == list(range(10, 18)) or set(held.events) == set(range(10, 18))
    assert held.small == {"c": b"row", "s16": b"kept"}


def test_what_was_used_longest_ago_goes_first(make: Maker) -> None:
    rows = make(shard_count=1, bytes_max=1_000)
    begin(rows)
    names = [f"cg_{number}" for number in range(6)]
    for name in names:
        assert rows.offer(VIEW, [offer(5, name, events={1: bytes(200)})]) == [True]
        assert isinstance(fetched(rows, 5, "cg_0"), Held)
    there = [name for name in names if isinstance(fetched(rows, 5, name), Held)]
    assert len(there) == 3
    assert {"cg_0", "cg_5"} <= set(there)
    assert rows.offer(VIEW, [offer(5, events={1: bytes(2_000)})]) == [False]
    # For what is too large by itself nobody goes.
    assert all(isinstance(fetched(rows, 5, name), Held) for name in there)


def test_views_and_shards_are_apart(rows: FastRows) -> None:
    begin(rows)
    rows.offer(VIEW, [offer(5)])
    assert rows.fetch("timeline.v2.1.log-1", [Ask(0, 0, "cg_1")]) == [Miss.BEHIND]
    assert rows.fetch(VIEW, [Ask(1, 0, "cg_1")]) == [Miss.BEHIND]


# All that can be asked


@pytest.mark.slow
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
async def test_answers_are_those_of_the_views(make: Maker, seed: int) -> None:
    """Random histories and askers; Redis away, emptied or told in part, and writers that begin again, all amid them."""
    chance = random.Random(seed)
    history = History(seed).grow(100)
    house = House(MemoryShelf(), make(events_kept=24))
    try:
        at = 0
        while at < len(history):
            size = chance.choice((1, 2, 7, 30))
            house.rows.fails = (lambda: chance.random() < 0.3) if chance.random() < 0.2 else lambda: False
            house.take(history[at : at + size])
            at += size
            await house.compare(questions_of(chance, 2))
            if chance.random() < 0.5:
                house.settle()
            await house.compare(questions_of(chance, 2))
            if chance.random() < 0.05:
                house.reopen()
            if chance.random() < 0.05:
                _empty(house.rows.rows)
        house.rows.fails = lambda: False
        await _all_held(house, chance)
    finally:
        await house.close()


async def _all_held(house: House, chance: random.Random) -> None:
    """In the end everything recent is answered without the views."""
    house.shelf.look()
    questions = questions_of(chance, 30)
    for _ in range(3):
        await house.compare(questions)
        house.settle()
    before = house.fast.counters.hits
    await house.compare(questions)
    assert house.fast.counters.hits > before


def _empty(rows: FastRows) -> None:
    if isinstance(rows, FastMemory):
        rows.empty()
        return
    assert isinstance(rows, RedisFast)
    connection = rows.writing._taken()
    try:
        # Only what is ours: other tests share the server.
        keys = connection.send_command("KEYS", f"{rows._prefix}*") or connection.read_response()
        if keys:
            connection.send_command("DEL", *keys)
            connection.read_response()
    finally:
        connection.disconnect()
