"""The port: what a process hands over to be traced. This tracer traces nothing and hands it back as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from commands.counters import FlushCounters
from commands.desk import Desk
from commands.port import CommandPort
from eventlog.bus import Bus
from eventlog.carrier import Sender
from ops.settings import Settings, SettingsError
from projections.runner import Runner

if TYPE_CHECKING:
    from fastapi import FastAPI


class Tracer:
    """No traces: costs nothing."""

    def commands(self, port: CommandPort) -> CommandPort:
        """The port that faces are given: a span from each command to its answer."""
        return port

    def requests(self, app: FastAPI) -> None:
        """The REST face: a span for each request; takes the caller's `traceparent`."""

    def owner(self, desk: Desk, commits: Bus, flushes: FlushCounters) -> None:
        """The owner: a span from each traced command's arrival to its answer, and one for its flush."""

    def sender(self, sender: Sender) -> Sender:
        """What the relay sends with: a span for each traced record."""
        return sender

    def views(self, runner: Runner) -> None:
        """The writer of the views: a span for each trace in a batch."""

    def deliveries(self, commits: Bus) -> None:
        """What gateways hand to sockets: a moment for each traced commit."""


@asynccontextmanager
async def open_tracer(settings: Settings, roles: Sequence[str]) -> AsyncIterator[Tracer]:
    """The tracer that the settings ask for; what it holds is sent at the end, as far as that takes no longer than seconds.

    Raises SettingsError when traces are asked for and cannot be had.
    """
    if not settings.telemetry.sample_ratio:
        yield Tracer()
        return
    if settings.telemetry.otlp_endpoint is None:
        raise SettingsError("telemetry.sample_ratio needs telemetry.otlp_endpoint: where spans are sent to")
    try:
        from ops.tracing.spans import opened_spans  # noqa: PLC0415 - only the extra `telemetry` has what this needs
    except ImportError:
        raise SettingsError(
            "telemetry.sample_ratio needs the extra `telemetry`: pip install 'minutebook[telemetry]'"
        ) from None
    from ops.tracing.traced import OpenTelemetryTracer  # noqa: PLC0415 - as above

    async with opened_spans(settings, roles) as spans:
        yield OpenTelemetryTracer(spans)
