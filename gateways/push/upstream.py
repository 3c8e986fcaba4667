"""A gateway's end of one stream to a pusher, without the wire: what waits to be said, and what was confirmed."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable

from gateways.push.counters import ReceiverCounters
from gateways.push.settings import PushSettings
from gateways.rpc.generated import push_pb2 as pb
from gateways.rpc.handshake import VERSION

PROBES_MAX = 64
"""Probes without an echo that are remembered."""


class Upstream:
    """Lives as long as its stream. What is `wanted` when it begins is said first; until that is confirmed, and what lies before is
    read, it is not live.
    """

    def __init__(
        self,
        wanted: Iterable[str],
        settings: PushSettings,
        counters: ReceiverCounters,
        now_s: Callable[[], float],
    ) -> None:
        self.live = False
        self.live_s = 0.0
        """Since when."""
        self.ended = False
        self.waiting = False
        """It would be live, but for what is kept back: somebody may join by that."""
        self.received = 0
        """The number of the last message."""
        self.taken = 0
        """Frames that came…"""
        self.seen = 0
        """…and those that were dealt with."""
        self._settings = settings
        self._counters = counters
        self._now_s = now_s
        # In the order in which it is to be said; only the last word on a stream counts.
        self._changes: dict[str, bool] = dict.fromkeys(wanted, True)
        self._number = 0
        self._ask = True
        """Whether a change is to be said though nothing changes, for its confirmation."""
        self.first = self._target()
        """The change that says all that was wanted at the beginning, and what was joined since by what the log brought."""
        self._confirmed = 0
        self._probe = 0
        self._probed_s = -math.inf
        self._probes: deque[tuple[int, float]] = deque(maxlen=PROBES_MAX)
        self._hints: deque[pb.Hint] = deque()
        self._wake = asyncio.Event()
        self._wake.set()
        self._progress = asyncio.Event()

    def change(self, stream: str, wanted: bool) -> None:
        """Say that the stream is wanted, or no longer."""
        self._changes[stream] = wanted
        self._wake.set()

    def change_first(self, stream: str) -> None:
        """Say that it is wanted, and be not live before that is confirmed: nobody waits for it otherwise."""
        self.change(stream, True)
        if not self.live:
            self.first = max(self.first, self._target())

    def hint(self, hint: pb.Hint) -> None:
        """Tell it, or lose it."""
        if len(self._hints) >= self._settings.queue_hints:
            self._counters.hints_lost += 1
        else:
            self._hints.append(hint)
            self._wake.set()

    def _target(self) -> int:
        """The number of the message that says the last of the changes."""
        return self._number + max(int(self._ask), -(-len(self._changes) // self._settings.message_streams))

    def ask_again(self) -> None:
        """Nothing is kept back any more: have the positions said anew, and be live behind them."""
        self.waiting = False
        self._ask = True
        self.first = max(self.first, self._target())
        self._wake.set()

    async def settled(self) -> None:
        """Wait until all changes so far are in force, or the stream has ended."""
        target = max(self._target(), self.first)
        while not self.ended and (self._confirmed < target or not self.live):
            self._progress.clear()
            await self._progress.wait()

    def confirmed(self, number: int) -> None:
        """The pusher says so."""
        self._confirmed = max(self._confirmed, number)
        self._progress.set()

    def went_live(self) -> None:
        """Everything that lay before was read."""
        self.live, self.live_s = True, self._now_s()
        self._progress.set()

    def end(self) -> None:
        """The stream broke. Idempotent."""
        self.live = False
        self.ended = True
        self._progress.set()
        self._wake.set()

    def echoed(self, probe: int) -> float | None:
        """When the probe was sent; None for one that is not remembered."""
        while self._probes and self._probes[0][0] <= probe:
            number, sent_s = self._probes.popleft()
            if number == probe:
                return sent_s
        return None

    async def woken(self) -> None:
        """Wait until something may leave; a probe is due after a while anyhow."""
        try:
            async with asyncio.timeout(self._settings.probe_ms / 1_000):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def message(self) -> pb.ToPusher | None:
        """The next message, None when nothing waits or the stream has ended."""
        if self.ended:
            return None
        now_s = self._now_s()
        probe_due = now_s - self._probed_s >= self._settings.probe_ms / 1_000
        if not self._changes and not self._hints and not probe_due and not self._ask:
            return None
        message = pb.ToPusher(version=VERSION, seen=self.seen)
        if self._changes or self._ask:
            self._ask = False
            self._number += 1
            message.number = self._number
            for stream in tuple(self._changes)[: self._settings.message_streams]:
                (message.want if self._changes.pop(stream) else message.unwant).append(stream)
        if probe_due:
            self._probed_s = now_s
            self._probe += 1
            self._probes.append((self._probe, now_s))
            message.probe = self._probe
        message.hints.extend(self._hints)
        self._hints.clear()
        return message
