"""The end of the log, looked at: what a reader that is told of commits by others was not told, and since when it knows that it has all.

Whatever stands between (a carrier, a pusher) may be slow, silent or gone; the log itself says what there is.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from eventlog.port import READ_COMMITS_MAX, Log
from eventlog.record import Commit

LOOKS_MAX = 16
"""Looks that are remembered until the reader has come so far."""
READ_COMMITS = 1_000


class TooFarBehindError(Exception):
    """The reader would have to read more than it wants to; `heads` is where the log ends."""

    def __init__(self, heads: Mapping[int, int], commits: int) -> None:
        super().__init__(f"{commits} commits behind the log")
        self.heads = heads


class LogTail:
    """One reader's. `positions` is where the reader is, {shard: position}; `take` hands commits to it, each shard's in order, and may
    be given some that it has. One call of `look` or `read` at a time.
    """

    def __init__(
        self,
        log: Log,
        positions: Callable[[], Mapping[int, int]],
        take: Callable[[Sequence[Commit]], None],
        now_s: Callable[[], float],
        *,
        behind_max: int | None = None,
    ) -> None:
        self._log = log
        self._positions = positions
        self._take = take
        self._now_s = now_s
        self._behind_max = behind_max
        self._last: Mapping[int, int] = {}
        self._looks: deque[tuple[float, Mapping[int, int]]] = deque(maxlen=LOOKS_MAX)
        self._proven_s = -math.inf
        self.refills = 0
        """Times that something was read."""
        self.refilled = 0
        """Commits that were read."""

    @property
    def heads(self) -> Mapping[int, int]:
        """Where the log ended at the last look."""
        return self._last

    async def look(self, *, patient: bool) -> None:
        """Read the heads of all shards, and what the reader lacks. `patient`: only what it lacked at the look before too, since it may
        come by itself.

        Raises TooFarBehindError, and what the log raises.
        """
        began_s = self._now_s()
        heads = {shard: head.position for shard, head in (await self._log.heads()).items()}
        self._looks.append((began_s, heads))
        upto = self._last if patient else heads
        self._last = heads
        await self.read(upto)

    async def read(self, upto: Mapping[int, int]) -> None:
        """Have the reader come so far. Raises TooFarBehindError, and what the log raises."""
        held = self._positions()
        behind = {shard: upto[shard] for shard in upto if upto[shard] > held.get(shard, 0)}
        if not behind:
            return
        lacking = sum(position - held.get(shard, 0) for shard, position in behind.items())
        if self._behind_max is not None and lacking > self._behind_max:
            raise TooFarBehindError(upto, lacking)
        self.refills += 1
        for shard, position in behind.items():
            await self._read_shard(shard, position)

    async def _read_shard(self, shard: int, upto: int) -> None:
        while (position := self._positions().get(shard, 0)) < upto:
            commits = await self._log.read_shard(shard, position, min(READ_COMMITS, READ_COMMITS_MAX))
            if not commits:
                return
            self.refilled += len(commits)
            self._take(commits)
            if self._positions().get(shard, 0) <= position:
                return  # The reader keeps them back for now.

    def proven_s(self) -> float:
        """The newest time at which the log held nothing that the reader does not have by now; minus infinity: not known yet."""
        held = self._positions()
        while self._looks:
            began_s, heads = self._looks[0]
            if any(held.get(shard, 0) < position for shard, position in heads.items()):
                break
            self._proven_s = began_s
            self._looks.popleft()
        return self._proven_s
