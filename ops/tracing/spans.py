"""Spans by OpenTelemetry: how they are named, chosen, and sent over OTLP."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from typing_extensions import override

from commands.caller import Answer
from domain.errors import Problem
from ops.settings import Settings

SPANS_WAITING_MAX = 4_096
"""More are dropped: traces never hold anything up."""
EXPORT_S = 2.0
FAILURE_STATUS = 500
"""A problem with this status or a higher one is a failure of ours; others are answers."""
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})").fullmatch
_TRACE_ID = re.compile(r"[0-9a-f]{32}").fullmatch
Attributes = Mapping[str, str | int | float | bool]


class _Ids(IdGenerator):
    """Random ids, but for a span that is to have one that others know already."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self.next_span: int | None = None

    @override
    def generate_trace_id(self) -> int:
        """See the library."""
        return self._random.generate_trace_id()

    @override
    def generate_span_id(self) -> int:
        """See the library."""
        given, self.next_span = self.next_span, None
        return given or self._random.generate_span_id()


class Spans:
    """Starts spans. A command's span is named by the first half of its key, so that every process that sees its commit knows it."""

    def __init__(self, processor: SpanProcessor, sample_ratio: float, resource: Attributes) -> None:
        self._ids = _Ids()
        self._sample_ratio = sample_ratio
        self._by_trace_id = TraceIdRatioBased(sample_ratio)
        self._chance = random.Random()  # noqa: S311 - chooses what is traced
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # What is not chosen does not come so far.
            resource=Resource.create(dict(resource)),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("minutebook")

    def start(
        self,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        *,
        parent: SpanContext | None = None,
        span_id: int | None = None,
        start_ns: int | None = None,
        links: Sequence[Link] = (),
    ) -> Span:
        """A span under `parent`, else under the current one of this task, else of a trace of its own that may not be chosen.

        What is not chosen costs a microsecond or two; the library's own way costs ten.
        """
        above = get_current_span().get_span_context() if parent is None else parent
        if not (above.trace_flags.sampled if above.is_valid else self._chance.random() < self._sample_ratio):
            return _NOT_CHOSEN
        self._ids.next_span = span_id
        context = None if parent is None else set_span_in_context(NonRecordingSpan(parent))
        try:
            return self._tracer.start_span(
                name, context, kind, dict(attributes), links, start_ns, record_exception=False
            )
        finally:
            self._ids.next_span = None

    def caller_of(self, traceparent: str) -> SpanContext | None:
        """The span of a caller outside; whether it is traced here is ours to choose, by its trace id. None: it says nothing."""
        match = _TRACEPARENT(traceparent)
        if match is None:
            return None
        trace_id, span_id, flags = (int(part, 16) for part in match.groups())
        chosen = self._by_trace_id.should_sample(None, trace_id, "").decision is Decision.RECORD_AND_SAMPLE
        sampled = bool(flags & TraceFlags.SAMPLED) and chosen
        context = _context(trace_id, span_id, TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        return context if context.is_valid else None

    def close(self) -> None:
        """Send what waits. Blocks."""
        self._provider.shutdown()


def command_span(trace_id: str | None, key: bytes) -> SpanContext | None:
    """The span of a command that was traced; None: it was not."""
    if trace_id is None or _TRACE_ID(trace_id) is None:
        return None
    context = _context(int(trace_id, 16), span_id_of(key), TraceFlags.SAMPLED)
    return context if context.is_valid else None


def span_id_of(key: bytes) -> int:
    """Of a command with this key."""
    return int.from_bytes(key[:8], "big")


def parent_of(traceparent: bytes) -> SpanContext | None:
    """The span of a record's header, which is ours."""
    match = _TRACEPARENT(traceparent.decode("latin-1"))
    if match is None:
        return None
    return _context(int(match[1], 16), int(match[2], 16), TraceFlags.SAMPLED)


def sent_trace_id(span: Span) -> str | None:
    """The trace that a span is sent with; None: it is not sent."""
    context = span.get_span_context()
    return f"{context.trace_id:032x}" if context.trace_flags.sampled else None


def end_of_command(span: Span, result: Answer | Problem) -> None:
    """What became of a command."""
    if isinstance(result, Problem):
        span.set_attribute("minutebook.problem", result.code)
        if result.status >= FAILURE_STATUS:
            span.set_status(Status(StatusCode.ERROR, result.code))
    else:
        place = {"minutebook.shard": result.shard, "minutebook.position": result.position}
        span.set_attributes({**place, "minutebook.replayed": result.replayed})
    span.end()


def _context(trace_id: int, span_id: int, flags: int) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))


_NOT_CHOSEN = NonRecordingSpan(_context(1, 1, TraceFlags.DEFAULT))
"""Stands as the current span of a request, so that nobody chooses again below it."""


@asynccontextmanager
async def opened_spans(settings: Settings, roles: Sequence[str]) -> AsyncIterator[Spans]:
    """Spans that are sent to the collector of the settings."""
    telemetry = settings.telemetry
    exporter = OTLPSpanExporter(endpoint=telemetry.otlp_endpoint, timeout=EXPORT_S)
    processor = BatchSpanProcessor(
        exporter, SPANS_WAITING_MAX, schedule_delay_millis=1_000, max_export_batch_size=512
    )
    resource = {
        "service.name": "minutebook",
        "service.version": version("minutebook"),
        "service.instance.id": settings.node_name,
        "minutebook.roles": ",".join(sorted(roles)) or "all",
    }
    spans = Spans(processor, telemetry.sample_ratio, resource)
    try:
        yield spans
    finally:
        await asyncio.to_thread(spans.close)
