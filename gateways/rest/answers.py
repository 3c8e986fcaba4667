"""The shapes of answers, for OpenAPI: endpoints build the JSON themselves, and a test compares the two."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from gateways.rest.problems import PROBLEM_TYPE

Instant = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
T = TypeVar("T")


class Data(BaseModel):
    """Answers may grow fields; clients ignore those that they do not know."""

    model_config = ConfigDict(extra="allow")


class Envelope(BaseModel, Generic[T]):
    """Every success but lists."""

    data: T
    request_id: str


class Listing(BaseModel, Generic[T]):
    """A page of a list."""

    data: list[T]
    next: str | None
    request_id: str


class Session(Data):
    """A new session, or one with new tokens."""

    session_id: str
    access_token: str
    expires_at: Instant
    refresh_token: str
    refresh_expires_at: Instant
    position: str | None = None


class SessionRow(Data):
    """One of the caller's sessions."""

    session_id: str
    device_id: str
    device_kind: str
    device_name: str | None = None
    created_at: Instant
    last_seen: Instant
    current: bool


class NewUser(Data):
    """A user just registered."""

    user_id: str
    name: str
    created_at: Instant


class OwnProfile(Data):
    """The caller's profile."""

    user_id: str
    name: str
    avatar: str | None = None
    bio: str | None = None
    friend_policy: str
    created_at: Instant


class Profile(Data):
    """A public profile."""

    user_id: str
    name: str
    avatar: str | None = None
    bio: str | None = None


class Change(Data):
    """What a change made, or `changed: false`."""

    conversation_id: str | None = None
    seq: int | None = None
    at: Instant | None = None
    position: str | None = None
    changed: bool | None = None
    replayed: bool | None = None


class NewGroup(Data):
    """A group just made; `seq` is its head."""

    conversation_id: str
    seq: int
    position: str
    replayed: bool | None = None


class Group(Data):
    """A group; strangers of open and approval groups see a part."""

    conversation_id: str
    name: str
    description: str | None = None
    avatar: str | None = None
    member_count: int
    join: str
    my_role: str | None = None


class Member(Data):
    """A member of a group."""

    user_id: str
    name: str
    role: str
    alias: str | None = None
    joined_at: Instant
    muted_until: Instant | None = None
    online: bool | None = None


class NewInvite(Data):
    """An invite; the code is shown only to the call that made it and its repetitions."""

    invite_id: str
    code: str
    position: str
    replayed: bool | None = None


class Invite(Data):
    """An invite that stands."""

    invite_id: str
    max_uses: int | None = None
    uses: int
    expires_at: Instant | None = None
    created_by: str


class Reaction(Data):
    """One emoji under a message."""

    emoji: str
    count: int
    users: list[str]
    mine: bool


class Message(Data):
    """A message row."""

    seq: int
    message_id: str
    client_msg_id: str
    ordinal: int
    actor: str
    at: Instant
    content: dict[str, Any] | None
    reply_to: int | None = None
    mentions: list[str] | None = None
    edited_at: Instant | None = None
    recalled: bool | None = None
    pinned: bool | None = None
    reactions: list[Reaction]


class FoundMessage(Message):
    """A message row of a search."""

    conversation_id: str


class SentMessage(Data):
    """A message just sent."""

    conversation_id: str
    seq: int
    message_id: str
    ordinal: int
    at: Instant
    position: str
    replayed: bool | None = None


class Edit(Data):
    """An earlier content of a message."""

    content: dict[str, Any] | None
    at: Instant


class Event(Data):
    """An event of a conversation."""

    seq: int
    type: str
    actor: str
    at: Instant
    data: dict[str, Any]


class Peer(Data):
    """The other side of a direct conversation."""

    user_id: str
    name: str


class Conversation(Data):
    """A conversation of the caller."""

    conversation_id: str
    kind: Literal["group", "direct"]
    name: str | None = None
    peer: Peer | None = None
    first_seq: int
    head: int
    last_message: Message | None
    unread: int
    mentions: int
    read_seq: int
    pinned: bool
    muted: bool
    left: bool | None = None


class Direct(Data):
    """The conversation of a pair."""

    conversation_id: str
    position: str | None = None
    changed: bool | None = None
    replayed: bool | None = None


class Read(Data):
    """The caller's numbers after a read mark."""

    read_seq: int
    unread: int
    position: str | None = None
    changed: bool | None = None


class SyncedConversation(Data):
    """One conversation of a sync; with `reset` only `head` stands beside it."""

    head: int
    reset: bool | None = None
    first_seq: int | None = None
    read_seq: int | None = None
    unread: int | None = None
    mentions: int | None = None
    events: list[Event] | None = None
    complete: bool | None = None
    left: bool | None = None


class Synced(Data):
    """A page of a sync."""

    log_id: str
    conversations: dict[str, SyncedConversation]
    complete: bool
    next: str | None


class Block(Data):
    """Somebody whom the caller blocks."""

    user_id: str
    name: str
    at: Instant


class PresenceRow(Data):
    """Whether somebody is online."""

    user_id: str
    online: bool
    devices: list[str]
    last_seen: Instant | None


class Changed(Data):
    """Whether something changed."""

    changed: bool | None = None
    position: str | None = None
    replayed: bool | None = None


class Health(BaseModel):
    """`/livez`."""

    model_config = ConfigDict(extra="forbid")
    status: Annotated[str, Field(examples=["ok"])]


_PROBLEM = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_MEANINGS = {
    400: "malformed",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict, idempotency_conflict",
    410: "gone",
    413: "too_large",
    415: "unsupported_media_type",
    422: "validation_failed",
    429: "rate_limited",
    431: "headers_too_large",
    503: "overloaded, unavailable",
    504: "outcome_unknown",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: these problems and those that any call may get."""
    return {
        status: {"description": _MEANINGS[status], "content": _PROBLEM}
        for status in sorted({*statuses, 413, 422, 429, 431, 503})
    }


READ = problems(401, 403, 404)
CHANGE = problems(400, 401, 403, 404, 409, 410, 415, 504)
OPEN = problems(400, 401, 409, 415, 504)
