"""Which node owns which shard: what the router goes by. The log decides who really is; a map only says whom to ask first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
from typing_extensions import override

from domain.errors import Problem


class NotOwner(Problem):
    """This node does not own the shard: nothing was done, ask `owner` (None: unknown) that opened it under `epoch`.

    To whoever does not route it is what it says: `unavailable`.
    """

    def __init__(
        self,
        shard: int,
        owner: str | None = None,
        epoch: int = 0,
        *,
        detail: str = "this shard has moved to another server; try again",
        retry_after_ms: int = 500,
    ) -> None:
        super().__init__("unavailable", detail, retry_after_ms=retry_after_ms)
        self.shard = shard
        self.owner = owner
        self.epoch = epoch


class OwnershipError(ValueError):
    """A map that leaves a shard to nobody or to two nodes; the text says which."""


class NodeShards(msgspec.Struct, frozen=True):
    """One row of a static map: a node, where it listens (`host:port`), and its shards, as numbers and ranges (`0-15, 20`)."""

    node: str
    address: str
    shards: str


class Place(msgspec.Struct, frozen=True):
    """The owner of one shard. Epoch 0: nobody has said under which epoch it was opened."""

    node: str
    address: str
    epoch: int = 0


class Ownership(msgspec.Struct, frozen=True):
    """One state of the map: `places[shard]`. A later state has a higher version."""

    version: int
    places: tuple[Place, ...]

    def of(self, shard: int) -> Place:
        """Who is to be asked for the shard."""
        return self.places[shard]

    def shards_of(self, node: str) -> tuple[int, ...]:
        """The shards of a node, ascending."""
        return tuple(shard for shard, place in enumerate(self.places) if place.node == node)

    def moved(self, shard: int, place: Place) -> Ownership:
        """The next state, in which the shard lies there."""
        places = (*self.places[:shard], place, *self.places[shard + 1 :])
        return Ownership(self.version + 1, places)


class OwnershipMap(Protocol):
    """Where the router looks owners up, and hands in what it finds out. Static for now; the arbiter's log is to feed one."""

    def current(self) -> Ownership:
        """The newest known state; never waits."""
        ...

    async def refresh(self) -> Ownership:
        """Look for a newer state at the source. Returns the newest known one, also when the source is away; raises nothing."""
        ...

    def told(self, refusal: NotOwner) -> None:
        """A node says that it is not the owner, and who is."""
        ...

    def unreachable(self, shard: int, node: str) -> None:
        """The node that the map names cannot be reached."""
        ...


def shard_numbers(text: str, shard_count: int) -> tuple[int, ...]:
    """`0-15, 20` as numbers; nothing but blanks: none, for a node in reserve. Raises OwnershipError."""
    numbers: list[int] = []
    if not text.strip():
        return ()
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        if not part.isascii() or not first.isdecimal() or (dash and not last.isdecimal()):
            raise OwnershipError(f"shards are written as 0-15 or 3,7; {part.strip()[:40]!r} is neither")
        start, end = int(first), int(last or first)
        if not start <= end < shard_count:
            raise OwnershipError(f"{part.strip()[:40]}: shards go from 0 to {shard_count - 1}")
        numbers += range(start, end + 1)
    return tuple(numbers)


def ownership_of(rows: Sequence[NodeShards], shard_count: int, version: int = 1) -> Ownership:
    """The map that the rows describe. Raises OwnershipError unless every shard has exactly one node, and every node one address."""
    places: dict[int, Place] = {}
    addresses: dict[str, str] = {}
    for row in rows:
        if not row.node or not row.address:
            raise OwnershipError("every owner needs a node id and an address")
        if addresses.setdefault(row.node, row.address) != row.address:
            raise OwnershipError(f"node {row.node} has two addresses")
        for shard in shard_numbers(row.shards, shard_count):
            if shard in places:
                raise OwnershipError(f"shard {shard} is given to {places[shard].node} and to {row.node}")
            places[shard] = Place(row.node, row.address)
    missing = [shard for shard in range(shard_count) if shard not in places]
    if missing:
        raise OwnershipError(f"nobody owns shard {missing[0]}" + (" and others" if len(missing) > 1 else ""))
    return Ownership(version, tuple(places[shard] for shard in range(shard_count)))


class StaticOwnership(OwnershipMap):
    """A map from settings, corrected by what owners say of each other.

    What a node tells of a higher epoch wins over the settings until that node cannot be reached: a takeover is in the log, and a
    file does not know of it. `read` gives the rows anew (from a file, say); rows that are wrong leave the map as it is.
    """

    def __init__(self, read: Callable[[], Sequence[NodeShards]], shard_count: int) -> None:
        self._read = read
        self._shard_count = shard_count
        rows = read()
        self._settled = self._current = ownership_of(rows, shard_count)
        self._addresses = {row.node: row.address for row in rows}
        self._epochs: dict[int, int] = {}
        self.problem: str | None = None
        """What was wrong with the rows at the last refresh."""

    @override
    def current(self) -> Ownership:
        return self._current

    @override
    async def refresh(self) -> Ownership:
        try:
            rows = self._read()
            settled = ownership_of(rows, self._shard_count)
        except (OwnershipError, OSError) as error:
            self.problem = str(error)
            return self._current
        self.problem = None
        self._addresses |= {row.node: row.address for row in rows}
        if settled.places != self._settled.places:
            self._take(settled)
        return self._current

    def _take(self, settled: Ownership) -> None:
        """New rows: shards that are given to the same node as before stay where they were told to be."""
        told = self._current.places
        places = [
            told[shard] if place.node == self._settled.places[shard].node else place
            for shard, place in enumerate(settled.places)
        ]
        self._settled = settled
        moved = tuple(Place(place.node, self._addresses[place.node], place.epoch) for place in places)
        self._current = Ownership(self._current.version + 1, moved)

    @override
    def told(self, refusal: NotOwner) -> None:
        shard, owner, epoch = refusal.shard, refusal.owner, refusal.epoch
        if not 0 <= shard < self._shard_count or owner not in self._addresses:
            return
        if epoch <= self._epochs.get(shard, 0):
            return
        self._epochs[shard] = epoch
        self._current = self._current.moved(shard, Place(owner, self._addresses[owner], epoch))

    @override
    def unreachable(self, shard: int, node: str) -> None:
        if self._current.of(shard).node == node and self._settled.of(shard).node != node:
            # The epoch is forgotten too: whoever opens the shard next has a higher one, and if it was a hiccup we are told again.
            self._epochs.pop(shard, None)
            self._current = self._current.moved(shard, self._settled.of(shard))
