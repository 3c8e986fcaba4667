"""A conversation's messages as an auditor sees them: every content a message ever had, withdrawn ones too."""

from __future__ import annotations

import msgspec

from domain.talk import (
    MessageEdited,
    MessagePinned,
    MessagePosted,
    MessageRecalled,
    MessageUnpinned,
    ReactionAdded,
    ReactionRemoved,
)
from eventlog.record import Recorded
from ops.times import rfc3339


class Edited(msgspec.Struct, frozen=True):
    """A later content. `seq` and `version` are those of the event."""

    content: msgspec.Raw
    at: str
    seq: int | None
    version: int


class Recalled(msgspec.Struct, frozen=True):
    """Who withdrew the message, and when."""

    by: str
    at: str
    by_admin: bool
    seq: int | None
    version: int


class Said(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One message with its whole life. `content` is the first one, as it was sent; `edits` the later ones.

    `reactions`: emoji to users, as they stand; a recall ends them. `origin`: time and id of an import.
    """

    seq: int
    version: int
    ordinal: int
    message_id: str
    client_msg_id: str
    author: str
    at: str
    content: msgspec.Raw
    reply_to: int | None = None
    mentions: list[str] = []
    origin: dict[str, str] | None = None
    edits: list[Edited] = []
    recalled: Recalled | None = None
    pinned: bool = False
    reactions: dict[str, list[str]] = {}

    @property
    def latest(self) -> msgspec.Raw:
        """The newest content."""
        return self.edits[-1].content if self.edits else self.content


class Transcript:
    """A fold of a conversation's events. It grows with the messages."""

    def __init__(self) -> None:
        self._said: dict[int, Said] = {}
        self._times: dict[int, int] = {}
        self._pins: list[int] = []

    def add(self, recorded: Recorded) -> None:
        """Take the next event; what says nothing about messages changes nothing."""
        event = recorded.event
        if isinstance(event, MessagePosted):
            self._post(recorded, event)
        elif isinstance(event, MessageEdited | MessageRecalled | ReactionAdded | ReactionRemoved):
            said = self._said.get(event.target)
            if said is not None:
                _change(said, recorded, event)
            if isinstance(event, MessageRecalled):
                self._unpin(event.target)
        elif isinstance(event, MessagePinned):
            self._unpin(event.target)
            self._pins.append(event.target)
        elif isinstance(event, MessageUnpinned):
            self._unpin(event.target)

    def messages(self) -> list[Said]:
        """In order of seq."""
        return [self._marked(seq) for seq in self._said]

    def messages_by_origin(self) -> list[Said]:
        """In order of the time of their origin (of their own time, where there is none), then seq."""
        return [self._marked(seq) for seq in sorted(self._said, key=lambda seq: (self._times[seq], seq))]

    def pins(self) -> list[int]:
        """Seqs of pinned messages in the order of pinning."""
        return list(self._pins)

    def _marked(self, seq: int) -> Said:
        said = self._said[seq]
        said.pinned = seq in self._pins
        return said

    def _unpin(self, seq: int) -> None:
        if seq in self._pins:
            self._pins.remove(seq)

    def _post(self, recorded: Recorded, event: MessagePosted) -> None:
        assert recorded.seq is not None, "messages are public"
        origin = event.origin
        self._times[recorded.seq] = message_time(event)
        self._said[recorded.seq] = Said(
            seq=recorded.seq,
            version=recorded.version,
            ordinal=event.ordinal,
            message_id=event.message_id,
            client_msg_id=event.client_msg_id,
            author=event.actor,
            at=rfc3339(event.at),
            content=event.content,
            reply_to=event.reply_to,
            mentions=list(event.mentions),
            origin=None if origin is None else {"at": rfc3339(origin.at), "id": origin.id},
        )


def message_time(event: MessagePosted) -> int:
    """When it was said: the time of its origin, else its own."""
    return event.at if event.origin is None else event.origin.at


def _change(
    said: Said, recorded: Recorded, event: MessageEdited | MessageRecalled | ReactionAdded | ReactionRemoved
) -> None:
    at = rfc3339(event.at)
    if isinstance(event, MessageEdited):
        said.edits = [*said.edits, Edited(event.content, at, recorded.seq, recorded.version)]
    elif isinstance(event, MessageRecalled):
        said.recalled = Recalled(event.actor, at, event.by_admin, recorded.seq, recorded.version)
        said.reactions = {}
    elif said.recalled is None:
        said.reactions = _reacted(said.reactions, event)


def _reacted(reactions: dict[str, list[str]], event: ReactionAdded | ReactionRemoved) -> dict[str, list[str]]:
    users = [user for user in reactions.get(event.emoji, []) if user != event.actor]
    if isinstance(event, ReactionAdded):
        users.append(event.actor)
    changed = {**reactions, event.emoji: users}
    return {emoji: names for emoji, names in changed.items() if names}
