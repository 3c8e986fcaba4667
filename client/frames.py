"""What the server sends on the socket, one struct an `op`; unknown fields are ignored."""

# No `from __future__ import annotations`: msgspec reads these annotations when it compiles the decoders.
from typing import Any

import msgspec

from client.problem import ProblemBody


class Welcome(msgspec.Struct, frozen=True, tag_field="op", tag="welcome"):
    """The answer to hello."""

    user_id: str
    session_id: str
    log_id: str
    heartbeat_s: float = 30
    server_time: str = ""


class Event(msgspec.Struct, frozen=True, tag_field="op", tag="event"):
    """A public event of a conversation, live; `seq` counts them from 1 without a gap within a range."""

    conversation_id: str
    seq: int
    type: str
    actor: str
    at: str
    data: dict[str, Any] = {}


class PageEvent(msgspec.Struct, frozen=True):
    """The same event inside a page, where the conversation is the page's."""

    seq: int
    type: str
    actor: str
    at: str
    data: dict[str, Any] = {}

    def of(self, conversation_id: str) -> Event:
        """The event with its conversation."""
        return Event(conversation_id, self.seq, self.type, self.actor, self.at, self.data)


class ConversationPage(msgspec.Struct, frozen=True):
    """One conversation's part of a sync answer; after `reset` only `head` counts."""

    first_seq: int = 1
    head: int = 0
    read_seq: int = 0
    unread: int = 0
    mentions: int = 0
    events: list[PageEvent] = []
    complete: bool = True
    left: bool = False
    reset: bool = False


class EventsPage(msgspec.Struct, frozen=True, tag_field="op", tag="events"):
    """Missed events: after hello (no `ref`) or as the answer to a sync."""

    log_id: str
    conversations: dict[str, ConversationPage] = {}
    complete: bool = True
    next: str | None = None
    ref: str | None = None

    @property
    def heads(self) -> dict[str, int]:
        """How far each of the conversations goes."""
        return {name: part.head for name, part in self.conversations.items()}


class Behind(msgspec.Struct, frozen=True, tag_field="op", tag="behind"):
    """Hello left this conversation out: sync from `have`; only events above `head` come live."""

    conversation_id: str
    have: int
    head: int

    @property
    def heads(self) -> dict[str, int]:
        """How far the conversation goes."""
        return {self.conversation_id: self.head}


class Ack(msgspec.Struct, frozen=True, tag_field="op", tag="ack"):
    """The durable answer to a changing op.

    A send has all fields, `changed: false` means it was so already.
    """

    ref: str | None = None
    conversation_id: str = ""
    seq: int = 0
    message_id: str = ""
    ordinal: int = 0
    at: str = ""
    position: str = ""
    replayed: bool = False
    changed: bool = True


class Refused(msgspec.Struct, frozen=True, tag_field="op", tag="error"):
    """A refusal; without `ref` it answers something unreadable or a hint."""

    problem: ProblemBody
    ref: str | None = None


class Typing(msgspec.Struct, frozen=True, tag_field="op", tag="typing"):
    """Somebody types, or stopped."""

    conversation_id: str
    user_id: str
    on: bool


class Presence(msgspec.Struct, frozen=True, tag_field="op", tag="presence"):
    """Somebody of the presence subscription came or went."""

    user_id: str
    online: bool
    devices: Any = None
    last_seen: str | None = None


class Receipt(msgspec.Struct, frozen=True, tag_field="op", tag="receipt"):
    """Somebody received or read up to a seq; a hint, never repeated."""

    conversation_id: str
    user_id: str
    received: int | None = None
    read: int | None = None


class Inbox(msgspec.Struct, frozen=True, tag_field="op", tag="inbox"):
    """New numbers of one's own inbox row; a hint, never repeated."""

    conversation_id: str
    unread: int = 0
    mentions: int = 0
    read_seq: int = 0
    pinned: bool = False
    muted: bool = False


class Reconnect(msgspec.Struct, frozen=True, tag_field="op", tag="reconnect"):
    """The server is about to drain: come back after that long."""

    after_ms: int = 0


class Pong(msgspec.Struct, frozen=True, tag_field="op", tag="pong"):
    """The answer to a ping."""

    ref: str | None = None


ServerFrame = (
    Welcome
    | EventsPage
    | Behind
    | Ack
    | Refused
    | Event
    | Typing
    | Presence
    | Receipt
    | Inbox
    | Reconnect
    | Pong
)
Hint = Typing | Presence | Receipt | Inbox | Reconnect

_decoder: msgspec.json.Decoder[ServerFrame] = msgspec.json.Decoder(ServerFrame)


def read_frame(text: bytes) -> ServerFrame | None:
    """The frame, or None for an op of a later version; ValueError if the text is no frame at all."""
    try:
        return _decoder.decode(text)
    except msgspec.ValidationError:
        loose = msgspec.json.decode(text)
        if isinstance(loose, dict) and loose.get("op") not in _KNOWN_OPS:
            return None
        raise


_KNOWN_OPS = frozenset(
    (
        *("welcome", "events", "behind", "ack", "error", "event", "typing", "presence", "receipt", "inbox"),
        *("reconnect", "pong"),
    )
)
