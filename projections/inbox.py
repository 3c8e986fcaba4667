"""The inbox of a user: his conversations with their numbers, `me`, and what his devices missed. Joined when asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from domain.errors import invalid
from domain.streams import inbox_stream
from projections import pages
from projections.access import Access, access_from, access_of
from projections.cursors import cursor_of, place_of
from projections.fast_moment import NotHeldError
from projections.messages import NULL, message_row
from projections.numbers import numbers_of
from projections.personal import ME_EVENTS, ME_HEADS
from projections.reading import LIMIT_DEFAULT, Freshen, Names, Reads, Source, checked_limit
from projections.shapes import ConversationRow, HelloAnswer, Numbers, Page, Person, SyncAnswer
from projections.store import Row, Snapshot
from projections.syncing import Missed, hello_answer, sync_answer
from projections.tables import CONVERSATIONS, EVENTS, MEMBERS, head_of
from projections.timeline import memberships

if TYPE_CHECKING:
    from projections.fast_reading import FastReads

SYNC_LIMIT_DEFAULT = 500
SYNC_LIMIT_MAX = 1_000
RECENT_MAX = 50
HAVE_MAX = 1_000

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


class Inbox:
    """Reads over the timeline's and the inbox's snapshot of one moment."""

    def __init__(
        self,
        reads: Reads,
        timeline: Source,
        inbox: Source,
        names: Names,
        freshen: Freshen,
        log_id: str,
        fast: FastReads | None = None,
    ) -> None:
        self._fast = fast
        self._reads = reads
        self._timeline = timeline
        self._inbox = inbox
        self._names = names
        self._freshen = freshen
        self._log_id = log_id

    async def conversations(
        self, tenant: str, user_id: str, limit: int = LIMIT_DEFAULT, cursor: str | None = None
    ) -> Page:
        """The user's conversations, newest activity first; a pair's from its first message on. `me` is not among them."""
        checked_limit(limit)
        place = None if cursor is None else place_of("conversations", cursor, tuple[int, str])

        def answer(timeline: Snapshot, inbox: Snapshot) -> Page:
            entries = sorted(_entries(timeline, tenant, user_id), key=lambda entry: entry[0], reverse=True)
            entries = [entry for entry in entries if place is None or entry[0] < place][: limit + 1]
            page = [
                _encode(self._row(timeline, inbox, access, member)) for _, access, member in entries[:limit]
            ]
            following = cursor_of("conversations", entries[limit - 1][0]) if len(entries) > limit else None
            return Page([msgspec.Raw(row) for row in page], following)

        return await self._read(answer)

    async def conversation(self, tenant: str, user_id: str, conversation_id: str) -> ConversationRow | None:
        """One conversation; None for strangers."""

        def answer(timeline: Snapshot, inbox: Snapshot) -> ConversationRow | None:
            access = access_of(timeline, tenant, user_id, conversation_id)
            if access is None:
                return None
            member = timeline.get(MEMBERS, (access.stream, access.member))
            assert member is not None
            return self._row(timeline, inbox, access, member)

        return await self._read(answer)

    async def numbers(self, tenant: str, user_id: str, conversation_id: str) -> Numbers | None:
        """Unread, mentions, read mark and personal settings; None for strangers."""
        (numbers,) = await self.many_numbers([(tenant, user_id, conversation_id)])
        return numbers

    async def many_numbers(self, asked: Sequence[tuple[str, str, str]]) -> list[Numbers | None]:
        """As `numbers`, for many (tenant, user id, conversation id) from one snapshot, in their order.

        The reader thread is theirs meanwhile; ask for a few hundred at once.
        """

        def answer(held: Mapping[int, Numbers | None]) -> list[Numbers | None]:
            if len(held) == len(asked):
                return [held[number] for number in range(len(asked))]
            with self._snapshots() as (timeline, inbox):
                return [
                    held[number] if number in held else _numbers(timeline, inbox, entry)
                    for number, entry in enumerate(asked)
                ]

        def answer_all() -> list[Numbers | None]:
            if self._fast is not None:
                with suppress(NotHeldError):
                    return answer(self._fast.many_numbers(asked))
            return answer({})

        return await self._reads.run(answer_all)

    async def me_events(self, tenant: str, user_id: str, after: int = 0, limit: int = LIMIT_DEFAULT) -> Page:
        """Wire events of `me` with seq > `after`; `next` is the last seq as text."""
        checked_limit(limit)

        def answer(_: Snapshot, inbox: Snapshot) -> Page:
            rows = inbox.scan(ME_EVENTS, (inbox_stream(tenant, user_id),), after=after, limit=limit + 1)
            following = str(rows[limit - 1][1]) if len(rows) > limit else None
            return Page([msgspec.Raw(bytes(_bytes(row[2]))) for row in rows[:limit]], following)

        return await self._read(answer)

    async def me_head(self, tenant: str, user_id: str) -> int:
        """The head seq of `me`, 0 when nothing happened there."""

        def answer(_: Snapshot, inbox: Snapshot) -> int:
            row = inbox.get(ME_HEADS, (inbox_stream(tenant, user_id),))
            return 0 if row is None else int(row[1] or 0)

        return await self._read(answer)

    async def sync(
        self,
        tenant: str,
        user_id: str,
        have: Mapping[str, int],
        *,
        limit: int = SYNC_LIMIT_DEFAULT,
        recent: int = 0,
        only: bool = False,
        cursor: str | None = None,
    ) -> SyncAnswer:
        """One page of what the user's device missed. Raises `validation_failed` for what is out of bounds."""
        checked_limit(limit, SYNC_LIMIT_MAX)
        checked_have(have)
        if not 0 <= recent <= RECENT_MAX:
            raise invalid("recent", f"must be 0 to {RECENT_MAX}")

        def answer(timeline: Snapshot, inbox: Snapshot) -> SyncAnswer:
            missed = Missed(timeline, inbox, tenant, user_id)
            newest = min(recent, limit)
            return sync_answer(
                missed, have, self._log_id, limit=limit, recent=newest, only=only, cursor=cursor
            )

        def fast(reads: FastReads) -> SyncAnswer:
            numbered = have if only else None
            return reads.of_user(tenant, user_id, answer, have=have, recent=recent, numbered=numbered)

        first = await self._read(answer, fast)
        if not any(row.reset for row in first.conversations.values()):
            return first
        # A seq above the head may only mean that this view lingers.
        await self._freshen()
        return await self._read(answer, fast)

    async def hello(self, tenant: str, user_id: str, have: Mapping[str, int]) -> HelloAnswer:
        """What a hello with `have` is told. Raises `validation_failed` for a bad `have`."""
        checked_have(have)
        await self._freshen()

        def answer(timeline: Snapshot, inbox: Snapshot) -> HelloAnswer:
            return hello_answer(Missed(timeline, inbox, tenant, user_id), have)

        return await self._read(
            answer, lambda fast: fast.of_user(tenant, user_id, answer, have=have, numbered=have)
        )

    async def _read(
        self, question: Callable[[Snapshot, Snapshot], T], fast: Callable[[FastReads], T] | None = None
    ) -> T:
        def answer() -> T:
            if fast is not None and self._fast is not None:
                with suppress(NotHeldError):
                    return fast(self._fast)
            with self._snapshots() as (timeline, inbox):
                return question(timeline, inbox)

        return await self._reads.run(answer)

    @contextmanager
    def _snapshots(self) -> Iterator[tuple[Snapshot, Snapshot]]:
        # The inbox first: a read mark never lies behind the timeline that it was checked against.
        with self._inbox().snapshot() as inbox, self._timeline().snapshot() as timeline:
            yield timeline, inbox

    def _row(self, timeline: Snapshot, inbox: Snapshot, access: Access, member: Row) -> ConversationRow:
        numbers = numbers_of(timeline, inbox, access)
        settings = _settings(timeline, access, member)
        names: dict[str, Any] = {}
        if access.kind == "direct":
            users = settings["users"]
            peer = next((user for user in users if user != access.user_id), access.user_id)
            names["peer"] = Person(peer, self._names(access.tenant, [peer])[peer])
        else:
            names["name"] = settings.get("name", "")
        return ConversationRow(
            conversation_id=access.conversation_id,
            kind=access.kind,
            first_seq=access.first_seq,
            head=access.head,
            last_message=_last_message(timeline, access),
            unread=numbers.unread,
            mentions=numbers.mentions,
            read_seq=numbers.read_seq,
            pinned=numbers.pinned,
            muted=numbers.muted,
            left=not access.current,
            **names,
        )


