"""Messages, edits, recalls, reactions, pins: what groups and pairs share, shown in both."""

from __future__ import annotations

import msgspec
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
from domain.event import WINDOW_MESSAGES, Command, Limits, Message
from domain.group import (
    AddMembers,
    ChangeGroup,
    ChangeMember,
    CreateGroup,
    DissolveGroup,
    LeaveGroup,
    MuteGroup,
)
from domain.streams import StreamKind
from domain.talk import (
    MessageEdited,
    MessagePinned,
    MessagePosted,
    MessageRecalled,
    MessageUnpinned,
    Origin,
    ReactionAdded,
    ReactionRemoved,
)
from tests.unit.domain.specification import NOW, Story, raw, said

HI = said("hi")


def post(text: str = "hi", **fields: object) -> PostMessage:
    """A message."""
    return msgspec.structs.replace(PostMessage(client_msg_id="c1", content=said(text)), **fields)


def group(limits: Limits | None = None) -> Story:
    """A group of ada (owner, seq 1), bob (2), eve (3) and dan (4), who left again (5)."""
    story = Story(StreamKind.GROUP, "g_1", limits=limits)
    story.does("ada", CreateGroup(name="Tea", members=("bob", "eve", "dan")))
    story.does("dan", LeaveGroup())
    return story


def test_a_message_is_posted_with_its_ordinal_and_everything_the_client_gave() -> None:
    story = group()
    story.does("ada", post())
    events = story.does("bob", post("yes", reply_to=6, mentions=("ada", "eve", "ada")))
    assert events == (
        MessagePosted(
            actor="bob",
            at=NOW,
            message_id="id3",
            ordinal=2,
            client_msg_id="c1",
            content=said("yes"),
            reply_to=6,
            mentions=("ada", "eve"),
        ),
    )
    assert story.state.talk.message(7) == Message(author="bob", at=NOW, ordinal=2)
    assert story.state.talk.ordinal == 2


def test_content_is_checked_and_kept_byte_for_byte() -> None:
    story = group()
    odd = msgspec.Raw(b'{ "text":"\\u0068i" , "kind":"text" }')
    (event,) = story.does("ada", PostMessage(client_msg_id="c", content=odd))
    assert isinstance(event, MessagePosted)
    assert bytes(event.content) == bytes(odd)
    assert story.refuses("ada", post(content=raw({"kind": "system"}))) == "validation_failed content.kind"
    assert (
        story.refuses("ada", post(content=raw({"kind": "text", "text": "\u200b"})))
        == "validation_failed content.text"
    )
    assert story.refuses("ada", post("x" * 17_000)) == "too_large"
    assert (
        story.refuses("ada", EditMessage(seq=6, content=raw({"kind": "revoke"})))
        == "validation_failed content.kind"
    )


@pytest.mark.parametrize(
    "command, refusal",
    [
        (post(client_msg_id=""), "validation_failed client_msg_id"),
        (post(client_msg_id="k" * 129), "validation_failed client_msg_id"),
        (post(client_msg_id="k\x00"), "validation_failed client_msg_id"),
        (post(reply_to=2), "validation_failed reply_to"),
        (post(reply_to=99), "validation_failed reply_to"),
        (post(reply_to=-1), "validation_failed reply_to"),
        (post(mentions=("stranger",)), "validation_failed mentions"),
        (post(mentions=("dan",)), "validation_failed mentions"),
        (post(mentions=("bob",) * 201), "validation_failed mentions"),
        (post(origin=Origin(at=1, id="x")), "forbidden"),
        (EditMessage(seq=2, content=HI), "not_found"),
        (EditMessage(seq=7, content=HI), "not_found"),
        (EditMessage(seq=0, content=HI), "not_found"),
        (EditMessage(seq=-5, content=HI), "not_found"),
        (RecallMessage(seq=2), "not_found"),
        (AddReaction(seq=2, emoji="👍"), "not_found"),
        (AddReaction(seq=6, emoji="\x07"), "validation_failed emoji"),
        (AddReaction(seq=6, emoji="a" * 33), "validation_failed emoji"),
        (RemoveReaction(seq=3, emoji="👍"), "not_found"),
        (RemoveReaction(seq=6, emoji=""), "validation_failed emoji"),
        (PinMessage(seq=1), "not_found"),
        (UnpinMessage(seq=1), "not_found"),
    ],
)
def test_refused(command: Command, refusal: str) -> None:
    story = group()
    story.does("ada", post())
    assert story.refuses("ada", command) == refusal


