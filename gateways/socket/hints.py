"""Hints: typing, presence, receipts, inbox numbers. Never events, never repeated, dropped rather than queued."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from domain.errors import Problem
from domain.inbox import ConversationSettingsChanged, ReadMarked
from domain.streams import StreamKind, kind_of, qualified, split
from domain.text import is_user_id
from eventlog.record import Recorded
from gateways.socket import ops
from gateways.socket.pusher import changes_numbers
from gateways.socket.websocket import encode_text_frame

if TYPE_CHECKING:
    from gateways.socket.desk import Schedule, SocketDesk
    from gateways.socket.session import SocketSession

_encode = msgspec.json.Encoder().encode

TYPING_S = 6.0
INBOX_S = 1.0
RECEIPT_MEMBERS_MAX = 100
NUMBERS_LISTENERS_MAX = 1_000
"""Conversations with more live sessions get no inbox hints for each message: that would be a query per member and second."""
INBOX_DIRTY_MAX = 20_000
TYPING_MAX = 50_000
RECEIVED_MAX = 200_000


class Hints:
    """One per gateway."""

    def __init__(self, desk: SocketDesk, schedule: Schedule) -> None:
        self._desk = desk
        self._schedule = schedule
        self._typing: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._typing_timer: object | None = None
        self._dirty: dict[tuple[str, str, str], None] = {}
        self._inbox_timer: object | None = None
        self._received: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._watchers: dict[tuple[str, str], dict[SocketSession, None]] = {}
        self._closed = False

    def close(self) -> None:
        """Nothing is sent any more."""
        self._closed = True

    def frame(self, hint: Mapping[str, Any]) -> bytes:
        """A hint's frame, encoded once for all its receivers."""
        return encode_text_frame(_encode(hint))

    # --- typing ------------------------------------------------------------------------------------------------------------------

    async def typing(self, session: SocketSession, op: ops.Typing) -> None:
        """Tell the other online members; lapses after 6 s. Raises Problem(`not_found`, `forbidden`)."""
        tenant, user_id = session.user
        stream = qualified(tenant, op.conversation_id)
        if stream not in session.streams:
            raise Problem("not_found", "there is no such conversation")
        if kind_of(stream) is StreamKind.DIRECT and await self._blocked_in(
            tenant, op.conversation_id, user_id
        ):
            raise Problem("forbidden", "this conversation is blocked")
        if op.on and len(self._typing) < TYPING_MAX:
            self._typing[stream, user_id] = self._desk.monotonic_s() + TYPING_S
            self._typing.move_to_end((stream, user_id))
            if self._typing_timer is None:
                self._typing_timer = self._schedule(TYPING_S, self._lapse)
        else:
            self._typing.pop((stream, user_id), None)
        self._tell_typing(stream, user_id, on=op.on)

    async def _blocked_in(self, tenant: str, conversation_id: str, user_id: str) -> bool:
        members = await self._desk.views.timeline.member_ids(tenant, conversation_id)
        others = [member for member in members if member != user_id]
        return bool(others) and await self._desk.views.directory.blocked(tenant, user_id, others[0])

    def _lapse(self) -> None:
        self._typing_timer = None
        now_s = self._desk.monotonic_s()
        while self._typing and not self._closed:
            (stream, user_id), due_s = next(iter(self._typing.items()))
            if due_s > now_s:
                self._typing_timer = self._schedule(due_s - now_s, self._lapse)
                return
            del self._typing[stream, user_id]
            self._tell_typing(stream, user_id, on=False)

    def _tell_typing(self, stream: str, user_id: str, *, on: bool) -> None:
        name = split(stream)[1]
        frame = self.frame({"op": "typing", "conversation_id": name, "user_id": user_id, "on": on})
        for session in self._desk.interest.listeners(stream):
            if session.user[1] != user_id:
                session.hint(frame)

    # --- presence ----------------------------------------------------------------------------------------------------------------

    async def subscribe_presence(self, session: SocketSession, op: ops.PresenceOf) -> None:
        """Replace the session's list and tell it how those stand whom it may see. Raises Problem(`validation_failed`)."""
        if len(op.users) > ops.PRESENCE_USERS_MAX:
            raise Problem("validation_failed", f"users: at most {ops.PRESENCE_USERS_MAX}")
        if not all(is_user_id(user) for user in op.users):
            raise Problem("validation_failed", "users: a list of user ids")
        self._unwatch(session)
        session.presence_users = frozenset(op.users)
        tenant = session.user[0]
        for user_id in session.presence_users:
            self._watchers.setdefault((tenant, user_id), {})[session] = None
        for user_id in op.users:
            if await self._may_see(session, user_id):
                session.hint(self._presence_frame(tenant, user_id))

    def presence_changed(self, tenant: str, user_id: str) -> None:
        """Somebody came or went: tell those who watch and may know."""
        watchers = self._watchers.get((tenant, user_id))
        if watchers and not self._closed:
            self._desk.start(self._tell_presence(tenant, user_id, tuple(watchers)))

    async def _tell_presence(self, tenant: str, user_id: str, watchers: tuple[SocketSession, ...]) -> None:
        frame = self._presence_frame(tenant, user_id)
        for session in watchers:
            if user_id in session.presence_users and await self._may_see(session, user_id):
                session.hint(frame)

    def _presence_frame(self, tenant: str, user_id: str) -> bytes:
        row = msgspec.to_builtins(self._desk.presence.row(tenant, user_id))
        return self.frame({"op": "presence", "last_seen": None, **row})

    async def _may_see(self, session: SocketSession, user_id: str) -> bool:
        """Members of a common group may, unless one blocks the other; everybody may see himself."""
        tenant, asker = session.user
        if asker == user_id:
            return True
        theirs = await self._desk.views.timeline.user_conversations(tenant, user_id)
        shared = any(
            access.current and access.kind == "group" and qualified(tenant, name) in session.streams
            for name, access in theirs.items()
        )
        return shared and not await self._desk.views.directory.blocked(tenant, asker, user_id)

    def _unwatch(self, session: SocketSession) -> None:
        tenant = session.user[0]
        for user_id in session.presence_users:
            watchers = self._watchers.get((tenant, user_id))
            if watchers is not None:
                watchers.pop(session, None)
                if not watchers:
                    del self._watchers[tenant, user_id]
        session.presence_users = frozenset()

    def left(self, session: SocketSession) -> None:
        """A socket is gone."""
        self._unwatch(session)

    # --- receipts ----------------------------------------------------------------------------------------------------------------

    def received(self, session: SocketSession, conversation_id: str, seq: int) -> None:
        """A watermark of what reached a device; only a rise is told."""
        tenant, user_id = session.user
        stream = qualified(tenant, conversation_id)
        if self._received.get((stream, user_id), 0) >= seq:
            return
        self._received[stream, user_id] = seq
        self._received.move_to_end((stream, user_id))
        if len(self._received) > RECEIVED_MAX:
            self._received.popitem(last=False)
        self._desk.start(self._tell_receipt(tenant, user_id, conversation_id, {"received": seq}))

    async def _tell_receipt(
        self, tenant: str, user_id: str, conversation_id: str, mark: Mapping[str, int]
    ) -> None:
        """To the other members of small conversations and to one's own devices."""
        frame = self.frame({"op": "receipt", "conversation_id": conversation_id, "user_id": user_id, **mark})
        members = await self._desk.views.timeline.member_ids(tenant, conversation_id)
        for session in tuple(self._desk.interest.sessions_of(tenant, user_id)):
            session.hint(frame)
        if len(members) > RECEIPT_MEMBERS_MAX:
            return
        for session in tuple(self._desk.interest.listeners(qualified(tenant, conversation_id))):
            if session.user[1] != user_id:
                session.hint(frame)

    # --- inbox -------------------------------------------------------------------------------------------------------------------

    def touched(self, stream: str, row: Recorded) -> None:
        """A public event passed the pusher: whose numbers does it change?"""
        event = row.event
        tenant, name = split(stream)
        if isinstance(event, ReadMarked):
            user_id = name.removeprefix("inbox:")
            self._soil(tenant, user_id, event.conversation_id)
            self._desk.start(
                self._tell_receipt(tenant, user_id, event.conversation_id, {"read": event.read_seq})
            )
        elif isinstance(event, ConversationSettingsChanged):
            self._soil(tenant, name.removeprefix("inbox:"), event.conversation_id)
        elif changes_numbers(event):
            listeners = self._desk.interest.listeners(stream)
            if len(listeners) <= NUMBERS_LISTENERS_MAX:
                for session in listeners:
                    self._soil(tenant, session.user[1], name)

    def _soil(self, tenant: str, user_id: str, conversation_id: str) -> None:
        if len(self._dirty) < INBOX_DIRTY_MAX:
            self._dirty[tenant, user_id, conversation_id] = None
        if self._inbox_timer is None and not self._closed:
            self._inbox_timer = self._schedule(INBOX_S, self._tell_inboxes)

    def _tell_inboxes(self) -> None:
        self._inbox_timer = None
        dirty, self._dirty = self._dirty, {}
        if dirty and not self._closed:
            self._desk.start(self._tell_numbers(tuple(dirty)))

    async def _tell_numbers(self, dirty: tuple[tuple[str, str, str], ...]) -> None:
        await self._desk.views.caught_up(self._desk.head_positions())
        for tenant, user_id, conversation_id in dirty:
            sessions = tuple(self._desk.interest.sessions_of(tenant, user_id))
            if not sessions:
                continue
            numbers = await self._desk.views.inbox.numbers(tenant, user_id, conversation_id)
            if numbers is None:
                continue
            frame = self.frame(
                {"op": "inbox", "conversation_id": conversation_id, **msgspec.to_builtins(numbers)}
            )
            for session in sessions:
                session.hint(frame)
