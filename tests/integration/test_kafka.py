"""The relay and the feed over a real Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from eventlog.carrier import CarrierUnavailableError, TopicMismatchError
from eventlog.kafka_admin import KafkaAdmin
from eventlog.kafka_driver import KafkaSender, KafkaSettings, reader
from eventlog.kafka_record import record_of
from eventlog.kafka_source import KafkaSource
from eventlog.kafka_topic import check_owner, ensure_topic, partitions_for, topic_name
from eventlog.record import FRAME_BYTES_MAX
from tests.contract.log_samples import LOG_ID, SHARD_COUNT, ShardMaker
from tests.integration.carried import PARTITIONS, Carried, Reader

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture
def house(kafka_bootstrap: str, topic_prefix: str) -> Carried:
    return Carried(kafka_bootstrap, topic_prefix)


class Hearer:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.partitions: set[int] = set()

    async def assigned(self, partitions: Sequence[int]) -> None:
        self.partitions.update(partitions)

    async def revoked(self, partitions: Sequence[int]) -> None:
        self.partitions.difference_update(partitions)


async def test_the_clients_do_what_they_must(house: Carried) -> None:
    async with house.sender() as sender:
        effective = sender.effective_settings
        assert effective["acks"] == -1  # "all"
        assert effective["enable_idempotence"] is True
        assert effective["max_batch_size"] == 256 * 1024
        assert effective["linger_ms"] == 0
        assert effective["request_timeout_ms"] == 2_000
        source = KafkaSource(house.settings, house.topic, PARTITIONS, group="effective")

        await source.start(Hearer())
        assert source.effective_settings == {
            "group_id": "effective",
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "isolation_level": "read_committed",
            "check_crcs": True,
            "max_partition_fetch_bytes": 8 * 1024 * 1024,
            "session_timeout_ms": 6_000,
        }
        await source.close()


async def test_the_topic_keeps_everything_for_ever(house: Carried) -> None:
    assert await ensure_topic(house.settings, house.topic, PARTITIONS)
    assert not await ensure_topic(house.settings, house.topic, PARTITIONS)
    async with KafkaAdmin.connected(house.settings) as admin:
        facts = await admin.describe(house.topic)
        assert facts is not None
        assert facts.partitions == PARTITIONS
        assert facts.replicas == min(3, await admin.brokers())
    assert facts.configs["retention.ms"] == facts.configs["retention.bytes"] == "-1"
    assert facts.configs["cleanup.policy"] == "delete"
    assert facts.configs["unclean.leader.election.enable"] == "false"
    assert int(facts.configs["max.message.bytes"]) > FRAME_BYTES_MAX
    assert facts.configs["min.insync.replicas"] == str(max(1, facts.replicas - 1))


async def test_a_topic_that_is_otherwise_is_one_clear_line(house: Carried) -> None:
    await ensure_topic(house.settings, house.topic, 3)
    with pytest.raises(TopicMismatchError) as told:
        await ensure_topic(house.settings, house.topic, PARTITIONS)
    assert "has 3 partitions, not 2: set cluster.kafka_partitions to 3" in str(told.value)
    assert "\n" not in str(told.value)
    async with KafkaAdmin.connected(house.settings) as admin:
        await admin.delete(house.topic)
    name = topic_name("short", house.topic.split(".")[0])
    async with KafkaAdmin.connected(house.settings) as admin:
        await admin.create(name, PARTITIONS, 1, {"retention.ms": "60000", "max.message.bytes": "2000000"})
    with pytest.raises(TopicMismatchError, match=r"retention\.ms is 60000.*--add-config retention\.ms=-1"):
        await ensure_topic(house.settings, name, PARTITIONS)


async def test_a_kafka_that_is_not_there_is_one_clear_line() -> None:
    settings = KafkaSettings(bootstrap="127.0.0.1:1", send_timeout_ms=2_000, request_timeout_ms=1_000)
    for attempt in (
        ensure_topic(settings, "nothing", 1),
        KafkaSender(settings, "nothing", 1).start(),
    ):
        with pytest.raises(
            CarrierUnavailableError, match=r"127\.0\.0\.1:1 cannot be reached; start it, or mend"
        ):
            await attempt


def test_partitions_divide_the_shards() -> None:
    assert partitions_for(64) == 16
    assert partitions_for(54) == 9
    assert partitions_for(64, 64) == 64
    with pytest.raises(TopicMismatchError, match="divisor of 64"):
        partitions_for(64, 48)
    with pytest.raises(ValueError, match="no cluster id"):
        topic_name("a cluster")


async def test_what_is_written_comes_out_once_and_in_order(house: Carried) -> None:
    view = Reader()
    await house.write(0, 50, told=False)
    async with house.relay() as relay, house.feed(view, "one") as feed:
        for _ in range(20):
            for shard in range(SHARD_COUNT + 1):
                await house.write(shard, 3)
            await asyncio.sleep(0)
        await relay.drained()
        await feed.reached(await house.heads())
        assert feed.metrics.forged == 0
        while not feed.metrics.carried:  # What a slow beginning of the group's left to the log is no matter.
            await house.write(0)
            await relay.drained()
            await feed.reached(await house.heads())
    await house.check_view(view)
    await house.check_topic()


async def test_the_largest_frame_passes_and_a_clock_that_went_wrong_too(house: Carried) -> None:
    view = Reader()
    maker = house.makers[1]
    room = FRAME_BYTES_MAX - len(ShardMaker(1).make(text="").frame)
    maker.head = msgspec.structs.replace(maker.head, at=4_000_000_000_000)  # in the year 2096
    async with house.relay() as relay, house.feed(view) as feed:
        (commit,) = await house.write(1, text="x" * (room - 40))
        assert len(commit.frame) > FRAME_BYTES_MAX - 100
        await house.write(1, 2)
        await relay.drained()
        await feed.reached({1: 3})
    await house.check_topic()


async def test_two_readers_of_a_group_share_the_partitions(house: Carried) -> None:
    """The second comes and the first goes; nothing is lost, and the views together hold everything once or twice."""
    first, second = Reader(), Reader()
    async with house.relay() as relay:
        await house.write(0, 10)
        await house.write(1, 10)
        async with house.feed(first, "shared") as one:
            await one.reached({0: 10, 1: 10})
            second.commits = {shard: list(commits) for shard, commits in first.commits.items()}
            async with house.feed(second, "shared") as two:
                while len(two.partitions) != 1 or len(one.partitions) != 1:
                    await changed(one, two)
                await house.write(0, 10)
                await house.write(1, 10)
                await relay.drained()
                mine = min(two.partitions)
                await two.reached({mine: 20})
                await one.reached({1 - mine: 20})
            # The second is gone: the first gets all, from where its own view is.
            await one.reached({0: 20, 1: 20})
        await house.check_view(first)
        assert second.seen(mine) == list(range(1, 21))


async def changed(*feeds: object) -> None:
    """A turn of the loop in which a rebalance may go on."""
    loop = asyncio.get_running_loop()
    turned = loop.create_future()
    loop.call_later(0.02, turned.set_result, None)
    await turned


async def test_a_reader_without_a_group_starts_at_the_end(house: Carried) -> None:
    view = Reader()
    async with house.relay() as relay:
        await house.write(0, 30)
        await relay.drained()
        async with house.feed(view, from_end=True) as feed:
            await feed.reached({0: 30})
            assert feed.metrics.carried == 0
            await house.write(0, 5)
            await feed.reached({0: 35})
    await house.check_view(view)


async def test_a_topic_deleted_while_all_run_is_made_and_filled_again(house: Carried) -> None:
    view = Reader()
    async with house.relay() as relay, house.feed(view, "deleted") as feed:
        for shard in range(SHARD_COUNT):
            await house.write(shard, 40)
        await relay.drained()
        await feed.reached(await house.heads())
        async with KafkaAdmin.connected(house.settings) as admin:
            await admin.delete(house.topic)
        for shard in range(SHARD_COUNT):
            await house.write(shard, 10)
        await feed.reached(await house.heads())
        await relay.drained()
        assert relay.metrics.restarts >= 1
        await house.write(2, 5)
        await relay.drained()
        await feed.reached(await house.heads())
    await house.check_view(view)
    found = await house.carried()
    assert {commit.position for commit in found[0]} == set(range(1, 51))
    assert {commit.position for commit in found[2]} == set(range(1, 56))


async def test_forged_and_foreign_records_reach_nobody(house: Carried) -> None:
    view = Reader()
    async with house.sender() as sender, house.relay() as relay, house.feed(view) as feed:
        await house.write(0, 3)
        await relay.drained()
        other = ShardMaker(0, "another-log", head=house.makers[0].head)
        record = record_of(house.makers[0].fork(epoch=9).make("forged"))
        await sender.send(0, [record_of(other.make("foreign"))])
        await sender.send(0, [msgspec.structs.replace(record, key=b"somebody")])
        await sender.send(0, [msgspec.structs.replace(record, value=b"{}")])
        await house.write(0, 3)
        await relay.drained()
        await feed.reached({0: 6})
        assert feed.metrics.forged == 2
        assert feed.metrics.unfit >= 1
    await house.check_view(view)


async def test_a_reader_reads_a_partition_to_its_end(house: Carried) -> None:
    async with house.sender() as sender, reader(house.settings, house.topic, PARTITIONS) as kafka:
        assert [page async for page in kafka.records(0)] == []
        commits = ShardMaker(0).batch(2_000)
        await sender.send(0, [record_of(commit) for commit in commits])
        values = [record.value async for page in kafka.records(0) for record in page]
        assert values == [commit.frame for commit in commits]
        assert await kafka.ends() == {0: 2_000, 1: 0}


async def test_a_topic_of_another_cluster_is_one_clear_line(house: Carried) -> None:
    async with house.sender() as sender:
        await check_owner(house.settings, house.topic, PARTITIONS, [LOG_ID])
        await sender.send(1, [record_of(ShardMaker(1).make())])
        await check_owner(house.settings, house.topic, PARTITIONS, ["restored", LOG_ID])
        with pytest.raises(TopicMismatchError, match=r"never had: set cluster\.cluster_id"):
            await check_owner(house.settings, house.topic, PARTITIONS, ["another"])
