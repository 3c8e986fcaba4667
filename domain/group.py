"""A group: its settings, members, invites and messages in one stream, so that a removal and a send cannot
race.

Stream name: `g_` and the id of the command that made it. The parts are modules of their own:
`group_settings`, `group_roster`, `group_invites`, `talk`; here they are put together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import immutables
import msgspec
from typing_extensions import override

from domain import conversation, group_invites, group_roster, group_settings, talk
from domain.conversation import Rights
from domain.errors import Problem
from domain.event import Command, Context, Event, State
from domain.group_invites import CreateInvite, InviteCreated, InviteRevoked, Invites, InviteUsed, RevokeInvite
from domain.group_roster import (
    AddMembers,
    ChangeMember,
    LeaveGroup,
    Member,
    MemberAdded,
    MemberAliasChanged,
    MemberLeft,
    MemberMuted,
    MemberRemoved,
    MemberUnmuted,
    OwnerTransferred,
    RemoveMember,
    RoleChanged,
    Roster,
    TransferOwnership,
)
from domain.group_settings import (
    ChangeGroup,
    CreateGroup,
    GroupChanged,
    GroupChanges,
    GroupCreated,
    GroupSettings,
)
from domain.talk import Talk

__all__ = [
    "EVENTS", "AcceptInvite", "AddMembers", "ChangeGroup", "ChangeMember", "CreateGroup", "CreateInvite",
    "DissolveGroup", "GroupChanged", "GroupChanges", "GroupCreated", "GroupDissolved", "GroupMuted",
    "GroupSettings", "GroupState", "GroupUnmuted", "InviteCreated", "InviteRevoked", "InviteUsed",
    "JoinGroup", "LeaveGroup", "Member", "MemberAdded", "MemberAliasChanged", "MemberLeft", "MemberMuted",
    "MemberRemoved", "MemberUnmuted", "MuteGroup", "OwnerTransferred", "RemoveMember", "RevokeInvite",
    "RoleChanged", "TransferOwnership", "UnmuteGroup", "decide", "evolve", "initial",
]  # fmt: skip

# Events


class GroupDissolved(Event, frozen=True, kw_only=True):
    """The group takes nothing more; its members keep what they saw."""

    TYPE: ClassVar[str] = "group_dissolved"


class GroupMuted(Event, frozen=True, kw_only=True):
    """Only admins and the owner may write."""

    TYPE: ClassVar[str] = "group_muted"


class GroupUnmuted(Event, frozen=True, kw_only=True):
    """All members may write again."""

    TYPE: ClassVar[str] = "group_unmuted"


EVENTS: tuple[type[Event], ...] = (
    GroupCreated, GroupChanged, GroupDissolved, GroupMuted, GroupUnmuted, *group_roster.EVENTS,
    *group_invites.EVENTS,
)  # fmt: skip

# State


class GroupState(State, frozen=True, kw_only=True, gc=False):
    """A group; `settings` None: nobody made it."""

    stream: str
    settings: GroupSettings | None = None
    dissolved: bool = False
    muted: bool = False
    roster: Roster = group_roster.NO_ROSTER
    invites: Invites = group_invites.NO_INVITES
    talk: Talk = talk.NO_TALK

    @property
    def members(self) -> immutables.Map[str, Member]:
        """The members by user id."""
        return self.roster.members

    @property
    def former(self) -> immutables.Map[str, int]:
        """Who was a member, and the seq each of them saw last."""
        return self.roster.former

    @property
    @override
    def window_start(self) -> int:
        """Every message with a seq of this or more is in memory."""
        return self.talk.window_start

    @property
    @override
    def weight(self) -> int:
        """Messages and people in memory."""
        return 1 + self.talk.weight + len(self.roster.members) + len(self.roster.former) + len(self.invites)


def initial(stream: str) -> GroupState:
    """A group that nobody made."""
    return GroupState(stream=stream)


def evolve(state: GroupState, event: Event) -> GroupState:
    """The state after `event`; total."""
    version = state.version + 1
    if not event.PUBLIC:
        return msgspec.structs.replace(
            state, version=version, invites=group_invites.evolve(state.invites, event)
        )
    seq = state.seq + 1
    apply = _APPLY.get(type(event))
    if apply is not None:
        return msgspec.structs.replace(apply(state, event, seq), version=version, seq=seq)
    return GroupState(
        version=version,
        seq=seq,
        stream=state.stream,
        settings=state.settings,
        dissolved=state.dissolved,
        muted=state.muted,
        roster=group_roster.evolve(state.roster, event, seq),
        invites=state.invites,
        talk=talk.evolve(state.talk, event, seq),
    )


def _created(state: GroupState, event: GroupCreated, seq: int) -> GroupState:
    if state.settings is not None:
        return state
    roster = group_roster.joined(state.roster, event.owner, "owner", seq, state.talk.ordinal, True)
    return msgspec.structs.replace(state, settings=group_settings.created(event), roster=roster)


def _member_added(state: GroupState, event: MemberAdded, seq: int) -> GroupState:
    visible = state.settings is None or state.settings.history_visible
    roster = group_roster.joined(state.roster, event.user_id, event.role, seq, state.talk.ordinal, visible)
    return msgspec.structs.replace(state, roster=roster)


def _changed(state: GroupState, event: GroupChanged, _seq: int) -> GroupState:
    if state.settings is None:
        return state
    return msgspec.structs.replace(state, settings=group_settings.changed(state.settings, event))


def _dissolved(state: GroupState, _event: GroupDissolved, _seq: int) -> GroupState:
    return msgspec.structs.replace(state, dissolved=True)


def _muted(state: GroupState, _event: GroupMuted, _seq: int) -> GroupState:
    return msgspec.structs.replace(state, muted=True)


def _unmuted(state: GroupState, _event: GroupUnmuted, _seq: int) -> GroupState:
    return msgspec.structs.replace(state, muted=False)


_APPLY: dict[type[Event], Callable[[GroupState, Any, int], GroupState]] = {
    GroupCreated: _created,
    MemberAdded: _member_added,
    GroupChanged: _changed,
    GroupDissolved: _dissolved,
    GroupMuted: _muted,
    GroupUnmuted: _unmuted,
}

# Commands


class DissolveGroup(Command, frozen=True, kw_only=True):
    """End the group."""


class MuteGroup(Command, frozen=True, kw_only=True):
    """Let only admins and the owner write."""


class UnmuteGroup(Command, frozen=True, kw_only=True):
    """Let all members write again."""


class JoinGroup(Command, frozen=True, kw_only=True):
    """Become a member, by a code where one is needed.

    `code_digest` is the code's digest, as in `CreateInvite`.
    """

    code_digest: str | None = None


class AcceptInvite(Command, frozen=True, kw_only=True):
    """Become a member by a code, whatever the group's policy is: who made the invite wanted it."""

    code_digest: str


