"""What Prometheus is told of the relay and of feeds."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from ops.metrics.carrying import watch_feed, watch_relay
from tests.unit import test_feed, test_relay


async def test_the_relay_tells_its_lag_by_shard() -> None:
    house = test_relay.House()
    registry = CollectorRegistry()
    async with house.relay() as relay:
        watch_relay(registry, relay)
        await house.write(2, 3)
        text = generate_latest(registry).decode()
        assert 'minutebook_relay_lag_commits{shard="2"} 3.0' in text
        assert "minutebook_relay_connected 1.0" in text
        await relay.drained()
        text = generate_latest(registry).decode()
        assert "minutebook_relay_lag_commits{" not in text
        assert "minutebook_relay_records_total 3.0" in text
        assert "minutebook_relay_batches_total 1.0" in text


async def test_a_feed_tells_what_it_read() -> None:
    house = test_feed.House()
    registry = CollectorRegistry()
    async with house.feed(test_feed.QUIET) as feed:
        watch_feed(registry, "projector", feed)
        await house.write(1, 2)
        await feed.reached({1: 2})
        text = generate_latest(registry).decode()
    assert 'minutebook_feed_carried_total{feed="projector"} 2.0' in text
    assert 'minutebook_feed_partitions{feed="projector"} 2.0' in text
    assert 'minutebook_feed_forked{feed="projector"} 0.0' in text
