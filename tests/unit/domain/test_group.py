"""Groups: making, changing, members, roles, joining, invites. Every refusal of the contract has its line."""

from __future__ import annotations

import pytest

from domain.event import Command, Limits
from domain.group import (
    AcceptInvite,
    AddMembers,
    ChangeGroup,
    ChangeMember,
    CreateGroup,
    CreateInvite,
    DissolveGroup,
    GroupChanged,
    GroupChanges,
    GroupCreated,
    GroupDissolved,
    InviteCreated,
    InviteRevoked,
    InviteUsed,
    JoinGroup,
    LeaveGroup,
    Member,
    MemberAdded,
    MemberAliasChanged,
    MemberLeft,
    MemberMuted,
    MemberRemoved,
    MemberUnmuted,
    MuteGroup,
    OwnerTransferred,
    RemoveMember,
    RevokeInvite,
    RoleChanged,
    TransferOwnership,
    UnmuteGroup,
)
from domain.group_invites import INVITES_MAX
from domain.streams import StreamKind
from domain.user import RegisterUser
from tests.unit.domain.specification import NOW, Story


def group(join: str = "closed", limits: Limits | None = None) -> Story:
    """A group of ada (owner), abe (admin), bob and eve; dan left."""
    story = Story(StreamKind.GROUP, "g_1", limits=limits)
    story.does("ada", CreateGroup(name="Tea", members=("abe", "bob", "eve", "dan"), join=join))
    story.does("ada", ChangeMember(user_id="abe", role="admin"))
    story.does("dan", LeaveGroup())
    return story


def roles(story: Story) -> dict[str, str]:
    """Members and roles."""
    return {user_id: member.role for user_id, member in story.state.members.items()}


# Making and changing


def test_the_creator_is_the_owner_and_initial_members_follow() -> None:
    story = Story(StreamKind.GROUP, "g_1")
    events = story.does(
        "ada", CreateGroup(name=" Tea ", description="d", members=("bob", "ada", "eve", "bob"))
    )
    assert events == (
        GroupCreated(
            actor="ada",
            at=NOW,
            name="Tea",
            description="d",
            join="closed",
            max_members=500,
            history_visible=True,
            members_may_add=False,
            owner="ada",
        ),
        MemberAdded(actor="ada", at=NOW, user_id="bob", role="member", via="created"),
        MemberAdded(actor="ada", at=NOW, user_id="eve", role="member", via="created"),
    )
    assert story.state.members["ada"] == Member("owner", 1, 0)
    assert story.state.members["eve"] == Member("member", 3, 0)


@pytest.mark.parametrize(
    "command, refusal",
    [
        (CreateGroup(name=" "), "validation_failed name"),
        (CreateGroup(name="a\x00"), "validation_failed name"),
        (CreateGroup(name="n", description="a\x00"), "validation_failed description"),
        (CreateGroup(name="n", description="a" * 2049), "validation_failed description"),
        (CreateGroup(name="n", avatar="a\nb"), "validation_failed avatar"),
        (CreateGroup(name="n", join="maybe"), "validation_failed join"),
        (CreateGroup(name="n", max_members=0), "validation_failed max_members"),
        (CreateGroup(name="n", max_members=100_001), "validation_failed max_members"),
        (CreateGroup(name="n", members=("ghost",)), "validation_failed members[0]"),
        (CreateGroup(name="n", members=("bob", "Bob")), "validation_failed members[1]"),
        (CreateGroup(name="n", members=("me",)), "validation_failed members[0]"),
        (CreateGroup(name="n", members=tuple(f"u{n}" for n in range(201))), "validation_failed members"),
        (CreateGroup(name="n", members=("bob", "eve"), max_members=2), "conflict"),
    ],
)
def test_groups_that_cannot_be_made(command: Command, refusal: str) -> None:
    story = Story(StreamKind.GROUP, "g_1")
    assert story.refuses("ada", command, unknown=frozenset({"ghost"})) == refusal


def test_a_group_is_made_once() -> None:
    assert group().refuses("ada", CreateGroup(name="Tea")) == "conflict"