# Decide


_CLOSED_TO_MUTED = frozenset({"post", "edit"})


def decide(state: GroupState, command: Command, context: Context) -> tuple[Event, ...]:
    """What the command makes of the group. Raises Problem.

    A stranger gets `not_found`, an ex-member `forbidden`, and a member of a dissolved group `gone`.
    """
    action = conversation.ACTIONS.get(type(command))
    if action is not None:
        return _on_messages(state, command, context, action)
    if isinstance(command, CreateGroup):
        return _create(state, command, context)
    if isinstance(command, JoinGroup | AcceptInvite):
        return _join(state, command, context)
    handler = _DECIDE.get(type(command))
    if handler is None:
        raise Problem("not_found", "there is no such conversation")
    _member(state, context)
    return handler(state, command, context)


def _member(state: GroupState, context: Context) -> Member:
    """The actor as a member of a group that stands. Raises Problem."""
    member = state.roster.members.get(context.actor)
    if member is None:
        if context.actor in state.roster.former:
            raise Problem("forbidden", "you are no longer a member")
        raise Problem("not_found", "there is no such conversation")
    if state.dissolved:
        raise Problem("gone", "the group was dissolved")
    return member


def _on_messages(
    state: GroupState, command: Command, context: Context, action: conversation.Action
) -> tuple[Event, ...]:
    member = _member(state, context)
    if action in _CLOSED_TO_MUTED:
        if state.muted and member.role == "member":
            raise Problem("forbidden", "only admins and the owner may write while the group is muted")
        if member.muted_until is not None and group_roster.muted(member, context.now):
            raise Problem("forbidden", "you are muted")
    return conversation.decide(
        state.talk, command, context, _rights(state, member, context), state.roster.members.__contains__
    )


def _rights(state: GroupState, member: Member, context: Context) -> Rights:
    admin = member.role != "member"
    settings = state.settings
    few = len(state.roster.members) <= context.limits.mention_all_free_members
    recall_window_s = None if settings is None else settings.recall_window_s
    edit_window_s = None if settings is None else settings.edit_window_s
    return Rights(admin, admin, admin or few, recall_window_s, edit_window_s)


