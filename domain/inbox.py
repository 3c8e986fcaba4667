"""What concerns one user only: read marks, settings of conversations, and copies of blocks, profile and
sessions.

Stream name: `inbox:ID`; `me` on the wire. Its events are public there, to the user's own devices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import immutables
import msgspec
from msgspec import UNSET
from typing_extensions import override

from domain import text
from domain.errors import Problem, invalid
from domain.event import Command, Context, Event, State
from domain.streams import owner_of
from domain.user import ProfileChanges

SYSTEM = "system"
"""The actor of what the server does by itself."""
MARKS_MAX = 1_000
"""How many read marks one command may bring."""

# Events


class ReadMarked(Event, frozen=True, kw_only=True):
    """The user has read the conversation up to `read_seq`."""

    TYPE: ClassVar[str] = "read_marked"

    conversation_id: str
    read_seq: int


class ConversationSettingsChanged(Event, frozen=True, kw_only=True):
    """The user pinned or muted a conversation, or no longer; None: as it was."""

    TYPE: ClassVar[str] = "conversation_settings_changed"

    conversation_id: str
    pinned: bool | None = None
    muted: bool | None = None


class UserBlocked(Event, frozen=True, kw_only=True):
    """The user blocks `user_id`."""

    TYPE: ClassVar[str] = "user_blocked"

    user_id: str


class UserUnblocked(Event, frozen=True, kw_only=True):
    """The user blocks `user_id` no longer."""

    TYPE: ClassVar[str] = "user_unblocked"

    user_id: str


class RemarkChanged(Event, frozen=True, kw_only=True):
    """What the user calls `user_id`; None: as everybody."""

    TYPE: ClassVar[str] = "remark_changed"
    BODY: ClassVar[tuple[str, ...]] = ("remark",)

    user_id: str
    remark: str | None


class ProfileChanged(Event, frozen=True, kw_only=True):
    """The user's own profile has new values."""

    TYPE: ClassVar[str] = "profile_changed"
    BODY: ClassVar[tuple[str, ...]] = ("changes",)

    changes: ProfileChanges


class SessionOpened(Event, frozen=True, kw_only=True):
    """One of the user's devices is logged in."""

    TYPE: ClassVar[str] = "session_opened"

    session_id: str
    device_id: str


class SessionClosed(Event, frozen=True, kw_only=True):
    """A session of the user has ended."""

    TYPE: ClassVar[str] = "session_closed"

    session_id: str
    device_id: str


class JoinRequestReceived(Event, frozen=True, kw_only=True):
    """Somebody wants to join a group that the user runs."""

    TYPE: ClassVar[str] = "join_request_received"
    BODY: ClassVar[tuple[str, ...]] = ("message",)

    conversation_id: str
    request_id: str
    user_id: str
    message: str | None = None


EVENTS: tuple[type[Event], ...] = (
    ReadMarked, ConversationSettingsChanged, UserBlocked, UserUnblocked, RemarkChanged, ProfileChanged,
    SessionOpened, SessionClosed, JoinRequestReceived,
)  # fmt: skip

# State


class Preference(msgspec.Struct, frozen=True, gc=False):
    """How the user keeps a conversation."""

    pinned: bool = False
    muted: bool = False


class InboxState(State, frozen=True, kw_only=True):
    """One user's own stream."""

    stream: str
    reads: immutables.Map[str, int] = immutables.Map()
    """Conversation id to the seq read."""
    preferences: immutables.Map[str, Preference] = immutables.Map()
    blocked: frozenset[str] = frozenset()
    remarks: immutables.Map[str, str] = immutables.Map()
    profile: ProfileChanges = ProfileChanges()
    """Everything that the profile was ever changed to, so that the same change is not told twice."""
    sessions: immutables.Map[str, str] = immutables.Map()
    """Open session to device."""

    @property
    def user_id(self) -> str:
        """Whose inbox it is."""
        return owner_of(self.stream)[1]

    @property
    @override
    def weight(self) -> int:
        """The number of things in memory."""
        return 1 + len(self.reads) + len(self.preferences) + len(self.blocked) + len(self.remarks)


