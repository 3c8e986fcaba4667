"""Sends, the same from REST and socket: one command, one idempotency scope, one canonical payload."""

from __future__ import annotations

from datetime import datetime

import msgspec

from commands.caller import Caller, Keyed
from domain.content import canonical
from domain.conversation import PostMessage
from domain.errors import Problem, invalid
from domain.streams import direct_conversation_id
from domain.talk import Origin

CLIENT_MSG_ID_MAX = 128
_encode = msgspec.json.Encoder().encode


def sending(
    caller: Caller,
    *,
    conversation_id: str | None,
    to: str | None = None,
    client_msg_id: str,
    content: msgspec.Raw,
    reply_to: int | None = None,
    mentions: list[str] | None = None,
    origin: tuple[str, str] | None = None,
) -> tuple[str, PostMessage, Keyed]:
    """(conversation id, command, key) of a send. `origin` is (RFC 3339 time, id). Raises Problem."""
    if (conversation_id is None) == (to is None):
        raise invalid("conversation_id", "exactly one of conversation_id and to is needed")
    if not 1 <= len(client_msg_id) <= CLIENT_MSG_ID_MAX:
        raise invalid("client_msg_id", f"1 to {CLIENT_MSG_ID_MAX} characters")
    name = (
        conversation_id
        if conversation_id is not None
        else direct_conversation_id(caller.tenant, caller.user_id, to or "")
    )
    command = PostMessage(
        client_msg_id=client_msg_id,
        content=content,
        reply_to=reply_to,
        mentions=tuple(mentions or ()),
        origin=None if origin is None else _origin(caller, *origin),
        to=to,
    )
    payload = canonical(content)
    if reply_to is not None or mentions or origin is not None:
        payload = _encode([msgspec.Raw(payload), reply_to, mentions or [], origin])
    return name, command, Keyed(name, client_msg_id, payload)


def _origin(caller: Caller, at: str, origin_id: str) -> Origin:
    if not caller.importing:
        raise Problem("forbidden", "an origin may be given only in sessions of scope import")
    try:
        time = datetime.fromisoformat(at)
    except ValueError:
        raise invalid("origin.at", "a time such as 2004-11-15T10:15:00.000Z") from None
    if time.tzinfo is None:
        raise invalid("origin.at", "a time zone is needed")
    if not 1 <= len(origin_id) <= CLIENT_MSG_ID_MAX:
        raise invalid("origin.id", f"1 to {CLIENT_MSG_ID_MAX} characters")
    return Origin(at=int(time.timestamp() * 1_000), id=origin_id)
