"""A log in memory, a real Kafka and everything between them, for the tests of the carrier."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

from eventlog.bus import Bus
from eventlog.carrier import CarriedRecord
from eventlog.feed import Feed, FeedSettings
from eventlog.kafka_driver import KafkaSender, KafkaSettings, reader
from eventlog.kafka_record import carried_of
from eventlog.kafka_source import KafkaSource
from eventlog.kafka_topic import ensure_topic, topic_name
from eventlog.memory import MemoryLog
from eventlog.record import Commit
from eventlog.relay import Relay, RelaySettings
from tests.contract.log_samples import LOG_ID, SAMPLE_CODEC, SHARD_COUNT, ShardMaker

PARTITIONS = 2
RELAY = RelaySettings(
    linger_ms=1, back_off_ms=20, back_off_ms_max=200, look_ms=100, checkpoint_ms=50, drain_s=20
)
FEED = FeedSettings(poll_ms=100, look_ms=500, commit_ms=50, back_off_ms=20, back_off_ms_max=200)


class Checkpoint:
    """Positions in memory."""

    def __init__(self) -> None:
        self.positions: Mapping[int, int] = {}

    async def load(self) -> Mapping[int, int]:
        return self.positions

    async def save(self, positions: Mapping[int, int]) -> None:
        self.positions = dict(positions)


class Reader:
    """A view that remembers what it was given."""

    def __init__(self) -> None:
        self.commits: dict[int, list[Commit]] = {}

    def take(self, batch: Sequence[Commit]) -> None:
        for commit in batch:
            self.commits.setdefault(commit.shard, []).append(commit)

    async def positions(self, shards: Collection[int]) -> Mapping[int, int]:
        return {shard: self.commits[shard][-1].position for shard in shards if self.commits.get(shard)}

    def seen(self, shard: int) -> list[int]:
        return [commit.position for commit in self.commits.get(shard, [])]


class Carried:
    """The house. `topic` is made by the first sender that starts."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.settings = KafkaSettings(bootstrap=bootstrap, request_timeout_ms=2_000, send_timeout_ms=4_000)
        self.topic = topic_name("tests", prefix.rstrip("."))
        self.log = MemoryLog(LOG_ID, SHARD_COUNT)
        self.bus = Bus()
        self.checkpoint = Checkpoint()
        self.makers = {shard: ShardMaker(shard) for shard in range(SHARD_COUNT + 1)}

    async def write(
        self, shard: int, count: int = 1, text: str = "hello", *, told: bool = True
    ) -> list[Commit]:
        commits = [self.makers[shard].make(text=text) for _ in range(count)]
        await self.log.append({shard: commits})
        if told:
            self.bus.publish([SAMPLE_CODEC.decode(commit) for commit in commits])
        return commits

    async def prepare(self) -> None:
        await ensure_topic(self.settings, self.topic, PARTITIONS)

    @asynccontextmanager
    async def sender(self) -> AsyncIterator[KafkaSender]:
        sender = KafkaSender(self.settings, self.topic, PARTITIONS, self.prepare)
        await sender.start()
        try:
            yield sender
        finally:
            await sender.close()

    @asynccontextmanager
    async def relay(self) -> AsyncIterator[Relay]:
        sender = KafkaSender(self.settings, self.topic, PARTITIONS, self.prepare)
        relay = Relay(self.log, sender, self.checkpoint, bus=self.bus, settings=RELAY)
        await relay.start()
        try:
            yield relay
        finally:
            await relay.close()

    @asynccontextmanager
    async def feed(
        self, view: Reader, group: str | None = None, *, from_end: bool = False
    ) -> AsyncIterator[Feed[Commit]]:
        feed = Feed(
            self.log,
            KafkaSource(self.settings, self.topic, PARTITIONS, group=group, from_end=from_end),
            PARTITIONS,
            positions=view.positions,
            decode=lambda commit: commit,
            handler=view.take,
            settings=FeedSettings(poll_ms=100, look_ms=500, commit_ms=50, from_log=from_end, back_off_ms=20),
        )
        feed.start()
        try:
            yield feed
        finally:
            await feed.close()

    async def records(self) -> dict[int, list[CarriedRecord]]:
        """Everything in the topic, by partition."""
        async with reader(self.settings, self.topic, PARTITIONS) as kafka:
            return {
                number: [record async for page in kafka.records(number) for record in page]
                for number in range(PARTITIONS)
            }

    async def carried(self) -> dict[int, list[Commit]]:
        """The commits in the topic by shard, in the topic's order."""
        found: dict[int, list[Commit]] = {}
        for records in (await self.records()).values():
            for record in records:
                commit = carried_of(record).commit
                found.setdefault(commit.shard, []).append(commit)
        return found

    async def heads(self) -> dict[int, int]:
        return {shard: head.position for shard, head in (await self.log.heads()).items()}

    async def check_view(self, view: Reader) -> None:
        for shard, position in (await self.heads()).items():
            assert view.seen(shard) == list(range(1, position + 1))

    async def check_topic(self) -> None:
        """What was written is there, and each position comes for the first time right behind those before it."""
        found = await self.carried()
        for shard, position in (await self.heads()).items():
            top = 0
            for commit in found[shard]:
                assert commit.position <= top + 1
                top = max(top, commit.position)
            assert top == position
            (*expected,) = await self.log.read_shard(shard, 0, 5_000)
            assert all(commit == expected[commit.position - 1] for commit in found[shard])
