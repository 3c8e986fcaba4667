"""One user's own stream: read marks, settings, reflections."""

from __future__ import annotations

import pytest

from domain.event import Command
from domain.inbox import (
    MARKS_MAX,
    ChangeSettings,
    ConversationSettingsChanged,
    MarkRead,
    ProfileChanged,
    ReadMarked,
    ReflectBlock,
    ReflectProfile,
    ReflectSessionClosed,
    ReflectSessionOpened,
    ReflectUnblock,
    RemarkChanged,
    SessionClosed,
    SessionOpened,
    UserBlocked,
    UserUnblocked,
)
from domain.streams import StreamKind
from domain.user import ProfileChanges, RegisterUser
from tests.unit.domain.specification import NOW, Story


def inbox() -> Story:
    """Ada's."""
    return Story(StreamKind.INBOX, "inbox:ada")


def marked(conversation_id: str, seq: int) -> ReadMarked:
    """A mark."""
    return ReadMarked(actor="ada", at=NOW, conversation_id=conversation_id, read_seq=seq)


def test_marks_only_rise() -> None:
    story = inbox()
    assert story.does("ada", MarkRead(marks={"g_2": 5, "g_1": 7})) == (marked("g_1", 7), marked("g_2", 5))
    assert story.does("ada", MarkRead(marks={"g_2": 6, "g_1": 6})) == (marked("g_2", 6),)
    assert story.does("ada", MarkRead(marks={"g_2": 6, "g_1": 1, "g_3": 0})) == ()
    assert story.does("ada", MarkRead(marks={})) == ()
    assert dict(story.state.reads) == {"g_1": 7, "g_2": 6}
    story.given(marked("g_1", 2))
    assert story.state.reads["g_1"] == 7


def test_settings_tell_only_what_is_new() -> None:
    story = inbox()
    assert story.does("ada", ChangeSettings(conversation_id="g_1", pinned=True, muted=False)) == (
        ConversationSettingsChanged(actor="ada", at=NOW, conversation_id="g_1", pinned=True),
    )
    assert story.does("ada", ChangeSettings(conversation_id="g_1", pinned=True)) == ()
    assert story.types("ada", ChangeSettings(conversation_id="g_1", muted=True)) == [
        "conversation_settings_changed"
    ]
    assert (story.state.preferences["g_1"].pinned, story.state.preferences["g_1"].muted) == (True, True)
    assert story.types("ada", ChangeSettings(conversation_id="g_1", pinned=False)) == [
        "conversation_settings_changed"
    ]


def test_what_happened_elsewhere_is_told_once() -> None:
    story = inbox()
    assert story.does("ada", ReflectUnblock(user_id="bob")) == ()
    assert story.does("ada", ReflectBlock(user_id="bob")) == (
        UserBlocked(actor="ada", at=NOW, user_id="bob"),
    )
    assert story.does("ada", ReflectBlock(user_id="bob")) == ()
    assert story.does("ada", ReflectUnblock(user_id="bob")) == (
        UserUnblocked(actor="ada", at=NOW, user_id="bob"),
    )
    opened = ReflectSessionOpened(session_id="s1", device_id="d1")
    assert story.does("ada", opened) == (SessionOpened(actor="ada", at=NOW, session_id="s1", device_id="d1"),)
    assert story.does("ada", opened) == ()
    ended = ReflectSessionClosed(session_id="s1")
    assert story.does("system", ended) == (
        SessionClosed(actor="system", at=NOW, session_id="s1", device_id="d1"),
    )
    assert story.does("ada", ended) == ()
    profile = ReflectProfile(changes=ProfileChanges(name="A", bio=None, friend_policy="any"))
    assert story.does("ada", profile) == (
        ProfileChanged(actor="ada", at=NOW, changes=ProfileChanges(name="A", bio=None, friend_policy="any")),
    )
    assert story.does("ada", profile) == ()
    assert story.does("ada", ReflectProfile(changes=ProfileChanges(name="B", bio=None))) == (
        ProfileChanged(actor="ada", at=NOW, changes=ProfileChanges(name="B")),
    )


def test_remarks() -> None:
    story = inbox()
    story.given(RemarkChanged(actor="ada", at=NOW, user_id="bob", remark="Bobby"))
    assert dict(story.state.remarks) == {"bob": "Bobby"}
    story.given(RemarkChanged(actor="ada", at=NOW, user_id="bob", remark=None))
    story.given(RemarkChanged(actor="ada", at=NOW, user_id="bob", remark=None))
    assert dict(story.state.remarks) == {}


@pytest.mark.parametrize(
    "actor, command, refusal",
    [
        ("ada", MarkRead(marks={"a b": 1}), "validation_failed conversation_id"),
        ("ada", MarkRead(marks={"g_1": -1}), "validation_failed seq"),
        ("ada", MarkRead(marks={"g_1": 2**63}), "validation_failed seq"),
        ("ada", MarkRead(marks={f"g_{n}": 1 for n in range(MARKS_MAX + 1)}), "validation_failed seq"),
        ("ada", ChangeSettings(conversation_id="", pinned=True), "validation_failed conversation_id"),
        ("bob", MarkRead(marks={"g_1": 1}), "not_found"),
        ("bob", ReflectBlock(user_id="ada"), "not_found"),
        ("ada", RegisterUser(), "not_found"),
    ],
)
def test_refused(actor: str, command: Command, refusal: str) -> None:
    assert inbox().refuses(actor, command) == refusal
