"""A tracer that traces. Attributes name kinds, shards and positions: never people, contents or conversations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from commands.counters import FlushCounters
from commands.desk import Desk
from commands.port import CommandPort
from eventlog.bus import Bus
from eventlog.carrier import Sender
from ops.tracing.commands import TracedCommands
from ops.tracing.following import TracedSender, trace_batch, trace_deliveries, trace_flush, trace_order
from ops.tracing.requests import TracedExpress, TracedRequests
from ops.tracing.spans import Spans
from ops.tracing.tracer import Tracer
from projections.runner import Runner

if TYPE_CHECKING:
    from fastapi import FastAPI


class OpenTelemetryTracer(Tracer):
    """Wraps what it is given."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    @override
    def commands(self, port: CommandPort) -> CommandPort:
        return TracedCommands(port, self._spans)

    @override
    def requests(self, app: FastAPI) -> None:
        app.add_middleware(TracedRequests, spans=self._spans)
        app.state.express = TracedExpress(app.state.express, self._spans)

    @override
    def owner(self, desk: Desk, commits: Bus, flushes: FlushCounters) -> None:
        desk.traced = lambda order: trace_order(self._spans, order)
        commits.follow(lambda batch: trace_flush(self._spans, batch, flushes.last_seconds))

    @override
    def sender(self, sender: Sender) -> Sender:
        return TracedSender(sender, self._spans)

    @override
    def views(self, runner: Runner) -> None:
        runner.applied = lambda batch, seconds: trace_batch(self._spans, batch, seconds)

    @override
    def deliveries(self, commits: Bus) -> None:
        commits.follow(lambda batch: trace_deliveries(self._spans, batch))
