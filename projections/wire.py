"""Events as clients see them: the JSON object `{seq,type,actor,at,data}`, made once per event and spliced ever after."""

from __future__ import annotations

import calendar
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from domain.event import Event
from eventlog.record import Recorded

_encode = msgspec.json.Encoder().encode


@lru_cache(maxsize=4_096)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


_MILLISECONDS = tuple(f".{millisecond:03d}Z" for millisecond in range(1_000))


def wire_time(at: int) -> str:
    """Milliseconds since 1970 UTC as RFC 3339 text."""
    return _second(at // 1_000) + _MILLISECONDS[at % 1_000]


def time_of(text: str) -> int:
    """The milliseconds of a time that `wire_time` wrote."""
    parts = time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")
    return calendar.timegm(parts) * 1_000 + int(text[20:23])


class WireEvent(msgspec.Struct, frozen=True):
    """An event row read back."""

    seq: int
    type: str
    actor: str
    at: str
    data: dict[str, Any]


class _Wire(msgspec.Struct, gc=False):
    """An event row to be written."""

    seq: int
    type: str
    actor: str
    at: str
    data: dict[str, Any] | _Posted


class _Posted(msgspec.Struct, omit_defaults=True, gc=False):
    message_id: str
    client_msg_id: str
    ordinal: int
    content: msgspec.Raw | None
    reply_to: int | None = None
    mentions: tuple[str, ...] = ()
    origin: dict[str, Any] | None = None
    recalled: bool = False


_FIELDS: Mapping[str, tuple[str, ...]] = {
    "group_created": (
        "name", "description", "avatar", "join", "max_members", "history_visible", "members_may_add", "owner",
    ),
    "group_changed": ("changes",),
    "group_dissolved": (),
    "group_muted": (),
    "group_unmuted": (),
    "member_added": ("user_id", "role", "via"),
    "member_removed": ("user_id",),
    "member_left": ("user_id",),
    "member_alias_changed": ("user_id", "alias"),
    "member_muted": ("user_id", "until"),
    "member_unmuted": ("user_id",),
    "role_changed": ("user_id", "role", "previous"),
    "owner_transferred": ("from", "to"),
    "direct_opened": ("users",),
    "read_marked": ("conversation_id", "read_seq"),
    "conversation_settings_changed": ("conversation_id", "pinned", "muted"),
    "user_blocked": ("user_id",),
    "user_unblocked": ("user_id",),
    "remark_changed": ("user_id", "remark"),
    "profile_changed": ("changes",),
    "session_opened": ("session_id", "device_id"),
    "session_closed": ("session_id", "device_id"),
    "join_request_received": ("conversation_id", "request_id", "user_id", "message"),
    "message_edited": ("target", "content"),
    "message_recalled": ("target", "by_admin"),
    "reaction_added": ("target", "emoji"),
    "reaction_removed": ("target", "emoji"),
    "message_pinned": ("target",),
    "message_unpinned": ("target",),
}  # fmt: skip
"""The fields of `data` by type, as the contract lists them; what else is stored stays inside."""
_TIMES = frozenset({"until"})
_STORED_AS = {"from": "from_"}
_KEPT_WHEN_NONE = frozenset(
    {("member_muted", "until"), ("member_alias_changed", "alias"), ("remark_changed", "remark")}
)
_DROPPED_WHEN_FALSE = frozenset({("message_recalled", "by_admin")})


def wire_event(recorded: Recorded) -> bytes:
    """The JSON object of a public event."""
    event = recorded.event
    kind = event.TYPE
    data = _posted(event) if kind == "message_posted" else _plain_data(event)
    return _encode(_Wire(recorded.seq or 0, kind, event.actor, wire_time(event.at), data))


def _plain_data(event: Event) -> dict[str, Any]:
    kind = event.TYPE
    names = _FIELDS.get(kind)
    if names is None:
        names = tuple(name for name in event.__struct_fields__ if name not in ("actor", "at"))
    data: dict[str, Any] = {}
    for name in names:
        value = getattr(event, _STORED_AS.get(name, name), None)
        if value is None and (kind, name) not in _KEPT_WHEN_NONE:
            continue
        if value is False and (kind, name) in _DROPPED_WHEN_FALSE:
            continue
        data[name] = wire_time(value) if name in _TIMES and value is not None else value
    return data


def _posted(event: Any) -> _Posted:
    origin = event.origin
    return _Posted(
        event.message_id,
        event.client_msg_id,
        event.ordinal,
        event.content,
        event.reply_to,
        event.mentions,
        None if origin is None else {"at": wire_time(origin.at), "id": origin.id},
    )


decode_event = msgspec.json.Decoder(WireEvent).decode


def redacted(wire: bytes) -> bytes:
    """The wire event of a message or an edit whose message was recalled: `content` null, `recalled` true."""
    event = decode_event(wire)
    return _encode(msgspec.structs.replace(event, data={**event.data, "content": None, "recalled": True}))
