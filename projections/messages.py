"""Messages in the timeline view: what became of each after it was posted, and the rows that clients get."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from domain.streams import StreamKind, qualified, split
from eventlog.record import Recorded
from projections.access import Access
from projections.projection import kind_of
from projections.store import SCAN_ROWS_MAX, Row, Snapshot, UnitOfWork, Value
from projections.tables import (
    EDITS,
    EVENTS,
    MENTIONS,
    MENTIONS_OF_ALL,
    OWN_MESSAGES,
    REACTIONS,
    RECALLS,
    STATES,
)
from projections.wire import redacted

REACTION_USERS_SHOWN = 10
NULL = msgspec.Raw(b"null")

_encode = msgspec.json.Encoder().encode
_decode_kinds = msgspec.json.Decoder(dict[str, int]).decode

# Columns of STATES
_EDIT_SEQ, _EDITED_AT, _RECALLED, _PINNED, _KINDS = range(2, 7)


# Applying


def apply_message(view: UnitOfWork, row: Recorded, seq: int) -> None:
    """Apply a public event that concerns a message that was posted before; others change nothing."""
    handler = _HANDLERS.get(row.event.TYPE)
    if handler is not None:
        handler(view, row, seq, row.event)


def apply_posted(view: UnitOfWork, row: Recorded, seq: int, event: Any) -> None:
    """Apply a posted message's marks: whose last one it is in a group, and whom it mentions."""
    stream = row.stream
    tenant = split(stream)[0]
    if kind_of(stream) is StreamKind.GROUP:
        view.put(OWN_MESSAGES, (stream, qualified(tenant, event.actor), seq))
    if event.mentions:
        if event.mentions == ("all",):
            view.insert(MENTIONS_OF_ALL, (stream, seq))
            return
        for user_id in event.mentions:
            view.insert(MENTIONS, (qualified(tenant, user_id), stream, seq))


def _edited(view: UnitOfWork, row: Recorded, seq: int, event: Any) -> None:
    state = _state(view, row.stream, event.target)
    view.insert(EDITS, (row.stream, event.target, seq, state[_EDIT_SEQ]))
    _put_state(view, state, {_EDIT_SEQ: seq, _EDITED_AT: event.at})


def _recalled(view: UnitOfWork, row: Recorded, _seq: int, event: Any) -> None:
    """From now on no face shows the content: the stored wire events of the message and of its edits are rewritten."""
    stream = row.stream
    state = _state(view, stream, event.target)
    _redact(view, stream, event.target)
    edit_seq = state[_EDIT_SEQ]
    while edit_seq is not None:
        _redact(view, stream, edit_seq)
        edit = view.get(EDITS, (stream, event.target, edit_seq))
        edit_seq = None if edit is None else edit[3]
    view.insert(RECALLS, (stream, event.target))
    _put_state(view, state, {_RECALLED: 1, _PINNED: 0, _KINDS: b"{}"})


def _redact(view: UnitOfWork, stream: str, seq: Value) -> None:
    stored = view.get(EVENTS, (stream, seq))
    if stored is not None:
        wire = stored[4]
        assert isinstance(wire, bytes)
        view.put(EVENTS, (*stored[:4], redacted(wire), *stored[5:]))


def _reacted(view: UnitOfWork, row: Recorded, seq: int, event: Any) -> None:
    member = qualified(split(row.stream)[0], event.actor)
    key = (row.stream, event.target, event.emoji, member)
    state = _state(view, row.stream, event.target)
    if state[_RECALLED] or view.get(REACTIONS, key) is not None:
        return
    view.put(REACTIONS, (*key, seq))
    kinds = _kinds(state)
    kinds[event.emoji] = kinds.get(event.emoji, 0) + 1
    _put_state(view, state, {_KINDS: _encode(kinds)})


def _unreacted(view: UnitOfWork, row: Recorded, _seq: int, event: Any) -> None:
    member = qualified(split(row.stream)[0], event.actor)
    key = (row.stream, event.target, event.emoji, member)
    if view.get(REACTIONS, key) is None:
        return
    view.delete(REACTIONS, key)
    state = _state(view, row.stream, event.target)
    kinds = _kinds(state)
    count = kinds.pop(event.emoji, 0) - 1
    if count > 0:
        kinds = {**_kinds(state), event.emoji: count}
    _put_state(view, state, {_KINDS: _encode(kinds)})


