"""What REST answers hold; unknown fields are ignored, rows whose fields vary are plain dictionaries."""

# No `from __future__ import annotations`: msgspec reads these annotations when it compiles the decoders.
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")
Record = dict[str, Any]


class Envelope(msgspec.Struct, Generic[T], frozen=True):
    """A success."""

    data: T
    request_id: str = ""
    next: str | None = None


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list; `next` is the cursor of the following one, None at the end."""

    data: list[T]
    next: str | None = None
    request_id: str = ""


class SessionTokens(msgspec.Struct, frozen=True):
    """A session and its two tokens."""

    session_id: str
    access_token: str
    expires_at: datetime
    refresh_token: str = ""
    refresh_expires_at: datetime | None = None


class Account(msgspec.Struct, frozen=True):
    """A user as the owner or others see it."""

    user_id: str
    name: str = ""
    created_at: str = ""
    avatar: str | None = None
    bio: str | None = None
    replayed: bool = False


class Change(msgspec.Struct, frozen=True):
    """A change answer: `seq` of the new event, or `changed: false`."""

    conversation_id: str = ""
    seq: int = 0
    at: str = ""
    position: str = ""
    changed: bool = True
    replayed: bool = False
    invite_id: str = ""
    code: str = ""
    request_id: str = ""
    pending: bool = False


class Posted(msgspec.Struct, frozen=True):
    """A durable message."""

    conversation_id: str
    seq: int
    message_id: str
    ordinal: int
    at: str
    position: str = ""
    replayed: bool = False


class Message(msgspec.Struct, frozen=True):
    """A message row; `content` is None after a recall."""

    seq: int
    message_id: str
    actor: str
    at: str
    client_msg_id: str = ""
    ordinal: int = 0
    content: Record | None = None
    reply_to: int | None = None
    mentions: list[str] = []
    edited_at: str | None = None
    recalled: bool = False
    pinned: bool = False
    reactions: list[Record] = []
    origin: Record | None = None
    conversation_id: str = ""
