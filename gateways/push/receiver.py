"""The gateway's side of pushing: what is wanted here comes by a pusher, and while there is none, or it lost something, from the log."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog
from typing_extensions import override

from commands.tasks import TaskOwner
from domain.errors import Problem
from eventlog.codec import EventCodec
from eventlog.port import Log
from eventlog.record import Committed
from eventlog.tail import LogTail, TooFarBehindError
from gateways.push.concern import concern_of
from gateways.push.counters import ReceiverCounters
from gateways.push.coverage import Coverage, TakeHeads
from gateways.push.hints import packed_hint, routed_hint
from gateways.push.settings import PushSettings
from gateways.push.upstream import Upstream
from gateways.push.wants import Wants
from gateways.routes import STALE, Heard, RoutedHint, Routes
from gateways.rpc.generated import push_pb2 as pb

_log = structlog.get_logger(__name__)
TICK_MS_MIN = 20.0


class BrokenStreamError(Exception):
    """The pusher says what cannot be; the stream is made anew."""


class Lines(Protocol):
    """How streams to pushers are made."""

    async def talk(self, receiver: Receiver) -> None:
        """Reach a pusher and bring messages there and back until the stream breaks. Raises nothing but cancellation."""
        ...


def _nobody_hears(hint: RoutedHint) -> None:
    """Nobody wants to know yet."""


def _nobody_goes() -> None:
    """Nobody is here yet."""


class Receiver(Routes):
    """One per gateway. `start`, then `close`. `heads` is where the log ended before anything was read here; `publish` gets what is wanted.

    `lost` is called when the gateway was so far behind that it left something out: whoever caches or delivers must begin anew.
    """

    def __init__(
        self,
        *,
        log: Log,
        codec: EventCodec,
        heads: Mapping[int, int],
        publish: Callable[[Sequence[Committed]], None],
        take_heads: TakeHeads,
        lines: Lines | None,
        settings: PushSettings,
        now_s: Callable[[], float],
    ) -> None:
        self.counters = ReceiverCounters()
        self.lost: Callable[[], None] = _nobody_goes
        self.problem: str | None = None
        """Why the log could not be looked at."""
        self._settings = settings
        self._now_s = now_s
        self._lines = lines
        self._heard: Heard = _nobody_hears
        self._wants = Wants(self._change, now_s, settings)
        self._publish_on = publish
        self._publishing = False
        self._coverage = Coverage(
            positions=heads,
            codec=codec,
            wanted=self._wants,
            publish=self._publish,
            take_heads=take_heads,
            holding=lambda: self.stale,
            counters=self.counters,
            held_max=settings.held_max,
        )
        self._tail = LogTail(
            log,
            lambda: self._coverage.positions,
            self._coverage.take_commits,
            now_s,
            behind_max=settings.behind_max,
        )
        self._turn = asyncio.Lock()
        """Held while the log is read."""
        self._upstream: Upstream | None = None
        self._echoed_s = -math.inf
        self._looked_s = -math.inf
        self._hurry = asyncio.Event()
        self._began_s = now_s()
        self._tasks = TaskOwner("receiver", 2)

    def start(self) -> None:
        """Begin to look for a pusher, and to look at the log."""
        if self._lines is not None:
            self._tasks.start(self._talk_for_ever(self._lines))
        self._tasks.start(self._look_for_ever())

    async def close(self) -> None:
        """Hang up. Idempotent."""
        await self._tasks.close()

    # --- the port ----------------------------------------------------------------------------------------------------------------

    @override
    def want(self, stream: str) -> None:
        self._wants.want(stream)

    @override
    def unwant(self, stream: str) -> None:
        self._wants.unwant(stream)

    @override
    async def settled(self) -> Mapping[int, int]:
        if self.stale:
            raise STALE
        upstream = self._upstream
        if upstream is not None:
            try:
                async with asyncio.timeout(self._settings.settle_s):
                    await upstream.settled()
            except TimeoutError:
                raise Problem(
                    "unavailable", "what you listen to is not routed yet", retry_after_ms=250
                ) from None
        # Without a stream: everything behind this is looked for in the log.
        return dict(self._coverage.positions)

    @property
    @override
    def stale(self) -> bool:
        before_s = self._now_s() - self._settings.silence_s
        return max(self._echoed_s, self._began_s) < before_s and self._tail.proven_s() < before_s

    @override
    def proven_s(self) -> float:
        return max(self._echoed_s, self._tail.proven_s())

    @override
    def tell(self, hint: RoutedHint) -> None:
        if self._upstream is not None:
            self._upstream.hint(packed_hint(hint))
        else:
            self.counters.hints_lost += 1

    @override
    def hear(self, heard: Heard) -> None:
        self._heard = heard

    def age_s(self) -> float:
        """For how long something may have been missed."""
        return self._now_s() - max(self.proven_s(), self._began_s)

    @property
    def wanted(self) -> int:
        """Streams that come here."""
        return len(self._wants)

    @property
    def live(self) -> bool:
        """Whether a pusher is what this gateway goes by."""
        return self._upstream is not None and self._upstream.live

    @property
    def positions(self) -> Mapping[int, int]:
        """{shard: position} of what came."""
        return self._coverage.positions

    @property
    def refills(self) -> tuple[int, int]:
        """(times that the log was read, commits of that)."""
        return self._tail.refills, self._tail.refilled

    def _change(self, stream: str, wanted: bool) -> None:
        if self._upstream is None:
            return
        if wanted and self._publishing:
            self._upstream.change_first(stream)
        else:
            self._upstream.change(stream, wanted)

    def _publish(self, batch: Sequence[Committed]) -> None:
        """What is wanted in the course of this was joined."""
        self._publishing = True
        try:
            self._publish_on(batch)
        finally:
            self._publishing = False

    # --- a stream ----------------------------------------------------------------------------------------------------------------

    def opened(self) -> Upstream:
        """A stream to a pusher begins; what was before it is over."""
        self._upstream = Upstream(self._wants, self._settings, self.counters, self._now_s)
        self.counters.links += 1
        return self._upstream

    def broken(self, upstream: Upstream) -> None:
        """It ended. What is wanted comes from the log from now on. Idempotent."""
        if self._upstream is upstream:
            self._upstream = None
            self.counters.broken += 1
            self._hurry.set()
        upstream.end()

    async def take(self, upstream: Upstream, message: pb.ToGateway) -> None:
        """What the pusher says, one message after the other. Raises BrokenStreamError, and what the log raises."""
        if upstream.ended:
            raise BrokenStreamError("it was given up already")  # Nothing wanted since was said there.
        upstream.received += 1
        self.counters.messages += 1
        if message.number != upstream.received:
            raise BrokenStreamError(f"message {message.number} follows {upstream.received - 1}")
        for hint in message.hints:
            self._heard(routed_hint(hint))
        upstream.taken += len(message.frames)
        if not upstream.live:
            await self._begin(upstream, message)
            return
        if message.frames:
            self._take_frames(upstream, message.frames)
            self._dealt_with(upstream)
        self._coverage.reach(message.reached)
        if message.confirmed:
            upstream.confirmed(message.confirmed)
        self._take_echo(upstream, message)

    async def _begin(self, upstream: Upstream, message: pb.ToGateway) -> None:
        """Until everything is confirmed, and what lies before that is read, what comes is of no use: the log brings it."""
        if message.confirmed < upstream.first:
            return
        async with self._turn:
            try:
                await self._tail.read(message.reached)
            except TooFarBehindError as error:
                self._jump(error)
            held = self._coverage.positions
            if any(held.get(shard, 0) < position for shard, position in message.reached.items()):
                # A log under a new primary may lack for a moment what is durable; or more came than may be kept back.
                raise BrokenStreamError("the log does not show yet what the pusher has")
        upstream.confirmed(message.confirmed)
        if message.confirmed < upstream.first:
            return  # Somebody joined by what was read.
        if self._coverage.holds_back:
            upstream.waiting = True
            return
        upstream.went_live()
        self._dealt_with(upstream)

    def _dealt_with(self, upstream: Upstream) -> None:
        """Whoever joined by what came listens by now, unless it is kept back."""
        if upstream.live and not self._coverage.holds_back:
            upstream.seen = upstream.taken

    def _take_frames(self, upstream: Upstream, frames: Sequence[bytes]) -> None:
        for committed in self._coverage.take_frames(frames):
            stream = committed.commit.stream
            # The pusher took it for wanted when somebody joined, who has gone meanwhile.
            if stream not in self._wants and concern_of(committed).joining:
                upstream.change(stream, False)
        if self._coverage.held_too_much:
            raise BrokenStreamError("more came than may be kept back")

    def _take_echo(self, upstream: Upstream, message: pb.ToGateway) -> None:
        if not message.HasField("echo"):
            return
        sent_s = upstream.echoed(message.echo.probe)
        if sent_s is not None:
            self._echoed_s = max(self._echoed_s, sent_s - message.echo.age_ms / 1_000)
            self._release()

    def _release(self) -> None:
        if self.stale:
            return
        self._coverage.release()
        upstream = self._upstream
        if upstream is not None:
            self._dealt_with(upstream)
            if upstream.waiting:
                upstream.ask_again()

    async def _talk_for_ever(self, lines: Lines) -> None:
        while True:
            await lines.talk(self)

    # --- the log -----------------------------------------------------------------------------------------------------------------

    async def _look_for_ever(self) -> None:
        while True:
            self._wants.sweep()
            if self._upstream is not None and self._mute(self._upstream):
                self.broken(self._upstream)
            period_ms = self._settings.compare_ms if self._trusted else self._settings.look_ms
            if self._now_s() - self._looked_s >= period_ms / 1_000 or self._hurry.is_set():
                self._hurry.clear()
                await self.look()
            try:
                async with asyncio.timeout(max(self._settings.look_ms, TICK_MS_MIN) / 1_000):
                    await self._hurry.wait()
            except TimeoutError:
                continue

    @property
    def _trusted(self) -> bool:
        """Whether a pusher is there that has everything itself."""
        return self.live and self._now_s() - self._echoed_s <= self._settings.silence_s / 2

    def _mute(self, upstream: Upstream) -> bool:
        """Whether the pusher does not answer, or has itself lost sight of the record: another one may be better."""
        since_s = max(self._echoed_s, upstream.live_s)
        # Twice as long as until this gateway is stale and reads the log: with too little of a machine for all, starting over helps nobody.
        return upstream.live and self._now_s() - since_s > 2 * self._settings.silence_s

    async def look(self) -> None:
        """Look at the log once: for everything while no pusher is there, else for what it lost. Raises nothing of the log's."""
        self._looked_s = self._now_s()
        async with self._turn:
            try:
                await self._tail.look(patient=self._trusted)
                if self._coverage.held_too_much:
                    self._jump(TooFarBehindError(self._tail.heads, self._settings.held_max))
                self.problem = None
            except TooFarBehindError as error:
                self._jump(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again; after a while the gateway is stale
                if self.problem is None:
                    _log.warning("the log cannot be looked at", error=f"{type(error).__name__}: {error}")
                self.problem = type(error).__name__
        self._release()

    def _jump(self, error: TooFarBehindError) -> None:
        """Leave out what lies between: sockets come back and are told by the views, sessions are looked up again."""
        _log.warning("this gateway is too far behind; its sockets are to come back", reason=str(error))
        self.counters.jumps += 1
        self._coverage.jump(error.heads)
        self.lost()