def initial(stream: str) -> InboxState:
    """An inbox in which nothing happened."""
    return InboxState(stream=stream)


def evolve(state: InboxState, event: Event) -> InboxState:
    """The state after `event`; total."""
    apply = _APPLY.get(type(event))
    changes = {} if apply is None else apply(state, event)
    return msgspec.structs.replace(state, version=state.version + 1, seq=state.seq + event.PUBLIC, **changes)


def _read_marked(state: InboxState, event: ReadMarked) -> dict[str, Any]:
    read_seq = max(event.read_seq, state.reads.get(event.conversation_id, 0))
    return {"reads": state.reads.set(event.conversation_id, read_seq)}


def _settings_changed(state: InboxState, event: ConversationSettingsChanged) -> dict[str, Any]:
    before = state.preferences.get(event.conversation_id, _NO_PREFERENCE)
    after = Preference(
        before.pinned if event.pinned is None else event.pinned,
        before.muted if event.muted is None else event.muted,
    )
    return {"preferences": state.preferences.set(event.conversation_id, after)}


def _user_blocked(state: InboxState, event: UserBlocked) -> dict[str, Any]:
    return {"blocked": state.blocked | {event.user_id}}


def _user_unblocked(state: InboxState, event: UserUnblocked) -> dict[str, Any]:
    return {"blocked": state.blocked - {event.user_id}}


def _remark_changed(state: InboxState, event: RemarkChanged) -> dict[str, Any]:
    if event.remark is not None:
        return {"remarks": state.remarks.set(event.user_id, event.remark)}
    return {"remarks": state.remarks.delete(event.user_id)} if event.user_id in state.remarks else {}


def _profile_changed(state: InboxState, event: ProfileChanged) -> dict[str, Any]:
    return {"profile": msgspec.structs.replace(state.profile, **_set_fields(event.changes))}


def _session_opened(state: InboxState, event: SessionOpened) -> dict[str, Any]:
    return {"sessions": state.sessions.set(event.session_id, event.device_id)}


def _session_closed(state: InboxState, event: SessionClosed) -> dict[str, Any]:
    if event.session_id not in state.sessions:
        return {}
    return {"sessions": state.sessions.delete(event.session_id)}


def _set_fields(changes: ProfileChanges) -> dict[str, Any]:
    values = {name: getattr(changes, name) for name in changes.__struct_fields__}
    return {name: value for name, value in values.items() if value is not UNSET}


_NO_PREFERENCE = Preference()
_APPLY: dict[type[Event], Callable[[InboxState, Any], dict[str, Any]]] = {
    ReadMarked: _read_marked,
    ConversationSettingsChanged: _settings_changed,
    UserBlocked: _user_blocked,
    UserUnblocked: _user_unblocked,
    RemarkChanged: _remark_changed,
    ProfileChanged: _profile_changed,
    SessionOpened: _session_opened,
    SessionClosed: _session_closed,
}

# Commands


class MarkRead(Command, frozen=True, kw_only=True):
    """Raise read marks, by conversation id. The caller has checked membership and heads."""

    marks: Mapping[str, int]


class ChangeSettings(Command, frozen=True, kw_only=True):
    """Pin or mute a conversation for oneself; None: leave it. The caller has checked that the user may know
    it.
    """

    conversation_id: str
    pinned: bool | None = None
    muted: bool | None = None


class ReflectBlock(Command, frozen=True, kw_only=True):
    """The user has blocked somebody."""

    user_id: str


class ReflectUnblock(Command, frozen=True, kw_only=True):
    """The user has taken a block back."""

    user_id: str


class ReflectProfile(Command, frozen=True, kw_only=True):
    """The user's profile has changed."""

    changes: ProfileChanges


