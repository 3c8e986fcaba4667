"""A user's account: profile and sessions. Credentials live in the secrets store; events only say that they
changed.

Stream name: `user:ID`. Nothing here is public; what concerns the user's devices is copied into the inbox.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import immutables
import msgspec
from msgspec import UNSET, UnsetType

from domain import text
from domain.errors import Problem, invalid
from domain.event import Command, Context, Event, State
from domain.streams import owner_of

BIO_LENGTH_MAX = 1_024
FriendPolicy = Literal["any", "confirm", "none"]
DeviceKind = Literal["mobile", "desktop", "web", "bot"]
SessionEnd = Literal["ended", "replaced", "limit", "password_changed", "expired", "suspended", "erased"]
DEVICE_KINDS = ("mobile", "desktop", "web", "bot")
FRIEND_POLICIES = ("any", "confirm", "none")
SCOPES = (None, "import")

# Events


class ProfileChanges(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """New values of a profile; what is unset stays, None clears."""

    name: str | UnsetType = UNSET
    bio: str | UnsetType | None = UNSET
    avatar: str | UnsetType | None = UNSET
    friend_policy: FriendPolicy | UnsetType = UNSET


class UserRegistered(Event, frozen=True, kw_only=True):
    """The account exists.

    `credential_id` names its password in the secrets store; None: the tenant authenticates the user.
    """

    TYPE: ClassVar[str] = "user_registered"
    PUBLIC: ClassVar[bool] = False
    BODY: ClassVar[tuple[str, ...]] = ("name",)

    name: str
    credential_id: str | None = None


class UserProfileChanged(Event, frozen=True, kw_only=True):
    """The profile has new values (`friend_policy` beside them, in the clear)."""

    TYPE: ClassVar[str] = "user_profile_changed"
    PUBLIC: ClassVar[bool] = False
    BODY: ClassVar[tuple[str, ...]] = ("changes",)

    changes: ProfileChanges
    friend_policy: FriendPolicy | None = None

    @property
    def everything(self) -> ProfileChanges:
        """All new values in one."""
        if self.friend_policy is None:
            return self.changes
        return msgspec.structs.replace(self.changes, friend_policy=self.friend_policy)


class UserSessionOpened(Event, frozen=True, kw_only=True):
    """A device is logged in."""

    TYPE: ClassVar[str] = "user_session_opened"
    PUBLIC: ClassVar[bool] = False
    BODY: ClassVar[tuple[str, ...]] = ("device_name",)

    session_id: str
    device_id: str
    device_kind: DeviceKind
    scope: str | None = None
    device_name: str | None = None


class UserSessionClosed(Event, frozen=True, kw_only=True):
    """A session has ended, and with it its tokens and sockets."""

    TYPE: ClassVar[str] = "user_session_closed"
    PUBLIC: ClassVar[bool] = False

    session_id: str
    reason: SessionEnd


class UserPasswordChanged(Event, frozen=True, kw_only=True):
    """Another password holds from now on."""

    TYPE: ClassVar[str] = "user_password_changed"
    PUBLIC: ClassVar[bool] = False

    credential_id: str


EVENTS: tuple[type[Event], ...] = (
    UserRegistered, UserProfileChanged, UserSessionOpened, UserSessionClosed, UserPasswordChanged,
)  # fmt: skip

# State


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """An open session."""

    device_id: str
    device_kind: DeviceKind
    opened_at: int
    scope: str | None = None
    device_name: str | None = None


class UserState(State, frozen=True, kw_only=True):
    """An account; `registered_at` None: there is none."""

    stream: str
    registered_at: int | None = None
    name: str = ""
    bio: str | None = None
    avatar: str | None = None
    friend_policy: FriendPolicy = "confirm"
    credential_id: str | None = None
    sessions: immutables.Map[str, Session] = immutables.Map()

    @property
    def user_id(self) -> str:
        """Whose account it is."""
        return owner_of(self.stream)[1]


def initial(stream: str) -> UserState:
    """An account that nobody registered."""
    return UserState(stream=stream)


def evolve(state: UserState, event: Event) -> UserState:
    """The state after `event`; total."""
    apply = _APPLY.get(type(event))
    if apply is not None:
        state = apply(state, event)
    return msgspec.structs.replace(state, version=state.version + 1, seq=state.seq + event.PUBLIC)


def _registered(state: UserState, event: UserRegistered) -> UserState:
    return msgspec.structs.replace(
        state, registered_at=event.at, name=event.name, credential_id=event.credential_id
    )


def _profile_changed(state: UserState, event: UserProfileChanged) -> UserState:
    return msgspec.structs.replace(state, **_set_fields(event.everything))


def _session_opened(state: UserState, event: UserSessionOpened) -> UserState:
    session = Session(
        device_id=event.device_id,
        device_kind=event.device_kind,
        opened_at=event.at,
        scope=event.scope,
        device_name=event.device_name,
    )
    return msgspec.structs.replace(state, sessions=state.sessions.set(event.session_id, session))


def _session_closed(state: UserState, event: UserSessionClosed) -> UserState:
    if event.session_id not in state.sessions:
        return state
    return msgspec.structs.replace(state, sessions=state.sessions.delete(event.session_id))


def _password_changed(state: UserState, event: UserPasswordChanged) -> UserState:
    return msgspec.structs.replace(state, credential_id=event.credential_id)


def _set_fields(changes: ProfileChanges) -> dict[str, Any]:
    values = {name: getattr(changes, name) for name in changes.__struct_fields__}
    return {name: value for name, value in values.items() if value is not UNSET}


_APPLY: dict[type[Event], Callable[[UserState, Any], UserState]] = {
    UserRegistered: _registered,
    UserProfileChanged: _profile_changed,
    UserSessionOpened: _session_opened,
    UserSessionClosed: _session_closed,
    UserPasswordChanged: _password_changed,
}

# Commands


class RegisterUser(Command, frozen=True, kw_only=True):
    """Make the account. Without a name the user is called by the id."""

    name: str | None = None
    credential_id: str | None = None


class ChangeProfile(Command, frozen=True, kw_only=True):
    """Give one's profile new values; what is unset stays, None (or empty) clears `bio` and `avatar`."""

    name: str | UnsetType = UNSET
    bio: str | UnsetType | None = UNSET
    avatar: str | UnsetType | None = UNSET
    friend_policy: str | UnsetType = UNSET


