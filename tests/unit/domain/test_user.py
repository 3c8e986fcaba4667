"""Accounts: registration, profile, sessions, passwords."""

from __future__ import annotations

import pytest

from domain.event import Command, Limits
from domain.group import MuteGroup
from domain.streams import StreamKind
from domain.user import (
    ChangePassword,
    ChangeProfile,
    CloseSession,
    OpenSession,
    ProfileChanges,
    RegisterUser,
    UserPasswordChanged,
    UserProfileChanged,
    UserRegistered,
    UserSessionClosed,
    UserSessionOpened,
)
from tests.unit.domain.specification import NOW, Story


def account(limits: Limits | None = None) -> Story:
    """Ada's."""
    story = Story(StreamKind.USER, "user:ada", limits=limits)
    story.does("ada", RegisterUser(name="Ada", credential_id="cr0"))
    return story


def login(device_id: str, **fields: str) -> OpenSession:
    """A device that logs in."""
    return OpenSession(device_id=device_id, device_kind="web", **fields)


def closed(session_id: str, reason: str, at: int = NOW) -> UserSessionClosed:
    """A session's end."""
    return UserSessionClosed(actor="ada", at=at, session_id=session_id, reason=reason)  # type: ignore[arg-type]


def test_registering() -> None:
    story = Story(StreamKind.USER, "user:ada")
    assert story.does("ada", RegisterUser(name=" Ada ", credential_id="cr0")) == (
        UserRegistered(actor="ada", at=NOW, name="Ada", credential_id="cr0"),
    )
    assert story.state.registered_at == NOW
    assert story.state.seq == 0
    assert story.refuses("ada", RegisterUser(name="Ada", credential_id="cr0")) == "conflict"
    (nameless,) = Story(StreamKind.USER, "user:bob", tenant="acme").does("bob", RegisterUser())
    assert nameless == UserRegistered(actor="bob", at=NOW, name="bob")


@pytest.mark.parametrize("user_id", ["me", "Ada", "", "a b", "a" * 65])
def test_ids_that_cannot_be_taken(user_id: str) -> None:
    story = Story(StreamKind.USER, f"user:{user_id}")
    assert story.refuses(user_id, RegisterUser()) == "validation_failed user_id"


@pytest.mark.parametrize(
    "command",
    [
        ChangeProfile(name="x"),
        login("d"),
        CloseSession(session_id="s"),
        ChangePassword(credential_id="c"),
        MuteGroup(),
    ],
)
def test_without_an_account_nothing_is_found(command: Command) -> None:
    assert Story(StreamKind.USER, "user:ada").refuses("ada", command) == "not_found"


@pytest.mark.parametrize(
    "actor, command, refusal",
    [
        ("ada", ChangeProfile(name=""), "validation_failed name"),
        ("ada", ChangeProfile(bio="a\x00"), "validation_failed bio"),
        ("ada", ChangeProfile(bio="a" * 1025), "validation_failed bio"),
        ("ada", ChangeProfile(avatar="a" * 513), "validation_failed avatar"),
        ("ada", ChangeProfile(friend_policy="maybe"), "validation_failed friend_policy"),
        ("bob", ChangeProfile(name="x"), "forbidden"),
        ("bob", ChangePassword(credential_id="x"), "forbidden"),
        ("ada", login(""), "validation_failed device_id"),
        ("ada", login("a b"), "validation_failed device_id"),
        ("ada", login("d", device_name="\x07"), "validation_failed device_name"),
        ("ada", login("d", scope="root"), "validation_failed scope"),
        ("ada", login("d", session_id="a b"), "validation_failed session_id"),
        ("ada", OpenSession(device_id="d", device_kind="toaster"), "validation_failed device_kind"),
        ("ada", CloseSession(session_id="nope"), "not_found"),
        ("ada", RegisterUser(name="\x00"), "conflict"),
        ("ada", MuteGroup(), "not_found"),
    ],
)
def test_refused(actor: str, command: Command, refusal: str) -> None:
    assert account().refuses(actor, command) == refusal


def test_profiles_tell_only_what_is_new() -> None:
    story = account()
    change = ChangeProfile(name="Ada", bio="counts", friend_policy="none", avatar="")
    assert story.does("ada", change) == (
        UserProfileChanged(actor="ada", at=NOW, changes=ProfileChanges(bio="counts"), friend_policy="none"),
    )
    assert story.does("ada", change) == ()
    assert story.does("ada", ChangeProfile()) == ()
    story.does("ada", ChangeProfile(bio=None, name="A. L."))
    state = story.state
    assert (state.name, state.bio, state.friend_policy) == ("A. L.", None, "none")


def test_everything_of_a_profile_change() -> None:
    event = UserProfileChanged(actor="a", at=1, changes=ProfileChanges(name="n"), friend_policy="any")
    assert event.everything == ProfileChanges(name="n", friend_policy="any")


def test_a_new_session_of_a_device_ends_the_old_one() -> None:
    story = account()
    story.does("ada", login("phone", session_id="s1"))
    story.does("ada", login("tablet", session_id="s2"))
    assert story.does("ada", login("phone", session_id="s3", device_name="Phone", scope="import")) == (
        closed("s1", "replaced"),
        UserSessionOpened(
            actor="ada",
            at=NOW,
            session_id="s3",
            device_id="phone",
            device_kind="web",
            device_name="Phone",
            scope="import",
        ),
    )
    assert sorted(story.state.sessions) == ["s2", "s3"]
    assert story.does("ada", login("phone", session_id="s3")) == ()


def test_beyond_the_limit_the_oldest_session_ends() -> None:
    story = account(Limits(sessions_per_user=2))
    for number in range(3):
        story.passes(1).does("ada", login(f"d{number}", session_id=f"s{number}"))
    assert sorted(story.state.sessions) == ["s1", "s2"]
    assert story.events[-2] == closed("s0", "limit", story.now)


def test_sessions_get_the_commands_id_and_end_once() -> None:
    story = account()
    (opened,) = story.does("ada", login("phone"))
    assert isinstance(opened, UserSessionOpened)
    assert opened.session_id == "id1"
    assert story.does("ada", CloseSession(session_id="id1")) == (closed("id1", "ended"),)
    assert story.refuses("ada", CloseSession(session_id="id1")) == "not_found"


def test_another_password_ends_all_other_sessions() -> None:
    story = account()
    for number in range(3):
        story.does("ada", login(f"d{number}", session_id=f"s{number}"))
    assert story.does("ada", ChangePassword(credential_id="cr1", keep_session_id="s1")) == (
        UserPasswordChanged(actor="ada", at=NOW, credential_id="cr1"),
        closed("s0", "password_changed"),
        closed("s2", "password_changed"),
    )
    assert story.state.credential_id == "cr1"
    assert story.does("ada", ChangePassword(credential_id="cr1")) == ()
