"""What is traced, and what is left alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from commands.caller import Answer, Caller, Keyed
from commands.counters import FlushCounters
from commands.desk import Desk
from commands.order import Done
from commands.port import CommandPort
from domain.errors import Problem
from domain.event import Command
from domain.user import ChangeProfile
from eventlog.bus import Bus
from eventlog.carrier import CarriedRecord, CarrierUnavailableError, Sender
from eventlog.record import Trace
from ops.settings import SettingsError, load_settings
from ops.tracing.commands import TracedCommands
from ops.tracing.following import SPANS_PER_BATCH_MAX, TracedSender
from ops.tracing.spans import Spans, command_span, span_id_of
from ops.tracing.tracer import Tracer, open_tracer

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
CALLER = Caller("default", "ann")


class Exported:
    """Spans, and those that were sent."""

    def __init__(self, ratio: float) -> None:
        self._memory = InMemorySpanExporter()
        self.spans = Spans(SimpleSpanProcessor(self._memory), ratio, {"service.name": "test"})

    @property
    def sent(self) -> Sequence[ReadableSpan]:
        """So far."""
        return self._memory.get_finished_spans()


class Port:
    """Answers at once, and keeps what it was given."""

    def __init__(self, result: Answer | Problem) -> None:
        self.result = result
        self.seen: list[tuple[Keyed, Trace | None]] = []

    def submit(
        self,
        caller: Caller,
        name: str,
        command: Command,
        keyed: Keyed,
        done: Done,
        *,
        trace: Trace | None = None,
    ) -> None:
        """See the port."""
        self.seen.append((keyed, trace))
        done(self.result)


class Carrier:
    """A sender that takes everything, or nothing."""

    partitions = 4
    away = False

    async def send(self, partition: int, records: Sequence[CarriedRecord]) -> int:
        """See the port."""
        if self.away:
            raise CarrierUnavailableError("away")
        return 7


def test_without_traces_everything_is_left_as_it_is() -> None:
    tracer, bus = Tracer(), Bus()
    port, sender = cast("CommandPort", object()), cast("Sender", object())
    assert tracer.commands(port) is port
    assert tracer.sender(sender) is sender
    desk = Desk(cast("Any", None), b"", cast("Any", None))
    tracer.owner(desk, bus, FlushCounters())
    tracer.deliveries(bus)
    assert desk.traced is None
    assert bus._followers == []


async def test_traces_need_somewhere_to_go() -> None:
    off = load_settings(None, {})
    async with open_tracer(off, ()) as tracer:
        assert type(tracer) is Tracer
    asked = load_settings(None, {"telemetry": {"sample_ratio": 0.5}})
    with pytest.raises(SettingsError, match=r"needs telemetry\.otlp_endpoint"):
        async with open_tracer(asked, ()):
            pass


@pytest.mark.parametrize("client_key", ["k", None])
async def test_a_traced_command_is_named_by_its_key(client_key: str | None) -> None:
    exported, port = Exported(1.0), Port(Answer("s", True, 3, 8))
    commands = TracedCommands(cast("CommandPort", port), exported.spans)
    answer = await commands.execute(CALLER, "user:ann", ChangeProfile(name="x"), Keyed("scope", client_key))
    assert answer is port.result
    (span,) = exported.sent
    ((keyed, trace),) = port.seen
    assert trace is not None
    assert span.context is not None
    assert trace.trace_id == f"{span.context.trace_id:032x}"
    assert span.context.span_id == span_id_of(keyed.key("default", "ann"))
    assert dict(span.attributes or {}) == {
        "minutebook.command": "ChangeProfile",
        "minutebook.shard": 3,
        "minutebook.position": 8,
        "minutebook.replayed": False,
    }


async def test_a_command_that_is_not_chosen_is_left_as_it_is() -> None:
    exported, port = Exported(0.0), Port(Problem("conflict"))
    commands = TracedCommands(cast("CommandPort", port), exported.spans)
    keyed = Keyed("scope")
    with pytest.raises(Problem):
        await commands.execute(CALLER, "user:ann", ChangeProfile(name="x"), keyed)
    assert port.seen == [(keyed, None)]
    assert exported.sent == ()


async def test_only_failures_of_ours_are_errors() -> None:
    for problem, is_error in ((Problem("conflict"), False), (Problem("unavailable"), True)):
        exported = Exported(1.0)
        commands = TracedCommands(cast("CommandPort", Port(problem)), exported.spans)
        with pytest.raises(Problem):
            await commands.execute(CALLER, "user:ann", ChangeProfile(name="x"), Keyed("scope"))
        (span,) = exported.sent
        assert (span.attributes or {})["minutebook.problem"] == problem.code
        assert (not span.status.is_ok) is is_error


@pytest.mark.parametrize(
    "ratio,header,sampled",
    [
        (1.0, f"00-{TRACE}-{SPAN}-01", True),
        (1.0, f"00-{TRACE}-{SPAN}-00", False),
        (0.0, f"00-{TRACE}-{SPAN}-01", False),
        (1.0, f"00-{'0' * 32}-{SPAN}-01", None),
        (1.0, f"ff-{TRACE}-{SPAN}-01", None),
        (1.0, "nonsense", None),
        (1.0, f"00-{TRACE.upper()}-{SPAN}-01", None),
    ],
)
def test_a_caller_gives_the_trace_and_our_ratio_decides(
    ratio: float, header: str, sampled: bool | None
) -> None:
    caller = Exported(ratio).spans.caller_of(header)
    assert (None if caller is None else bool(caller.trace_flags.sampled)) is sampled


def test_a_command_has_a_span_only_in_a_trace_that_is_one() -> None:
    found = command_span(TRACE, b"\x01" * 16)
    assert found is not None
    assert f"{found.span_id:016x}" == "01" * 8
    assert command_span(None, b"\x01" * 16) is None
    assert command_span("a trace of another kind", b"\x01" * 16) is None
    assert command_span("0" * 32, b"\x01" * 16) is None


def _record(*headers: tuple[str, bytes]) -> CarriedRecord:
    return CarriedRecord(b"k", b"v", (("shard", b"1"), *headers), 0)


async def test_the_relay_tells_of_traced_records_only() -> None:
    exported, carrier = Exported(1.0), Carrier()
    sender = TracedSender(cast("Sender", carrier), exported.spans)
    traced = _record(("trace_id", TRACE.encode()), ("traceparent", f"00-{TRACE}-{SPAN}-01".encode()))
    assert await sender.send(2, [_record(), traced, _record(("trace_id", b"odd"))]) == 7
    (span,) = exported.sent
    assert (span.name, span.kind) == ("relay", SpanKind.PRODUCER)
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == SPAN
    carrier.away = True
    with pytest.raises(CarrierUnavailableError):
        await sender.send(2, [traced] * (SPANS_PER_BATCH_MAX + 1))
    assert [one.status.is_ok for one in exported.sent[1:]] == [False] * SPANS_PER_BATCH_MAX
