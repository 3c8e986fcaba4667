"""The pusher's table: which gateway wants which streams, and what of the record goes to whom. Plain calls on the loop, no waiting.

It lives in memory and dies with the process; gateways say again what they want to whichever pusher they reach next.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from domain.streams import qualified, user_stream
from eventlog.record import Committed
from gateways.push.concern import Concern, concern_of
from gateways.push.counters import PusherCounters
from gateways.push.outbox import Outbox
from gateways.rpc.generated import push_pb2 as pb


class Exchange:
    """Follows the bus of everybody's commits. `positions` must be those behind which the bus goes on."""

    def __init__(self, positions: Mapping[int, int], counters: PusherCounters | None = None) -> None:
        self.counters = counters or PusherCounters()
        self._positions = dict(positions)
        self._by_stream: dict[str, dict[Outbox, None]] = {}
        self._outboxes: dict[Outbox, None] = {}

    @property
    def positions(self) -> Mapping[int, int]:
        """{shard: position} up to which everything was routed."""
        return self._positions

    @property
    def gateways(self) -> Mapping[str, int]:
        """How many streams each gateway wants."""
        wanted: dict[str, int] = {}
        for outbox in self._outboxes:
            wanted[outbox.node] = wanted.get(outbox.node, 0) + len(outbox.streams)
        return wanted

    @property
    def waiting(self) -> int:
        """Commits that wait for all gateways."""
        return sum(map(len, self._outboxes))

    # --- gateways ----------------------------------------------------------------------------------------------------------------

    def enter(self, outbox: Outbox) -> None:
        """A gateway is there; it wants nothing yet."""
        self._outboxes[outbox] = None

    def leave(self, outbox: Outbox) -> None:
        """It is gone. Idempotent."""
        self._outboxes.pop(outbox, None)
        outbox.joined.clear()  # Frames that did not fit any more brought joins too.
        self.unwant(outbox, tuple(outbox.streams), outbox.frames)

    def want(self, outbox: Outbox, streams: Iterable[str]) -> None:
        """From now on its commits go there too. Idempotent."""
        for stream in streams:
            outbox.streams.add(stream)
            self._by_stream.setdefault(stream, {})[outbox] = None

    def unwant(self, outbox: Outbox, streams: Iterable[str], seen: int) -> None:
        """They do no longer, unless somebody joined by a frame behind the first `seen`. Idempotent."""
        for stream in streams:
            if outbox.joined.get(stream, 0) > seen:
                continue
            outbox.joined.pop(stream, None)
            outbox.streams.discard(stream)
            wanting = self._by_stream.get(stream)
            if wanting is not None:
                wanting.pop(outbox, None)
                if not wanting:
                    del self._by_stream[stream]

    def confirm(self, outbox: Outbox, number: int) -> None:
        """Tell that its changes up to this one are in force."""
        outbox.confirm(number, self._positions)

    # --- what is routed ----------------------------------------------------------------------------------------------------------

    def follow(self, batch: Sequence[Committed]) -> None:
        """Route a run of commits, each shard's in position order and without a gap."""
        self.counters.commits += len(batch)
        reached = {committed.commit.shard: committed.commit.position for committed in batch}
        self._positions.update(reached)
        if not self._outboxes:
            return
        for committed in batch:
            concern = concern_of(committed)
            receivers = self._receivers(concern)
            self.counters.routed += len(receivers)
            for outbox in receivers:
                outbox.put(committed.commit.frame)
        for outbox in self._outboxes:
            outbox.moved(reached)

    def _receivers(self, concern: Concern) -> Collection[Outbox]:
        by_stream = self._by_stream
        stream = concern.streams[0]
        # Whoever joins wants the rest of the conversation at once: a gateway that says so itself could say it too late.
        for name in concern.joining:
            for outbox in by_stream.get(name, ()):
                self.want(outbox, (stream,))
                outbox.joined[stream] = outbox.frames + 1
        if len(concern.streams) == 1:
            return by_stream.get(stream, ())
        found: dict[Outbox, None] = {}
        for name in concern.streams:
            found.update(by_stream.get(name, {}))
        return found

    def hint(self, origin: Outbox, hint: pb.Hint) -> None:
        """Tell the other gateways that want the conversation, or the user's own streams."""
        self.counters.hints += 1
        found: dict[Outbox, None] = {}
        if not hint.own:
            found.update(self._by_stream.get(qualified(hint.tenant, hint.conversation_id), {}))
        if hint.WhichOneof("kind") == "received":
            found.update(self._by_stream.get(user_stream(hint.tenant, hint.user_id), {}))
        found.pop(origin, None)
        for outbox in found:
            outbox.hint(hint)
