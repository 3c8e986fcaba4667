"""How far a gateway has come in each shard, and the one door through which commits reach its sessions and sockets: once each, in order,
whoever brought them.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence

import structlog

from domain.streams import StreamKind, kind_of
from eventlog.codec import EventCodec, decode_frame
from eventlog.record import Commit, Committed
from eventlog.registry import UnknownEventError
from gateways.push.concern import ROUTING_TYPES, Sieve, concern_of
from gateways.push.counters import ReceiverCounters

_log = structlog.get_logger(__name__)
Publish = Callable[[Sequence[Committed]], None]
TakeHeads = Callable[[Mapping[int, int]], None]
Place = tuple[int, int]
"""(shard, position)"""


class Coverage:
    """`publish` gets non-empty runs of commits; `take_heads` is told first how far readers must have come. `holding`: whether nothing may
    be delivered now.
    """

    def __init__(
        self,
        *,
        positions: Mapping[int, int],
        codec: EventCodec,
        wanted: Container[str],
        publish: Publish,
        take_heads: TakeHeads,
        holding: Callable[[], bool],
        counters: ReceiverCounters,
        held_max: int,
    ) -> None:
        self._positions = dict(positions)
        self._codec = codec
        self._wanted = wanted
        self._publish = publish
        self._take_heads = take_heads
        self._holding = holding
        self._counters = counters
        self._held_max = held_max
        self._held: list[Committed] = []
        self._sieve = Sieve(wanted)
        """Of what is not handed on yet: joins in that count already."""
        self.held_too_much = False
        """Something was thrown away that may not be delivered yet: it must be read from the log later."""
        take_heads(self._positions)

    @property
    def positions(self) -> Mapping[int, int]:
        """{shard: position}: everything up to there that is wanted here was delivered, or is kept back."""
        return self._positions

    @property
    def holds_back(self) -> bool:
        """Whether something waits that may not be delivered yet."""
        return bool(self._held)

    def jump(self, positions: Mapping[int, int]) -> None:
        """Leave out what lies between; nobody here needs it any more."""
        self._held.clear()
        self._sieve = Sieve(self._wanted)
        self.held_too_much = False
        self.reach(positions)

    def reach(self, positions: Mapping[int, int]) -> None:
        """Nothing more that is wanted lies up to there."""
        held = self._positions
        risen = {shard: position for shard, position in positions.items() if position > held.get(shard, 0)}
        if risen:
            held.update(risen)
            self._take_heads(risen)

    def take_frames(self, frames: Sequence[bytes]) -> Sequence[Committed]:
        """What a pusher sent: it has chosen already. Returns what came, new or not."""
        came: list[Committed] = []
        fresh: list[Committed] = []
        reached: dict[int, int] = {}
        for frame in frames:
            committed, (shard, position) = self._opened(frame)
            self._counters.received += 1
            if committed is not None:
                came.append(committed)
            if position <= reached.get(shard, self._positions.get(shard, 0)):
                self._counters.repeated += 1
                continue
            reached[shard] = position
            if committed is not None and not self._is_given_up(committed.commit.stream):
                fresh.append(committed)
        self._deliver(fresh, reached)
        return came

    def take_commits(self, commits: Sequence[Commit]) -> None:
        """What was read from the log: consecutive commits of one shard, of which only some concern anybody here."""
        fresh: list[Committed] = []
        reached: dict[int, int] = {}
        for commit in commits:
            if commit.position <= reached.get(commit.shard, self._positions.get(commit.shard, 0)):
                continue
            reached[commit.shard] = commit.position
            committed = self._chosen(commit)
            if committed is not None:
                fresh.append(committed)
        self._deliver(fresh, reached)

    def _chosen(self, commit: Commit) -> Committed | None:
        if self._is_given_up(commit.stream):
            return None  # Most of a log that is none of ours is left out without being read.
        try:
            if not self._sieve.passes(concern_of(self._codec.decode(commit, ROUTING_TYPES))):
                return None
            return self._codec.decode(commit)
        except UnknownEventError as error:
            self._undecodable(commit.shard, commit.position, error)
            return None

    def _is_given_up(self, stream: str) -> bool:
        """Whether it is an account that nobody here wants: what its last frames open, nobody would hear the end of."""
        return stream not in self._wanted and kind_of(stream) is StreamKind.USER

    def _opened(self, frame: bytes) -> tuple[Committed | None, Place]:
        try:
            committed = self._codec.open_frame(frame)
        except UnknownEventError as error:
            stored = decode_frame(frame)
            self._undecodable(stored.shard, stored.position, error)
            return None, (stored.shard, stored.position)
        return committed, (committed.commit.shard, committed.commit.position)

    def _undecodable(self, shard: int, position: int, error: UnknownEventError) -> None:
        self._counters.undecodable += 1
        _log.error("a commit cannot be read", shard=shard, position=position, error=str(error))

    def _deliver(self, fresh: list[Committed], reached: Mapping[int, int]) -> None:
        if self._holding():
            if self.held_too_much or len(self._held) + len(fresh) > self._held_max:
                self.held_too_much = True  # Positions stay, so that the log brings it again.
                return
            self._held += fresh
            for committed in fresh:
                # Also of what a pusher sent: nobody listens yet to what was joined by it, but the log may bring what follows.
                self._sieve.passes(concern_of(committed))
            self.reach(reached)
            return
        self.release()
        self.reach(reached)
        if fresh:
            self._counters.delivered += len(fresh)
            self._publish(fresh)
        self._sieve = Sieve(self._wanted)

    def release(self) -> None:
        """Deliver what was kept back, as one run."""
        held, self._held = self._held, []
        if held:
            self._counters.delivered += len(held)
            self._publish(held)
            self._sieve = Sieve(self._wanted)