class OpenSession(Command, frozen=True, kw_only=True):
    """Log a device in.

    Without a `session_id` it is the context's new id. The caller has authenticated the user.
    """

    device_id: str
    device_kind: str
    device_name: str | None = None
    scope: str | None = None
    session_id: str | None = None


class CloseSession(Command, frozen=True, kw_only=True):
    """End a session."""

    session_id: str
    reason: SessionEnd = "ended"


class ChangePassword(Command, frozen=True, kw_only=True):
    """Say that another password holds, and end every session but one.

    The caller has verified the old password.
    """

    credential_id: str
    keep_session_id: str | None = None


class Repeat(Command, frozen=True, kw_only=True):
    """Change nothing: only a key that was used before makes an answer of it, the first one."""


# Decide


def decide(state: UserState, command: Command, context: Context) -> tuple[Event, ...]:
    """What the command makes of the account. Raises Problem."""
    handler = _DECIDE.get(type(command))
    if handler is None:
        raise Problem("not_found", "there is no such conversation")
    if state.registered_at is None and type(command) is not RegisterUser:
        raise Problem("not_found", "there is no such user")
    return handler(state, command, context)


def _register(state: UserState, command: RegisterUser, context: Context) -> tuple[Event, ...]:
    user_id = text.user_id("user_id", state.user_id)
    if state.registered_at is not None:
        raise Problem("conflict", "this user id is taken")
    name = user_id if command.name is None else text.name("name", command.name)
    return (
        UserRegistered(actor=context.actor, at=context.now, name=name, credential_id=command.credential_id),
    )