def _create(state: GroupState, command: CreateGroup, context: Context) -> tuple[Event, ...]:
    if state.version:
        raise Problem("conflict", "this group exists already")
    users = group_roster.checked_users("members", command.members, context)
    others = [user_id for user_id in users if user_id != context.actor]
    created = group_settings.create(command, 1 + len(others), context)
    return (created, *(group_roster.added(user_id, "created", context) for user_id in others))


def _join(state: GroupState, command: JoinGroup | AcceptInvite, context: Context) -> tuple[Event, ...]:
    settings = state.settings
    if settings is None:
        raise Problem("not_found", "there is no such conversation")
    if context.actor in state.roster.members:
        _member(state, context)
        return ()
    by_code = isinstance(command, AcceptInvite) or settings.join == "invite"
    if settings.join == "closed" and not by_code:
        raise Problem("not_found", "there is no such conversation")
    used = None
    if by_code or (command.code_digest is not None and settings.join == "approval"):
        used = group_invites.use(state.invites, command.code_digest, context)
    if state.dissolved:
        raise Problem("gone", "the group was dissolved")
    if used is None and settings.join == "approval":
        raise Problem("unavailable", "approval is not available yet")
    group_roster.require_room(state.roster, settings, 1)
    if used is None:
        return (group_roster.added(context.actor, "joined", context),)
    return (group_roster.added(context.actor, "invite", context), used)


def _dissolve(state: GroupState, _command: DissolveGroup, context: Context) -> tuple[Event, ...]:
    if state.roster.members[context.actor].role != "owner":
        raise Problem("forbidden", "only the owner may do this")
    return (GroupDissolved(actor=context.actor, at=context.now),)


def _mute(state: GroupState, _command: MuteGroup, context: Context) -> tuple[Event, ...]:
    group_roster.require_admin(state.roster, context.actor)
    return () if state.muted else (GroupMuted(actor=context.actor, at=context.now),)


def _unmute(state: GroupState, _command: UnmuteGroup, context: Context) -> tuple[Event, ...]:
    group_roster.require_admin(state.roster, context.actor)
    return (GroupUnmuted(actor=context.actor, at=context.now),) if state.muted else ()


def _change(state: GroupState, command: ChangeGroup, context: Context) -> tuple[Event, ...]:
    group_roster.require_admin(state.roster, context.actor)
    return group_settings.change(_standing(state), command, len(state.roster.members), context)


def _add(state: GroupState, command: AddMembers, context: Context) -> tuple[Event, ...]:
    return group_roster.add(state.roster, _standing(state), command, context)


def _remove(state: GroupState, command: RemoveMember, context: Context) -> tuple[Event, ...]:
    return group_roster.remove(state.roster, command, context)


def _leave(state: GroupState, _command: LeaveGroup, context: Context) -> tuple[Event, ...]:
    return group_roster.leave(state.roster, context)


def _change_member(state: GroupState, command: ChangeMember, context: Context) -> tuple[Event, ...]:
    return group_roster.change(state.roster, command, context)


def _transfer(state: GroupState, command: TransferOwnership, context: Context) -> tuple[Event, ...]:
    return group_roster.transfer(state.roster, command, context)


def _create_invite(state: GroupState, command: CreateInvite, context: Context) -> tuple[Event, ...]:
    group_roster.require_admin(state.roster, context.actor)
    return group_invites.create(state.invites, command, context)


def _revoke_invite(state: GroupState, command: RevokeInvite, context: Context) -> tuple[Event, ...]:
    group_roster.require_admin(state.roster, context.actor)
    return group_invites.revoke(state.invites, command, context)


def _standing(state: GroupState) -> GroupSettings:
    if state.settings is None:
        raise Problem("not_found", "there is no such conversation")
    return state.settings


_DECIDE: dict[type[Command], Callable[[GroupState, Any, Context], tuple[Event, ...]]] = {
    DissolveGroup: _dissolve,
    MuteGroup: _mute,
    UnmuteGroup: _unmute,
    ChangeGroup: _change,
    AddMembers: _add,
    RemoveMember: _remove,
    LeaveGroup: _leave,
    ChangeMember: _change_member,
    TransferOwnership: _transfer,
    CreateInvite: _create_invite,
    RevokeInvite: _revoke_invite,
}
