"""What waits at a pusher for one gateway: commits, confirmations and hints, bounded, and how they become messages."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

from gateways.push.counters import PusherCounters
from gateways.push.settings import PushSettings
from gateways.rpc.generated import push_pb2 as pb
from gateways.rpc.handshake import VERSION


class _Confirmed:
    """A change of what is wanted that is in force; `reached` as it was at that moment."""

    __slots__ = ("number", "reached")

    def __init__(self, number: int, reached: Mapping[int, int]) -> None:
        self.number = number
        self.reached = reached


class _Echo:
    __slots__ = ("age_ms", "probe")

    def __init__(self, probe: int, age_ms: int) -> None:
        self.probe = probe
        self.age_ms = age_ms


class Outbox:
    """One gateway's. Everything leaves in the order in which it came here, hints excepted; only a full one loses something, and then
    the whole stream.
    """

    def __init__(self, node: str, settings: PushSettings, counters: PusherCounters) -> None:
        self.node = node
        self.streams: set[str] = set()
        """What the gateway wants."""
        self.joined: dict[str, int] = {}
        """Streams that it wants since somebody joined: by which of the frames."""
        self.frames = 0
        """That were put here so far."""
        self.reason: str | None = None
        """Why the stream is to end."""
        self._settings = settings
        self._counters = counters
        self._items: deque[bytes | _Confirmed | _Echo] = deque()
        self._bytes = 0
        self._hints: deque[pb.Hint] = deque()
        self._reached: dict[int, int] = {}
        """What was not told yet; true once nothing else waits."""
        self._number = 0
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._items)

    @property
    def ended(self) -> bool:
        """Whether nothing more leaves."""
        return self.reason is not None

    def end(self, reason: str) -> None:
        """Let nothing more leave. The first reason counts."""
        self.reason = self.reason or reason
        self._items.clear()
        self._hints.clear()
        self._bytes = 0
        self._cancel_timer()
        self._wake.set()

    def put(self, frame: bytes) -> None:
        """A commit that the gateway wants."""
        if self.ended:
            return
        self.frames += 1
        self._items.append(frame)
        self._bytes += len(frame)
        if len(self._items) > self._settings.queue_commits or self._bytes > self._settings.queue_bytes:
            self._counters.cut += 1
            self.end("the gateway takes too little")
            return
        self._wake.set()

    def moved(self, reached: Mapping[int, int]) -> None:
        """The record went on; told soon, also if nothing of it is for this gateway."""
        if self.ended:
            return
        self._reached.update(reached)
        if self._timer is None and not self._wake.is_set():
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._settings.reached_pace_ms / 1_000, self._wake.set)

    def confirm(self, number: int, positions: Mapping[int, int]) -> None:
        """A change is in force from these positions on."""
        if not self.ended:
            self._items.append(_Confirmed(number, dict(positions)))
            self._wake.set()

    def echo(self, probe: int, age_ms: int) -> None:
        """Send a probe back."""
        if not self.ended:
            self._items.append(_Echo(probe, age_ms))
            self._wake.set()

    def hint(self, hint: pb.Hint) -> None:
        """Tell it, or lose it."""
        if self.ended or len(self._hints) >= self._settings.queue_hints:
            self._counters.hints_lost += 1
            return
        self._hints.append(hint)
        self._wake.set()

    async def woken(self) -> None:
        """Wait until something may leave, or the end."""
        await self._wake.wait()
        self._wake.clear()
        self._cancel_timer()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def message(self) -> pb.ToGateway | None:
        """The next message, None when nothing waits."""
        if not self._items and not self._hints and not self._reached:
            return None
        self._number += 1
        message = pb.ToGateway(version=VERSION, number=self._number)
        self._pack(message)
        if self._hints:
            message.hints.extend(self._hints)
            self._hints.clear()
        if not self._items and self._reached:
            message.reached.update(self._reached)
            self._reached = {}
        self._counters.messages += 1
        return message

    def _pack(self, message: pb.ToGateway) -> None:
        """Commits up to the first confirmation or echo: what those say holds behind the commits of their message."""
        size = 0
        frames: list[bytes] = []
        while self._items and len(frames) < self._settings.message_commits:
            item = self._items[0]
            if isinstance(item, bytes):
                if size and size + len(item) > self._settings.message_bytes:
                    break
                size += len(item)
                self._bytes -= len(item)
                frames.append(item)
                self._items.popleft()
                continue
            self._items.popleft()
            if isinstance(item, _Confirmed):
                message.confirmed = item.number
                message.reached.update(item.reached)
            else:
                message.echo.CopyFrom(pb.Echo(probe=item.probe, age_ms=item.age_ms))
            break
        message.frames.extend(frames)
