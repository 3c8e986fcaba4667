"""What every event has in common, and what every decision is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import immutables
import msgspec

WINDOW_MESSAGES = 4096
"""How many of its newest messages a conversation holds in memory at least (at most twice as many). Not a
setting: `evolve` must give the same state everywhere."""


Place = tuple[str, int]
"""Conversation id and seq; an empty id stands for the conversation that a command is for."""


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A fact of one stream. Subclasses are flat; their fields are the storage format and are versioned with
    care.

    `actor` is the user id (or `system`) that caused it, `at` the milliseconds since 1970 UTC of its commit.
    Both stand in the commit or event envelope, never in `data`. Fields named in `BODY` are free-form or
    personal and go through the sealing codec. An older schema is brought to the present one by static
    methods `upcast_vN_vM(state: dict) -> None` on the class (the convention of the `eventsourcing`
    library); `class_version` is the present schema version.
    """

    TYPE: ClassVar[str]
    class_version: ClassVar[int] = 1
    PUBLIC: ClassVar[bool] = True
    """Public events take the next seq of their conversation; private ones have a version only."""
    BODY: ClassVar[tuple[str, ...]] = ()

    actor: str
    at: int


class Command(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="command", tag=True
):
    """An intention; imperative names. What it may do is decided by the aggregate alone.

    Between nodes it travels as JSON under the name of its class; a field that the other node does not know is refused, never ignored.
    """


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds that decisions obey. All are settings."""

    content_bytes: int = 16 * 1024
    custom_bytes: int = 8 * 1024
    group_members: int = 500
    group_members_max: int = 100_000
    members_per_call: int = 200
    pins: int = 50
    reaction_kinds: int = 20
    recall_window_s: int = 120
    edit_window_s: int = 86_400
    mention_all_free_members: int = 20
    sessions_per_user: int = 20


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What every aggregate's state has: the version of its last event and the seq of its last public one."""

    version: int = 0
    seq: int = 0

    @property
    def window_start(self) -> int:
        """Every message with a seq of this or more is in memory."""
        return 0

    @property
    def weight(self) -> int:
        """How much it holds: members and messages, at least 1."""
        return 1


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What decisions need to know of one posted message."""

    author: str
    at: int
    ordinal: int
    recalled: bool = False
    reactions: immutables.Map[str, frozenset[str]] = immutables.Map()
    """Emoji to the users that reacted with it; an emoji without users is absent."""
    edited_seq: int = 0
    """The seq of its last edit, 0 without one."""


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What a message says since the edit with seq `edited_seq` (0: since it was posted)."""

    edited_seq: int
    content: msgspec.Raw


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """Time, ids and facts for one decision; all come in from outside.

    `now` is milliseconds since 1970 UTC and never smaller than the `at` of an earlier event of the stream.
    `new_id` is derived from the command's key, so that a retry makes the same things; several ids of one
    command add a suffix. `unknown_users` are those user ids among the command's that do not exist. `older`
    holds messages that the command aims at and that may lie before the hot window, by seq, as the timeline
    shows them at a position not older than the window's start. `unseen` are those places (conversation id,
    seq) among the command's that are no message which the actor may see. `written` is what the message that an
    edit aims at says, at least as new as what is durable.
    """

    tenant: str
    actor: str
    now: int
    new_id: str
    limits: Limits = Limits()
    importing: bool = False
    unknown_users: frozenset[str] = frozenset()
    older: Mapping[int, Message] = {}
    unseen: frozenset[Place] = frozenset()
    written: Written | None = None
