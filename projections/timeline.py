"""The timeline: conversations, members, ranges, messages and events. One view file answers all of it from one snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import immutables
import msgspec

from domain.errors import Problem, invalid
from domain.event import Message, Place, Written
from domain.streams import StreamKind, qualified, shard_of, split
from eventlog.record import Recorded
from projections import pages
from projections.access import Access, access_from, access_of
from projections.conversations import apply_conversation
from projections.cursors import cursor_of, place_of
from projections.fast_want import Want, want_of
from projections.messages import (
    apply_message,
    apply_posted,
    decode_edit,
    decode_message,
    edits_of,
    message_row,
)
from projections.numbers import own_message
from projections.projection import kind_of
from projections.reading import LIMIT_DEFAULT, Freshen, Names, Reader, Reads, Source, checked_limit
from projections.shapes import MemberRow, Page
from projections.store import SCAN_ROWS_MAX, Row, Snapshot, UnitOfWork
from projections.tables import CONVERSATIONS, EVENTS, MEMBERS, REACTIONS, STATES, TIMELINE
from projections.wire import time_of, wire_event, wire_time

if TYPE_CHECKING:
    from projections.fast_reading import FastReads

SCHEMA = TIMELINE
_NOTHING: Row = ("", 0, 0, None, b"", 0, 0, None, 0)
"""What an EVENTS row before the first one would be."""
KINDS = frozenset({StreamKind.GROUP, StreamKind.DIRECT})
_STRANGERS_SEE = ("name", "avatar", "description", "join")
_ENTERABLE = ("open", "approval")

_encode = msgspec.json.Encoder().encode


def apply(view: UnitOfWork, row: Recorded) -> None:
    """Apply one event: private ones and those of other kinds of streams change nothing."""
    seq = row.seq
    if seq is None:
        return
    stream = row.stream
    kind = kind_of(stream)
    if kind not in KINDS:
        return
    event: Any = row.event
    newest = view.newest_row(EVENTS, (stream,), seq)
    _, _, messages, _, _, last, _, author, other = _NOTHING if newest is None else newest
    if event.TYPE != "message_posted":
        apply_conversation(view, row, seq)
        view.append(EVENTS, (stream, seq, messages, None, wire_event(row), last, event.at, author, other))
        apply_message(view, row, seq)
        return
    actor, ordinal = event.actor, event.ordinal
    if actor != author:
        author, other = actor, last
    view.append(EVENTS, (stream, seq, ordinal, ordinal, wire_event(row), seq, event.at, author, other))
    if kind is StreamKind.GROUP or event.mentions:
        apply_posted(view, row, seq, event)


class Timeline(Reader):
    """Reads conversations, members, messages and events. `access` comes first; what it does not cover is not answered."""

    def __init__(
        self,
        reads: Reads,
        source: Source,
        names: Names,
        freshen: Freshen,
        shard_count: int,
        fast: FastReads | None = None,
    ) -> None:
        super().__init__(reads, source, fast)
        self._names = names
        self._freshen = freshen
        self._shard_count = shard_count

    async def access(self, tenant: str, user_id: str, conversation_id: str) -> Access | None:
        """What the user may see; None for a stranger, an unknown conversation and `me`."""

        def answer(snapshot: Snapshot) -> Access | None:
            return access_of(snapshot, tenant, user_id, conversation_id)

        want = Want(qualified(tenant, conversation_id), qualified(tenant, user_id), small=False)
        return await self._read(answer, lambda fast: fast.of_conversation(want, answer))

    async def user_conversations(self, tenant: str, user_id: str) -> dict[str, Access]:
        """Every conversation that the user is or was in, by id."""

        def answer(snapshot: Snapshot) -> dict[str, Access]:
            found = (access_from(snapshot, member) for member in memberships(snapshot, tenant, user_id))
            return {access.conversation_id: access for access in found if access is not None}

        def fast(reads: FastReads) -> dict[str, Access]:
            return reads.of_user(tenant, user_id, lambda held, _: answer(held), numbered=())

        return await self._read(answer, fast)

    async def group(self, tenant: str, user_id: str, group_id: str) -> dict[str, Any] | None:
        """A group's settings for members, as they stood at leaving for ex-members; a short form for strangers of groups that one can enter."""
        return await self._read(lambda snapshot: _group(snapshot, tenant, user_id, group_id))

    async def members(self, access: Access, limit: int = LIMIT_DEFAULT, cursor: str | None = None) -> Page:
        """Members now, by user id. Raises `forbidden` for ex-members."""
        checked_limit(limit)
        after = None if cursor is None else place_of("members", cursor, str)
        _require_membership(access)

        def answer(snapshot: Snapshot) -> Page:
            rows, more = _present_members(snapshot, access.stream, after, limit)
            page = [msgspec.Raw(_encode(row)) for row in self._member_rows(access.tenant, rows)]
            return Page(page, cursor_of("members", rows[-1][1]) if more else None)

        return await self._read(answer)

    async def member(self, access: Access, user_id: str) -> MemberRow | None:
        """One member now. Raises `forbidden` for ex-members."""
        _require_membership(access)

        def answer(snapshot: Snapshot) -> MemberRow | None:
            row = snapshot.get(MEMBERS, (access.stream, qualified(access.tenant, user_id)))
            return None if row is None or row[7] is not None else self._member_rows(access.tenant, [row])[0]

        return await self._read(answer)

    async def member_ids(self, tenant: str, conversation_id: str) -> tuple[str, ...]:
        """The ids of all members now."""

        def answer(snapshot: Snapshot) -> tuple[str, ...]:
            stream = qualified(tenant, conversation_id)
            ids: list[str] = []
            after: str | None = None
            while rows := snapshot.scan(MEMBERS, (stream,), after=after, limit=SCAN_ROWS_MAX):
                ids.extend(split(str(row[1]))[1] for row in rows if row[7] is None)
                after = str(rows[-1][1])
            return tuple(ids)

        return await self._read(answer)

    async def share_a_group(self, tenant: str, one: str, other: str) -> bool:
        """Whether both are members of a common group now."""

        def answer(snapshot: Snapshot) -> bool:
            groups = (
                {row[0] for row in memberships(snapshot, tenant, user) if row[2] and row[7] is None}
                for user in (one, other)
            )
            return bool(set.intersection(*groups))

        return await self._read(answer)

    async def messages(
        self,
        access: Access,
        *,
        after: int | None = None,
        before: int | None = None,
        around: int | None = None,
        limit: int = LIMIT_DEFAULT,
        cursor: str | None = None,
    ) -> Page:
        """Message rows, always ascending; at most one of `after`, `before` (both exclusive) and `around`; none: the newest page."""
        checked_limit(limit)
        walk = pages.message_walk(access, after, before, around, cursor)

        def answer(snapshot: Snapshot) -> Page:
            wires, following = pages.message_page(snapshot, access, walk, limit)
            return Page([message_row(snapshot, access, wire) for wire in wires], following)

        want = want_of(access, walk, limit)
        return await self._read(
            answer, None if want is None else lambda fast: fast.of_conversation(want, answer)
        )

    async def message(self, access: Access, seq: int) -> msgspec.Raw | None:
        """One message row; None when `seq` is no message or may not be seen."""

        def answer(snapshot: Snapshot) -> msgspec.Raw | None:
            wire = _posted_wire(snapshot, access, seq)
            return None if wire is None else message_row(snapshot, access, wire)

        return await self._read(answer)

    async def edits(self, access: Access, seq: int) -> list[msgspec.Raw] | None:
        """The earlier texts `{content, at}` of a message, oldest first (`content` null once recalled); None as for `message`."""

        def answer(snapshot: Snapshot) -> list[msgspec.Raw] | None:
            wire = _posted_wire(snapshot, access, seq)
            return None if wire is None else edits_of(snapshot, access, seq, wire)

        return await self._read(answer)

    async def events(self, access: Access, after: int = 0, limit: int = LIMIT_DEFAULT) -> Page:
        """Wire events with seq > `after` in the ranges, ascending. `next` is the last seq as text: continue with it as `after`."""
        checked_limit(limit)

        def answer(snapshot: Snapshot) -> Page:
            rows = pages.events_after(snapshot, access, after, limit + 1)
            following = str(rows[limit - 1][1]) if len(rows) > limit else None
            return Page([pages.wire_of(row) for row in rows[:limit]], following)

        return await self._read(answer)

    async def events_raw(self, access: Access, after: int, limit: int) -> list[msgspec.Raw]:
        """At most `limit` (up to 5,000) wire events with seq > `after` in the ranges, ascending."""

        def answer(snapshot: Snapshot) -> list[msgspec.Raw]:
            return [pages.wire_of(row) for row in pages.events_after(snapshot, access, after, limit)]

        return await self._read(answer)

    async def older_message(self, tenant: str, conversation_id: str, seq: int) -> tuple[Message | None, int]:
        """A message as decisions need it (None: `seq` is no message) and the position of its shard at which this was true."""
        return await self._read(
            lambda snapshot: self._older(snapshot, qualified(tenant, conversation_id), seq)
        )

    async def written(self, tenant: str, conversation_id: str, seq: int) -> Written | None:
        """What a message says, recalled or not; None: `seq` is no message."""

        def answer(snapshot: Snapshot) -> Written | None:
            stream = qualified(tenant, conversation_id)
            row, state = snapshot.get(EVENTS, (stream, seq)), snapshot.get(STATES, (stream, seq))
            if row is None or row[3] is None:
                return None
            edited_seq = state[2] if state is not None and isinstance(state[2], int) else 0
            edit = snapshot.get(EVENTS, (stream, edited_seq)) if edited_seq else None
            if edit is None:
                return Written(edited_seq=0, content=decode_message(bytes(pages.wire_of(row))).data.content)
            content = decode_edit(bytes(pages.wire_of(edit))).data.content
            return Written(edited_seq=edited_seq, content=content)

        return await self._read(answer)

    async def unseen(self, tenant: str, user_id: str, places: Sequence[Place]) -> frozenset[Place]:
        """Those of `places` that are no message which the user may see."""

        def answer(snapshot: Snapshot) -> frozenset[Place]:
            names = {name for name, _ in places}
            accesses = {name: access_of(snapshot, tenant, user_id, name) for name in names}
            return frozenset(
                (name, seq)
                for name, seq in places
                if (access := accesses[name]) is None or _posted_wire(snapshot, access, seq) is None
            )

        return await self._read(answer)

    async def marks_allowed(self, tenant: str, user_id: str, conversation_id: str, seq: int) -> int:
        """Whether the user may mark `seq` as read; answers with the seq up to which sending marks already.

        Waits for what was received first: a stale view would let somebody mark who was just removed.

        Raises `not_found` to strangers, `forbidden` to ex-members, `validation_failed` beyond the head.
        """
        await self._freshen()

        def answer(snapshot: Snapshot) -> tuple[Access | None, int]:
            access = access_of(snapshot, tenant, user_id, conversation_id)
            return access, 0 if access is None else own_message(snapshot, access)

        want = Want(qualified(tenant, conversation_id), qualified(tenant, user_id), small=False)
        access, own = await self._read(answer, lambda fast: fast.of_conversation(want, answer))
        if access is None:
            raise Problem("not_found", "no such conversation")
        if not _may_mark(access):
            raise Problem("forbidden", "you are no member")
        if not 0 <= seq <= access.head:
            raise invalid("seq", "is beyond the head")
        return own

    def _member_rows(self, tenant: str, rows: list[Row]) -> list[MemberRow]:
        ids = [split(str(row[1]))[1] for row in rows]
        names = self._names(tenant, ids)
        return [_member_row(row, user_id, names[user_id]) for row, user_id in zip(rows, ids, strict=True)]

    def _older(self, snapshot: Snapshot, stream: str, seq: int) -> tuple[Message | None, int]:
        position = snapshot.positions().get(shard_of(stream, self._shard_count), 0)
        row = snapshot.get(EVENTS, (stream, seq))
        if row is None or row[3] is None:
            return None, position
        assert isinstance(row[4], bytes)
        event = decode_message(row[4])
        state = snapshot.get(STATES, (stream, seq))
        recalled = state is not None and bool(state[4])
        users: dict[str, set[str]] = {}
        if state is not None and not recalled and state[6] != b"{}":
            for _, _, emoji, member, _ in snapshot.scan(REACTIONS, (stream, seq), limit=SCAN_ROWS_MAX):
                users.setdefault(str(emoji), set()).add(split(str(member))[1])
        reactions = immutables.Map({emoji: frozenset(ids) for emoji, ids in users.items()})
        message = Message(
            author=event.actor,
            at=time_of(event.at),
            ordinal=event.data.ordinal,
            recalled=recalled,
            reactions=reactions,
            edited_seq=state[2] if state is not None and isinstance(state[2], int) else 0,
        )
        return message, position


