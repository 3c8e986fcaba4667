"""One face at an owner: what it has asked and not been answered, and the answers that wait to leave."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

from commands.caller import Answer
from domain.errors import Problem
from gateways.rpc.encoding import Result, pack_answer
from gateways.rpc.generated import minutebook_pb2 as pb
from gateways.rpc.handshake import VERSION
from gateways.rpc.settings import RpcSettings

_ANSWER_BYTES = 64
"""What an answer weighs beside its frame; a little more than it is."""


class Link:
    """Bounded both ways: above `in_flight` nothing more is read, and what was answered counts until it leaves."""

    def __init__(
        self, node: str, incarnation: bytes, number: int, heads: Mapping[int, int], settings: RpcSettings
    ) -> None:
        self.node = node
        self.incarnation = incarnation
        self.number = number
        self.closed = False
        """Nobody hears any more what is answered here, and nothing more may be taken from it."""
        self.ending = False
        """Nothing more is asked; what is answered still leaves."""
        self._leaving = False
        self._told_leaving = False
        self.reason: str | None = None
        """What was wrong with what the face sent."""
        self._settings = settings
        self._answers: deque[tuple[int, int, Result]] = deque()
        self._in_flight = 0
        self._in_flight_bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._wake = asyncio.Event()
        self._moved = dict(heads)
        """What is durable and not told yet."""
        self._heads_timer: asyncio.TimerHandle | None = None

    @property
    def in_flight(self) -> int:
        """Commands and looks whose answer has not left."""
        return self._in_flight

    def took(self, size: int) -> None:
        """One more is under way."""
        self._in_flight += 1
        self._in_flight_bytes += size
        if (
            self._in_flight >= self._settings.in_flight
            or self._in_flight_bytes >= self._settings.in_flight_bytes
        ):
            self._room.clear()

    async def room(self) -> None:
        """Wait until there is room for another batch."""
        await self._room.wait()

    def answer(self, number: int, size: int, result: Result) -> None:
        """What became of one. Answers gather for a turn of the loop."""
        if not self.closed:
            self._answers.append((number, size, result))
            self._wake.set()

    def leave(self) -> None:
        """Tell the face that nothing more is done here."""
        self._leaving = True
        self._wake.set()

    def end(self) -> None:
        """Nothing more will be asked."""
        self.ending = True
        self._wake.set()

    def close(self) -> None:
        """Nobody is there any more. Idempotent."""
        self.closed = self.ending = True
        self._answers.clear()
        self._in_flight = self._in_flight_bytes = 0
        self._room.set()
        self._wake.set()
        if self._heads_timer is not None:
            self._heads_timer.cancel()

    def heads_moved(self, heads: Mapping[int, int]) -> None:
        """Something has become durable: tell it soon, if no answer does before."""
        self._moved.update(heads)
        if self._heads_timer is None and not self.closed:
            loop = asyncio.get_running_loop()
            self._heads_timer = loop.call_later(self._settings.heads_pace_ms / 1_000, self._wake.set)

    async def woken(self) -> None:
        """Wait until there is something to write, or the end."""
        await self._wake.wait()
        self._wake.clear()

    def message(self) -> pb.Answers | None:
        """The next message, None when there is nothing to say. What is durable is told with the answers that rest on it."""
        leaving = self._leaving and not self._told_leaving
        if not self._answers and not self._moved and not leaving:
            return None
        message = pb.Answers(version=VERSION, heads=self._moved)
        self._moved = {}
        count = size = 0
        while self._answers and count < self._settings.batch_commands and size < self._settings.batch_bytes:
            number, asked, result = self._answers.popleft()
            pack_answer(message, number, result)
            count += 1
            size += _weight(result)
            self._left(asked)
        if leaving:
            self._told_leaving = message.leaving = True
        if self._heads_timer is not None:
            self._heads_timer.cancel()
            self._heads_timer = None
        return message

    def _left(self, size: int) -> None:
        self._in_flight -= 1
        self._in_flight_bytes -= size
        if not self._room.is_set() and (
            self._in_flight < self._settings.in_flight
            and self._in_flight_bytes < self._settings.in_flight_bytes
        ):
            self._room.set()


def _weight(result: Result) -> int:
    if isinstance(result, Answer) and result.commit is not None:
        return len(result.commit.frame) + _ANSWER_BYTES
    if isinstance(result, Problem):
        return len(result.detail) + _ANSWER_BYTES
    if isinstance(result, pb.State):
        return result.ByteSize()
    return _ANSWER_BYTES
