"""The messages of a conversation as decisions know them: their events, the window of the newest ones, and
the pins.

Stream name: none of its own; a `Talk` is a part of the state of a group or a pair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import immutables
import msgspec

from domain.event import WINDOW_MESSAGES, Event, Message

# Events


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where an imported message comes from: its original time (milliseconds since 1970 UTC) and id."""

    at: int
    id: str


class MessagePosted(Event, frozen=True, kw_only=True):
    """A message. `content` is the client's JSON, untouched."""

    TYPE: ClassVar[str] = "message_posted"
    BODY: ClassVar[tuple[str, ...]] = ("client_msg_id", "content", "origin")

    message_id: str
    ordinal: int
    client_msg_id: str
    content: msgspec.Raw
    reply_to: int | None = None
    mentions: tuple[str, ...] = ()
    origin: Origin | None = None


class MessageEdited(Event, frozen=True, kw_only=True):
    """Another content for the message with seq `target`."""

    TYPE: ClassVar[str] = "message_edited"
    BODY: ClassVar[tuple[str, ...]] = ("content",)

    target: int
    content: msgspec.Raw


class MessageRecalled(Event, frozen=True, kw_only=True):
    """The message is withdrawn: its content, reactions and pin are gone. `by_admin`: by somebody else than
    its author.
    """

    TYPE: ClassVar[str] = "message_recalled"

    target: int
    by_admin: bool = False


class ReactionAdded(Event, frozen=True, kw_only=True):
    """The actor reacted."""

    TYPE: ClassVar[str] = "reaction_added"

    target: int
    emoji: str


class ReactionRemoved(Event, frozen=True, kw_only=True):
    """The actor took a reaction back."""

    TYPE: ClassVar[str] = "reaction_removed"

    target: int
    emoji: str


class MessagePinned(Event, frozen=True, kw_only=True):
    """The message is pinned."""

    TYPE: ClassVar[str] = "message_pinned"

    target: int


class MessageUnpinned(Event, frozen=True, kw_only=True):
    """The message is pinned no longer."""

    TYPE: ClassVar[str] = "message_unpinned"

    target: int


EVENTS: tuple[type[Event], ...] = (
    MessagePosted, MessageEdited, MessageRecalled, ReactionAdded, ReactionRemoved, MessagePinned,
    MessageUnpinned,
)  # fmt: skip

# State

Messages = immutables.Map[int, Message]


class Talk(msgspec.Struct, frozen=True, gc=False):
    """The messages of a conversation that decisions may need.

    Two generations, `young` and `old`, of at most WINDOW_MESSAGES each: when the young one is full it
    becomes the old one, and the old one is forgotten, so that nothing is ever done message by message.
    Every message with a seq of `window_start` or more is there.
    """

    ordinal: int = 0
    """The number of messages ever posted."""
    window_start: int = 0
    young_start: int = 0
    young: Messages = immutables.Map()
    old: Messages = immutables.Map()
    pins: frozenset[int] = frozenset()
    """Seqs of pinned messages, of any age."""

    @property
    def weight(self) -> int:
        """The number of messages in memory."""
        return len(self.young) + len(self.old)

    def message(self, seq: int) -> Message | None:
        """The message with that seq, None if it is not in the window."""
        return self.young.get(seq) or self.old.get(seq)


NO_TALK = Talk()


def evolve(talk: Talk, event: Event, seq: int) -> Talk:
    """The talk after a public `event` with that seq.

    An event of another kind, or one for a message out of the window, changes no message.
    """
    apply = _APPLY.get(type(event))
    return talk if apply is None else apply(talk, event, seq)


def _posted(talk: Talk, event: MessagePosted, seq: int) -> Talk:
    message = Message(author=event.actor, at=event.at, ordinal=event.ordinal)
    young = talk.young
    if len(young) >= WINDOW_MESSAGES:
        return Talk(event.ordinal, talk.young_start, seq, _EMPTY.set(seq, message), young, talk.pins)
    start = talk.young_start if young else seq
    return Talk(event.ordinal, talk.window_start, start, young.set(seq, message), talk.old, talk.pins)


def _edited(talk: Talk, event: MessageEdited, seq: int) -> Talk:
    message = talk.message(event.target)
    if message is None:
        return talk
    return _with(talk, event.target, msgspec.structs.replace(message, edited_seq=seq))


def _recalled(talk: Talk, event: MessageRecalled, _seq: int) -> Talk:
    pins = talk.pins - {event.target}
    talk = msgspec.structs.replace(talk, pins=pins) if pins != talk.pins else talk
    message = talk.message(event.target)
    if message is None:
        return talk
    return _with(talk, event.target, msgspec.structs.replace(message, recalled=True, reactions=_NO_REACTIONS))


def _reacted(talk: Talk, event: ReactionAdded, _seq: int) -> Talk:
    message = talk.message(event.target)
    if message is None or message.recalled:
        return talk
    users = message.reactions.get(event.emoji, _NOBODY) | {event.actor}
    reactions = message.reactions.set(event.emoji, users)
    return _with(talk, event.target, msgspec.structs.replace(message, reactions=reactions))


def _unreacted(talk: Talk, event: ReactionRemoved, _seq: int) -> Talk:
    message = talk.message(event.target)
    if message is None or event.emoji not in message.reactions:
        return talk
    users = message.reactions[event.emoji] - {event.actor}
    reactions = message.reactions.set(event.emoji, users) if users else message.reactions.delete(event.emoji)
    return _with(talk, event.target, msgspec.structs.replace(message, reactions=reactions))


def _pinned(talk: Talk, event: MessagePinned, _seq: int) -> Talk:
    return msgspec.structs.replace(talk, pins=talk.pins | {event.target})


def _unpinned(talk: Talk, event: MessageUnpinned, _seq: int) -> Talk:
    return msgspec.structs.replace(talk, pins=talk.pins - {event.target})


def _with(talk: Talk, seq: int, message: Message) -> Talk:
    if seq in talk.young:
        return msgspec.structs.replace(talk, young=talk.young.set(seq, message))
    return msgspec.structs.replace(talk, old=talk.old.set(seq, message))


_EMPTY: Messages = immutables.Map()
_NO_REACTIONS: immutables.Map[str, frozenset[str]] = immutables.Map()
_NOBODY: frozenset[str] = frozenset()
_APPLY: dict[type[Event], Callable[[Talk, Any, int], Talk]] = {
    MessagePosted: _posted,
    MessageEdited: _edited,
    MessageRecalled: _recalled,
    ReactionAdded: _reacted,
    ReactionRemoved: _unreacted,
    MessagePinned: _pinned,
    MessageUnpinned: _unpinned,
}
