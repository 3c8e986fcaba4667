"""The rows of the timeline view. `stream` is the conversation's stream name, `member` a user id qualified with its tenant."""

from __future__ import annotations

import msgspec

from projections.store import Schema, Snapshot, Table

EVENTS = Table(
    name="events",
    columns=(
        "stream text", "seq int", "messages int", "ordinal int", "wire bytes", "last_message int", "at int", "author text",
        "other_message int",
    ),
    key_size=2,
    newest=True,
    wide=True,
)  # fmt: skip
"""Public events as the wire's JSON. `ordinal`: of a message, else null.

`messages` and `last_message`: how many messages there are up to this seq, and the seq of the last of them (0: none), so that the newest
event says where its conversation ends and no message writes a second row for that. `author` wrote that last message, and
`other_message` is the last one that somebody else wrote before.
"""
CONVERSATIONS = Table(
    name="conversations",
    columns=(
        "stream text", "kind text", "settings bytes", "history_visible int", "member_count int", "muted int", "dissolved_seq int",
        "shard int",
    ),
    key_size=1,
)  # fmt: skip
"""`settings`: JSON of the group's settings, or `{"users": [a, b]}` of a pair."""
MEMBERS = Table(
    name="members",
    columns=(
        "stream text", "member text", "role text", "alias text", "joined_at int", "joined_seq int", "muted_until int",
        "left_seq int", "left_at int", "ranges bytes", "kept bytes",
    ),
    key_size=2,
    indexes=(("member",),),
)  # fmt: skip
"""Whoever is or was in a conversation. `ranges`: JSON `[[first, last|null], …]` of what he sees;
`kept`: the settings as they stood when he left, for he learns nothing later."""
OWN_MESSAGES = Table(name="own_messages", columns=("stream text", "member text", "seq int"), key_size=2)
"""Every group member's own last message: sending counts as reading. Of a pair the newest event says it."""
STATES = Table(
    name="states",
    columns=(
        "stream text",
        "seq int",
        "edit_seq int",
        "edited_at int",
        "recalled int",
        "pinned int",
        "kinds bytes",
    ),
    key_size=2,
)
"""What became of a message after it was posted; untouched messages have no row. `pinned`: the seq of its pinning or 0; `kinds`: JSON of
emoji to number of users, in order."""
EDITS = Table(name="edits", columns=("stream text", "target int", "seq int", "previous int"), key_size=3)
"""The edits of a message, each with the seq of the edit before it."""
REACTIONS = Table(
    name="reactions",
    columns=("stream text", "target int", "emoji text", "member text", "seq int"),
    key_size=4,
    indexes=(("stream", "target", "emoji", "seq"),),
)
"""Reactions of messages that are not recalled; those of recalled ones are left behind and not shown."""
RECALLS = Table(name="recalls", columns=("stream text", "seq int"), key_size=2)
"""The seqs of recalled messages."""
MENTIONS = Table(name="mentions", columns=("member text", "stream text", "seq int"), key_size=3)
"""One row for each mentioned member."""
MENTIONS_OF_ALL = Table(name="mentions_of_all", columns=("stream text", "seq int"), key_size=2)
"""A mention of all is one mark on the conversation."""

TIMELINE = Schema(
    name="timeline",
    version=3,
    tables=(
        EVENTS, CONVERSATIONS, MEMBERS, OWN_MESSAGES, STATES, EDITS, REACTIONS, RECALLS, MENTIONS, MENTIONS_OF_ALL,
    ),
)  # fmt: skip


class Head(msgspec.Struct, frozen=True, array_like=True):
    """Where a conversation ends: its newest seq, its number of messages, the seq of the last message (0: none), the newest time.

    `author` wrote the last message; `other_message` is the last one by somebody else before it (0: none).
    """

    seq: int
    messages: int
    last_message: int
    at: int
    author: str | None
    other_message: int


def head_of(snapshot: Snapshot, stream: str) -> Head | None:
    """The head of a conversation, None when it has no public event."""
    rows = snapshot.scan(EVENTS, (stream,), descending=True, limit=1)
    if not rows:
        return None
    _, seq, messages, _, _, last_message, at, author, other_message = rows[0]
    return msgspec.convert((seq, messages, last_message, at, author, other_message), Head)
