"""Kafka's client. With `kafka_source` and `kafka_admin` the only module that touches aiokafka, so that another client can take
its place.

aiokafka's defaults are unsafe for a record (acks=1, no idempotence, automatic commits, start at the end): whatever
matters is set here by name and can be read back from the clients (`effective_settings`).
"""

# ruff: noqa: SLF001 - What a client really does stands in its private fields, and nothing public abandons a batch.
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiokafka
import structlog
from aiokafka.errors import KafkaError

from eventlog.carrier import CarriedRecord, CarrierUnavailableError
from eventlog.kafka_settings import KafkaSettings, consumer_options, producer_options

__all__ = [
    "KafkaReader",
    "KafkaSender",
    "KafkaSettings",
    "asked",
    "part_from",
    "reaching",
    "reader",
]

_log = structlog.get_logger(__name__)
T = TypeVar("T")

READER_WAIT_MS = 10
CLOSE_TIMEOUT_S = 6.0
"""More than a request takes: the client waits for the ones in flight."""


class KafkaSender:
    """The Sender port over one idempotent producer; `prepare` is awaited before it connects (it makes the topic)."""

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        partitions: int,
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._partitions = partitions
        self._prepare = prepare
        self._producer: Any = None
        self._given_up: asyncio.Future[None] | None = None
        """Done when the producer is abandoned, for those who wait for a batch of it."""

    @property
    def partitions(self) -> int:
        """As given."""
        return self._partitions

    @property
    def effective_settings(self) -> Mapping[str, Any]:
        """What the running producer does, as it itself says."""
        producer = self._producer
        return {
            "acks": producer._sender._acks,
            "enable_idempotence": producer._txn_manager is not None,
            "max_batch_size": producer._message_accumulator._batch_size,
            "linger_ms": producer._message_accumulator._linger_time * 1_000,
            "request_timeout_ms": producer._request_timeout_ms,
            "retry_backoff_ms": round(producer._sender._retry_backoff * 1_000),
        }

    async def start(self) -> Mapping[int, int]:
        """See the port."""
        if self._producer is None:
            if self._prepare is not None:
                await self._prepare()
            producer = aiokafka.AIOKafkaProducer(**producer_options(self._settings))
            try:
                await reaching(self._settings, producer.start())
                await reaching(self._settings, producer.partitions_for(self._topic))
            except BaseException:
                await _drop(producer)
                raise
            self._producer = producer
            self._given_up = asyncio.get_running_loop().create_future()
        async with reader(self._settings, self._topic, self._partitions) as found:
            return await found.ends()

    async def send(self, partition: int, records: Sequence[CarriedRecord]) -> int:
        """See the port. Cancelled, the batch goes on inside the client until it is abandoned."""
        producer, given_up = self._producer, self._given_up
        if producer is None or given_up is None:
            raise CarrierUnavailableError("the sender is not started")
        first = -1
        timeout_s = self._settings.send_timeout_ms / 1_000
        try:
            async with asyncio.timeout(timeout_s):
                for batch in _batches(producer, records):
                    sent = await producer.send_batch(batch, self._topic, partition=partition)
                    sent.add_done_callback(_look_at)
                    await asyncio.wait((sent, given_up), return_when=asyncio.FIRST_COMPLETED)
                    if not sent.done():
                        raise CarrierUnavailableError("the batch was abandoned")
                    first = sent.result().offset if first < 0 else first
        except TimeoutError:
            raise CarrierUnavailableError(f"Kafka did not answer in {timeout_s:g} s") from None
        except (KafkaError, AssertionError) as error:
            # The client asserts that the partition exists: it does not any more when the topic was deleted.
            raise CarrierUnavailableError(
                f"Kafka refused a batch: {type(error).__name__}: {error}"
            ) from error
        return first

    async def abandon(self) -> None:
        """See the port."""
        producer, self._producer = self._producer, None
        given_up, self._given_up = self._given_up, None
        if given_up is not None and not given_up.done():
            given_up.set_result(None)
        if producer is not None:
            await _drop(producer)

    async def close(self) -> None:
        """See the port."""
        await self.abandon()


