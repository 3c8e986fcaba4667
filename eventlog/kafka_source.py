"""Kafka's consumer as a Source: in a group, or alone from either end of the topic."""

# ruff: noqa: SLF001 - What a client really does stands in its private fields.
from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import aiokafka
from aiokafka.abc import ConsumerRebalanceListener
from typing_extensions import override

from eventlog.carrier import CarriedRecord, CarrierUnavailableError, Listener
from eventlog.kafka_driver import asked, reaching, record_from, shut
from eventlog.kafka_settings import KafkaSettings, consumer_options

PROBE_S = 1.0
"""How often a Kafka that sends nothing is asked whether it is there."""
PROBE_TIMEOUT_S = 2.0


class KafkaSource:
    """The Source port: a consumer in a group, or without one of all partitions, from their first record or from their end."""

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        partitions: int,
        *,
        group: str | None = None,
        from_end: bool = False,
        records_max: int = 5_000,
    ) -> None:
        if group is not None and from_end:
            raise ValueError("a group goes on where it was; only a reader without one starts at the end")
        self._settings = settings
        self._topic = topic
        self._partitions = partitions
        self._group = group
        self._from_end = from_end
        self._records_max = records_max
        self._consumer: Any = None
        self._probing: asyncio.Task[None] | None = None
        self._has_come = False
        self._is_away = False

    @property
    def reads_all(self) -> bool:
        """Unless it is in a group."""
        return self._group is None

    @property
    def is_away(self) -> bool:
        """Whether no broker answered the last probe. Records that come answer as well."""
        return self._is_away

    @property
    def effective_settings(self) -> Mapping[str, Any]:
        """What the running consumer does, as it itself says."""
        consumer = self._consumer
        return {
            "group_id": consumer._group_id,
            "enable_auto_commit": consumer._enable_auto_commit,
            "auto_offset_reset": consumer._auto_offset_reset,
            "isolation_level": consumer._isolation_level,
            "check_crcs": consumer._check_crcs,
            "max_partition_fetch_bytes": consumer._max_partition_fetch_bytes,
            "session_timeout_ms": consumer._session_timeout_ms,
        }

    async def start(self, listener: Listener) -> None:
        """See the port. In a group the listener hears of its partitions while polling goes on."""
        consumer = aiokafka.AIOKafkaConsumer(**consumer_options(self._settings, self._group))
        try:
            await reaching(self._settings, consumer.start())
            if self._group is not None:
                consumer.subscribe([self._topic], listener=_Rebalances(listener))
            else:
                await self._take_all(consumer, listener)
        except BaseException:
            await shut(consumer)
            raise
        self._consumer = consumer
        self._is_away = False
        self._probing = asyncio.get_running_loop().create_task(self._probe(consumer), name="kafka-probe")

    async def _probe(self, consumer: Any) -> None:
        """The client itself keeps silent about a Kafka that went away, and gives nothing."""
        while True:
            await asyncio.sleep(PROBE_S)
            if self._has_come:
                self._has_come = self._is_away = False
                continue
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    self._is_away = not await consumer._client.force_metadata_update()
            except TimeoutError:
                self._is_away = True

    async def _take_all(self, consumer: Any, listener: Listener) -> None:
        places = [aiokafka.TopicPartition(self._topic, number) for number in range(self._partitions)]
        find = consumer.end_offsets if self._from_end else consumer.beginning_offsets
        # The end is taken before the listener looks at the log: what is sent in between comes twice, never not at all.
        offsets = await asked(find(places))
        consumer.assign(places)
        for place, offset in offsets.items():
            consumer.seek(place, offset)
        await listener.assigned(list(range(self._partitions)))

    async def poll(self, timeout_ms: int) -> Mapping[int, Sequence[CarriedRecord]]:
        """See the port."""
        found = await asked(self._consumer.getmany(timeout_ms=timeout_ms, max_records=self._records_max))
        self._has_come = self._has_come or bool(found)
        return {
            place.partition: [record_from(record) for record in records] for place, records in found.items()
        }

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """See the port. Without a group there is nobody to remember it."""
        if self._group is None or not offsets:
            return
        places = {aiokafka.TopicPartition(self._topic, number): offset for number, offset in offsets.items()}
        timeout_s = self._settings.request_timeout_ms / 1_000
        try:
            # Without a coordinator the client would try for ever.
            async with asyncio.timeout(timeout_s):
                await asked(self._consumer.commit(places))
        except TimeoutError:
            raise CarrierUnavailableError(f"Kafka took no offsets in {timeout_s:g} s") from None

    async def close(self) -> None:
        """See the port."""
        probing, self._probing = self._probing, None
        if probing is not None:
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await shut(consumer)


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]
    """Hands aiokafka's calls on."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    @override
    async def on_partitions_revoked(self, revoked: Sequence[Any]) -> None:
        await self._listener.revoked(sorted(place.partition for place in revoked))

    @override
    async def on_partitions_assigned(self, assigned: Sequence[Any]) -> None:
        await self._listener.assigned(sorted(place.partition for place in assigned))
