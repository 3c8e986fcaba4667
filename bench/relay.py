"""The relay and the feed over Kafka beside a bare aiokafka producer and consumer of the same bytes, in the same run.

`python -m bench.relay [--commits N] [--rounds N] [--kafka HOST:PORT]`. Without `--kafka` a broker is started for the run. All
four run in this process and take turns; the broker has the other core. CPU is this process's alone.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiokafka
import uvloop

from bench.harness import table
from bench.log_append import CODEC, SHARDS, Writer
from docker.local.kafka import KafkaCluster
from eventlog.bus import Bus
from eventlog.feed import Feed, FeedSettings
from eventlog.kafka_driver import KafkaSender
from eventlog.kafka_record import record_of
from eventlog.kafka_settings import KafkaSettings, consumer_options, producer_options
from eventlog.kafka_source import KafkaSource
from eventlog.kafka_topic import ensure_topic, partitions_for, topic_name
from eventlog.memory import MemoryLog
from eventlog.record import Commit, Committed
from eventlog.relay import Relay

COMMITS_DEFAULT = 20_000
ROUNDS_DEFAULT = 3
FLUSH_COMMITS = 256
PARTITIONS = partitions_for(SHARDS)
POLL_MS = 1_000


class NoCheckpoint:
    """Remembers nothing."""

    async def load(self) -> Mapping[int, int]:
        """Nothing."""
        return {}

    async def save(self, positions: Mapping[int, int]) -> None:
        """Drop it."""


class Took:
    """Seconds and CPU seconds of each kind, over the rounds."""

    def __init__(self) -> None:
        self.wall_s: dict[str, list[float]] = {}
        self.cpu_s: dict[str, list[float]] = {}
        self.batches: dict[str, int] = {}

    async def measure(self, name: str, work: Callable[[], Awaitable[int]]) -> None:
        """Run it; it returns how many batches it took."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.batches[name] = await work()
        self.wall_s.setdefault(name, []).append(time.perf_counter() - wall)
        self.cpu_s.setdefault(name, []).append(time.process_time() - cpu)

    def row(self, title: str, ours: str, bare: str, commits: int) -> tuple[str, ...]:
        """The best round of each, and their ratio."""
        mine, other = min(self.wall_s[ours]), min(self.wall_s[bare])
        my_cpu, other_cpu = min(self.cpu_s[ours]), min(self.cpu_s[bare])
        return (
            title,
            f"{commits / mine:,.0f}",
            f"{commits / other:,.0f}",
            f"{other / mine:.2f}",
            f"{my_cpu / commits * 1e6:.1f}",
            f"{other_cpu / commits * 1e6:.1f}",
            f"{commits / max(1, self.batches[ours]):.0f}",
            f"{commits / max(1, self.batches[bare]):.0f}",
        )


