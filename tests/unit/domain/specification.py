"""Given, when, then: an aggregate told as a story.

`Story(kind, name).given(events)` sets the scene, `does(actor, command)` decides and folds and returns the events, `refuses(actor, command)`
returns the problem. Every step checks what holds for all aggregates: versions, seqs, actor and time of events.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from domain.aggregates import AGGREGATES, State
from domain.errors import Problem
from domain.event import Command, Context, Event, Limits, Message
from domain.streams import StreamKind, qualified

NOW = 1_700_000_000_000


def raw(value: Any) -> msgspec.Raw:
    """A JSON value as a client sends it."""
    return msgspec.Raw(msgspec.json.encode(value))


def said(text: str) -> msgspec.Raw:
    """A text message's content."""
    return raw({"kind": "text", "text": text})


class Story:
    """One aggregate and its history so far. `now` is the hand-driven clock, in milliseconds."""

    def __init__(
        self, kind: StreamKind, name: str, *, tenant: str = "default", limits: Limits | None = None
    ) -> None:
        self.kind = kind
        self.tenant = tenant
        self.limits = limits or Limits()
        self.now = NOW
        self.steps = 0
        self.events: list[Event] = []
        self._aggregate = AGGREGATES[kind]
        self.state: Any = self._aggregate.initial(qualified(tenant, name))

    def given(self, *events: Event) -> Story:
        """These happened before."""
        for event in events:
            before = self.state
            self.state = self._aggregate.evolve(before, event)
            assert self.state.version == before.version + 1
            assert self.state.seq == before.seq + (1 if event.PUBLIC else 0)
            self.events.append(event)
        return self

    def context(
        self,
        actor: str,
        *,
        importing: bool = False,
        unknown: frozenset[str] = frozenset(),
        older: Mapping[int, Message] | None = None,
    ) -> Context:
        """What the next decision is given."""
        return Context(
            tenant=self.tenant,
            actor=actor,
            now=self.now,
            new_id=f"id{self.steps}",
            limits=self.limits,
            importing=importing,
            unknown_users=unknown,
            older=older or {},
        )

    def decides(self, actor: str, command: Command, **facts: Any) -> tuple[Event, ...]:
        """What the command would make; nothing happens yet."""
        events = self._aggregate.decide(self.state, command, self.context(actor, **facts))
        assert all((event.actor, event.at) == (actor, self.now) for event in events)
        return events

    def does(self, actor: str, command: Command, **facts: Any) -> tuple[Event, ...]:
        """The command is given, and what it makes happens."""
        events = self.decides(actor, command, **facts)
        self.given(*events)
        self.steps += 1
        return events

    def types(self, actor: str, command: Command, **facts: Any) -> list[str]:
        """As `does`; the types of the events."""
        return [event.TYPE for event in self.does(actor, command, **facts)]

    def refuses(self, actor: str, command: Command, **facts: Any) -> str:
        """The command is refused: the code, and the first wrong field behind a space if there is one."""
        with pytest.raises(Problem) as refusal:
            self.decides(actor, command, **facts)
        problem = refusal.value
        assert problem.detail
        return " ".join([problem.code, *[error.field for error in problem.errors[:1]]])

    def passes(self, milliseconds: int) -> Story:
        """Time goes on."""
        self.now += milliseconds
        return self

    def refolded(self) -> State:
        """The state folded anew from all events."""
        state = self._aggregate.initial(self.state.stream)
        for event in self.events:
            state = self._aggregate.evolve(state, event)
        return state