def test_changes_tell_only_what_is_new() -> None:
    story = group()
    change = ChangeGroup(name="Tea", description="", announcement="hear", join="open", recall_window_s=5)
    assert story.does("abe", change) == (
        GroupChanged(
            actor="abe", at=NOW, changes=GroupChanges(announcement="hear", join="open", recall_window_s=5)
        ),
    )
    assert story.does("abe", change) == ()
    assert story.does("abe", ChangeGroup()) == ()
    assert story.types("abe", ChangeGroup(announcement=None)) == ["group_changed"]
    assert story.state.settings.announcement is None
    assert story.state.settings.join == "open"


@pytest.mark.parametrize(
    "command, refusal",
    [
        (ChangeGroup(name=""), "validation_failed name"),
        (ChangeGroup(join=""), "validation_failed join"),
        (ChangeGroup(max_members=3), "conflict"),
        (ChangeGroup(max_members=2**62), "validation_failed max_members"),
        (ChangeGroup(recall_window_s=-1), "validation_failed recall_window_s"),
        (ChangeGroup(edit_window_s=10**12), "validation_failed edit_window_s"),
        (ChangeGroup(announcement="a" * 4097), "validation_failed announcement"),
    ],
)
def test_changes_that_are_refused(command: Command, refusal: str) -> None:
    assert group().refuses("ada", command) == refusal


# Who may not


FOR_MEMBERS: tuple[Command, ...] = (
    ChangeGroup(name="x"),
    DissolveGroup(),
    MuteGroup(),
    UnmuteGroup(),
    AddMembers(user_ids=("zoe",)),
    RemoveMember(user_id="bob"),
    LeaveGroup(),
    ChangeMember(user_id="bob", alias="x"),
    TransferOwnership(to="bob"),
    CreateInvite(code_digest="0f"),
    RevokeInvite(invite_id="i"),
)


@pytest.mark.parametrize("command", FOR_MEMBERS)
def test_strangers_ex_members_and_dissolved_groups(command: Command) -> None:
    story = group()
    assert Story(StreamKind.GROUP, "g_2").refuses("ada", command) == "not_found"
    assert story.refuses("mallory", command) == "not_found"
    assert story.refuses("dan", command) == "forbidden"
    story.does("ada", DissolveGroup())
    assert story.refuses("ada", command) == "gone"
    assert story.refuses("bob", command) == "gone"
    assert story.refuses("dan", command) == "forbidden"
    assert story.refuses("mallory", command) == "not_found"


