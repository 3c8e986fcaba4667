"""Which shards of the views this process writes: those that the carrier's group gives it, and for a while those that nobody moves on.

The group only says who should write. Whoever writes without being the only one is refused by the store and asks where the view stands; so
standing in for somebody who is not there, or not yet, needs nobody's consent. Who stands in gives way as soon as somebody else writes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping

import msgspec
import structlog

from eventlog.port import Log
from projections.views import READ_MODELS, Views

_log = structlog.get_logger(__name__)

_PROMPT = tuple(name for name, model in READ_MODELS.items() if not model.lazy)


class SharingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`still_s`: how long a shard may stand still behind the log before somebody stands in, and up to half as long again by chance.

    `rest_s`: how long who gave way does not stand in again, and up to as long again by chance.
    """

    still_s: float = 2.0
    rest_s: float = 3.0


class _Still(msgspec.Struct, frozen=True):
    """A shard that is behind: where the views stood, and when that has been too long."""

    stands: tuple[int, ...]
    until: float


class ShardShare:
    """Of one process. `positions`, `lost` and `looked` are a feed's; `monotonic_s` is a clock."""

    def __init__(
        self,
        views: Views,
        log: Log,
        *,
        monotonic_s: Callable[[], float],
        chance: random.Random,
        settings: SharingSettings | None = None,
    ) -> None:
        self._views = views
        self.runner = views.runner
        self.runner.contested = self._give_way
        self._log = log
        self._monotonic_s = monotonic_s
        self._chance = chance
        self._settings = settings or SharingSettings()
        self._given: set[int] = set()
        self._standing_in: set[int] = set()
        self._still: dict[int, _Still] = {}
        self._rests: dict[int, float] = {}

    @property
    def standing_in(self) -> frozenset[int]:
        """Shards that it writes though nobody gave them to it."""
        return frozenset(self._standing_in)

    async def positions(self, shards: Collection[int]) -> Mapping[int, int]:
        """Take over what the group gives: what is in the log by now the runner reads itself, so a feed goes on behind that.

        A group gives everything to somebody: whatever was stood in for and is not given now is another one's.
        """
        heads = {shard: head.position for shard, head in (await self._log.heads()).items()}
        self._given.update(shards)
        leaving = self._standing_in - self._given
        # Before anything is waited for: a look at the log that is under way may add shards meanwhile.
        self._standing_in.clear()
        await self._leave(leaving)
        await self.runner.gain(shards)
        self.runner.note_heads({shard: heads.get(shard, 0) for shard in shards})
        held = self.runner.positions()
        # Views beyond the log are another log's, as the feed will say.
        return {shard: max(heads.get(shard, 0), held.get(shard, 0)) for shard in shards}

    async def lost(self, shards: Collection[int]) -> None:
        """The group took these away."""
        self._given.difference_update(shards)
        self._standing_in.difference_update(shards)
        await self.runner.lose(shards)

    async def looked(self, heads: Mapping[int, int]) -> None:
        """The log's shards end there: stand in for those that are behind and stand still."""
        others = {shard: head for shard, head in heads.items() if head and not self.runner.owns(shard)}
        due = await self._due(others) if others else []
        # The group may have spoken meanwhile.
        due = [shard for shard in due if shard not in self._given]
        if due:
            _log.warning("standing in for shards whose views stood still", shards=len(due))
            self._standing_in.update(due)
            await self.runner.gain(due)
        self.runner.note_heads({shard: heads.get(shard, 0) for shard in self._standing_in})

    async def _due(self, heads: Mapping[int, int]) -> list[int]:
        stands = list((await self._views.standing(_PROMPT)).values())
        now = self._monotonic_s()
        still: dict[int, _Still] = {}
        due: list[int] = []
        for shard, head in heads.items():
            marks = tuple(view.get(shard, 0) for view in stands)
            if min(marks) >= head:
                continue
            known = self._still.get(shard)
            if known is None or known.stands != marks:
                patience_s = self._settings.still_s * (1 + self._chance.random() / 2)
                known = _Still(marks, max(now + patience_s, self._rests.get(shard, 0.0)))
            if now >= known.until:
                due.append(shard)
            else:
                still[shard] = known
        self._still = still
        return due

    async def _leave(self, shards: Collection[int]) -> None:
        if shards:
            await self.runner.lose(shards)

    def _give_way(self, contested: frozenset[int]) -> Collection[int]:
        """Somebody else wrote these: who only stands in leaves them to him."""
        leaving = (contested & self._standing_in) - self._given
        self._standing_in -= leaving
        now = self._monotonic_s()
        for shard in leaving:
            self._rests[shard] = now + self._settings.rest_s * (1 + self._chance.random())
        return leaving