def _pinned(view: UnitOfWork, row: Recorded, seq: int, event: Any) -> None:
    state = _state(view, row.stream, event.target)
    if not state[_RECALLED]:
        _put_state(view, state, {_PINNED: seq if event.TYPE == "message_pinned" else 0})


def _state(view: UnitOfWork, stream: str, seq: int) -> Row:
    return view.get(STATES, (stream, seq)) or (stream, seq, None, None, 0, 0, b"{}")


def _put_state(view: UnitOfWork, state: Row, columns: Mapping[int, Value]) -> None:
    changed = list(state)
    for index, value in columns.items():
        changed[index] = value
    view.put(STATES, tuple(changed))


def _kinds(state: Row) -> dict[str, int]:
    column = state[_KINDS]
    assert isinstance(column, bytes)
    return _decode_kinds(column)


_HANDLERS: Mapping[str, Callable[[UnitOfWork, Recorded, int, Any], None]] = {
    "message_edited": _edited,
    "message_recalled": _recalled,
    "reaction_added": _reacted,
    "reaction_removed": _unreacted,
    "message_pinned": _pinned,
    "message_unpinned": _pinned,
}


# Reading


class MessageData(msgspec.Struct, frozen=True, kw_only=True):
    """`data` of a stored `message_posted`."""

    message_id: str
    client_msg_id: str
    ordinal: int
    content: msgspec.Raw
    reply_to: int | None = None
    mentions: tuple[str, ...] = ()
    origin: dict[str, Any] | None = None


class MessageEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A stored `message_posted`."""

    seq: int
    actor: str
    at: str
    data: MessageData


class _EditData(msgspec.Struct, frozen=True):
    content: msgspec.Raw


class EditEvent(msgspec.Struct, frozen=True):
    """A stored `message_edited`."""

    at: str
    data: _EditData


class Reaction(msgspec.Struct, frozen=True):
    """One kind of reaction as the caller sees it."""

    emoji: str
    count: int
    users: list[str]
    mine: bool


class MessageRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A row of the messages list."""

    conversation_id: str | None = None
    seq: int
    message_id: str
    client_msg_id: str
    ordinal: int
    actor: str
    at: str
    content: msgspec.Raw
    reply_to: int | None = None
    mentions: tuple[str, ...] = ()
    origin: dict[str, Any] | None = None
    edited_at: str | None = None
    recalled: bool = False
    pinned: bool = False
    reactions: list[Reaction]


class Edit(msgspec.Struct, frozen=True):
    """An earlier text; `content` null once the message is recalled."""

    content: msgspec.Raw
    at: str


decode_message = msgspec.json.Decoder(MessageEvent).decode
decode_edit = msgspec.json.Decoder(EditEvent).decode


def message_row(
    snapshot: Snapshot, access: Access, wire: bytes, *, with_conversation: bool = False
) -> msgspec.Raw:
    """The JSON of a message row, as the caller sees it in this snapshot."""
    event = decode_message(wire)
    data = event.data
    state = snapshot.get(STATES, (access.stream, event.seq))
    content, edited_at, recalled, pinned, reactions = _shown(snapshot, access, event, state)
    row = MessageRow(
        conversation_id=access.conversation_id if with_conversation else None,
        seq=event.seq,
        message_id=data.message_id,
        client_msg_id=data.client_msg_id,
        ordinal=data.ordinal,
        actor=event.actor,
        at=event.at,
        content=content,
        reply_to=data.reply_to,
        mentions=data.mentions,
        origin=data.origin,
        edited_at=edited_at,
        recalled=recalled,
        pinned=pinned,
        reactions=reactions,
    )
    return msgspec.Raw(_encode(row))


