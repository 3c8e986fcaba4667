"""The hot aggregates of a node: loaded from the record on first touch, bounded, evicted when idle."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from commands.order import Hot
from commands.settings import NodeSettings
from domain.aggregates import AGGREGATES, State, restore, snapshot_parts
from domain.errors import Problem
from domain.streams import StreamKind, kind_of, shard_of
from eventlog.codec import EventCodec
from eventlog.port import READ_COMMITS_MAX, Log
from eventlog.record import Commit
from eventlog.snapshots import Snapshots

_WEIGHED_EVERY = 256
KEPT_SHARE = 0.9
"""What is kept when the set is over one of its bounds."""


class HotSet:
    """Aggregates by stream name, least recently used first."""

    def __init__(
        self, log: Log, codec: EventCodec, snapshots: Snapshots | None, settings: NodeSettings
    ) -> None:
        self._log = log
        self._codec = codec
        self._snapshots = snapshots
        self._settings = settings
        self._by_stream: OrderedDict[str, Hot] = OrderedDict()
        self._touches = 0

    def __len__(self) -> int:
        return len(self._by_stream)

    def get(self, stream: str) -> Hot:
        """The aggregate, perhaps not loaded yet. Raises Problem(`not_found`) for a name of no known kind."""
        hot = self._by_stream.get(stream)
        if hot is None:
            kind = kind_of(stream)
            if kind is None or kind not in AGGREGATES or kind in (StreamKind.SHARD, StreamKind.CLUSTER):
                raise Problem("not_found", "there is no such conversation")
            hot = Hot(stream, shard_of(stream, self._log.shard_count), AGGREGATES[kind])
            self._by_stream[stream] = hot
        else:
            self._by_stream.move_to_end(stream)
        return hot

    def all(self) -> Iterator[Hot]:
        """Every hot aggregate."""
        return iter(tuple(self._by_stream.values()))

    def of_shard(self, shard: int) -> Iterator[Hot]:
        """Every hot aggregate of a shard."""
        return (hot for hot in self.all() if hot.shard == shard)

    def forget(self, hot: Hot) -> None:
        """Drop an aggregate; the next touch loads it from the record."""
        if self._by_stream.get(hot.stream) is hot:
            del self._by_stream[hot.stream]

    async def load(self, hot: Hot) -> None:
        """Fold the stream from its snapshot, or from the start, page by page.

        Raises UnknownEventError for a stream that this code cannot read, LogUnavailableError. A cancelled load leaves `hot` unloaded.
        """
        state: State = hot.aggregate.initial(hot.stream)
        restored = await self._restored(hot)
        if restored is not None:
            state = restored
            hot.snapshot_version = state.version
        keys: dict[bytes, int] = {}
        complete = restored is None
        while True:
            page = await self._log.read_stream(hot.shard, hot.stream, state.version, READ_COMMITS_MAX)
            for commit in page:
                state = self._folded(hot, state, commit)
                keys[commit.key] = commit.position
            if len(keys) > self._settings.hot_keys:
                complete = False
                keys = dict(list(keys.items())[-self._settings.hot_keys :])
            if len(page) < READ_COMMITS_MAX:
                break
        if hot.loaded:
            return  # Another load of the same stream was faster, and orders may have been decided on it since.
        hot.durable = hot.tentative = state
        hot.keys = keys
        hot.keys_complete = complete
        hot.loaded = True

    def _folded(self, hot: Hot, state: State, commit: Commit) -> State:
        for row in self._codec.decode(commit).events:
            if row.version > state.version:
                state = hot.aggregate.evolve(state, row.event)
        return state

    async def _restored(self, hot: Hot) -> State | None:
        if self._snapshots is None:
            return None
        snapshot = await self._snapshots.load(hot.stream)
        if snapshot is None:
            return None
        kind = kind_of(hot.stream)
        return None if kind is None else restore(kind, snapshot.schema, snapshot.parts)

    async def trim(self) -> None:
        """Evict idle aggregates beyond the bounds, oldest first, with a snapshot of those that grew."""
        for hot in self._surplus():
            if hot.idle:  # An order may have reached it while another one's snapshot was written.
                self.forget(hot)
                await self._snapshot(hot)

    @property
    def over(self) -> bool:
        """Whether `trim` has something to do; the weight is looked at every 256 calls, since summing it is O(n)."""
        self._touches += 1
        if len(self._by_stream) > self._settings.hot_aggregates:
            return True
        return self._touches % _WEIGHED_EVERY == 0 and self._weight() > self._settings.hot_weight

    def _weight(self) -> int:
        return sum(hot.durable.weight for hot in self._by_stream.values())

    def _surplus(self) -> list[Hot]:
        """Down to a tenth below the bounds: summing and walking are O(n), and at the bound itself each load would pay for it.

        An import of 17,000 people spent half of its time there.
        """
        count = len(self._by_stream) - int(self._settings.hot_aggregates * KEPT_SHARE)
        weight = self._weight() - int(self._settings.hot_weight * KEPT_SHARE)
        surplus: list[Hot] = []
        for hot in self._by_stream.values():
            if count <= 0 and weight <= 0:
                break
            if hot.idle:
                surplus.append(hot)
                count -= 1
                weight -= hot.durable.weight
        return surplus

    async def _snapshot(self, hot: Hot) -> None:
        state = hot.durable
        if self._snapshots is None or state.version - hot.snapshot_version < self._settings.snapshot_events:
            return
        kind = kind_of(hot.stream)
        if kind is None:
            return
        schema, parts = snapshot_parts(kind, state)
        position = max(hot.keys.values(), default=0)
        await self._snapshots.save(hot.stream, state.version, position, schema, parts)

    async def snapshot_all(self) -> None:
        """Snapshot every idle aggregate that grew enough; at shutdown."""
        for hot in tuple(self._by_stream.values()):
            if hot.idle:
                await self._snapshot(hot)
