"""Who is in a group, and as what: a part of the group. The owner is a member like the others, with the role
`owner`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import immutables
import msgspec
from msgspec import UNSET, UnsetType

from domain import text
from domain.errors import Problem, invalid
from domain.event import Command, Context, Event
from domain.group_settings import GroupSettings

Role = Literal["owner", "admin", "member"]
Via = Literal["created", "added", "joined", "invite", "approved"]

# Events


class MemberAdded(Event, frozen=True, kw_only=True):
    """The user is a member from here on."""

    TYPE: ClassVar[str] = "member_added"

    user_id: str
    role: Role
    via: Via


class MemberRemoved(Event, frozen=True, kw_only=True):
    """The actor removed the user."""

    TYPE: ClassVar[str] = "member_removed"

    user_id: str


class MemberLeft(Event, frozen=True, kw_only=True):
    """The user left."""

    TYPE: ClassVar[str] = "member_left"

    user_id: str


class MemberAliasChanged(Event, frozen=True, kw_only=True):
    """What the user is called in this group; None: as everywhere."""

    TYPE: ClassVar[str] = "member_alias_changed"
    BODY: ClassVar[tuple[str, ...]] = ("alias",)

    user_id: str
    alias: str | None


class MemberMuted(Event, frozen=True, kw_only=True):
    """The user may not write before `until` (milliseconds since 1970 UTC)."""

    TYPE: ClassVar[str] = "member_muted"

    user_id: str
    until: int


class MemberUnmuted(Event, frozen=True, kw_only=True):
    """The user may write again."""

    TYPE: ClassVar[str] = "member_unmuted"

    user_id: str


class RoleChanged(Event, frozen=True, kw_only=True):
    """The user has another role."""

    TYPE: ClassVar[str] = "role_changed"

    user_id: str
    role: Role
    previous: Role


class OwnerTransferred(Event, frozen=True, kw_only=True, rename={"from_": "from"}):
    """`to` is the owner, and `from` an admin."""

    TYPE: ClassVar[str] = "owner_transferred"

    from_: str
    to: str


EVENTS: tuple[type[Event], ...] = (
    MemberAdded, MemberRemoved, MemberLeft, MemberAliasChanged, MemberMuted, MemberUnmuted, RoleChanged,
    OwnerTransferred,
)  # fmt: skip

# State


class Member(msgspec.Struct, frozen=True, gc=False):
    """A member.

    `joined_seq` is the seq of the event that made it one, `joined_ordinal` the number of messages before
    it, `first_seq` where what it sees starts (1: all of the history). An earlier membership may show it more.
    """

    role: Role
    joined_seq: int
    joined_ordinal: int
    alias: str | None = None
    muted_until: int | None = None
    first_seq: int = 1


class Roster(msgspec.Struct, frozen=True, gc=False):
    """The members, and those who were: the seq that each of them saw last."""

    members: immutables.Map[str, Member] = immutables.Map()
    former: immutables.Map[str, int] = immutables.Map()


NO_ROSTER = Roster()


def evolve(roster: Roster, event: Event, seq: int) -> Roster:
    """The roster after a public `event` with that seq, but for joinings; total."""
    apply = _APPLY.get(type(event))
    return roster if apply is None else apply(roster, event, seq)


def joined(roster: Roster, user_id: str, role: Role, seq: int, ordinal: int, history_visible: bool) -> Roster:
    """The roster with one member more, who came by the event `seq`, `ordinal` messages into the group.

    Somebody who is there already stays as is.
    """
    if user_id in roster.members:
        return roster
    former = roster.former.delete(user_id) if user_id in roster.former else roster.former
    member = Member(role, seq, ordinal, first_seq=1 if history_visible else seq)
    return Roster(roster.members.set(user_id, member), former)


def _gone(roster: Roster, event: MemberRemoved | MemberLeft, seq: int) -> Roster:
    if event.user_id not in roster.members:
        return roster
    return Roster(roster.members.delete(event.user_id), roster.former.set(event.user_id, seq))


def _alias_changed(roster: Roster, event: MemberAliasChanged, _seq: int) -> Roster:
    return _with(roster, event.user_id, alias=event.alias)


def _muted(roster: Roster, event: MemberMuted, _seq: int) -> Roster:
    return _with(roster, event.user_id, muted_until=event.until)


def _unmuted(roster: Roster, event: MemberUnmuted, _seq: int) -> Roster:
    return _with(roster, event.user_id, muted_until=None)


def _role_changed(roster: Roster, event: RoleChanged, _seq: int) -> Roster:
    return _with(roster, event.user_id, role=event.role)


def _transferred(roster: Roster, event: OwnerTransferred, _seq: int) -> Roster:
    if event.to not in roster.members:
        return roster
    return _with(_with(roster, event.from_, role="admin"), event.to, role="owner")


def _with(roster: Roster, user_id: str, **changes: Any) -> Roster:
    member = roster.members.get(user_id)
    if member is None:
        return roster
    return Roster(roster.members.set(user_id, msgspec.structs.replace(member, **changes)), roster.former)


_APPLY: dict[type[Event], Callable[[Roster, Any, int], Roster]] = {
    MemberRemoved: _gone,
    MemberLeft: _gone,
    MemberAliasChanged: _alias_changed,
    MemberMuted: _muted,
    MemberUnmuted: _unmuted,
    RoleChanged: _role_changed,
    OwnerTransferred: _transferred,
}

# Commands


class AddMembers(Command, frozen=True, kw_only=True):
    """Add users, all or none."""

    user_ids: tuple[str, ...]


class RemoveMember(Command, frozen=True, kw_only=True):
    """Remove somebody else."""

    user_id: str


class LeaveGroup(Command, frozen=True, kw_only=True):
    """Leave."""


class ChangeMember(Command, frozen=True, kw_only=True):
    """Give a member another role or alias, or mute it until a time (milliseconds since 1970 UTC); None
    clears.
    """

    user_id: str
    role: str | UnsetType = UNSET
    alias: str | UnsetType | None = UNSET
    muted_until: int | UnsetType | None = UNSET


class TransferOwnership(Command, frozen=True, kw_only=True):
    """Make another member the owner."""

    to: str


# Decide: the actor is a member, and the group stands


def add(roster: Roster, settings: GroupSettings, command: AddMembers, context: Context) -> tuple[Event, ...]:
    """One `member_added` for each who is none yet. Raises Problem."""
    if not settings.members_may_add:
        require_admin(roster, context.actor)
    if not command.user_ids:
        raise invalid("user_ids", "must name somebody")
    news = [u for u in checked_users("user_ids", command.user_ids, context) if u not in roster.members]
    require_room(roster, settings, len(news))
    return tuple(added(user_id, "added", context) for user_id in news)


def remove(roster: Roster, command: RemoveMember, context: Context) -> tuple[Event, ...]:
    """Admins remove members, the owner anybody else. Raises Problem."""
    require_admin(roster, context.actor)
    target = _target(roster, command.user_id)
    if target.role == "owner" and command.user_id == context.actor:
        raise Problem("conflict", "the owner must transfer or dissolve the group first")
    _require_over(roster, context.actor, target, "remove")
    return (MemberRemoved(actor=context.actor, at=context.now, user_id=command.user_id),)


def leave(roster: Roster, context: Context) -> tuple[Event, ...]:
    """Anybody but the owner may leave. Raises Problem."""
    if roster.members[context.actor].role == "owner":
        raise Problem("conflict", "the owner must transfer or dissolve the group first")
    return (MemberLeft(actor=context.actor, at=context.now, user_id=context.actor),)


def transfer(roster: Roster, command: TransferOwnership, context: Context) -> tuple[Event, ...]:
    """The owner makes another member the owner. Raises Problem."""
    if roster.members[context.actor].role != "owner":
        raise Problem("forbidden", "only the owner may do this")
    if command.to not in roster.members:
        raise invalid("to", "is no member of the group")
    if command.to == context.actor:
        return ()
    return (OwnerTransferred(actor=context.actor, at=context.now, from_=context.actor, to=command.to),)


def change(roster: Roster, command: ChangeMember, context: Context) -> tuple[Event, ...]:
    """One event for each thing that is not so already. Raises Problem; then nothing is changed."""
    if command.role is UNSET and command.alias is UNSET and command.muted_until is UNSET:
        return ()
    member = _target(roster, command.user_id)
    return (
        *_change_role(roster, member, command, context),
        *_change_alias(roster, member, command, context),
        *_change_mute(roster, member, command, context),
    )


def _change_role(
    roster: Roster, member: Member, command: ChangeMember, context: Context
) -> tuple[Event, ...]:
    role: Any = command.role
    if role is UNSET:
        return ()
    if roster.members[context.actor].role != "owner":
        raise Problem("forbidden", "only the owner may change roles")
    if role not in {"admin", "member"}:
        raise invalid("role", "must be admin or member")
    if member.role == "owner":
        raise Problem("conflict", "the owner's role changes by a transfer only")
    if member.role == role:
        return ()
    return (
        RoleChanged(
            actor=context.actor, at=context.now, user_id=command.user_id, role=role, previous=member.role
        ),
    )


def _change_alias(
    roster: Roster, member: Member, command: ChangeMember, context: Context
) -> tuple[Event, ...]:
    if command.alias is UNSET:
        return ()
    if command.user_id != context.actor:
        require_admin(roster, context.actor)
    alias = text.name("alias", command.alias) if command.alias else None
    if member.alias == alias:
        return ()
    return (MemberAliasChanged(actor=context.actor, at=context.now, user_id=command.user_id, alias=alias),)


def _change_mute(
    roster: Roster, member: Member, command: ChangeMember, context: Context
) -> tuple[Event, ...]:
    until = command.muted_until
    if until is UNSET:
        return ()
    require_admin(roster, context.actor)
    _require_over(roster, context.actor, member, "mute")
    if until is None:
        if not muted(member, context.now):
            return ()
        return (MemberUnmuted(actor=context.actor, at=context.now, user_id=command.user_id),)
    if not context.now < until < 2**53:
        raise invalid("muted_until", "must lie in the future")
    if member.muted_until == until:
        return ()
    return (MemberMuted(actor=context.actor, at=context.now, user_id=command.user_id, until=until),)


def muted(member: Member, now: int) -> bool:
    """Whether the member may not write at that time."""
    return member.muted_until is not None and now < member.muted_until


def require_admin(roster: Roster, actor: str) -> None:
    """Raises `forbidden` unless the actor is an admin or the owner."""
    if roster.members[actor].role == "member":
        raise Problem("forbidden", "only admins and the owner may do this")


def require_room(roster: Roster, settings: GroupSettings, count: int) -> None:
    """Raises `conflict` if so many members more are too many."""
    if count and len(roster.members) + count > settings.max_members:
        raise Problem("conflict", f"the group takes at most {settings.max_members} members")


def added(user_id: str, via: Via, context: Context) -> MemberAdded:
    """The event that makes the user an ordinary member."""
    return MemberAdded(actor=context.actor, at=context.now, user_id=user_id, role="member", via=via)


def checked_users(field: str, user_ids: tuple[str, ...], context: Context) -> tuple[str, ...]:
    """The ids without repeats. Raises `validation_failed` if there are too many or one does not exist."""
    if len(user_ids) > context.limits.members_per_call:
        raise invalid(field, f"must name at most {context.limits.members_per_call} users")
    for index, user_id in enumerate(user_ids):
        text.user_id(f"{field}[{index}]", user_id)
        if user_id in context.unknown_users:
            raise invalid(f"{field}[{index}]", "is no user")
    return tuple(dict.fromkeys(user_ids))


def _target(roster: Roster, user_id: str) -> Member:
    member = roster.members.get(user_id)
    if member is None:
        raise Problem("not_found", "there is no such member")
    return member


def _require_over(roster: Roster, actor: str, target: Member, what: str) -> None:
    if roster.members[actor].role != "owner" and target.role != "member":
        raise Problem("forbidden", f"only the owner may {what} admins")
