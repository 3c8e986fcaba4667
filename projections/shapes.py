"""Shapes that readers answer with: pages, rows and the access that authorised them. All encode with msgspec as they stand on the wire."""

from __future__ import annotations

import msgspec

from projections.access import Access, Range

__all__ = [
    "Access",
    "AuditRow",
    "Behind",
    "BlockRow",
    "ConversationRow",
    "HelloAnswer",
    "MemberRow",
    "Numbers",
    "Page",
    "Person",
    "Range",
    "SyncAnswer",
    "SyncedConversation",
    "UserRow",
]


class Page(msgspec.Struct, frozen=True):
    """Rows of a list, each already JSON, and the cursor that walks on (None at the end)."""

    data: list[msgspec.Raw]
    next: str | None = None


class Person(msgspec.Struct, frozen=True, omit_defaults=True):
    """`peer` of a direct conversation."""

    user_id: str
    name: str


class Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """The personal numbers of a conversation: the data of the `inbox` hint."""

    unread: int
    mentions: int
    read_seq: int
    pinned: bool = False
    muted: bool = False


class ConversationRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A row of `GET /v1/conversations`."""

    conversation_id: str
    kind: str
    name: str | msgspec.UnsetType = msgspec.UNSET
    peer: Person | msgspec.UnsetType = msgspec.UNSET
    first_seq: int
    head: int
    last_message: msgspec.Raw
    """A message row, or `null`."""
    unread: int
    mentions: int
    read_seq: int
    pinned: bool
    muted: bool
    left: bool = False


class MemberRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A row of the members list, without `online`. Times are RFC 3339."""

    user_id: str
    name: str
    role: str
    alias: str | None = None
    joined_at: str
    muted_until: str | None = None


class UserRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A public profile."""

    user_id: str
    name: str
    avatar: str | None = None
    bio: str | None = None


class BlockRow(msgspec.Struct, frozen=True):
    """A row of `GET /v1/blocks`; `at` is RFC 3339."""

    user_id: str
    name: str
    at: str


class SyncedConversation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One conversation in a sync answer. With `reset` True only `head` stands beside it."""

    reset: bool = False
    first_seq: int | msgspec.UnsetType = msgspec.UNSET
    head: int
    read_seq: int | msgspec.UnsetType = msgspec.UNSET
    unread: int | msgspec.UnsetType = msgspec.UNSET
    mentions: int | msgspec.UnsetType = msgspec.UNSET
    events: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    """Wire events `{seq,type,actor,at,data}`, ascending."""
    complete: bool | msgspec.UnsetType = msgspec.UNSET
    left: bool = False


class SyncAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /v1/sync`'s data, and the socket's `events` without `op` and `ref`."""

    log_id: str
    conversations: dict[str, SyncedConversation]
    complete: bool
    next: str | None


class Behind(msgspec.Struct, frozen=True):
    """A conversation that misses too much for a hello."""

    conversation_id: str
    have: int
    head: int


class HelloAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a hello with `have` is told: the missed events by conversation, newest activity first, then who is behind or reset.

    `upto` is, per conversation that was named, the highest seq this answer accounts for: live events above it follow. Of the others
    every event follows that came since the hello.
    """

    conversations: dict[str, SyncedConversation]
    behind: list[Behind]
    upto: dict[str, int]


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One event's place in the record, without its content. `at` is milliseconds since 1970 UTC."""

    shard: int
    position: int
    number: int
    stream: str
    version: int
    type: str
    actor: str
    at: int
