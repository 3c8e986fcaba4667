"""Inbox hints: the unread numbers of a conversation, told to those whom an event concerns, at most once a second.

What is remembered between two rounds is one entry a conversation, not one a member: a message into a group of 200 costs one here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from domain.inbox import ConversationSettingsChanged, ReadMarked
from domain.streams import owner_of, qualified, split
from domain.talk import MessagePosted, MessageRecalled
from eventlog.record import Recorded
from gateways.socket.websocket import encode_text_frame

if TYPE_CHECKING:
    from gateways.socket.desk import SocketDesk

_encode = msgspec.json.Encoder().encode

ROUND_S = 1.0
LISTENERS_MAX = 1_000
"""Conversations with more live sessions get no hints for each message: that would be a query per member and second."""
DIRTY_MAX = 20_000
"""Conversations, and a user's own marks, that wait for a round."""
ASKED_AT_ONCE = 200
"""Numbers from one snapshot. One question each cost a hop to the reader and back, 60 µs of CPU a message at 1,000 messages/s."""

Entry = tuple[str, str, str]
"""(tenant, user id, conversation id)"""


class InboxNumbers:
    """One per gateway. Hears of events as the pusher passes them, asks the views in rounds."""

    def __init__(self, desk: SocketDesk) -> None:
        self._desk = desk
        self._streams: dict[str, None] = {}
        self._own: dict[Entry, None] = {}
        """The user's own doing, which is told to his devices even if he is no member any more."""
        self._telling = False
        self._timer: object | None = None
        self._closed = False

    def close(self) -> None:
        """Nothing is asked any more."""
        self._closed = True

    def touched(self, stream: str, row: Recorded) -> None:
        """A public event passed the pusher: whose numbers does it change?"""
        event = row.event
        if isinstance(event, MessagePosted | MessageRecalled):
            if stream not in self._streams and len(self._streams) < DIRTY_MAX:
                self._streams[stream] = None
                self._tell_later()
        elif isinstance(event, ReadMarked | ConversationSettingsChanged):
            tenant, user_id = owner_of(stream)
            if self._desk.interest.sessions_of(tenant, user_id) and len(self._own) < DIRTY_MAX:
                self._own[tenant, user_id, event.conversation_id] = None
                self._tell_later()

    def _tell_later(self) -> None:
        """One round at a time, at least `ROUND_S` after the one before."""
        if (self._streams or self._own) and self._timer is None and not self._telling and not self._closed:
            self._timer = self._desk.schedule(ROUND_S, self._begin_round)

    def _begin_round(self) -> None:
        self._timer = None
        streams, self._streams = self._streams, {}
        own, self._own = self._own, {}
        if not self._closed and self._desk.start(self._round, streams, own):
            self._telling = True

    async def _round(self, streams: Mapping[str, None], own: Mapping[Entry, None]) -> None:
        try:
            await self._desk.views.caught_up(self._desk.head_positions())
            asked = iter(
                {**dict.fromkeys(self._listening(streams), False), **dict.fromkeys(own, True)}.items()
            )
            while some := dict(islice(asked, ASKED_AT_ONCE)):
                await self._tell(some)
        finally:
            self._telling = False
            self._tell_later()

    def _listening(self, streams: Mapping[str, None]) -> Iterator[Entry]:
        for stream in streams:
            listeners = self._desk.interest.listeners(stream)
            if len(listeners) <= LISTENERS_MAX:
                name = split(stream)[1]
                for session in listeners:
                    yield (*session.user, name)

    async def _tell(self, asked: Mapping[Entry, bool]) -> None:
        answers = await self._desk.views.inbox.many_numbers(list(asked))
        for ((tenant, user_id, conversation_id), own), numbers in zip(asked.items(), answers, strict=True):
            if numbers is None:
                continue
            hint = {"op": "inbox", "conversation_id": conversation_id, **msgspec.to_builtins(numbers)}
            frame = encode_text_frame(_encode(hint))
            stream = qualified(tenant, conversation_id)
            for session in tuple(self._desk.interest.sessions_of(tenant, user_id)):
                if own or stream in session.streams:
                    session.hint(frame)