def _change_profile(state: UserState, command: ChangeProfile, context: Context) -> tuple[Event, ...]:
    if context.actor != state.user_id:
        raise Problem("forbidden", "this is somebody else's profile")
    wanted: dict[str, Any] = {}
    if command.name is not UNSET:
        wanted["name"] = text.name("name", command.name)
    if command.bio is not UNSET:
        wanted["bio"] = text.prose("bio", command.bio, BIO_LENGTH_MAX)
    if command.avatar is not UNSET:
        wanted["avatar"] = text.address("avatar", command.avatar)
    changes = {field: value for field, value in wanted.items() if value != getattr(state, field)}
    policy: Any = None if command.friend_policy is UNSET else command.friend_policy
    if policy is not None and policy not in FRIEND_POLICIES:
        raise invalid("friend_policy", f"must be one of {', '.join(FRIEND_POLICIES)}")
    if policy == state.friend_policy:
        policy = None
    if not changes and policy is None:
        return ()
    return (
        UserProfileChanged(
            actor=context.actor, at=context.now, changes=ProfileChanges(**changes), friend_policy=policy
        ),
    )


def _open_session(state: UserState, command: OpenSession, context: Context) -> tuple[Event, ...]:
    session_id = text.opaque_id("session_id", command.session_id or context.new_id)
    if session_id in state.sessions:
        return ()
    device_kind: Any = command.device_kind
    if device_kind not in DEVICE_KINDS:
        raise invalid("device_kind", f"must be one of {', '.join(DEVICE_KINDS)}")
    if command.scope not in SCOPES:
        raise invalid("scope", "must be import, if given")
    opened = UserSessionOpened(
        actor=context.actor,
        at=context.now,
        session_id=session_id,
        device_id=text.opaque_id("device_id", command.device_id),
        device_kind=device_kind,
        scope=command.scope,
        device_name=None if command.device_name is None else text.name("device_name", command.device_name),
    )
    return (*_making_room(state, command.device_id, context), opened)


def _making_room(state: UserState, device_id: str, context: Context) -> list[Event]:
    """The ends of the device's older sessions, and of the oldest others beyond the limit."""
    replaced = [key for key, session in state.sessions.items() if session.device_id == device_id]
    others = sorted(
        (session.opened_at, key) for key, session in state.sessions.items() if session.device_id != device_id
    )
    surplus = max(0, len(others) - context.limits.sessions_per_user + 1)
    return [
        *(_closed(key, "replaced", context) for key in sorted(replaced)),
        *(_closed(key, "limit", context) for _, key in others[:surplus]),
    ]


def _close_session(state: UserState, command: CloseSession, context: Context) -> tuple[Event, ...]:
    if command.session_id not in state.sessions:
        raise Problem("not_found", "there is no such session")
    return (_closed(command.session_id, command.reason, context),)


def _change_password(state: UserState, command: ChangePassword, context: Context) -> tuple[Event, ...]:
    if context.actor != state.user_id:
        raise Problem("forbidden", "this is somebody else's password")
    if command.credential_id == state.credential_id:
        return ()
    changed = UserPasswordChanged(actor=context.actor, at=context.now, credential_id=command.credential_id)
    ended = sorted(key for key in state.sessions if key != command.keep_session_id)
    return (changed, *(_closed(key, "password_changed", context) for key in ended))


def _repeat(_state: UserState, _command: Repeat, _context: Context) -> tuple[Event, ...]:
    return ()


def _closed(session_id: str, reason: SessionEnd, context: Context) -> UserSessionClosed:
    return UserSessionClosed(actor=context.actor, at=context.now, session_id=session_id, reason=reason)


_DECIDE: dict[type[Command], Callable[[UserState, Any, Context], tuple[Event, ...]]] = {
    RegisterUser: _register,
    ChangeProfile: _change_profile,
    OpenSession: _open_session,
    CloseSession: _close_session,
    ChangePassword: _change_password,
    Repeat: _repeat,
}
