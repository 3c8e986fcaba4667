"""`audit log`: the events that fit, in order of time (of one stream: in its order)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from eventlog.port import Log
from eventlog.record import Commit
from ops.audit.reading import EventRow, commits_by_time, event_row, stored_rows, stream_commits


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for; all conditions must hold.

    `since` (inclusive) and `until` (exclusive) are milliseconds since 1970 UTC. Empty `actors` or `types`: all.
    """

    stream: str | None = None
    actors: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    since: int | None = None
    until: int | None = None
    limit: int | None = None
    bodies: bool = True


async def events(log: Log, query: Query) -> AsyncIterator[EventRow]:
    """The rows, in bounded memory. Raises LogUnavailableError, UnknownEventError for damaged bytes."""
    if query.limit == 0:
        return
    found = 0
    async for commit in _commits(log, query):
        if query.until is not None and commit.at >= query.until:
            return
        for stored in stored_rows(commit):
            if query.actors and stored.event.actor not in query.actors:
                continue
            if query.types and stored.event.type not in query.types:
                continue
            yield event_row(stored, bodies=query.bodies)
            found += 1
            if found == query.limit:
                return


async def _commits(log: Log, query: Query) -> AsyncIterator[Commit]:
    if query.stream is None:
        async for commit in commits_by_time(log, query.since):
            yield commit
        return
    async for commit in stream_commits(log, query.stream):
        if query.since is None or commit.at >= query.since:
            yield commit
