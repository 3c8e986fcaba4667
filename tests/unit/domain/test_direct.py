"""Pairs: opening, notes to oneself, blocks."""

from __future__ import annotations

from typing import Any

import pytest

from domain.conversation import (
    AddReaction,
    EditMessage,
    PinMessage,
    PostMessage,
    RecallMessage,
    RemoveReaction,
    UnpinMessage,
)
from domain.direct import BlockUser, DirectBlocked, DirectOpened, DirectUnblocked, OpenDirect, UnblockUser
from domain.event import Command
from domain.streams import StreamKind, direct_conversation_id
from domain.user import RegisterUser
from tests.unit.domain.specification import NOW, Story, said

HI = said("hi")


def pair(one: str = "ada", other: str = "bob", tenant: str = "default") -> Story:
    """Two users with nothing in common yet."""
    return Story(StreamKind.DIRECT, direct_conversation_id(tenant, one, other), tenant=tenant)


def post(to: str | None = None, **fields: Any) -> PostMessage:
    """A message."""
    return PostMessage(client_msg_id="c1", content=HI, to=to, **fields)


def test_opening_is_seq_one_and_happens_once() -> None:
    story = pair()
    assert story.does("bob", OpenDirect(peer="ada")) == (
        DirectOpened(actor="bob", at=NOW, users=("ada", "bob")),
    )
    assert story.does("ada", OpenDirect(peer="bob")) == ()
    assert story.does("bob", OpenDirect(peer="ada")) == ()
    assert story.state.seq == 1


def test_the_first_message_opens_the_conversation_in_the_same_commit() -> None:
    story = pair()
    assert story.refuses("ada", post()) == "not_found"
    assert story.types("bob", post(to="ada")) == ["direct_opened", "message_posted"]
    assert story.types("ada", post(to="bob")) == ["message_posted"]
    assert story.types("ada", post()) == ["message_posted"]
    assert story.state.seq == 4
    assert story.state.talk.ordinal == 3


def test_notes_to_oneself() -> None:
    story = pair("ada", "ada")
    assert story.does("ada", OpenDirect(peer="ada")) == (
        DirectOpened(actor="ada", at=NOW, users=("ada", "ada")),
    )
    assert story.types("ada", post()) == ["message_posted"]
    assert story.refuses("bob", post()) == "not_found"
    assert story.refuses("ada", BlockUser(peer="ada")) == "validation_failed user_id"


def test_another_tenants_pair_is_another_conversation() -> None:
    story = pair(tenant="acme")
    assert story.types("ada", post(to="bob")) == ["direct_opened", "message_posted"]
    foreign = Story(StreamKind.DIRECT, direct_conversation_id("other", "ada", "bob"), tenant="acme")
    assert foreign.refuses("ada", post(to="bob")) == "not_found"


EVERY: tuple[Command, ...] = (
    post(),
    post(to="ada"),
    post(to="mallory"),
    EditMessage(seq=2, content=HI),
    RecallMessage(seq=2),
    AddReaction(seq=2, emoji="👍"),
    RemoveReaction(seq=2, emoji="👍"),
    PinMessage(seq=2),
    UnpinMessage(seq=2),
    OpenDirect(peer="ada"),
    BlockUser(peer="ada"),
    UnblockUser(peer="ada"),
    RegisterUser(),
)


@pytest.mark.parametrize("command", EVERY)
def test_strangers_to_the_pair_find_nothing(command: Command) -> None:
    assert pair().refuses("mallory", command) == "not_found"
    story = pair()
    story.does("ada", post(to="bob"))
    assert story.refuses("mallory", command) == "not_found"


@pytest.mark.parametrize("command", [OpenDirect(peer="bob"), post(to="bob"), BlockUser(peer="bob")])
def test_the_other_user_must_exist(command: Command) -> None:
    assert pair().refuses("ada", command, unknown=frozenset({"bob"})) == "not_found"


@pytest.mark.parametrize("peer", ["", "Bob", "me", "b\x00", "b" * 65])
def test_the_other_user_must_have_a_user_id(peer: str) -> None:
    story = pair("ada", peer)
    assert story.refuses("ada", OpenDirect(peer=peer)) == "validation_failed user_id"
    assert story.refuses("ada", post(to=peer)) == "validation_failed to"


