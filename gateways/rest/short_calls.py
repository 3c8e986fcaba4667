"""The calls that may take the short way: what each is, read from what is plainly right, or left alone.

Reading returns None, or raises Problem or ValueError, for whatever the route of the same path must judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import msgspec

from commands.accounts import user_name
from commands.caller import Answer, Caller, Keyed
from commands.port import CommandPort
from domain import text
from domain.errors import Problem
from domain.event import Command
from domain.group import AddMembers, LeaveGroup
from domain.user import ChangeProfile, UserState
from gateways.json import INTEGER_MAX, canonical_json, strict_decode
from gateways.rest.accounts import profile_change, profile_data
from gateways.rest.call import ME, change_answer, group_of
from gateways.rest.fields import USERS_PER_CALL_MAX
from gateways.rest.messages import SEND_ROUTE, sent_data
from gateways.sending import sending
from gateways.times import milliseconds_of

_ADD_ROUTE = "/v1/groups/{group_id}/members"
_PROFILE_ROUTE = "/v1/users/me"
_LEAVE_ROUTE = "/v1/groups/{group_id}/leave"
_ID = rb"([A-Za-z0-9_.:~-]{1,128})"
_PATHS = re.compile(
    rb"/v1/(?:conversations/%b/messages|groups/%b/members|groups/%b/leave)" % (_ID, _ID, _ID)
).fullmatch


class Order(NamedTuple):
    """What to hand to the desk, and how its answer is told."""

    name: str
    command: Command
    keyed: Keyed


Read = Callable[[Caller, str, str | None, bytes], Order | None]
"""Takes caller, conversation, `Idempotency-Key` and body."""
DataOf = Callable[[CommandPort, Caller, str, Answer], dict[str, Any]]
"""Takes the desk, caller, conversation and the desk's answer. May raise Problem."""


class ShortRoute(NamedTuple):
    """One of the calls."""

    method: str
    template: str
    status: int
    has_body: bool
    read: Read
    data_of: DataOf
    needs_state: bool = False
    """Whether the answer tells of a state that only the process of its owner has in memory."""


class Target(NamedTuple):
    """Where a request line leads; what concerns no conversation stands under `me`."""

    route: ShortRoute
    conversation_id: str


class _Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    at: str
    id: str


class _Send(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a send as `bodies.SendMessage` describes it."""

    client_msg_id: str
    content: msgspec.Raw
    reply_to: Annotated[int, msgspec.Meta(ge=0, le=INTEGER_MAX)] | None = None
    mentions: Annotated[
        list[Annotated[str, msgspec.Meta(min_length=1, max_length=64)]], msgspec.Meta(max_length=200)
    ] = []
    origin: _Origin | None = None


class _AddMembers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`bodies.AddMembers`."""

    user_ids: Annotated[list[str], msgspec.Meta(min_length=1, max_length=USERS_PER_CALL_MAX)]


class _Rename(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`bodies.ChangeProfile` with nothing but a name."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=1_024)]


_rename_decoder = msgspec.json.Decoder(_Rename)
_send_decoder = msgspec.json.Decoder(_Send)
_add_decoder = msgspec.json.Decoder(_AddMembers)


def _send(caller: Caller, conversation_id: str, _key: str | None, body: bytes) -> Order | None:
    sent = strict_decode(_send_decoder, body)
    if bytes(sent.content)[:1] != b"{":
        return None
    origin = sent.origin
    if origin is not None:
        milliseconds_of(origin.at)
    return Order(
        *sending(
            caller,
            conversation_id=conversation_id,
            client_msg_id=sent.client_msg_id,
            content=sent.content,
            reply_to=sent.reply_to,
            mentions=sent.mentions,
            origin=None if origin is None else (origin.at, origin.id),
        )
    )


def _add_members(_caller: Caller, group_id: str, key: str | None, body: bytes) -> Order | None:
    user_ids = strict_decode(_add_decoder, body).user_ids
    if not all(map(text.is_user_id, user_ids)):
        return None
    payload = canonical_json({"user_ids": user_ids})
    keyed = Keyed(f"POST /v1/groups/{group_id}/members", key, payload)
    return Order(group_of(group_id), AddMembers(user_ids=tuple(user_ids)), keyed)


def _leave(_caller: Caller, group_id: str, key: str | None, _body: bytes) -> Order | None:
    keyed = Keyed(f"POST /v1/groups/{group_id}/leave", key, canonical_json(None))
    return Order(group_of(group_id), LeaveGroup(), keyed)


def _rename(caller: Caller, _me: str, key: str | None, body: bytes) -> Order | None:
    name = strict_decode(_rename_decoder, body).name
    given = {"name": text.name("name", name)}
    keyed = Keyed(f"PATCH {_PROFILE_ROUTE}", key, canonical_json(given))
    return Order(user_name(caller.user_id), ChangeProfile(name=given["name"]), keyed)


def _sent(_desk: CommandPort, _caller: Caller, conversation_id: str, answer: Answer) -> dict[str, Any]:
    return sent_data(conversation_id, answer)


def _changed(_desk: CommandPort, _caller: Caller, conversation_id: str, answer: Answer) -> dict[str, Any]:
    return change_answer(conversation_id, answer)


def _profile(desk: CommandPort, caller: Caller, _me: str, answer: Answer) -> dict[str, Any]:
    state = desk.peek_hot(caller.tenant, user_name(caller.user_id))
    if not isinstance(state, UserState):  # evicted within this turn; the same key brings the answer
        raise Problem("unavailable", "try again", retry_after_ms=1_000)
    return profile_change(profile_data(caller.user_id, state), answer)


_GROUP_ROUTES = (
    ShortRoute("POST", SEND_ROUTE, 201, True, _send, _sent),
    ShortRoute("POST", _ADD_ROUTE, 200, True, _add_members, _changed),
    ShortRoute("POST", _LEAVE_ROUTE, 200, False, _leave, _changed),
)
_RENAME = Target(ShortRoute("PATCH", _PROFILE_ROUTE, 200, True, _rename, _profile, needs_state=True), ME)


def target_of(method: bytes, url: bytes) -> Target | None:
    """Where the call goes; None: not plainly to one of the short routes."""
    if method == b"PATCH":
        return _RENAME if url == _PROFILE_ROUTE.encode() else None
    match = _PATHS(url) if method == b"POST" else None
    if match is None or match.lastindex is None:
        return None
    return Target(_GROUP_ROUTES[match.lastindex - 1], match[match.lastindex].decode("ascii"))
