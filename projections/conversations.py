"""Conversations and their members in the timeline view: settings, roles, and the ranges that each member sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from domain.streams import qualified, split
from eventlog.record import Recorded
from projections.store import UnitOfWork, Value
from projections.tables import CONVERSATIONS, MEMBERS

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.decode

# Columns of CONVERSATIONS and MEMBERS
_SETTINGS, _VISIBLE, _COUNT, _MUTED, _DISSOLVED = 2, 3, 4, 5, 6
_ROLE, _ALIAS, _JOINED_AT, _JOINED_SEQ, _MUTED_UNTIL, _LEFT_SEQ, _LEFT_AT, _RANGES, _KEPT = range(2, 11)


def apply_conversation(view: UnitOfWork, row: Recorded, seq: int) -> None:
    """Apply a public event that concerns a conversation or its members; others change nothing."""
    handler = _HANDLERS.get(row.event.TYPE)
    if handler is not None:
        handler(view, row, seq, row.event)


def _created(view: UnitOfWork, row: Recorded, seq: int, event: Any) -> None:
    settings = {
        name: getattr(event, name)
        for name in ("name", "description", "avatar", "join", "max_members", "members_may_add", "owner")
        if getattr(event, name, None) is not None
    }
    visible = int(event.history_visible)
    view.put(CONVERSATIONS, (row.stream, "group", _encode(settings), visible, 0, 0, None, row.shard))
    _join(view, row, seq, event.owner, "owner")


def _changed(view: UnitOfWork, row: Recorded, _seq: int, event: Any) -> None:
    changes = msgspec.to_builtins(event.changes)
    columns: dict[int, Value] = {}
    if "history_visible" in changes:
        columns[_VISIBLE] = int(changes.pop("history_visible"))
    if changes:
        settings = {**_settings(view, row.stream), **changes}
        columns[_SETTINGS] = _encode({name: value for name, value in settings.items() if value is not None})
    _change_conversation(view, row.stream, columns)


def _dissolved(view: UnitOfWork, row: Recorded, seq: int, _event: Any) -> None:
    _change_conversation(view, row.stream, {_DISSOLVED: seq})


def _group_muted(view: UnitOfWork, row: Recorded, _seq: int, event: Any) -> None:
    _change_conversation(view, row.stream, {_MUTED: int(event.TYPE == "group_muted")})


def _opened(view: UnitOfWork, row: Recorded, seq: int, event: Any) -> None:
    users = tuple(event.users)
    view.put(CONVERSATIONS, (row.stream, "direct", _encode({"users": users}), 1, 0, 0, None, row.shard))
    for user_id in dict.fromkeys(users):
        _join(view, row, seq, user_id, None)


def _added(view: UnitOfWork, row: Recorded, seq: int, event: Any) -> None:
    _join(view, row, seq, event.user_id, event.role)


def _gone(view: UnitOfWork, row: Recorded, seq: int, event: Any) -> None:
    user_id = getattr(event, "user_id", None) or event.actor
    key = (row.stream, _member(row.stream, user_id))
    member = view.get(MEMBERS, key)
    if member is None or member[_LEFT_SEQ] is not None:
        return
    ranges = _ranges(member[_RANGES])
    ranges[-1][1] = seq
    columns: dict[int, Value] = {
        _LEFT_SEQ: seq,
        _LEFT_AT: row.event.at,
        _RANGES: _encode(ranges),
        _ALIAS: None,
        _MUTED_UNTIL: None,
        _KEPT: _kept(view, row.stream),
    }
    _change_member(view, row.stream, user_id, columns)
    _count(view, row.stream, -1)


def _alias_changed(view: UnitOfWork, row: Recorded, _seq: int, event: Any) -> None:
    _change_member(view, row.stream, event.user_id, {_ALIAS: event.alias})


def _member_muted(view: UnitOfWork, row: Recorded, _seq: int, event: Any) -> None:
    muted_until = event.until if event.TYPE == "member_muted" else None
    _change_member(view, row.stream, event.user_id, {_MUTED_UNTIL: muted_until})


def _role_changed(view: UnitOfWork, row: Recorded, _seq: int, event: Any) -> None:
    _change_member(view, row.stream, event.user_id, {_ROLE: event.role})


def _transferred(view: UnitOfWork, row: Recorded, _seq: int, event: Any) -> None:
    old, new = event.from_, event.to
    _change_member(view, row.stream, old, {_ROLE: "admin"})
    _change_member(view, row.stream, new, {_ROLE: "owner"})
    settings = {**_settings(view, row.stream), "owner": new}
    _change_conversation(view, row.stream, {_SETTINGS: _encode(settings)})


def _join(view: UnitOfWork, row: Recorded, seq: int, user_id: str, role: str | None) -> None:
    member_name = _member(row.stream, user_id)
    member = view.get(MEMBERS, (row.stream, member_name))
    if member is not None and member[_LEFT_SEQ] is None:
        _change_member(view, row.stream, user_id, {_ROLE: role})
        return
    conversation = view.get(CONVERSATIONS, (row.stream,))
    visible = conversation is not None and conversation[_VISIBLE] == 1
    if visible:
        ranges: list[list[int | None]] = [[1, None]]
    else:
        ranges = [*([] if member is None else _ranges(member[_RANGES])), [seq, None]]
    view.put(
        MEMBERS,
        (row.stream, member_name, role, None, row.event.at, seq, None, None, None, _encode(ranges), None),
    )
    _count(view, row.stream, 1)


def _count(view: UnitOfWork, stream: str, change: int) -> None:
    conversation = view.get(CONVERSATIONS, (stream,))
    if conversation is not None:
        count = conversation[_COUNT]
        assert isinstance(count, int)
        view.put(CONVERSATIONS, (*conversation[:_COUNT], count + change, *conversation[_COUNT + 1 :]))


def _kept(view: UnitOfWork, stream: str) -> bytes | None:
    conversation = view.get(CONVERSATIONS, (stream,))
    settings = None if conversation is None else conversation[_SETTINGS]
    return settings if isinstance(settings, bytes) else None


def _settings(view: UnitOfWork, stream: str) -> dict[str, Any]:
    conversation = view.get(CONVERSATIONS, (stream,))
    if conversation is None:
        return {}
    column = conversation[_SETTINGS]
    assert isinstance(column, bytes)
    settings: dict[str, Any] = _decode(column)
    return settings


def _change_conversation(view: UnitOfWork, stream: str, columns: Mapping[int, Value]) -> None:
    conversation = view.get(CONVERSATIONS, (stream,))
    if conversation is not None and columns:
        changed = list(conversation)
        for index, value in columns.items():
            changed[index] = value
        view.put(CONVERSATIONS, tuple(changed))


def _change_member(view: UnitOfWork, stream: str, user_id: str, columns: Mapping[int, Value]) -> None:
    member = view.get(MEMBERS, (stream, _member(stream, user_id)))
    if member is not None:
        changed = list(member)
        for index, value in columns.items():
            changed[index] = value
        view.put(MEMBERS, tuple(changed))


def _ranges(column: Value) -> list[list[int | None]]:
    assert isinstance(column, bytes)
    ranges: list[list[int | None]] = _decode(column)
    return ranges


def _member(stream: str, user_id: str) -> str:
    return qualified(split(stream)[0], user_id)


_HANDLERS: Mapping[str, Callable[[UnitOfWork, Recorded, int, Any], None]] = {
    "group_created": _created,
    "group_changed": _changed,
    "group_dissolved": _dissolved,
    "group_muted": _group_muted,
    "group_unmuted": _group_muted,
    "direct_opened": _opened,
    "member_added": _added,
    "member_removed": _gone,
    "member_left": _gone,
    "member_alias_changed": _alias_changed,
    "member_muted": _member_muted,
    "member_unmuted": _member_muted,
    "role_changed": _role_changed,
    "owner_transferred": _transferred,
}