@pytest.mark.parametrize(
    "actor, command, refusal",
    [
        ("bob", ChangeGroup(name="x"), "forbidden"),
        ("bob", MuteGroup(), "forbidden"),
        ("bob", UnmuteGroup(), "forbidden"),
        ("bob", AddMembers(user_ids=("zoe",)), "forbidden"),
        ("bob", RemoveMember(user_id="eve"), "forbidden"),
        ("bob", RemoveMember(user_id="bob"), "forbidden"),
        ("bob", ChangeMember(user_id="eve", alias="x"), "forbidden"),
        ("bob", ChangeMember(user_id="eve", muted_until=NOW + 1), "forbidden"),
        ("bob", ChangeMember(user_id="bob", muted_until=None), "forbidden"),
        ("bob", ChangeMember(user_id="bob", role="admin"), "forbidden"),
        ("bob", CreateInvite(code_digest="0f"), "forbidden"),
        ("bob", RevokeInvite(invite_id="i"), "forbidden"),
        ("bob", DissolveGroup(), "forbidden"),
        ("bob", TransferOwnership(to="bob"), "forbidden"),
        ("abe", DissolveGroup(), "forbidden"),
        ("abe", TransferOwnership(to="abe"), "forbidden"),
        ("abe", ChangeMember(user_id="bob", role="admin"), "forbidden"),
        ("abe", ChangeMember(user_id="abe", role="member"), "forbidden"),
        ("abe", ChangeMember(user_id="ada", muted_until=NOW + 1), "forbidden"),
        ("abe", ChangeMember(user_id="abe", muted_until=NOW + 1), "forbidden"),
        ("abe", RemoveMember(user_id="ada"), "forbidden"),
        ("abe", RemoveMember(user_id="abe"), "forbidden"),
        ("abe", RemoveMember(user_id="dan"), "not_found"),
        ("abe", RemoveMember(user_id="ghost"), "not_found"),
        ("abe", ChangeMember(user_id="dan", alias="x"), "not_found"),
        ("ada", RemoveMember(user_id="ada"), "conflict"),
        ("ada", LeaveGroup(), "conflict"),
        ("ada", ChangeMember(user_id="ada", role="member"), "conflict"),
        ("ada", ChangeMember(user_id="bob", role="owner"), "validation_failed role"),
        ("ada", ChangeMember(user_id="bob", role="king"), "validation_failed role"),
        ("ada", ChangeMember(user_id="bob", alias="a\nb"), "validation_failed alias"),
        ("ada", ChangeMember(user_id="bob", muted_until=NOW), "validation_failed muted_until"),
        ("ada", ChangeMember(user_id="bob", muted_until=2**60), "validation_failed muted_until"),
        ("ada", TransferOwnership(to="dan"), "validation_failed to"),
        ("ada", AddMembers(user_ids=()), "validation_failed user_ids"),
        ("ada", AddMembers(user_ids=("zoe", "ghost")), "validation_failed user_ids[1]"),
        ("ada", AddMembers(user_ids=("Zoe",)), "validation_failed user_ids[0]"),
        ("ada", AddMembers(user_ids=tuple(f"u{n}" for n in range(201))), "validation_failed user_ids"),
        ("ada", CreateInvite(code_digest="0f", max_uses=0), "validation_failed max_uses"),
        ("ada", CreateInvite(code_digest="0f", expires_at=NOW), "validation_failed expires_at"),
        ("ada", CreateInvite(code_digest=""), "validation_failed code_digest"),
        ("ada", RevokeInvite(invite_id="i"), "not_found"),
        ("ada", RegisterUser(), "not_found"),
    ],
)
def test_what_members_may_not(actor: str, command: Command, refusal: str) -> None:
    assert group().refuses(actor, command, unknown=frozenset({"ghost"})) == refusal


# Members


def test_adding_is_all_or_nothing_and_members_are_skipped() -> None:
    story = group()
    assert story.does("abe", AddMembers(user_ids=("zoe", "bob", "zoe", "dan"))) == (
        MemberAdded(actor="abe", at=NOW, user_id="zoe", role="member", via="added"),
        MemberAdded(actor="abe", at=NOW, user_id="dan", role="member", via="added"),
    )
    assert "dan" not in story.state.former
    assert story.does("abe", AddMembers(user_ids=("zoe", "dan"))) == ()


def test_members_may_add_if_the_group_says_so() -> None:
    story = group()
    story.does("ada", ChangeGroup(members_may_add=True))
    assert story.types("bob", AddMembers(user_ids=("zoe",))) == ["member_added"]


def test_a_full_group_takes_nobody_but_those_it_has() -> None:
    story = group("open")
    story.does("ada", ChangeGroup(max_members=5))
    assert story.refuses("ada", AddMembers(user_ids=("zoe", "zac"))) == "conflict"
    story.does("ada", AddMembers(user_ids=("zoe",)))
    assert story.refuses("dan", JoinGroup()) == "conflict"
    assert story.does("ada", AddMembers(user_ids=("zoe", "bob"))) == ()
    assert story.does("bob", JoinGroup()) == ()


def test_leaving_and_being_removed() -> None:
    story = group()
    assert story.does("bob", LeaveGroup()) == (MemberLeft(actor="bob", at=NOW, user_id="bob"),)
    assert story.refuses("bob", LeaveGroup()) == "forbidden"
    assert story.does("abe", RemoveMember(user_id="eve")) == (
        MemberRemoved(actor="abe", at=NOW, user_id="eve"),
    )
    assert story.refuses("abe", RemoveMember(user_id="eve")) == "not_found"
    assert story.types("ada", RemoveMember(user_id="abe")) == ["member_removed"]
    assert roles(story) == {"ada": "owner"}
    assert dict(story.state.former) == {"dan": 7, "bob": 8, "eve": 9, "abe": 10}


