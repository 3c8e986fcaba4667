"""The audit trail: which event stands where in the record, findable by stream, actor, type and time. No content."""

from __future__ import annotations

import msgspec

from eventlog.record import Recorded
from projections.cursors import cursor_of, place_of
from projections.reading import LIMIT_DEFAULT, Freshen, Reader, Reads, Source, checked_limit
from projections.shapes import AuditRow, Page
from projections.store import Key, Row, Schema, Snapshot, Table, UnitOfWork

TRAIL = Table(
    name="trail",
    columns=(
        "at int", "shard int", "number int", "position int", "stream text", "version int", "type text", "actor text",
    ),
    key_size=3,
)  # fmt: skip
"""One row per event, by time."""
HOURS = Table(name="hours", columns=("what text", "hour int"), key_size=2)
"""In which hours a stream (`s:`), an actor (`a:`) or a type (`t:`) occurs: one row for many events, where an index would have one for each."""
SCHEMA = Schema(name="audit_trail", version=1, tables=(TRAIL, HOURS))

HOUR_MS = 3_600_000
SCANNED_ROWS_MAX = 20_000
"""The most rows that one page looks at; a page may be empty and still have `next`."""
_SCAN_ROWS = 1_000
_encode = msgspec.json.Encoder().encode


def apply(view: UnitOfWork, row: Recorded) -> None:
    """Apply one event, of whatever kind."""
    event = row.event
    at = event.at
    kind = event.TYPE
    view.append(TRAIL, (at, row.shard, row.number, row.position, row.stream, row.version, kind, event.actor))
    hour = at // HOUR_MS
    if not view.note((row.stream, event.actor, kind, hour)):
        view.insert(HOURS, ("s:" + row.stream, hour))
        view.insert(HOURS, ("a:" + event.actor, hour))
        view.insert(HOURS, ("t:" + kind, hour))


class AuditTrail(Reader):
    """Reads the trail."""

    def __init__(self, reads: Reads, source: Source, freshen: Freshen) -> None:
        super().__init__(reads, source)
        self._freshen = freshen

    async def events(
        self,
        *,
        stream: str | None = None,
        actor: str | None = None,
        event_type: str | None = None,
        since: int | None = None,
        until: int | None = None,
        limit: int = LIMIT_DEFAULT,
        cursor: str | None = None,
    ) -> Page:
        """AuditRow as JSON, oldest first; all conditions must hold.

        `stream` is qualified; `since` (inclusive) and `until` (exclusive) are ms.
        """
        checked_limit(limit)
        place = None if cursor is None else place_of("audit", cursor, tuple[int, int, int])
        wanted = (stream, event_type, actor)

        def answer(snapshot: Snapshot) -> Page:
            walk = _Walk(snapshot, wanted, since or 0, until)
            rows, following = walk.page(place, limit)
            page = [msgspec.Raw(_encode(_audit_row(row))) for row in rows]
            return Page(page, None if following is None else cursor_of("audit", following))

        await self._freshen()
        return await self._read(answer)


class _Walk:
    """Walks the trail by time, over the hours in which everything asked for occurs."""

    def __init__(
        self,
        snapshot: Snapshot,
        wanted: tuple[str | None, str | None, str | None],
        since: int,
        until: int | None,
    ) -> None:
        self._snapshot = snapshot
        self._wanted = wanted
        self._since = since
        self._until = until
        self._words = [p + w for p, w in zip(("s:", "t:", "a:"), wanted, strict=True) if w is not None]

    def page(
        self, place: tuple[int, int, int] | None, limit: int
    ) -> tuple[list[Row], tuple[int, int, int] | None]:
        """At most `limit` rows behind `place`, and the place to go on from."""
        found: list[Row] = []
        scanned = 0
        place = place or (self._since - 1, -1, -1)
        while (start := self._start(place)) is not None:
            place = start
            rows = self._rows(place)
            for row in rows:
                place = _place(row)
                scanned += 1
                if self._until is not None and place[0] >= self._until:
                    return found, None
                if all(
                    want is None or want == row[column]
                    for want, column in zip(self._wanted, (4, 6, 7), strict=True)
                ):
                    found.append(row)
                if len(found) >= limit or scanned >= SCANNED_ROWS_MAX:
                    return found, place
            if not rows:
                break
        return found, None

    def _start(self, place: tuple[int, int, int]) -> tuple[int, int, int] | None:
        """The first place from here on that lies in an hour with everything asked for."""
        hour = max(place[0], 0) // HOUR_MS
        first = hour
        while self._words:
            hours = [self._next_hour(word, hour) for word in self._words]
            known = [h for h in hours if h is not None]
            if len(known) < len(hours):
                return None
            if max(known) == hour:
                break
            hour = max(known)
        return place if hour == first else (hour * HOUR_MS - 1, -1, -1)

    def _next_hour(self, word: str, hour: int) -> int | None:
        rows = self._snapshot.scan(HOURS, (word,), after=hour - 1, limit=1)
        return None if not rows else _int(rows[0][1])

    def _rows(self, place: tuple[int, int, int]) -> list[Row]:
        """Rows behind a place: the rest of its shard, the rest of its millisecond, then later ones."""
        at, shard, number = place
        same: list[Row] = []
        if shard >= 0:
            same = self._scan((at, shard), number) or self._scan((at,), shard)
        return same or self._scan((), at)

    def _scan(self, prefix: Key, after: int) -> list[Row]:
        return self._snapshot.scan(TRAIL, prefix, after=after, limit=_SCAN_ROWS)


def _place(row: Row) -> tuple[int, int, int]:
    return _int(row[0]), _int(row[1]), _int(row[2])


def _audit_row(row: Row) -> AuditRow:
    at, shard, number, position, stream, version, kind, actor = row
    return AuditRow(
        shard=_int(shard),
        position=_int(position),
        number=_int(number),
        stream=str(stream),
        version=_int(version),
        type=str(kind),
        actor=str(actor),
        at=_int(at),
    )


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value