EVERY_COMMAND: tuple[Command, ...] = (
    post(),
    EditMessage(seq=6, content=HI),
    RecallMessage(seq=6),
    AddReaction(seq=6, emoji="👍"),
    RemoveReaction(seq=6, emoji="👍"),
    PinMessage(seq=6),
    UnpinMessage(seq=6),
)


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_strangers_ex_members_and_members_of_a_dissolved_group(command: Command) -> None:
    story = group()
    story.does("ada", post())
    assert story.refuses("mallory", command) == "not_found"
    assert story.refuses("dan", command) == "forbidden"
    story.does("ada", DissolveGroup())
    assert story.refuses("ada", command) == "gone"
    assert story.refuses("bob", command) == "gone"
    assert story.refuses("dan", command) == "forbidden"
    assert story.refuses("mallory", command) == "not_found"
    assert Story(StreamKind.GROUP, "g_2").refuses("ada", command) == "not_found"


def test_only_admins_mention_all_in_groups_over_twenty() -> None:
    story = group(Limits(mention_all_free_members=3))
    (event,) = story.does("bob", post(mentions=("all",)))
    assert isinstance(event, MessagePosted)
    assert event.mentions == ("all",)
    story.does("ada", AddMembers(user_ids=("late",)))
    assert story.refuses("bob", post(mentions=("all",))) == "forbidden"
    assert story.types("ada", post(mentions=("all",))) == ["message_posted"]
    assert story.refuses("ada", post(mentions=("all", "bob"))) == "validation_failed mentions"


def test_imports_may_say_when_and_where_a_message_was_posted() -> None:
    story = group()
    origin = Origin(at=NOW - 1, id="irc 5")
    (event,) = story.does("bob", post(origin=origin), importing=True)
    assert isinstance(event, MessagePosted)
    assert event.origin == origin
    late = post(origin=Origin(at=NOW + 1, id="x"))
    assert story.refuses("bob", late, importing=True) == "validation_failed origin.at"
    nameless = post(origin=Origin(at=1, id=""))
    assert story.refuses("bob", nameless, importing=True) == "validation_failed origin.id"


def test_who_is_muted_neither_posts_nor_edits_until_the_time_is_over() -> None:
    story = group()
    story.does("bob", post())
    story.does("ada", ChangeMember(user_id="bob", muted_until=NOW + 60_000))
    assert story.refuses("bob", post()) == "forbidden"
    assert story.refuses("bob", EditMessage(seq=6, content=HI)) == "forbidden"
    assert story.types("bob", AddReaction(seq=6, emoji="👍")) == ["reaction_added"]
    story.passes(60_000)
    assert story.types("bob", post()) == ["message_posted"]


def test_in_a_muted_group_only_admins_and_the_owner_write() -> None:
    story = group()
    story.does("ada", ChangeMember(user_id="eve", role="admin"))
    story.does("eve", MuteGroup())
    assert story.refuses("bob", post()) == "forbidden"
    assert story.types("eve", post()) == ["message_posted"]
    assert story.types("ada", post()) == ["message_posted"]


def test_only_the_author_edits_and_only_in_time() -> None:
    story = group()
    story.does("bob", post())
    edit = EditMessage(seq=6, content=said("better"))
    assert story.refuses("ada", edit) == "forbidden"
    assert story.does("bob", edit) == (MessageEdited(actor="bob", at=NOW, target=6, content=said("better")),)
    story.passes(86_400_000)
    assert story.types("bob", edit) == ["message_edited"]
    story.passes(1)
    assert story.refuses("bob", edit) == "forbidden"


