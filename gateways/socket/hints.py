"""Hints: typing, presence, receipts, inbox numbers. Never events, never repeated, dropped rather than queued."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from domain.errors import Problem, invalid
from domain.inbox import ReadMarked
from domain.streams import StreamKind, kind_of, owner_of, qualified, split
from domain.text import is_user_id
from eventlog.record import Recorded
from gateways.routes import RoutedHint
from gateways.sending import conversation_name
from gateways.socket import ops
from gateways.socket.numbers import InboxNumbers
from gateways.socket.websocket import encode_text_frame

if TYPE_CHECKING:
    from gateways.socket.desk import SocketDesk
    from gateways.socket.session import SocketSession

_encode = msgspec.json.Encoder().encode

TYPING_S = 6.0
RECEIPT_MEMBERS_MAX = 100
TYPING_MAX = 50_000
RECEIVED_MAX = 200_000


class Hints:
    """One per gateway."""

    def __init__(self, desk: SocketDesk) -> None:
        self._desk = desk
        self._typing: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._typing_timer: object | None = None
        self._numbers = InboxNumbers(desk)
        self._received: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._watchers: dict[tuple[str, str], dict[SocketSession, None]] = {}
        self._telling: dict[tuple[str, str], bool] = {}
        """Whose presence is being told, and whether it changed again meanwhile."""
        self._closed = False
        desk.routes.hear(self._heard)

    def close(self) -> None:
        """Nothing is sent any more."""
        self._closed = True
        self._numbers.close()

    def frame(self, hint: Mapping[str, Any]) -> bytes:
        """A hint's frame, encoded once for all its receivers."""
        return encode_text_frame(_encode(hint))

    def _heard(self, hint: RoutedHint) -> None:
        """Another gateway tells what somebody there does."""
        if self._closed or self._desk.routes.stale:
            return
        if hint.typing is not None:
            self._show_typing(hint)
        elif hint.received is not None and self._rises(hint):
            self._show_receipt(hint, {"received": hint.received}, to_members=not hint.own)

    # --- typing ------------------------------------------------------------------------------------------------------------------

    async def typing(self, session: SocketSession, op: ops.Typing) -> None:
        """Tell the other online members; lapses after 6 s. Raises Problem(`not_found`, `forbidden`)."""
        tenant, user_id = session.user
        stream = qualified(tenant, conversation_name(op.conversation_id))
        if stream not in session.streams:
            raise await self._not_listening(tenant, user_id, op.conversation_id)
        if kind_of(stream) is StreamKind.DIRECT and await self._blocked(tenant, op.conversation_id):
            raise Problem("forbidden", "this conversation is blocked")
        if op.on and len(self._typing) < TYPING_MAX:
            self._typing[stream, user_id] = self._desk.monotonic_s() + TYPING_S
            self._typing.move_to_end((stream, user_id))
            if self._typing_timer is None:
                self._typing_timer = self._desk.schedule(TYPING_S, self._lapse)
        else:
            self._typing.pop((stream, user_id), None)
        self._tell_typing(stream, user_id, on=op.on)

    async def _not_listening(self, tenant: str, user_id: str, conversation_id: str) -> Problem:
        await self._desk.views.caught_up(self._desk.head_positions())
        access = await self._desk.views.timeline.access(tenant, user_id, conversation_id)
        if access is None:
            return Problem("not_found", "there is no such conversation")
        if access.dissolved and access.role is not None:
            return Problem("gone", "the group is dissolved")
        return Problem("forbidden", "you are no member")

    async def _blocked(self, tenant: str, conversation_id: str) -> bool:
        """Whether a block stands in a pair; asked of the record, since the views linger."""
        return (await self._desk.outline(tenant, conversation_id)).blocked

    def _lapse(self) -> None:
        self._typing_timer = None
        now_s = self._desk.monotonic_s()
        while self._typing and not self._closed:
            (stream, user_id), due_s = next(iter(self._typing.items()))
            if due_s > now_s:
                self._typing_timer = self._desk.schedule(due_s - now_s, self._lapse)
                return
            del self._typing[stream, user_id]
            self._tell_typing(stream, user_id, on=False)

    def _tell_typing(self, stream: str, user_id: str, *, on: bool) -> None:
        tenant, name = split(stream)
        hint = RoutedHint(tenant=tenant, conversation_id=name, user_id=user_id, typing=on)
        self._desk.routes.tell(hint)
        self._show_typing(hint)

    def _show_typing(self, hint: RoutedHint) -> None:
        name, user_id = hint.conversation_id, hint.user_id
        frame = self.frame({"op": "typing", "conversation_id": name, "user_id": user_id, "on": hint.typing})
        for session in self._desk.interest.listeners(qualified(hint.tenant, name)):
            if session.user[1] != user_id:
                session.hint(frame)

    # --- presence ----------------------------------------------------------------------------------------------------------------

    async def subscribe_presence(self, session: SocketSession, op: ops.PresenceOf) -> None:
        """Replace the session's list and tell it how those stand whom it may see. Raises Problem(`validation_failed`)."""
        if len(op.users) > ops.PRESENCE_USERS_MAX:
            raise invalid("users", f"at most {ops.PRESENCE_USERS_MAX}")
        if not all(is_user_id(user) for user in op.users):
            raise invalid("users", "a list of user ids")
        if session.ended:
            return  # Nobody would ever take it off the lists again.
        self._unwatch(session)
        wanted = session.presence_users = frozenset(op.users)
        tenant = session.user[0]
        for user_id in wanted:
            self._watchers.setdefault((tenant, user_id), {})[session] = None
        await self._desk.views.caught_up(self._desk.head_positions())
        visible = await self._desk.views.sight.visible(
            tenant, session.user[1], tuple(dict.fromkeys(op.users))
        )
        frames = await self._presence_frames(tenant, visible)
        if session.presence_users is not wanted:
            return  # A later list has replaced this one, or the socket is gone.
        for frame in frames:
            session.hint(frame)

    def presence_changed(self, tenant: str, user_id: str) -> None:
        """Somebody came or went: tell those who watch and may know."""
        user = (tenant, user_id)
        if user not in self._watchers or self._closed:
            return
        # One after the other for each user: two changes may overtake each other on their way here, the last word is the same.
        if user in self._telling or self._desk.start(self._tell_presence, tenant, user_id):
            self._telling[user] = True

    async def _tell_presence(self, tenant: str, user_id: str) -> None:
        user = (tenant, user_id)
        try:
            while self._telling[user]:
                self._telling[user] = False
                await self._tell_watchers(tenant, user_id, tuple(self._watchers.get(user, ())))
        finally:
            del self._telling[user]

    async def _tell_watchers(self, tenant: str, user_id: str, watchers: tuple[SocketSession, ...]) -> None:
        await self._desk.views.caught_up(self._desk.head_positions())
        askers = dict.fromkeys(session.user[1] for session in watchers)
        visible = frozenset(await self._desk.views.sight.visible(tenant, user_id, tuple(askers)))
        (frame,) = await self._presence_frames(tenant, [user_id])
        for session in watchers:
            if session.user[1] in visible and user_id in session.presence_users:
                session.hint(frame)

    async def _presence_frames(self, tenant: str, user_ids: Sequence[str]) -> list[bytes]:
        rows = await self._desk.presence.of(tenant, user_ids)
        return [self.frame({"op": "presence", "last_seen": None, **msgspec.to_builtins(row)}) for row in rows]

    def watched(self) -> list[tuple[str, str]]:
        """Whose presence somebody here follows."""
        return list(self._watchers)

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
        hint = RoutedHint(tenant=tenant, conversation_id=conversation_id, user_id=user_id, received=seq)
        if self._rises(hint):
            self._desk.start(self._tell_received, hint)

    def _rises(self, hint: RoutedHint) -> bool:
        place, seq = (qualified(hint.tenant, hint.conversation_id), hint.user_id), hint.received or 0
        if self._received.get(place, 0) >= seq:
            return False
        self._received[place] = seq
        self._received.move_to_end(place)
        if len(self._received) > RECEIVED_MAX:
            self._received.popitem(last=False)
        return True

    async def _tell_received(self, hint: RoutedHint) -> None:
        to_members = await self._for_members(hint)
        self._desk.routes.tell(msgspec.structs.replace(hint, own=not to_members))
        self._show_receipt(hint, {"received": hint.received}, to_members=to_members)

    async def _tell_read(self, hint: RoutedHint, seq: int) -> None:
        # Every gateway hears of the event itself.
        self._show_receipt(hint, {"read": seq}, to_members=await self._for_members(hint))

    async def _for_members(self, hint: RoutedHint) -> bool:
        """Whether the others are told: only in small conversations, and nothing passes between a pair with a block."""
        outline = await self._desk.outline(hint.tenant, hint.conversation_id)
        return not outline.blocked and outline.members <= RECEIPT_MEMBERS_MAX

    def _show_receipt(self, hint: RoutedHint, mark: Mapping[str, int | None], *, to_members: bool) -> None:
        """To one's own devices, and to the other members."""
        tenant, name, user_id = hint.tenant, hint.conversation_id, hint.user_id
        frame = self.frame({"op": "receipt", "conversation_id": name, "user_id": user_id, **mark})
        for session in tuple(self._desk.interest.sessions_of(tenant, user_id)):
            session.hint(frame)
        if not to_members:
            return
        for session in tuple(self._desk.interest.listeners(qualified(tenant, name))):
            if session.user[1] != user_id:
                session.hint(frame)

    # --- what the pusher tells ---------------------------------------------------------------------------------------------------

    def touched(self, stream: str, row: Recorded) -> None:
        """A public event passed the pusher."""
        self._numbers.touched(stream, row)
        event = row.event
        if isinstance(event, ReadMarked):
            tenant, user_id = owner_of(stream)
            hint = RoutedHint(tenant=tenant, conversation_id=event.conversation_id, user_id=user_id)
            self._desk.start(self._tell_read, hint, event.read_seq)