def memberships(snapshot: Snapshot, tenant: str, user_id: str) -> list[Row]:
    """The membership rows of a user, by stream name."""
    rows: list[Row] = []
    after: str | None = None
    name = qualified(tenant, user_id)
    while page := snapshot.scan(MEMBERS, (name,), index=("member",), after=after, limit=SCAN_ROWS_MAX):
        rows += page
        after = str(page[-1][0])
    return rows


def _present_members(
    snapshot: Snapshot, stream: str, after: str | None, limit: int
) -> tuple[list[Row], bool]:
    """At most `limit` members now, and whether more follow."""
    present: list[Row] = []
    while rows := snapshot.scan(MEMBERS, (stream,), after=after, limit=limit + 1):
        present += (row for row in rows if row[7] is None)
        if len(present) > limit:
            return present[:limit], True
        after = str(rows[-1][1])
    return present, False


def _member_row(row: Row, user_id: str, name: str) -> MemberRow:
    _, _, role, alias, joined_at, _, muted_until, _, _, _, _ = row
    assert isinstance(joined_at, int)
    return MemberRow(
        user_id=user_id,
        name=name,
        role="member" if role is None else str(role),
        alias=None if alias is None else str(alias),
        joined_at=wire_time(joined_at),
        muted_until=wire_time(muted_until) if isinstance(muted_until, int) else None,
    )


