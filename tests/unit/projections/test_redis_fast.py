"""What the fast views on Redis decide before Redis is asked."""

from __future__ import annotations

import pytest

from projections.fast import FastAwayError, Offer
from projections.redis_fast import RedisFast

NOWHERE = "redis://127.0.0.1:1/0"


def test_what_is_larger_than_a_shard_may_hold_is_not_sent() -> None:
    rows = RedisFast(NOWHERE, "test", shard_count=2, bytes_max=2_000)
    large = Offer(0, 1, "cg_1", events={1: bytes(1_000)})
    assert rows.offer("timeline.v1", [large, large]) == [False, False]
    assert rows.writing.calls == 0
    with pytest.raises(FastAwayError):
        rows.offer("timeline.v1", [large, Offer(0, 1, "cg_2", events={1: bytes(900)})])
    assert rows.writing.calls == 1
    rows.close()
