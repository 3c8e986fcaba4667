"""Brokers are killed under a running relay: what was acknowledged is there, in order, and nothing is missing at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from docker.local.kafka import KafkaCluster
from tests.contract.log_samples import SHARD_COUNT
from tests.integration.carried import Carried, Reader

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.crash]

KILLS = 3
ROUND = 60


@pytest.fixture(scope="module")
def one_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    with KafkaCluster(tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster


async def load(house: Carried, rounds: int) -> None:
    """Commits in all shards, with a turn of the loop between them."""
    for _ in range(rounds):
        for shard in range(SHARD_COUNT + 1):
            await house.write(shard, 2)
        await asyncio.sleep(0)


async def check_acknowledged(house: Carried, acknowledged: dict[int, int]) -> None:
    found = await house.carried()
    for shard, position in acknowledged.items():
        assert {commit.position for commit in found[shard]} >= set(range(1, position + 1))


async def test_a_killed_broker_keeps_what_it_acknowledged(one_broker: KafkaCluster) -> None:
    house, view = Carried(one_broker.address, "killed"), Reader()
    async with house.relay() as relay, house.feed(view, "killed") as feed:
        for _ in range(KILLS):
            await load(house, ROUND)
            await feed.reached({0: 1})
            # In the middle of the load: batches are in flight.
            await asyncio.gather(load(house, ROUND), asyncio.to_thread(one_broker.kill))
            acknowledged = dict(relay.positions)
            await load(house, ROUND)
            await asyncio.to_thread(one_broker.restart)
            await check_acknowledged(house, acknowledged)
        await load(house, ROUND)
        await relay.drained()
        await feed.reached(await house.heads())
        assert relay.metrics.failures > 0
    await house.check_topic()
    await house.check_view(view)


async def test_the_log_feeds_readers_while_the_broker_is_away(one_broker: KafkaCluster) -> None:
    house, view = Carried(one_broker.address, "away"), Reader()
    async with house.relay() as relay, house.feed(view) as feed:
        await load(house, 5)
        await feed.reached(await house.heads())
        await asyncio.to_thread(one_broker.kill)
        await load(house, 5)
        await feed.reached(await house.heads())
        assert relay.lag
        await asyncio.to_thread(one_broker.restart)
        await relay.drained()
    await house.check_topic()
    await house.check_view(view)


async def test_a_killed_leader_is_followed_by_another(tmp_path: Path) -> None:
    with KafkaCluster(tmp_path / "kafka", 3) as cluster:
        house, view = Carried(cluster.address, "leader"), Reader()
        async with house.relay() as relay, house.feed(view, "leader") as feed:
            await load(house, ROUND)
            for _ in range(2):
                leader = await asyncio.to_thread(cluster.leader, house.topic)
                await asyncio.gather(load(house, ROUND), asyncio.to_thread(leader.kill))
                await load(house, ROUND)
                await relay.drained()
                await asyncio.to_thread(leader.start)
            await relay.drained()
            await feed.reached(await house.heads())
        await house.check_topic()
        await house.check_view(view)