def test_roles_aliases_and_mutes_in_one_go() -> None:
    story = group()
    change = ChangeMember(user_id="bob", role="admin", alias=" Bobby ", muted_until=NOW + 5)
    assert story.does("ada", change) == (
        RoleChanged(actor="ada", at=NOW, user_id="bob", role="admin", previous="member"),
        MemberAliasChanged(actor="ada", at=NOW, user_id="bob", alias="Bobby"),
        MemberMuted(actor="ada", at=NOW, user_id="bob", until=NOW + 5),
    )
    assert story.does("ada", change) == ()
    assert story.does("ada", ChangeMember(user_id="bob")) == ()
    assert story.refuses("abe", ChangeMember(user_id="bob", muted_until=None)) == "forbidden"
    assert story.does("ada", ChangeMember(user_id="bob", role="member", alias=None, muted_until=None)) == (
        RoleChanged(actor="ada", at=NOW, user_id="bob", role="member", previous="admin"),
        MemberAliasChanged(actor="ada", at=NOW, user_id="bob", alias=None),
        MemberUnmuted(actor="ada", at=NOW, user_id="bob"),
    )
    assert story.does("ada", ChangeMember(user_id="bob", role="member", alias=None, muted_until=None)) == ()


def test_one_forbidden_part_refuses_the_whole_change() -> None:
    story = group()
    assert story.refuses("abe", ChangeMember(user_id="bob", alias="x", role="admin")) == "forbidden"
    assert story.refuses("bob", ChangeMember(user_id="bob", alias="x", muted_until=NOW + 5)) == "forbidden"
    assert story.types("bob", ChangeMember(user_id="bob", alias="x")) == ["member_alias_changed"]


def test_a_mute_that_ran_out_needs_no_unmuting() -> None:
    story = group()
    story.does("abe", ChangeMember(user_id="bob", muted_until=NOW + 5))
    story.passes(5)
    assert story.does("abe", ChangeMember(user_id="bob", muted_until=None)) == ()


def test_the_owner_hands_over_and_becomes_an_admin() -> None:
    story = group()
    assert story.does("ada", TransferOwnership(to="ada")) == ()
    assert story.does("ada", TransferOwnership(to="bob")) == (
        OwnerTransferred(actor="ada", at=NOW, from_="ada", to="bob"),
    )
    assert roles(story) == {"ada": "admin", "abe": "admin", "bob": "owner", "eve": "member"}
    assert story.types("ada", LeaveGroup()) == ["member_left"]
    assert story.refuses("bob", LeaveGroup()) == "conflict"


def test_muting_and_dissolving() -> None:
    story = group()
    assert story.does("abe", UnmuteGroup()) == ()
    assert story.types("abe", MuteGroup()) == ["group_muted"]
    assert story.does("ada", MuteGroup()) == ()
    assert story.types("ada", UnmuteGroup()) == ["group_unmuted"]
    assert story.does("ada", DissolveGroup()) == (GroupDissolved(actor="ada", at=NOW),)
    assert roles(story) == {"ada": "owner", "abe": "admin", "bob": "member", "eve": "member"}


# Joining


def test_joining_an_open_group() -> None:
    story = group("open")
    assert story.does("zoe", JoinGroup()) == (
        MemberAdded(actor="zoe", at=NOW, user_id="zoe", role="member", via="joined"),
    )
    assert story.does("zoe", JoinGroup()) == ()
    assert story.types("dan", JoinGroup(code_digest="nonsense")) == ["member_added"]


@pytest.mark.parametrize(
    "join, command, refusal",
    [
        ("closed", JoinGroup(), "not_found"),
        ("closed", JoinGroup(code_digest="0f"), "not_found"),
        ("invite", JoinGroup(), "not_found"),
        ("invite", JoinGroup(code_digest="wrong"), "not_found"),
        ("approval", JoinGroup(), "unavailable"),
        ("approval", JoinGroup(code_digest="wrong"), "not_found"),
        ("open", AcceptInvite(code_digest="wrong"), "not_found"),
        ("closed", AcceptInvite(code_digest="wrong"), "not_found"),
    ],
)
def test_joining_that_is_refused(join: str, command: Command, refusal: str) -> None:
    story = group(join)
    story.does("ada", CreateInvite(code_digest="0f"))
    assert story.refuses("zoe", command) == refusal
    assert story.does("bob", command) == ()
    assert Story(StreamKind.GROUP, "g_2").refuses("zoe", command) == "not_found"


