"""The ownership map: what rows may say, and whom it believes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.ownership import (
    NodeShards,
    NotOwner,
    OwnershipError,
    StaticOwnership,
    ownership_of,
    shard_numbers,
)

SHARDS = 8
ROWS = (NodeShards("a", "a:1", "0-3"), NodeShards("b", "b:1", "4-7"))


@pytest.mark.parametrize(
    "text,numbers",
    [("0-3", (0, 1, 2, 3)), ("5", (5,)), ("0-1, 4 , 6-7", (0, 1, 4, 6, 7)), ("3-3", (3,)), (" ", ())],
)
def test_shards_are_numbers_and_ranges(text: str, numbers: tuple[int, ...]) -> None:
    assert shard_numbers(text, SHARDS) == numbers


@pytest.mark.parametrize("text", ["x", "3-1", "0-8", "8", "-1", "1-", "1,,2", "0-3-5", "٣", "1.5"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(OwnershipError):
        shard_numbers(text, SHARDS)


@pytest.mark.parametrize(
    "rows,what",
    [
        ((), "nobody owns shard 0"),
        ((NodeShards("a", "a:1", "0-6"),), "nobody owns shard 7"),
        ((*ROWS, NodeShards("c", "c:1", "2")), "shard 2 is given to a and to c"),
        ((NodeShards("a", "a:1", "0-3"), NodeShards("a", "a:2", "4-7")), "two addresses"),
        ((NodeShards("", "a:1", "0-7"),), "needs a node id"),
        ((NodeShards("a", "", "0-7"),), "needs a node id and an address"),
    ],
)
def test_a_map_gives_every_shard_to_exactly_one_node(rows: tuple[NodeShards, ...], what: str) -> None:
    with pytest.raises(OwnershipError, match=what):
        ownership_of(rows, SHARDS)


@given(st.lists(st.sampled_from("abcd"), min_size=SHARDS, max_size=SHARDS))
def test_every_partition_is_a_map(owners: list[str]) -> None:
    rows = [
        NodeShards(node, f"{node}:1", ",".join(str(n) for n, owner in enumerate(owners) if owner == node))
        for node in sorted(set(owners))
    ]
    ownership = ownership_of(rows, SHARDS)
    assert [ownership.of(shard).node for shard in range(SHARDS)] == owners
    for node in set(owners):
        assert [owners[shard] for shard in ownership.shards_of(node)] == [node] * owners.count(node)


async def test_rows_are_read_again_and_wrong_ones_change_nothing() -> None:
    rows = list(ROWS)
    static = StaticOwnership(lambda: rows, SHARDS)
    assert (await static.refresh()).version == 1
    rows[0] = NodeShards("a", "a:9", "0-3")
    assert (await static.refresh()).of(0).address == "a:9"
    assert static.current().version == 2
    rows[1] = NodeShards("b", "b:1", "4-6")
    assert (await static.refresh()).version == 2
    assert static.problem == "nobody owns shard 7"
    rows[1] = NodeShards("b", "b:1", "4-7")
    await static.refresh()
    assert static.problem is None


async def test_new_rows_leave_alone_what_was_told_of_other_shards() -> None:
    rows = list(ROWS)
    static = StaticOwnership(lambda: rows, SHARDS)
    static.told(NotOwner(1, "b", 5))
    rows[:] = [NodeShards("a", "a:1", "0-2"), NodeShards("b", "b:1", "3-7")]
    await static.refresh()
    assert [static.current().of(shard).node for shard in (0, 1, 2, 3)] == ["a", "b", "a", "b"]


async def test_a_node_in_reserve_is_known_and_owns_nothing_until_told() -> None:
    static = StaticOwnership(lambda: (*ROWS, NodeShards("c", "c:1", "")), SHARDS)
    assert static.current().shards_of("c") == ()
    static.told(NotOwner(2, "c", 4))
    assert static.current().of(2).address == "c:1"
    assert (await static.refresh()).shards_of("c") == (2,)


def test_an_unreachable_node_that_was_only_told_of_is_given_up() -> None:
    static = StaticOwnership(lambda: ROWS, SHARDS)
    static.unreachable(0, "a")  # The settings know no other.
    assert static.current().of(0).node == "a"
    static.told(NotOwner(0, "b", 2))
    static.unreachable(0, "a")  # Late news of the former owner.
    assert static.current().of(0).node == "b"
    static.unreachable(0, "b")
    assert static.current().of(0).node == "a"
    static.told(NotOwner(0, "b", 2))  # It was a hiccup.
    assert static.current().of(0).node == "b"


Tellings = st.lists(
    st.tuples(
        st.integers(-1, SHARDS),
        st.sampled_from(["a", "b", "c", None]),
        st.integers(0, 6),
    )
)


@given(Tellings)
def test_the_highest_epoch_wins_in_whatever_order_it_is_told(
    tellings: list[tuple[int, str | None, int]],
) -> None:
    static = StaticOwnership(lambda: ROWS, SHARDS)
    versions = [static.current().version]
    for shard, owner, epoch in tellings:
        before = static.current()
        static.told(NotOwner(shard, owner, epoch))
        after = static.current()
        assert (after is before) == (after.version == before.version)
        versions.append(after.version)
    assert versions == sorted(versions)
    for shard in range(SHARDS):
        heard = [
            (epoch, owner) for at, owner, epoch in tellings if at == shard and owner in ("a", "b") and epoch
        ]
        place = static.current().of(shard)
        if heard:
            best = max(epoch for epoch, _ in heard)
            assert place.epoch == best
            assert place.node == next(owner for epoch, owner in heard if epoch == best)
        else:
            assert place == ownership_of(ROWS, SHARDS).of(shard)