class ReflectSessionOpened(Command, frozen=True, kw_only=True):
    """A device of the user is logged in."""

    session_id: str
    device_id: str


class ReflectSessionClosed(Command, frozen=True, kw_only=True):
    """A session of the user has ended."""

    session_id: str


# Decide


def decide(state: InboxState, command: Command, context: Context) -> tuple[Event, ...]:
    """What the command makes of the inbox. Raises Problem. Only the user or the server itself writes here."""
    handler = _DECIDE.get(type(command))
    if handler is None or context.actor not in {state.user_id, SYSTEM}:
        raise Problem("not_found", "there is no such conversation")
    return handler(state, command, context)


def _mark_read(state: InboxState, command: MarkRead, context: Context) -> tuple[Event, ...]:
    if len(command.marks) > MARKS_MAX:
        raise invalid("seq", f"at most {MARKS_MAX} marks at a time")
    for conversation_id, seq in command.marks.items():
        text.opaque_id("conversation_id", conversation_id)
        if not 0 <= seq < 2**63:
            raise invalid("seq", "must be the seq of an event")
    raised = sorted(item for item in command.marks.items() if item[1] > state.reads.get(item[0], 0))
    return tuple(
        ReadMarked(actor=context.actor, at=context.now, conversation_id=conversation_id, read_seq=seq)
        for conversation_id, seq in raised
    )


def _change_settings(state: InboxState, command: ChangeSettings, context: Context) -> tuple[Event, ...]:
    text.opaque_id("conversation_id", command.conversation_id)
    before = state.preferences.get(command.conversation_id, _NO_PREFERENCE)
    pinned = None if command.pinned == before.pinned else command.pinned
    muted = None if command.muted == before.muted else command.muted
    if pinned is None and muted is None:
        return ()
    return (
        ConversationSettingsChanged(
            actor=context.actor,
            at=context.now,
            conversation_id=command.conversation_id,
            pinned=pinned,
            muted=muted,
        ),
    )


def _reflect_block(state: InboxState, command: ReflectBlock, context: Context) -> tuple[Event, ...]:
    if command.user_id in state.blocked:
        return ()
    return (UserBlocked(actor=context.actor, at=context.now, user_id=command.user_id),)


def _reflect_unblock(state: InboxState, command: ReflectUnblock, context: Context) -> tuple[Event, ...]:
    if command.user_id not in state.blocked:
        return ()
    return (UserUnblocked(actor=context.actor, at=context.now, user_id=command.user_id),)


def _reflect_profile(state: InboxState, command: ReflectProfile, context: Context) -> tuple[Event, ...]:
    wanted = _set_fields(command.changes)
    news = {name: value for name, value in wanted.items() if value != getattr(state.profile, name)}
    if not news:
        return ()
    return (ProfileChanged(actor=context.actor, at=context.now, changes=ProfileChanges(**news)),)


def _reflect_opened(state: InboxState, command: ReflectSessionOpened, context: Context) -> tuple[Event, ...]:
    if command.session_id in state.sessions:
        return ()
    return (
        SessionOpened(
            actor=context.actor, at=context.now, session_id=command.session_id, device_id=command.device_id
        ),
    )


def _reflect_closed(state: InboxState, command: ReflectSessionClosed, context: Context) -> tuple[Event, ...]:
    device_id = state.sessions.get(command.session_id)
    if device_id is None:
        return ()
    return (
        SessionClosed(
            actor=context.actor, at=context.now, session_id=command.session_id, device_id=device_id
        ),
    )


_DECIDE: dict[type[Command], Callable[[InboxState, Any, Context], tuple[Event, ...]]] = {
    MarkRead: _mark_read,
    ChangeSettings: _change_settings,
    ReflectBlock: _reflect_block,
    ReflectUnblock: _reflect_unblock,
    ReflectProfile: _reflect_profile,
    ReflectSessionOpened: _reflect_opened,
    ReflectSessionClosed: _reflect_closed,
}