def test_joining_a_dissolved_group() -> None:
    for join, refusal in (
        ("open", "gone"),
        ("approval", "gone"),
        ("invite", "not_found"),
        ("closed", "not_found"),
    ):
        story = group(join)
        story.does("ada", DissolveGroup())
        assert story.refuses("zoe", JoinGroup()) == refusal
        assert story.refuses("bob", JoinGroup()) == "gone"


@pytest.mark.parametrize("join", ["open", "approval", "invite", "closed"])
def test_an_invite_lets_in_whatever_the_policy(join: str) -> None:
    story = group(join)
    assert story.does("abe", CreateInvite(code_digest="0f", max_uses=2)) == (
        InviteCreated(actor="abe", at=NOW, invite_id="id3", code_digest="0f", max_uses=2),
    )
    assert story.does("zoe", AcceptInvite(code_digest="0f")) == (
        MemberAdded(actor="zoe", at=NOW, user_id="zoe", role="member", via="invite"),
        InviteUsed(actor="zoe", at=NOW, invite_id="id3", user_id="zoe"),
    )
    assert story.does("zoe", AcceptInvite(code_digest="0f")) == ()
    assert story.state.invites["id3"].uses == 1
    story.types("dan", AcceptInvite(code_digest="0f"))
    assert story.refuses("zac", AcceptInvite(code_digest="0f")) == "not_found"


@pytest.mark.parametrize("join", ["approval", "invite"])
def test_joining_with_a_code(join: str) -> None:
    story = group(join)
    story.does("abe", CreateInvite(code_digest="0f"))
    assert story.types("zoe", JoinGroup(code_digest="0f")) == ["member_added", "invite_used"]


def test_invites_end_by_time_and_by_revocation() -> None:
    story = group("invite")
    story.does("abe", CreateInvite(code_digest="0a", expires_at=NOW + 5))
    story.does("abe", CreateInvite(code_digest="0b"))
    story.passes(5)
    assert story.refuses("zoe", AcceptInvite(code_digest="0a")) == "not_found"
    assert story.does("ada", RevokeInvite(invite_id="id4")) == (
        InviteRevoked(actor="ada", at=story.now, invite_id="id4"),
    )
    assert story.does("ada", RevokeInvite(invite_id="id4")) == ()
    assert story.refuses("zoe", AcceptInvite(code_digest="0b")) == "not_found"


def test_open_invites_are_bounded_and_dead_ones_make_room() -> None:
    story = group("invite")
    for number in range(INVITES_MAX):
        story.does("abe", CreateInvite(code_digest=f"c{number}", expires_at=NOW + 5 + number))
    assert story.refuses("abe", CreateInvite(code_digest="more")) == "conflict"
    story.passes(5)
    story.does("abe", CreateInvite(code_digest="more"))
    assert len(story.state.invites) == INVITES_MAX
    assert story.types("zoe", JoinGroup(code_digest="more")) == ["member_added", "invite_used"]


def test_invites_into_a_full_group() -> None:
    story = group("invite")
    story.does("abe", CreateInvite(code_digest="0a"))
    story.does("ada", ChangeGroup(max_members=4))
    assert story.refuses("zoe", AcceptInvite(code_digest="0a")) == "conflict"


def test_the_servers_own_limits_hold() -> None:
    story = Story(
        StreamKind.GROUP, "g_1", limits=Limits(group_members=2, group_members_max=3, members_per_call=1)
    )
    assert story.refuses("ada", CreateGroup(name="n", members=("b", "c"))) == "validation_failed members"
    assert story.refuses("ada", CreateGroup(name="n", max_members=4)) == "validation_failed max_members"
    story.does("ada", CreateGroup(name="n", members=("bob",)))
    assert story.state.settings.max_members == 2
    assert story.refuses("ada", AddMembers(user_ids=("eve",))) == "conflict"