def test_the_author_recalls_in_time_and_admins_always() -> None:
    story = group()
    for _ in range(3):
        story.does("bob", post())
    assert story.does("bob", RecallMessage(seq=6)) == (MessageRecalled(actor="bob", at=NOW, target=6),)
    assert story.does("bob", RecallMessage(seq=6)) == ()
    assert story.does("ada", RecallMessage(seq=6)) == ()
    assert story.refuses("eve", RecallMessage(seq=6)) == "forbidden"
    story.passes(120_000)
    assert story.types("bob", RecallMessage(seq=7)) == ["message_recalled"]
    story.passes(1)
    assert story.refuses("bob", RecallMessage(seq=8)) == "forbidden"
    assert story.refuses("eve", RecallMessage(seq=8)) == "forbidden"
    (event,) = story.does("ada", RecallMessage(seq=8))
    assert event == MessageRecalled(actor="ada", at=story.now, target=8, by_admin=True)


def test_a_groups_own_windows_win_over_the_servers() -> None:
    story = group()
    story.does("ada", ChangeGroup(recall_window_s=1, edit_window_s=0))
    story.does("bob", post())
    assert story.types("bob", EditMessage(seq=7, content=HI)) == ["message_edited"]
    story.passes(1)
    assert story.refuses("bob", EditMessage(seq=7, content=HI)) == "forbidden"
    story.passes(1_000)
    assert story.refuses("bob", RecallMessage(seq=7)) == "forbidden"
    story.does("ada", ChangeGroup(recall_window_s=None))
    assert story.types("bob", RecallMessage(seq=7)) == ["message_recalled"]


def test_a_recalled_message_takes_nothing_more_and_loses_reactions_and_pin() -> None:
    story = group()
    story.does("bob", post())
    story.does("eve", AddReaction(seq=6, emoji="👍"))
    story.does("ada", PinMessage(seq=6))
    story.does("bob", RecallMessage(seq=6))
    assert story.state.talk.message(6) == Message(author="bob", at=NOW, ordinal=1, recalled=True)
    assert story.state.talk.pins == frozenset()
    assert story.refuses("bob", EditMessage(seq=6, content=HI)) == "conflict"
    assert story.refuses("eve", AddReaction(seq=6, emoji="👍")) == "conflict"
    assert story.refuses("ada", PinMessage(seq=6)) == "conflict"
    assert story.does("eve", RemoveReaction(seq=6, emoji="👍")) == ()
    assert story.does("ada", UnpinMessage(seq=6)) == ()
    assert story.types("eve", post(reply_to=6)) == ["message_posted"]


def test_reactions_are_sets() -> None:
    story = group()
    story.does("ada", post())
    react, take_back = AddReaction(seq=6, emoji="👍"), RemoveReaction(seq=6, emoji="👍")
    assert story.does("bob", take_back) == ()
    assert story.does("bob", react) == (ReactionAdded(actor="bob", at=NOW, target=6, emoji="👍"),)
    assert story.does("bob", react) == ()
    assert story.does("eve", take_back) == ()
    assert story.types("eve", react) == ["reaction_added"]
    assert story.does("bob", take_back) == (ReactionRemoved(actor="bob", at=NOW, target=6, emoji="👍"),)
    assert dict(story.state.talk.message(6).reactions) == {"👍": frozenset({"eve"})}
    story.does("eve", take_back)
    assert dict(story.state.talk.message(6).reactions) == {}


def test_the_twenty_first_kind_of_reaction_is_a_conflict() -> None:
    story = group()
    story.does("ada", post())
    for number in range(20):
        story.does("bob", AddReaction(seq=6, emoji=f"e{number}"))
    assert story.refuses("bob", AddReaction(seq=6, emoji="one more")) == "conflict"
    assert story.types("eve", AddReaction(seq=6, emoji="e7")) == ["reaction_added"]
    story.does("bob", RemoveReaction(seq=6, emoji="e0"))
    assert story.types("bob", AddReaction(seq=6, emoji="one more")) == ["reaction_added"]