class KafkaReader:
    """Reads a topic without a group, all partitions or some, from anywhere; nothing is committed."""

    def __init__(self, consumer: Any, topic: str, partitions: int) -> None:
        self._consumer = consumer
        self._topic = topic
        self._partitions = partitions

    @property
    def partitions(self) -> int:
        """As given."""
        return self._partitions

    def _places(self, partitions: Sequence[int] | None = None) -> list[Any]:
        numbers = range(self._partitions) if partitions is None else partitions
        return [aiokafka.TopicPartition(self._topic, number) for number in numbers]

    async def ends(self) -> Mapping[int, int]:
        """The offset behind the last record of each partition."""
        ends = await asked(self._consumer.end_offsets(self._places()))
        return {place.partition: end for place, end in ends.items()}

    def _take_only(self, place: Any) -> None:
        """Let this partition come and no other.

        All are assigned, once: the client can miss being stopped after a partition was taken from it.
        """
        places = self._places()
        if not self._consumer.assignment():
            self._consumer.assign(places)
        self._consumer.pause(*places)
        self._consumer.resume(place)

    async def newest(self, timeout_s: float = 30.0) -> Sequence[CarriedRecord]:
        """The last record of each partition that has any. Raises CarrierUnavailableError after `timeout_s`."""
        places = self._places()
        starts = await asked(self._consumer.beginning_offsets(places))
        ends = await asked(self._consumer.end_offsets(places))
        found = []
        for place in places:
            if starts[place] == ends[place]:
                continue
            self._take_only(place)
            self._consumer.seek(place, ends[place] - 1)
            records = await asked(self._consumer.getmany(place, timeout_ms=int(timeout_s * 1_000)))
            if not records:
                raise CarrierUnavailableError(
                    f"Kafka gave nothing of partition {place.partition} in {timeout_s:g} s"
                )
            found.append(record_from(records[place][0]))
        return found

    async def records(
        self, partition: int, timeout_s: float = 30.0
    ) -> AsyncIterator[Sequence[CarriedRecord]]:
        """A partition's records from its first to what is its last now, in lists.

        Raises CarrierUnavailableError if nothing comes for `timeout_s`.
        """
        (place,) = self._places([partition])
        end = (await self.ends())[partition]
        start = (await asked(self._consumer.beginning_offsets([place])))[place]
        self._take_only(place)
        self._consumer.seek(place, start)
        while await asked(self._consumer.position(place)) < end:
            found = await asked(self._consumer.getmany(place, timeout_ms=int(timeout_s * 1_000)))
            if not found:
                raise CarrierUnavailableError(
                    f"Kafka gave nothing of partition {partition} in {timeout_s:g} s"
                )
            yield [record_from(record) for record in found[place] if record.offset < end]


@asynccontextmanager
async def reader(settings: KafkaSettings, topic: str, partitions: int) -> AsyncIterator[KafkaReader]:
    """A reader of a topic; closed at the end. Raises CarrierUnavailableError."""
    options = consumer_options(settings, None)
    # It leaves each partition at its end, where the broker would hold its last request, and everything behind it, for long.
    options["fetch_max_wait_ms"] = READER_WAIT_MS
    consumer = aiokafka.AIOKafkaConsumer(**options)
    try:
        await reaching(settings, consumer.start())
        yield KafkaReader(consumer, topic, partitions)
    finally:
        await shut(consumer)


def _batches(producer: Any, records: Sequence[CarriedRecord]) -> list[Any]:
    """Closed batches of the records, in order; nearly always one."""
    batches = []
    batch = producer.create_batch()
    for record in records:
        row = {
            "timestamp": record.timestamp_ms,
            "key": record.key,
            "value": record.value,
            "headers": list(record.headers),
        }
        if batch.append(**row) is None:
            batches.append(batch)
            batch = producer.create_batch()
            batch.append(**row)
    batch.close()
    return [*batches, batch]


def record_from(record: Any) -> CarriedRecord:
    """The client's record as ours."""
    return CarriedRecord(record.key, record.value, tuple(record.headers), record.timestamp, record.offset)


async def asked(answer: Awaitable[T]) -> T:
    """An answer of the client. Raises CarrierUnavailableError."""
    try:
        return await answer
    except KafkaError as error:
        raise CarrierUnavailableError(f"Kafka: {type(error).__name__}: {error}") from error


async def reaching(settings: KafkaSettings, connecting: Awaitable[T]) -> T:
    """What comes of connecting. Raises CarrierUnavailableError with what to do."""
    timeout_s = settings.send_timeout_ms / 1_000
    advice = f"Kafka at {settings.bootstrap} cannot be reached; start it, or mend cluster.kafka_bootstrap"
    try:
        async with asyncio.timeout(timeout_s):
            return await connecting
    except TimeoutError:
        raise CarrierUnavailableError(f"{advice} (no answer in {timeout_s:g} s)") from None
    except (KafkaError, OSError) as error:
        raise CarrierUnavailableError(f"{advice} ({type(error).__name__})") from error


def _look_at(sent: asyncio.Future[Any]) -> None:
    """A batch that nobody waits for any more may fail without a word in the log."""
    if not sent.cancelled():
        sent.exception()


async def _drop(producer: Any) -> None:
    """Stop a producer without what it was about to send: an idempotent one would repeat that for ever first.

    It ends the requests in flight, each of which is answered, refused or timed out soon.
    """
    producer._closed = True
    sending = producer._sender.sender_task
    if sending is not None:
        sending.cancel()
        done, _ = await asyncio.wait((sending,), timeout=CLOSE_TIMEOUT_S)
        if not done:
            _log.warning("a Kafka producer was not stopped in order")
            sending.cancel()
    await part_from(producer.client)


async def part_from(client: Any) -> None:
    """Close a client's connections, in time.

    Its task for metadata can miss a cancellation (a race in `asyncio.wait_for` before Python 3.12) and would be waited for
    without end; the second cancellation, after the time-out, reaches it.
    """
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await client.close()
    except TimeoutError:
        _log.warning("connections to Kafka were not closed in order")


async def shut(consumer: Any) -> None:
    """Stop a consumer; what cannot be said to a broker in time is left unsaid."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            # Gathered, since a consumer that has just started ends with a cancellation that nobody asked for.
            (error,) = await asyncio.gather(consumer.stop(), return_exceptions=True)
    except TimeoutError as late:
        error = late
    if error is not None:
        _log.info("a Kafka consumer was not stopped in order", error=type(error).__name__)
        await part_from(consumer._client)
