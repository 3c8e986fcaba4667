"""The command port with spans."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from opentelemetry.trace import SpanKind
from typing_extensions import override

from commands.caller import Answer, Caller, Keyed
from commands.order import Done, outcome_of
from commands.port import CommandPort, Outline
from domain.aggregates import State
from domain.errors import Problem
from domain.event import Command
from eventlog.record import KEY_BYTES, Trace
from ops.tracing.spans import Spans, end_of_command, sent_trace_id, span_id_of


class TracedCommands(CommandPort):
    """The command port with a span from each command to its answer; its trace travels with the command and stands in its events."""

    def __init__(self, port: CommandPort, spans: Spans) -> None:
        self._port = port
        self._spans = spans

    @override
    async def execute(self, caller: Caller, name: str, command: Command, keyed: Keyed) -> Answer:
        return await outcome_of(lambda done: self.submit(caller, name, command, keyed, done))

    @override
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
        # The span is named by the key, so that of a traced command is made here if the caller gave none.
        traced = keyed if keyed.client_key is not None else _with_key(keyed)
        kind = type(command).__name__
        span = self._spans.start(
            f"command {kind}",
            SpanKind.CLIENT,
            {"minutebook.command": kind},
            span_id=span_id_of(traced.key(caller.tenant, caller.user_id)),
        )
        trace_id = sent_trace_id(span)
        if trace_id is None:
            self._port.submit(caller, name, command, keyed, done, trace=trace)
            return

        def answered(result: Answer | Problem) -> None:
            end_of_command(span, result)
            done(result)

        self._port.submit(caller, name, command, traced, answered, trace=Trace(trace_id=trace_id))

    @property
    @override
    def sees_hot(self) -> bool:
        return self._port.sees_hot

    @override
    async def peek(self, tenant: str, name: str) -> State:
        return await self._port.peek(tenant, name)

    @override
    async def peek_as(self, tenant: str, name: str, user_id: str) -> State:
        return await self._port.peek_as(tenant, name, user_id)

    @override
    async def outline(self, tenant: str, name: str) -> Outline:
        return await self._port.outline(tenant, name)

    @override
    def peek_hot(self, tenant: str, name: str) -> State | None:
        return self._port.peek_hot(tenant, name)

    @override
    async def user_exists(self, tenant: str, user_id: str) -> bool:
        return await self._port.user_exists(tenant, user_id)

    @override
    def remember_user(self, tenant: str, user_id: str) -> None:
        self._port.remember_user(tenant, user_id)

    @override
    def head_positions(self) -> Mapping[int, int]:
        return self._port.head_positions()


def _with_key(keyed: Keyed) -> Keyed:
    return Keyed(keyed.scope, f"made {secrets.token_hex(KEY_BYTES)}", keyed.payload)