def test_while_a_block_stands_neither_side_can_send() -> None:
    story = pair()
    story.does("ada", post(to="bob"))
    assert story.does("bob", BlockUser(peer="ada")) == (DirectBlocked(actor="bob", at=NOW, user_id="ada"),)
    assert story.does("bob", BlockUser(peer="ada")) == ()
    for actor, peer in (("ada", "bob"), ("bob", "ada")):
        for command in (post(), post(to=peer), AddReaction(seq=2, emoji="👍"), PinMessage(seq=2)):
            assert story.refuses(actor, command) == "forbidden"
        assert story.does(actor, OpenDirect(peer=peer)) == ()
    assert story.refuses("ada", EditMessage(seq=2, content=HI)) == "forbidden"
    assert story.does("ada", UnblockUser(peer="bob")) == ()
    assert story.does("bob", UnblockUser(peer="ada")) == (
        DirectUnblocked(actor="bob", at=NOW, user_id="ada"),
    )
    assert story.does("bob", UnblockUser(peer="ada")) == ()
    assert story.types("ada", post()) == ["message_posted"]


def test_a_block_takes_no_seq_and_both_sides_may_block() -> None:
    story = pair()
    story.does("ada", post(to="bob"))
    story.does("bob", BlockUser(peer="ada"))
    assert story.types("ada", BlockUser(peer="bob")) == ["direct_blocked"]
    assert (story.state.version, story.state.seq) == (4, 2)
    story.does("bob", UnblockUser(peer="ada"))
    assert story.refuses("bob", post()) == "forbidden"
    story.does("ada", UnblockUser(peer="bob"))
    assert story.types("bob", post()) == ["message_posted"]


def test_a_block_before_the_first_word_opens_nothing() -> None:
    story = pair()
    assert story.types("bob", BlockUser(peer="ada")) == ["direct_blocked"]
    assert story.state.seq == 0
    for actor, peer in (("ada", "bob"), ("bob", "ada")):
        assert story.refuses(actor, OpenDirect(peer=peer)) == "forbidden"
        assert story.refuses(actor, post(to=peer)) == "forbidden"
        assert story.refuses(actor, post()) == "not_found"
    assert story.refuses("mallory", BlockUser(peer="ada")) == "not_found"
    story.does("bob", UnblockUser(peer="ada"))
    assert story.types("ada", post(to="bob")) == ["direct_opened", "message_posted"]


def test_what_was_said_can_be_taken_back_while_blocked() -> None:
    story = pair()
    story.does("ada", post(to="bob"))
    story.does("ada", AddReaction(seq=2, emoji="👍"))
    story.does("ada", PinMessage(seq=2))
    story.does("bob", BlockUser(peer="ada"))
    assert story.types("ada", RemoveReaction(seq=2, emoji="👍")) == ["reaction_removed"]
    assert story.types("ada", UnpinMessage(seq=2)) == ["message_unpinned"]
    assert story.types("ada", RecallMessage(seq=2)) == ["message_recalled"]


def test_both_pin_and_neither_recalls_the_others_words() -> None:
    story = pair()
    story.does("ada", post(to="bob"))
    assert story.types("bob", PinMessage(seq=2)) == ["message_pinned"]
    assert story.types("ada", UnpinMessage(seq=2)) == ["message_unpinned"]
    assert story.refuses("bob", RecallMessage(seq=2)) == "forbidden"
    assert story.refuses("bob", EditMessage(seq=2, content=HI)) == "forbidden"
    story.passes(120_001)
    assert story.refuses("ada", RecallMessage(seq=2)) == "forbidden"


def test_mentions_in_a_pair() -> None:
    story = pair()
    mention = PostMessage(client_msg_id="c", content=HI, to="bob", mentions=("bob",))
    assert story.types("ada", mention) == ["direct_opened", "message_posted"]
    stranger = PostMessage(client_msg_id="c", content=HI, mentions=("eve",))
    assert story.refuses("ada", stranger) == "validation_failed mentions"