def _shown(
    snapshot: Snapshot, access: Access, event: MessageEvent, state: Row | None
) -> tuple[msgspec.Raw, str | None, bool, bool, list[Reaction]]:
    if state is None:
        return event.data.content, None, False, False, []
    _, _, edit_seq, _, recalled, pinned, _ = state
    content, edited_at = event.data.content, None
    edit = None
    if isinstance(edit_seq, int):
        edit_seq = _visible_edit(snapshot, access, event.seq, edit_seq)
        edit = None if edit_seq is None else snapshot.get(EVENTS, (access.stream, edit_seq))
    if edit is not None:
        assert isinstance(edit[4], bytes)
        edit_event = decode_edit(edit[4])
        content, edited_at = edit_event.data.content, edit_event.at
    if recalled:
        return NULL, edited_at, True, False, []
    assert isinstance(pinned, int)
    seen_pinned = bool(pinned) and access.sees(pinned)
    return content, edited_at, False, seen_pinned, _reactions(snapshot, access, event.seq, _kinds(state))


def _visible_edit(snapshot: Snapshot, access: Access, target: int, edit_seq: int) -> int | None:
    """The newest edit that the caller may know of: an ex-member does not see what was edited after he left."""
    seq: Value = edit_seq
    while isinstance(seq, int):
        if access.sees(seq):
            return seq
        edit = snapshot.get(EDITS, (access.stream, target, seq))
        seq = None if edit is None else edit[3]
    return None


def shows_newest_text(snapshot: Snapshot, access: Access, seq: int) -> bool:
    """Whether the caller sees what the message says now: an ex-member does not see what was edited after he left."""
    state = snapshot.get(STATES, (access.stream, seq))
    edit_seq = None if state is None else state[_EDIT_SEQ]
    return not isinstance(edit_seq, int) or access.sees(edit_seq)


def _reactions(snapshot: Snapshot, access: Access, seq: int, kinds: Mapping[str, int]) -> list[Reaction]:
    if not access.whole:
        return [row for emoji in kinds if (row := _seen_reaction(snapshot, access, seq, emoji)) is not None]
    rows = []
    for emoji, count in kinds.items():
        first = snapshot.scan(
            REACTIONS,
            (access.stream, seq, emoji),
            index=("stream", "target", "emoji", "seq"),
            limit=REACTION_USERS_SHOWN,
        )
        users = [split(str(reaction[3]))[1] for reaction in first]
        mine = snapshot.get(REACTIONS, (access.stream, seq, emoji, access.member)) is not None
        rows.append(Reaction(emoji, count, users, mine))
    return rows


def _seen_reaction(snapshot: Snapshot, access: Access, seq: int, emoji: str) -> Reaction | None:
    """As those see it whose ranges end or have holes: without who reacted outside of them."""
    seen: list[str] = []
    after: int | None = None
    while rows := snapshot.scan(
        REACTIONS,
        (access.stream, seq, emoji),
        index=("stream", "target", "emoji", "seq"),
        after=after,
        limit=SCAN_ROWS_MAX,
    ):
        for row in rows:
            after = row[4] if isinstance(row[4], int) else 0
            if access.sees(after):
                seen.append(str(row[3]))
    if not seen:
        return None
    users = [split(member)[1] for member in seen[:REACTION_USERS_SHOWN]]
    return Reaction(emoji, len(seen), users, access.member in seen)


def edits_of(snapshot: Snapshot, access: Access, seq: int, posted: bytes) -> list[msgspec.Raw]:
    """The earlier texts of a message, oldest first; the present one is not among them."""
    message = decode_message(posted)
    texts = [Edit(message.data.content, message.at)]
    state = snapshot.get(STATES, (access.stream, seq))
    chain: list[int] = []
    edit_seq = None if state is None else state[_EDIT_SEQ]
    while isinstance(edit_seq, int):
        if access.sees(edit_seq):
            chain.append(edit_seq)
        edit = snapshot.get(EDITS, (access.stream, seq, edit_seq))
        edit_seq = None if edit is None else edit[3]
    for edit_seq in reversed(chain):
        stored = snapshot.get(EVENTS, (access.stream, edit_seq))
        if stored is not None:
            assert isinstance(stored[4], bytes)
            event = decode_edit(stored[4])
            texts.append(Edit(event.data.content, event.at))
    return [msgspec.Raw(_encode(edit)) for edit in texts[:-1]]