def checked_have(have: Mapping[str, int]) -> None:
    """Raises `validation_failed` for too many names or a negative seq."""
    if len(have) > HAVE_MAX:
        raise invalid("have", f"at most {HAVE_MAX} conversations")
    if any(seq < 0 for seq in have.values()):
        raise invalid("have", "a seq is negative")


def _entries(timeline: Snapshot, tenant: str, user_id: str) -> list[tuple[tuple[int, str], Access, Row]]:
    """((activity, id), access, membership) of all listed conversations."""
    entries = []
    for member in memberships(timeline, tenant, user_id):
        access = access_from(timeline, member)
        head = head_of(timeline, str(member[0]))
        if access is None or head is None or (access.kind == "direct" and not head.messages):
            continue
        activity = head.at if member[8] is None else member[8]
        assert isinstance(activity, int)
        entries.append(((activity, access.conversation_id), access, member))
    return entries


def _numbers(timeline: Snapshot, inbox: Snapshot, asked: tuple[str, str, str]) -> Numbers | None:
    access = access_of(timeline, *asked)
    return None if access is None else numbers_of(timeline, inbox, access)


def _settings(timeline: Snapshot, access: Access, member: Row) -> dict[str, Any]:
    """The settings that the user may know: for an ex-member those at his leaving."""
    kept = member[10]
    if kept is None:
        row = timeline.get(CONVERSATIONS, (access.stream,))
        kept = None if row is None else row[2]
    settings: dict[str, Any] = msgspec.json.decode(_bytes(kept))
    return settings


def _last_message(timeline: Snapshot, access: Access) -> msgspec.Raw:
    head = head_of(timeline, access.stream)
    if head is None or not head.last_message:
        return NULL
    newest = head.last_message
    if access.sees(newest):
        row = timeline.get(EVENTS, (access.stream, newest))
        rows = [] if row is None else [row]
    else:
        rows = pages.events_before(timeline, access, min(newest, access.head + 1), 1, messages=True)
    return message_row(timeline, access, bytes(pages.wire_of(rows[0]))) if rows else NULL


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value
