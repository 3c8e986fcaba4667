"""Sends, the same from REST and socket: one command, one idempotency scope, one canonical payload."""

from __future__ import annotations

import re

import msgspec

from commands.caller import Caller, Keyed
from domain.content import canonical
from domain.conversation import PostMessage
from domain.errors import Problem, invalid
from domain.streams import StreamKind, direct_conversation_id, kind_of
from domain.talk import Origin
from domain.text import OPAQUE_ID_PATTERN, client_key, user_id
from gateways.times import milliseconds_of

_encode = msgspec.json.Encoder().encode
_opaque_id = re.compile(OPAQUE_ID_PATTERN).match
_KINDS = frozenset({StreamKind.GROUP, StreamKind.DIRECT})


def conversation_name(conversation_id: str) -> str:
    """The id, if it can be one of a conversation; raises `not_found`.

    No other name may reach the log: one with a slash would be the stream of another tenant.
    """
    if _opaque_id(conversation_id) is None or kind_of(conversation_id) not in _KINDS:
        raise Problem("not_found", "there is no such conversation")
    return conversation_id


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
    client_key("client_msg_id", client_msg_id)
    name = (
        conversation_name(conversation_id)
        if conversation_id is not None
        else direct_conversation_id(caller.tenant, caller.user_id, user_id("to", to or ""))
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
        time = milliseconds_of(at)
    except ValueError as error:
        raise invalid("origin.at", str(error)) from None
    client_key("origin.id", origin_id)
    return Origin(at=time, id=origin_id)
