"""Recalls that overtake what was read before them: from a recall on, nothing that a socket is sent shows the message's content."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateways.socket.frames import encode_text_frame, text_of
from projections.shapes import SyncedConversation
from projections.wire import WireEvent, decode_event, redacted

RECALLS_MAX = 10_000
"""Noted for one answer; more cannot pass in the seconds that an answer takes, unless somebody tries to fill the memory."""
_CONTENTS = frozenset({"message_posted", "message_edited"})


class Recalls:
    """What was recalled while an answer of a session was under way, by conversation id."""

    __slots__ = ("_count", "_targets")

    def __init__(self) -> None:
        self._targets: dict[str, set[int]] = {}
        self._count = 0

    def note(self, conversation_id: str, target: int) -> None:
        """The message `target` was recalled."""
        if self._count < RECALLS_MAX:
            self._targets.setdefault(conversation_id, set()).add(target)
        self._count += 1

    @property
    def too_many(self) -> bool:
        """Whether some were not noted."""
        return self._count > RECALLS_MAX

    def applied(self, conversations: Mapping[str, SyncedConversation]) -> Mapping[str, SyncedConversation]:
        """The conversations of an answer as they look now."""
        if not self._targets:
            return conversations
        return {name: self._applied(name, row) for name, row in conversations.items()}

    def _applied(self, name: str, row: SyncedConversation) -> SyncedConversation:
        targets = self._targets.get(name)
        if targets is None or row.events is msgspec.UNSET:
            return row
        events = [
            msgspec.Raw(redacted(bytes(wire))) if _message_of(decode_event(bytes(wire))) in targets else wire
            for wire in row.events
        ]
        return msgspec.structs.replace(row, events=events)


def event_frame(conversation_id: str, wire: bytes) -> bytes:
    """The live frame of a wire event, encoded once for all its receivers."""
    return encode_text_frame(
        b'{"op":"event","conversation_id":"%b",%b' % (conversation_id.encode(), wire[1:])
    )


def without_content(conversation_id: str, frame: bytes, target: int) -> bytes:
    """A live frame as it is after the recall of the message `target`: the same one, if it shows nothing of it."""
    payload = text_of(frame)
    if _message_of(decode_event(payload)) != target:
        return frame
    return event_frame(conversation_id, redacted(payload))


def _message_of(event: WireEvent) -> int | None:
    """The seq of the message whose content the event shows."""
    if event.type not in _CONTENTS:
        return None
    target = event.data.get("target", event.seq)
    assert isinstance(target, int)
    return target