def test_admins_and_the_owner_pin_at_most_fifty() -> None:
    story = group()
    for _ in range(51):
        story.does("bob", post())
    assert story.refuses("bob", PinMessage(seq=6)) == "forbidden"
    assert story.refuses("bob", UnpinMessage(seq=6)) == "forbidden"
    assert story.does("ada", UnpinMessage(seq=6)) == ()
    assert story.does("ada", PinMessage(seq=6)) == (MessagePinned(actor="ada", at=NOW, target=6),)
    assert story.does("ada", PinMessage(seq=6)) == ()
    for seq in range(7, 56):
        story.does("ada", PinMessage(seq=seq))
    assert story.refuses("ada", PinMessage(seq=56)) == "conflict"
    assert story.does("ada", PinMessage(seq=6)) == ()
    assert story.does("ada", UnpinMessage(seq=6)) == (MessageUnpinned(actor="ada", at=NOW, target=6),)
    assert story.types("ada", PinMessage(seq=56)) == ["message_pinned"]


@pytest.fixture(scope="module")
def long_story() -> Story:
    """A group with twice the window of messages by bob (seqs from 6) and one more."""
    story = group()
    posted = story.decides("bob", post())
    for _ in range(2 * WINDOW_MESSAGES + 1):
        story.given(*posted)
    return story


def test_the_window_keeps_at_least_its_number_and_at_most_twice_as_many(long_story: Story) -> None:
    talk = long_story.state.talk
    assert long_story.state.window_start == talk.window_start == 6 + WINDOW_MESSAGES
    assert talk.weight == WINDOW_MESSAGES + 1
    assert talk.message(talk.window_start) is not None
    assert talk.message(talk.window_start - 1) is None
    assert all(talk.message(seq) for seq in range(talk.window_start, long_story.state.seq + 1))


def test_what_lies_before_the_window_comes_from_the_context(long_story: Story) -> None:
    story = long_story
    older = {6: Message(author="bob", at=NOW, ordinal=1)}
    for command in (
        EditMessage(seq=6, content=HI),
        RecallMessage(seq=6),
        AddReaction(seq=6, emoji="👍"),
        PinMessage(seq=6),
        post(reply_to=6),
    ):
        actor = "ada" if isinstance(command, PinMessage) else "bob"
        assert story.refuses(actor, command) == "unavailable"
        assert len(story.decides(actor, command, older=older)) == 1
    recalled = {6: Message(author="bob", at=NOW, ordinal=1, recalled=True)}
    assert story.decides("bob", RecallMessage(seq=6), older=recalled) == ()
    assert story.refuses("bob", EditMessage(seq=6, content=HI), older=recalled) == "conflict"
    window = story.state.window_start
    assert len(story.decides("bob", EditMessage(seq=window, content=HI))) == 1


def test_events_for_messages_before_the_window_change_pins_only(long_story: Story) -> None:
    story = Story(StreamKind.GROUP, "g_1")
    story.state = long_story.state
    talk = story.state.talk
    story.given(
        ReactionAdded(actor="bob", at=NOW, target=6, emoji="👍"),
        ReactionRemoved(actor="bob", at=NOW, target=6, emoji="👍"),
        MessageEdited(actor="bob", at=NOW, target=6, content=HI),
    )
    assert story.state.talk == talk
    story.given(MessagePinned(actor="ada", at=NOW, target=6))
    assert story.decides("ada", PinMessage(seq=6)) == ()
    story.given(MessageRecalled(actor="ada", at=NOW, target=6))
    assert story.state.talk == talk


def test_old_messages_in_the_window_change_like_new_ones(long_story: Story) -> None:
    story = Story(StreamKind.GROUP, "g_1")
    story.state = long_story.state
    seq = story.state.window_start
    story.does("ada", AddReaction(seq=seq, emoji="👍"))
    assert dict(story.state.talk.message(seq).reactions) == {"👍": frozenset({"ada"})}
    story.does("bob", RecallMessage(seq=seq))
    assert story.state.talk.message(seq).recalled
