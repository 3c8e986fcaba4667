"""What a runner has received of the record and not applied yet, of the shards that it has."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from eventlog.received import Received


class Intake:
    """Plain state. `shards`: those that are taken, None for all and for ever."""

    def __init__(self, shards: Collection[int] | None, queue_commits_max: int) -> None:
        self.shards = None if shards is None else set(shards)
        self._queue_commits_max = queue_commits_max
        self.queue: list[Received] = []
        self.lazy: list[Received] = []
        """Applied to the prompt projections, not to the lazy ones."""
        self.received: dict[int, int] = {}
        """The newest position of each shard that is applied or queued."""
        self.seen: dict[int, int] = {}
        """The newest position of each shard that the bus or the log told of."""
        self.behind: set[int] = set()
        """Shards with something in the log that is not queued."""

    def owns(self, shard: int) -> bool:
        """Whether it takes that shard."""
        return self.shards is None or shard in self.shards

    def own(self, positions: Mapping[int, int]) -> dict[int, int]:
        """Those of its shards."""
        return {shard: position for shard, position in positions.items() if self.owns(shard)}

    def owned_of(self, batch: list[Received]) -> list[Received]:
        """What of a batch is of its shards, mostly all."""
        shards = self.shards
        if shards is None or all(one.commit.shard in shards for one in batch):
            return batch
        return [one for one in batch if one.commit.shard in shards]

    def follow(self, batch: Sequence[Received]) -> None:
        """Queue what comes next; the rest is in the log."""
        received, shards = self.received, self.shards
        for one in batch:
            commit = one.commit
            shard, position = commit.shard, commit.position
            last = received.get(shard, 0)
            if position <= last or (shards is not None and shard not in shards):
                continue
            self.seen[shard] = max(position, self.seen.get(shard, 0))
            if (
                position == last + 1
                and shard not in self.behind
                and len(self.queue) < self._queue_commits_max
            ):
                self.queue.append(one)
                received[shard] = position
            else:
                self.behind.add(shard)

    def note_heads(self, heads: Mapping[int, int]) -> None:
        """Where the log's shards end."""
        for shard, position in self.own(heads).items():
            self.seen[shard] = max(position, self.seen.get(shard, 0))
        self.look_for(heads)

    def look_for(self, positions: Mapping[int, int]) -> None:
        """These may be in the log, though nobody told of them yet."""
        for shard, position in self.own(positions).items():
            if position > self.received.get(shard, 0):
                self.behind.add(shard)

    def read(self, shard: int, position: int) -> None:
        """So far it was read from the log."""
        self.received[shard] = position
        self.seen[shard] = max(position, self.seen.get(shard, 0))

    def gain(self, shards: Collection[int], positions: Mapping[int, int]) -> None:
        """Take these too, behind the positions."""
        assert self.shards is not None
        self.shards.update(shards)
        for shard in shards:
            self.received[shard] = positions.get(shard, 0)

    def lose(self, shards: Collection[int]) -> None:
        """Take these no longer, and drop what waits of them."""
        assert self.shards is not None
        self.shards.difference_update(shards)
        self.queue = self.owned_of(self.queue)
        self.lazy = self.owned_of(self.lazy)
        self.behind.difference_update(shards)
        for shard in shards:
            self.received.pop(shard, None)
            self.seen.pop(shard, None)

    def start_over(self, positions: Mapping[int, int]) -> None:
        """Drop all that waits: it is read from the log again, behind the positions."""
        self.queue.clear()
        self.lazy.clear()
        shards = positions if self.shards is None else self.shards
        self.received = {shard: positions.get(shard, 0) for shard in shards}
        self.behind.update(self.seen)
