"""The plain histogram."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eventlog.spread import Spread


def test_a_value_counts_for_every_bound_that_is_not_below_it() -> None:
    spread = Spread((1, 2, 5))
    for value in (0.5, 1, 2, 3, 100):
        spread.add(value)
    assert spread.cumulative() == [(1, 2), (2, 3), (5, 4), (float("inf"), 5)]
    assert (spread.count, spread.total) == (5, 106.5)


@given(st.lists(st.integers(0, 50)), st.sets(st.integers(0, 50), min_size=1))
def test_it_says_what_counting_by_hand_says(values: list[int], bounds: set[int]) -> None:
    spread = Spread(sorted(bounds))
    for value in values:
        spread.add(value)
    by_hand = [(bound, sum(value <= bound for value in values)) for bound in sorted(bounds)]
    assert spread.cumulative() == [*by_hand, (float("inf"), len(values))]
