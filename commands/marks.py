"""Read marks: maxima, gathered in memory, at most one commit per user and second for all its conversations."""

from __future__ import annotations

import asyncio
from typing import Protocol

from commands.caller import Answer, Caller, Keyed
from commands.port import CommandPort
from commands.tasks import TaskOwner
from domain.errors import Problem
from domain.inbox import MarkRead

GATHER_S = 1.0
USERS_MAX = 100_000
MARKS_PER_COMMIT_MAX = 1_000


class MarkGate(Protocol):
    """The read side's word on a mark."""

    async def marks_allowed(self, tenant: str, user_id: str, conversation_id: str, seq: int) -> int:
        """Returns if the user may mark `seq` there: the seq up to which the user's own messages mark already.

        Raises Problem (`not_found`, `forbidden`, `validation_failed`, `unavailable`).
        """
        ...


class _Gathering:
    """Marks of one user that wait for the next commit."""

    __slots__ = ("caller", "marks", "waiters")

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.marks: dict[str, int] = {}
        self.waiters: list[asyncio.Future[Answer]] = []


class ReadMarks:
    """Takes marks, checks them against the views, and writes them to the user's inbox stream."""

    def __init__(self, desk: CommandPort, gate: MarkGate, gather_s: float = GATHER_S) -> None:
        self._desk = desk
        self._gate = gate
        self._gather_s = gather_s
        self._gathering: dict[tuple[str, str], _Gathering] = {}
        self._tasks = TaskOwner("read-marks", USERS_MAX)

    async def close(self) -> None:
        """Drop what is still gathered: a mark that was not answered may be lost. Idempotent."""
        await self._tasks.close()

    async def mark(self, caller: Caller, conversation_id: str, seq: int) -> Answer | None:
        """Mark as read up to `seq`; returns when that is durable, None if nothing rose. Raises Problem.

        A lower mark is no change. A cancelled call leaves the mark gathered.
        """
        if seq <= await self._gate.marks_allowed(caller.tenant, caller.user_id, conversation_id, seq):
            return None
        waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._gather(caller, conversation_id, seq, waiter)
        answer = await waiter
        rose = any(getattr(row.event, "conversation_id", None) == conversation_id for row in answer.events)
        return answer if rose else None

    def _gather(self, caller: Caller, conversation_id: str, seq: int, waiter: asyncio.Future[Answer]) -> None:
        user = (caller.tenant, caller.user_id)
        gathering = self._gathering.get(user)
        if gathering is None:
            if self._tasks.full:
                raise Problem("overloaded", "too many read marks are waiting", retry_after_ms=1_000)
            gathering = self._gathering[user] = _Gathering(caller)
            self._tasks.start(self._write(user))
        if len(gathering.marks) >= MARKS_PER_COMMIT_MAX and conversation_id not in gathering.marks:
            raise Problem("overloaded", "too many read marks are waiting", retry_after_ms=1_000)
        gathering.marks[conversation_id] = max(seq, gathering.marks.get(conversation_id, 0))
        gathering.waiters.append(waiter)

    async def _write(self, user: tuple[str, str]) -> None:
        """The first mark goes at once; those of the second that follows go together; the last empty second ends it."""
        try:
            while True:
                gathering = self._gathering[user]
                if not gathering.waiters:
                    return
                self._gathering[user] = _Gathering(gathering.caller)
                await self._commit(gathering)
                await asyncio.sleep(self._gather_s)
        finally:
            left = self._gathering.pop(user, None)
            if left is not None:
                _fail(left, Problem("unavailable", "the server is shutting down", retry_after_ms=2_000))

    async def _commit(self, gathering: _Gathering) -> None:
        caller = gathering.caller
        try:
            answer = await self._desk.execute(
                caller, f"inbox:{caller.user_id}", MarkRead(marks=gathering.marks), Keyed("read-marks")
            )
        except Problem as problem:
            _fail(gathering, problem)
            return
        except BaseException:
            # Nobody may wait for ever, whatever happened.
            _fail(gathering, Problem("outcome_unknown", "it may or may not be marked; mark it again"))
            raise
        for waiter in gathering.waiters:
            if not waiter.done():
                waiter.set_result(answer)


def _fail(gathering: _Gathering, problem: Problem) -> None:
    for waiter in gathering.waiters:
        if not waiter.done():
            waiter.set_exception(problem)