def _group(snapshot: Snapshot, tenant: str, user_id: str, group_id: str) -> dict[str, Any] | None:
    stream = qualified(tenant, group_id)
    row = snapshot.get(CONVERSATIONS, (stream,))
    if row is None or row[1] != "group":
        return None
    member = snapshot.get(MEMBERS, (stream, qualified(tenant, user_id)))
    _, _, settings, visible, count, muted, dissolved, *_ = row
    assert isinstance(settings, bytes)
    shown: dict[str, Any] = {"conversation_id": group_id}
    if member is not None and member[7] is None:
        shown |= msgspec.json.decode(settings)
        shown |= {
            "history_visible": bool(visible),
            "muted": bool(muted),
            "member_count": count,
            "my_role": member[2],
        }
        return {**shown, "dissolved": True} if dissolved is not None else shown
    known = msgspec.json.decode(settings)
    if known.get("join") in _ENTERABLE and dissolved is None:
        return {
            **shown,
            **{name: known[name] for name in _STRANGERS_SEE if name in known},
            "member_count": count,
        }
    if member is not None and isinstance(member[10], bytes):
        return {**shown, **msgspec.json.decode(member[10]), "left": True}
    return None


def _posted_wire(snapshot: Snapshot, access: Access, seq: int) -> bytes | None:
    row = snapshot.get(EVENTS, (access.stream, seq)) if access.sees(seq) else None
    if row is None or row[3] is None:
        return None
    assert isinstance(row[4], bytes)
    return row[4]


def _require_membership(access: Access) -> None:
    if not _may_mark(access):
        raise Problem("forbidden", "you are no member")


def _may_mark(access: Access) -> bool:
    return access.current or (access.dissolved and access.role is not None)
