"""What a group is called and how it works: a part of the group, beside its members, invites and messages."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, UnsetType

from domain import text
from domain.errors import Problem, invalid
from domain.event import Command, Context, Event

JoinPolicy = Literal["open", "approval", "invite", "closed"]
JOIN_POLICIES = ("open", "approval", "invite", "closed")
WINDOW_S_MAX = 10 * 366 * 86_400

# Events


class GroupCreated(Event, frozen=True, kw_only=True):
    """The group exists and `owner` is its first member."""

    TYPE: ClassVar[str] = "group_created"
    BODY: ClassVar[tuple[str, ...]] = ("name", "description", "avatar")

    name: str
    join: JoinPolicy
    max_members: int
    history_visible: bool
    members_may_add: bool
    owner: str
    description: str | None = None
    avatar: str | None = None


class GroupChanges(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """New values of settings; what is unset stays, None clears."""

    name: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    avatar: str | UnsetType | None = UNSET
    announcement: str | UnsetType | None = UNSET
    join: JoinPolicy | UnsetType = UNSET
    max_members: int | UnsetType = UNSET
    history_visible: bool | UnsetType = UNSET
    members_may_add: bool | UnsetType = UNSET
    recall_window_s: int | UnsetType | None = UNSET
    edit_window_s: int | UnsetType | None = UNSET


class GroupChanged(Event, frozen=True, kw_only=True):
    """Settings have new values."""

    TYPE: ClassVar[str] = "group_changed"
    BODY: ClassVar[tuple[str, ...]] = ("changes",)

    changes: GroupChanges


# State


class GroupSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings as they stand. The windows are seconds; None: the server's limits."""

    name: str
    description: str | None = None
    avatar: str | None = None
    announcement: str | None = None
    join: JoinPolicy = "closed"
    max_members: int = 500
    history_visible: bool = True
    members_may_add: bool = False
    recall_window_s: int | None = None
    edit_window_s: int | None = None


def created(event: GroupCreated) -> GroupSettings:
    """The settings that a group starts with."""
    return GroupSettings(
        name=event.name,
        description=event.description,
        avatar=event.avatar,
        join=event.join,
        max_members=event.max_members,
        history_visible=event.history_visible,
        members_may_add=event.members_may_add,
    )


def changed(settings: GroupSettings, event: GroupChanged) -> GroupSettings:
    """The settings after a change."""
    return msgspec.structs.replace(settings, **_set_fields(event.changes))


def _set_fields(struct: msgspec.Struct) -> dict[str, Any]:
    values = {name: getattr(struct, name) for name in struct.__struct_fields__}
    return {name: value for name, value in values.items() if value is not UNSET}


# Commands


class CreateGroup(Command, frozen=True, kw_only=True):
    """Make a group with oneself as its owner. `max_members` None: the server's usual number."""

    name: str
    description: str | None = None
    avatar: str | None = None
    members: tuple[str, ...] = ()
    join: str = "closed"
    max_members: int | None = None
    history_visible: bool = True
    members_may_add: bool = False


class ChangeGroup(Command, frozen=True, kw_only=True):
    """Give settings new values; what is unset stays, None (or empty) clears."""

    name: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    avatar: str | UnsetType | None = UNSET
    announcement: str | UnsetType | None = UNSET
    join: str | UnsetType = UNSET
    max_members: int | UnsetType = UNSET
    history_visible: bool | UnsetType = UNSET
    members_may_add: bool | UnsetType = UNSET
    recall_window_s: int | UnsetType | None = UNSET
    edit_window_s: int | UnsetType | None = UNSET


# Decide


def create(command: CreateGroup, member_count: int, context: Context) -> GroupCreated:
    """The first event of a group that starts with so many members. Raises Problem."""
    wanted = _checked(_set_fields(command), context)
    max_members = wanted["max_members"] or context.limits.group_members
    if member_count > max_members:
        raise Problem("conflict", f"the group takes at most {max_members} members")
    return GroupCreated(
        actor=context.actor,
        at=context.now,
        name=wanted["name"],
        description=wanted["description"],
        avatar=wanted["avatar"],
        join=wanted["join"],
        max_members=max_members,
        history_visible=command.history_visible,
        members_may_add=command.members_may_add,
        owner=context.actor,
    )


def change(
    settings: GroupSettings, command: ChangeGroup, member_count: int, context: Context
) -> tuple[Event, ...]:
    """The change of what is not so already. Raises Problem."""
    wanted = _checked(_set_fields(command), context)
    if wanted.get("max_members", member_count) < member_count:
        raise Problem("conflict", "the group has more members already")
    news = {name: value for name, value in wanted.items() if value != getattr(settings, name)}
    if not news:
        return ()
    return (GroupChanged(actor=context.actor, at=context.now, changes=GroupChanges(**news)),)


def _checked(wanted: dict[str, Any], context: Context) -> dict[str, Any]:
    """The values, each as it is stored. Raises Problem."""
    accepted = dict(wanted)
    if "name" in wanted:
        accepted["name"] = text.name("name", wanted["name"])
    if "description" in wanted:
        accepted["description"] = text.prose(
            "description", wanted["description"], text.DESCRIPTION_LENGTH_MAX
        )
    if "announcement" in wanted:
        accepted["announcement"] = text.prose(
            "announcement", wanted["announcement"], text.ANNOUNCEMENT_LENGTH_MAX
        )
    if "avatar" in wanted:
        accepted["avatar"] = text.address("avatar", wanted["avatar"])
    if wanted.get("join", "open") not in JOIN_POLICIES:
        raise invalid("join", f"must be one of {', '.join(JOIN_POLICIES)}")
    _check_between("max_members", wanted.get("max_members"), 1, context.limits.group_members_max)
    for window in ("recall_window_s", "edit_window_s"):
        _check_between(window, wanted.get(window), 0, WINDOW_S_MAX)
    return accepted


def _check_between(field: str, value: int | None, lowest: int, highest: int) -> None:
    if value is not None and not lowest <= value <= highest:
        raise invalid(field, f"must lie between {lowest} and {highest}")
