"""Reading one shard by the running number of its events: the notification ids of the `eventsourcing` library."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from uuid import UUID

from eventsourcing.persistence import Notification, StoredEvent

from eventlog.port import READ_COMMITS_MAX, Log
from eventlog.record import Commit

PAGE_COMMITS = 500

Unpack = Callable[[Commit], Sequence[StoredEvent | None]]
"""The events of a commit as the library stores them; None for one that is not the library's (it keeps its
number).
"""


class NumberedShard:
    """The selections of a recorder over one shard. Memory: one page of commits and the rows of the answer."""

    def __init__(self, log: Log, shard: int, unpack: Unpack) -> None:
        self._log = log
        self._shard = shard
        self._unpack = unpack
        self._hint = (1, 1)
        """(number, position): a commit that is known to begin with this number; where the last page ended."""

    async def events(
        self, originator_id: UUID | str, gt: int | None, lte: int | None, limit: int | None, *, desc: bool
    ) -> list[StoredEvent]:
        """Events of a stream with gt < version <= lte, ascending or descending, at most `limit`."""
        stream = str(originator_id)
        if desc and lte is None and limit is not None and limit <= READ_COMMITS_MAX:
            commits = await self._log.read_stream_tail(self._shard, stream, limit)
            return self._chosen(commits, gt, lte)[::-1][:limit]
        found: list[StoredEvent] = []
        after = -1 if gt is None else gt
        while limit is None or desc or len(found) < limit:
            page = await self._log.read_stream(self._shard, stream, after, PAGE_COMMITS)
            found += self._chosen(page, gt, lte)
            if len(page) < PAGE_COMMITS or (lte is not None and page[-1].first_version > lte):
                break
            after = page[-1].first_version + page[-1].events_count - 1
        return (found[::-1] if desc else found)[:limit]

    def _chosen(self, commits: Sequence[Commit], gt: int | None, lte: int | None) -> list[StoredEvent]:
        return [
            event
            for commit in commits
            for event in self._unpack(commit)
            if event is not None
            and (gt is None or event.originator_version > gt)
            and (lte is None or event.originator_version <= lte)
        ]

    async def notifications(
        self, first: int, limit: int, stop: int | None, topics: Sequence[str]
    ) -> list[Notification]:
        """Events from number `first` to `stop`, of these topics (all, when empty), at most `limit`."""
        found: list[Notification] = []
        position = await self._position_of(first)
        while position is not None and len(found) < limit:
            page = await self._log.read_shard(self._shard, position - 1, PAGE_COMMITS)
            for row in self._numbered(page, first):
                if (stop is not None and row.id > stop) or len(found) == limit:
                    return found
                if not topics or row.topic in topics:
                    found.append(row)
            position = page[-1].position + 1 if len(page) == PAGE_COMMITS else None
            if page:
                last = page[-1]
                self._hint = (last.first_number + last.events_count, last.position + 1)
        return found

    def _numbered(self, commits: Sequence[Commit], first: int) -> Iterator[Notification]:
        for commit in commits:
            for number, event in enumerate(self._unpack(commit), commit.first_number):
                if number >= first and event is not None:
                    yield Notification(
                        originator_id=event.originator_id,
                        originator_version=event.originator_version,
                        topic=event.topic,
                        state=event.state,
                        id=number,
                    )

    async def _position_of(self, number: int) -> int | None:
        """The position of the commit that holds a number, None behind the end: a search of log2(n) reads
        without the hint.
        """
        known, position = self._hint
        if number == known:
            return position
        head = (await self._log.heads()).get(self._shard)
        if head is None or number > head.number:
            return None
        low, high = 1, head.position
        while low < high:
            middle = (low + high + 1) // 2
            commit = (await self._log.read_shard(self._shard, middle - 1, 1))[0]
            if commit.first_number <= number:
                low = middle
            else:
                high = middle - 1
        return low

    async def last_number(self) -> int | None:
        """The number of the newest event, None when there is none."""
        head = (await self._log.heads()).get(self._shard)
        return None if head is None else head.number
