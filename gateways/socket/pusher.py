"""The pusher: committed events to sockets. One frame per conversation event, encoded once, whatever the number of receivers.

Membership changes travel in the same ordered stream as the messages: who is added listens from its own `member_added` on, who leaves gets
the event that ended its range and nothing after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from domain.direct import DirectOpened
from domain.event import Event
from domain.group import GroupCreated, GroupDissolved, MemberAdded, MemberLeft, MemberRemoved
from domain.inbox import ConversationSettingsChanged, ReadMarked
from domain.streams import owner_of, split
from domain.talk import MessagePosted, MessageRecalled
from domain.user import UserSessionClosed
from eventlog.record import Committed, Recorded
from gateways.socket.interest import Interest
from gateways.socket.recalls import event_frame
from projections.wire import wire_event

Touched = Callable[[str, Recorded], None]
BURST_EVENTS = 400
"""A flush with more events than this (groups made with hundreds of members) is spread over several turns of the loop, since so many
frames at once would overflow the queue of a reader that is not slow at all."""


class PusherCounters:
    """Plain counters: how often frames were made and how many left."""

    __slots__ = ("deliveries", "encodings")

    def __init__(self) -> None:
        self.encodings = 0
        self.deliveries = 0


class Pusher:
    """Follows the bus. `touched` hears of every public event of a conversation with listeners, for hints."""

    def __init__(self, interest: Interest, touched: Touched) -> None:
        self._interest = interest
        self._touched = touched
        self._burst = False
        self.counters = PusherCounters()

    def follow(self, batch: Sequence[Committed]) -> None:
        """Deliver a batch, in order; but nothing of it to sessions that end in it."""
        self._burst = sum([len(committed.events) for committed in batch]) > BURST_EVENTS
        for committed in batch:
            for row in committed.events:
                if row.seq is None:
                    self._private(row)
        for committed in batch:
            for row in committed.events:
                if row.seq is not None:
                    self._public(row)

    def _private(self, row: Recorded) -> None:
        event = row.event
        if isinstance(event, UserSessionClosed):
            for session in tuple(self._interest.sessions_of(*owner_of(row.stream))):
                if session.session_id == event.session_id:
                    session.end(replaced=event.reason == "replaced")

    def _public(self, row: Recorded) -> None:
        stream = row.stream
        tenant, name = split(stream)
        if name.startswith("inbox:"):
            self._to_user(row, *owner_of(stream))
            return
        event = row.event
        self._begin_listening(tenant, stream, event)
        listeners = self._interest.listeners(stream)
        if listeners:
            frame = self._frame(name, row)
            seq = row.seq or 0
            if isinstance(event, MessageRecalled):
                for session in listeners:
                    session.recalled(stream, event.target)
            if self._burst:
                for session in listeners:
                    session.spread(stream, seq, frame)
            else:
                for session in listeners:
                    session.deliver(stream, seq, frame)
            self.counters.deliveries += len(listeners)
            self._touched(stream, row)
        self._end_listening(tenant, stream, event)

    def _frame(self, conversation_id: str, row: Recorded) -> bytes:
        self.counters.encodings += 1
        return event_frame(conversation_id, wire_event(row))

    def _to_user(self, row: Recorded, tenant: str, user_id: str) -> None:
        sessions = self._interest.sessions_of(tenant, user_id)
        if sessions:
            frame = self._frame("me", row)
            for session in sessions:
                session.deliver(row.stream, row.seq or 0, frame)
            self.counters.deliveries += len(sessions)
        # The others hear of a mark also when its owner, who may have come by REST, has no socket.
        if isinstance(row.event, ReadMarked | ConversationSettingsChanged):
            self._touched(row.stream, row)

    def _begin_listening(self, tenant: str, stream: str, event: Event) -> None:
        if isinstance(event, MessagePosted):
            return
        joining: tuple[str, ...] = ()
        if isinstance(event, MemberAdded):
            joining = (event.user_id,)
        elif isinstance(event, GroupCreated):
            joining = (event.owner,)
        elif isinstance(event, DirectOpened):
            joining = tuple(event.users)
        for user_id in joining:
            for session in self._interest.sessions_of(tenant, user_id):
                session.joined(stream)
                self._interest.listen(session, stream)

    def _end_listening(self, tenant: str, stream: str, event: Event) -> None:
        if isinstance(event, GroupDissolved):
            for session in tuple(self._interest.listeners(stream)):
                self._interest.unlisten(session, stream)
        if not isinstance(event, MemberLeft | MemberRemoved):
            return
        for session in self._interest.sessions_of(tenant, event.user_id):
            session.parted(stream)
            self._interest.unlisten(session, stream)
