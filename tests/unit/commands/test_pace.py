"""When batches leave."""

from __future__ import annotations

from commands.pace import Pace


def paced() -> Pace:
    """4 ms, 10 while 1,000 come a second."""
    return Pace(4.0, 10.0, 1_000)


def test_after_an_idle_spell_a_batch_leaves_at_once() -> None:
    pace = paced()
    assert pace.wait_s(5.0) <= 0
    pace.leaves(5.0, 1)
    assert pace.wait_s(9.0) <= 0


def test_while_little_comes_batches_leave_at_the_calm_pace() -> None:
    pace = paced()
    pace.leaves(5.0, 1)
    assert round(pace.wait_s(5.001), 6) == 0.003
    pace.leaves(5.004, 3)
    assert round(pace.wait_s(5.004), 6) == 0.004


def test_while_much_comes_batches_wait_for_more() -> None:
    pace = paced()
    pace.leaves(5.0, 1)
    pace.leaves(5.004, 5)
    assert round(pace.wait_s(5.004), 6) == 0.010
    pace.leaves(5.014, 11)
    assert round(pace.wait_s(5.014), 6) == 0.010
    pace.leaves(5.024, 9)
    assert round(pace.wait_s(5.024), 6) == 0.004


def test_one_batch_after_an_idle_spell_is_not_much_however_large() -> None:
    pace = paced()
    pace.leaves(5.0, 1)
    pace.leaves(6.0, 500)
    assert round(pace.wait_s(6.0), 6) == 0.004
