"""Spans of what happens to batches: at the owner, in the relay, in the views and at the sockets."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from typing_extensions import override

from commands.caller import Answer
from commands.order import Order
from domain.errors import Problem
from eventlog.carrier import CarriedRecord, Sender
from eventlog.received import Received
from eventlog.record import Committed
from ops.tracing.spans import Attributes, Spans, command_span, end_of_command, parent_of

SPANS_PER_BATCH_MAX = 64
"""A batch with more traces than this tells of the first ones only."""
Traced = tuple[SpanContext, Attributes]


def trace_order(spans: Spans, order: Order) -> None:
    """A span from an order's arrival at the owner to its answer."""
    parent = None if order.trace is None else command_span(order.trace.trace_id, order.key)
    told = order.done
    if parent is None or told is None:
        return
    kind = type(order.command).__name__
    span = spans.start(f"own {kind}", SpanKind.SERVER, {"minutebook.command": kind}, parent=parent)

    def done(result: Answer | Problem) -> None:
        end_of_command(span, result)
        told(result)

    order.done = done


def trace_flush(spans: Spans, batch: Sequence[Committed], seconds: float) -> None:
    """One span for the flush, in the trace of its first traced commit and linked to the commands of all; called right behind it."""
    traced = list(_traced(batch))
    if not traced:
        return
    links = [Link(command) for command, _ in traced]
    now_ns = time.time_ns()
    span = spans.start(
        "flush",
        SpanKind.INTERNAL,
        {"minutebook.commits": len(batch)},
        parent=traced[0][0],
        start_ns=now_ns - int(seconds * 1e9),
        links=links,
    )
    span.end(now_ns)


def trace_batch(spans: Spans, batch: Sequence[Received], seconds: float) -> None:
    """A span in each trace of a batch that the views have applied."""
    now_ns = time.time_ns()
    for command, attributes in _traced([one for one in batch if isinstance(one, Committed)]):
        about = {**attributes, "minutebook.commits": len(batch)}
        start_ns = now_ns - int(seconds * 1e9)
        spans.start("apply to views", SpanKind.CONSUMER, about, parent=command, start_ns=start_ns).end(now_ns)


def trace_deliveries(spans: Spans, batch: Sequence[Committed]) -> None:
    """A moment in each trace of a batch that a gateway hands to its sockets."""
    for command, attributes in _traced(batch):
        spans.start("deliver", SpanKind.CONSUMER, attributes, parent=command).end()


def _traced(batch: Sequence[Committed]) -> Iterator[Traced]:
    """The commands of the traced commits of a batch."""
    found = 0
    for committed in batch:
        row = committed.events[0] if committed.events else None
        command = None if row is None else command_span(row.trace_id, row.key)
        if row is not None and command is not None and found < SPANS_PER_BATCH_MAX:
            found += 1
            yield command, {"minutebook.shard": row.shard, "minutebook.position": row.position}


class TracedSender(Sender):
    """What the relay sends with, with a span for each traced record."""

    def __init__(self, sender: Sender, spans: Spans) -> None:
        self._sender = sender
        self._spans = spans

    @property
    @override
    def partitions(self) -> int:
        return self._sender.partitions

    @override
    async def start(self) -> Mapping[int, int]:
        return await self._sender.start()

    @override
    async def send(self, partition: int, records: Sequence[CarriedRecord]) -> int:
        started = self._started(partition, records)
        try:
            first = await self._sender.send(partition, records)
        except BaseException as error:
            for span in started:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                span.end()
            raise
        for span in started:
            span.end()
        return first

    def _started(self, partition: int, records: Sequence[CarriedRecord]) -> list[Span]:
        about = {"messaging.system": "kafka", "messaging.destination.partition.id": str(partition)}
        parents = [
            parent_of(value)
            for record in records
            for name, value in record.headers[-1:]
            if name == "traceparent"
        ]
        return [
            self._spans.start("relay", SpanKind.PRODUCER, about, parent=parent)
            for parent in parents[:SPANS_PER_BATCH_MAX]
            if parent is not None
        ]

    @override
    async def abandon(self) -> None:
        await self._sender.abandon()

    @override
    async def close(self) -> None:
        await self._sender.close()