class History:
    """The same commits for everybody, as flushes and in a log."""

    def __init__(self, commits: int) -> None:
        writer = Writer()
        self.flushes = [writer.batch(FLUSH_COMMITS) for _ in range(commits // FLUSH_COMMITS)]
        self.commits = sum(len(batch) for flush in self.flushes for batch in flush.values())
        self.positions: dict[int, int] = {}
        for flush in self.flushes:
            self.positions.update({shard: batch[-1].position for shard, batch in flush.items()})

    async def log(self) -> MemoryLog:
        """A log that holds all of it."""
        log = MemoryLog("log-of-the-benchmark", SHARDS)
        for flush in self.flushes:
            await log.append(flush)
        return log

    def told(self) -> list[list[Committed]]:
        """What the bus tells of, flush by flush."""
        return [
            [CODEC.decode(commit) for batch in flush.values() for commit in batch] for flush in self.flushes
        ]


async def relay_from_bus(settings: KafkaSettings, topic: str, history: History, took: Took) -> None:
    """Every flush is told by the bus; the time ends with the last acknowledgement."""
    bus, told = Bus(), history.told()
    # An empty log, so that everything comes by the bus.
    log = MemoryLog("log-of-the-benchmark", SHARDS)
    relay = Relay(log, KafkaSender(settings, topic, PARTITIONS), NoCheckpoint(), bus=bus)
    await relay.start()

    async def work() -> int:
        for flush in told:
            bus.publish(flush)
            await asyncio.sleep(0)
        await relay.drained()
        return relay.metrics.batches

    await took.measure("relay, bus", work)
    await relay.close()


async def relay_from_log(settings: KafkaSettings, topic: str, history: History, took: Took) -> None:
    """The relay starts behind: everything is read from the log."""
    relay = Relay(await history.log(), KafkaSender(settings, topic, PARTITIONS), NoCheckpoint())

    async def work() -> int:
        await relay.start()
        await relay.drained()
        return relay.metrics.batches

    await took.measure("relay, log", work)
    await relay.close()


async def bare_producer(settings: KafkaSettings, topic: str, history: History, took: Took) -> None:
    """aiokafka alone, with the same settings and records made before."""
    records = [
        (commit.shard % PARTITIONS, record_of(commit))
        for flush in history.flushes
        for batch in flush.values()
        for commit in batch
    ]
    producer = aiokafka.AIOKafkaProducer(**producer_options(settings))
    await producer.start()

    async def work() -> int:
        sent = [
            await producer.send(
                topic,
                record.value,
                record.key,
                partition=partition,
                timestamp_ms=record.timestamp_ms,
                headers=list(record.headers),
            )
            for partition, record in records
        ]
        await asyncio.gather(*sent)
        return 0

    await took.measure("producer", work)
    await producer.stop()


async def feed(settings: KafkaSettings, topic: str, history: History, took: Took) -> None:
    """Everything is handed over as decoded commits, each checked against its headers, chain and log."""
    log = await history.log()

    async def nowhere(shards: Collection[int]) -> Mapping[int, int]:
        return {}

    def take(batch: Sequence[Committed]) -> None:
        """Nothing: the reader's work is not measured."""

    def decode(commit: Commit) -> Committed:
        return CODEC.decode(commit)

    reader = Feed(
        log,
        KafkaSource(settings, topic, PARTITIONS),
        PARTITIONS,
        positions=nowhere,
        decode=decode,
        handler=take,
        settings=FeedSettings(poll_ms=POLL_MS, look_ms=60_000),
    )

    async def work() -> int:
        reader.start()
        await reader.reached(history.positions)
        return reader.metrics.batches

    await took.measure("feed", work)
    assert reader.metrics.refills == 0
    await reader.close()


async def bare_consumer(settings: KafkaSettings, topic: str, history: History, took: Took) -> None:
    """aiokafka alone: the bytes are counted."""
    consumer = aiokafka.AIOKafkaConsumer(**consumer_options(settings, None))

    async def work() -> int:
        await consumer.start()
        consumer.assign([aiokafka.TopicPartition(topic, number) for number in range(PARTITIONS)])
        seen = polls = 0
        while seen < history.commits:
            found = await consumer.getmany(timeout_ms=POLL_MS, max_records=5_000)
            seen += sum(len(records) for records in found.values())
            polls += 1
        return polls

    await took.measure("consumer", work)
    await consumer.stop()


@asynccontextmanager
async def kafka(given: str | None) -> AsyncIterator[str]:
    """The broker that was named, or one of our own for the run."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        cluster = KafkaCluster(Path(folder))
        try:
            await asyncio.to_thread(cluster.start)
            yield cluster.address
        finally:
            await asyncio.to_thread(cluster.kill)


async def run(commits: int, rounds: int, given: str | None) -> None:
    """Print the table."""
    history, took = History(commits), Took()
    async with kafka(given) as address:
        settings = KafkaSettings(bootstrap=address)
        for _ in range(rounds):
            topics = [topic_name(secrets.token_hex(6), "bench") for _ in range(3)]
            for topic in topics:
                await ensure_topic(settings, topic, PARTITIONS)
            await relay_from_bus(settings, topics[0], history, took)
            await bare_producer(settings, topics[1], history, took)
            await relay_from_log(settings, topics[2], history, took)
            await feed(settings, topics[0], history, took)
            await bare_consumer(settings, topics[1], history, took)
    size = (
        sum(len(c.frame) for flush in history.flushes for b in flush.values() for c in b) // history.commits
    )
    table(
        f"{history.commits:,} commits of {size} bytes in {PARTITIONS} partitions, one broker, best of {rounds} rounds",
        ("", "records/s", "bare", "ratio", "CPU µs/record", "bare", "records/batch", "bare"),
        [
            took.row("relay, told by the bus", "relay, bus", "producer", history.commits),
            took.row("relay, read from the log", "relay, log", "producer", history.commits),
            took.row("feed, checked and decoded", "feed", "consumer", history.commits),
        ],
    )


def main() -> None:
    """Parse and run."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--commits", type=int, default=COMMITS_DEFAULT)
    arguments.add_argument("--rounds", type=int, default=ROUNDS_DEFAULT)
    arguments.add_argument("--kafka")
    chosen = arguments.parse_args()
    uvloop.run(run(chosen.commits, chosen.rounds, chosen.kafka))


if __name__ == "__main__":
    main()
