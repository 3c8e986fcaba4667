"""What may be done with messages, in groups and pairs alike.

Events and state are those of `talk`; roles are the business of `group` and `direct`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from domain import text
from domain.content import Forward, canonical, parse_content
from domain.errors import Problem, invalid
from domain.event import Command, Context, Event, Message, Written
from domain.talk import (
    MessageEdited,
    MessagePinned,
    MessagePosted,
    MessageRecalled,
    MessageUnpinned,
    Origin,
    ReactionAdded,
    ReactionRemoved,
    Talk,
)

__all__ = [
    "AddReaction", "EditMessage", "MessageCommand", "MessageEdited", "MessagePinned", "MessagePosted",
    "MessageRecalled", "MessageUnpinned", "Origin", "PinMessage", "PostMessage", "ReactionAdded",
    "ReactionRemoved", "RecallMessage", "RemoveReaction", "Rights", "UnpinMessage", "decide",
]  # fmt: skip

MENTIONS_MAX = 200
MENTION_ALL = ("all",)
_NOBODY: frozenset[str] = frozenset()

# Commands


class PostMessage(Command, frozen=True, kw_only=True):
    """Send a message. `to`: the other user of a pair, which is opened by it if need be; None in groups."""

    client_msg_id: str
    content: msgspec.Raw
    reply_to: int | None = None
    mentions: tuple[str, ...] = ()
    origin: Origin | None = None
    to: str | None = None


class EditMessage(Command, frozen=True, kw_only=True):
    """Give one's own message another content."""

    seq: int
    content: msgspec.Raw


class RecallMessage(Command, frozen=True, kw_only=True):
    """Withdraw a message."""

    seq: int


class AddReaction(Command, frozen=True, kw_only=True):
    """React to a message."""

    seq: int
    emoji: str


class RemoveReaction(Command, frozen=True, kw_only=True):
    """Take a reaction back."""

    seq: int
    emoji: str


class PinMessage(Command, frozen=True, kw_only=True):
    """Pin a message."""

    seq: int


class UnpinMessage(Command, frozen=True, kw_only=True):
    """Unpin a message."""

    seq: int


MessageCommand = (
    PostMessage | EditMessage | RecallMessage | AddReaction | RemoveReaction | PinMessage | UnpinMessage
)
Action = Literal["post", "edit", "recall", "react", "unreact", "pin", "unpin"]
ACTIONS: dict[type[Command], Action] = {
    PostMessage: "post",
    EditMessage: "edit",
    RecallMessage: "recall",
    AddReaction: "react",
    RemoveReaction: "unreact",
    PinMessage: "pin",
    UnpinMessage: "unpin",
}


class Rights(msgspec.Struct, frozen=True):
    """What a group or a pair lets the actor do beyond what every writer may."""

    moderates: bool
    """Recall the messages of others, and one's own at any time."""
    pins: bool
    mentions_all: bool
    recall_window_s: int | None = None
    edit_window_s: int | None = None
    """None: the limits of the server."""


# Decide


def decide(
    talk: Talk, command: Command, context: Context, rights: Rights, is_member: Callable[[str], bool]
) -> tuple[Event, ...]:
    """What a message command of somebody who may write makes.

    Raises Problem. `is_member` answers for those mentioned.
    """
    if type(command) is PostMessage:
        return (_post(talk, command, context, rights, is_member),)
    return _DECIDE[type(command)](talk, command, context, rights)


def _post(
    talk: Talk, command: PostMessage, context: Context, rights: Rights, is_member: Callable[[str], bool]
) -> MessagePosted:
    text.client_key("client_msg_id", command.client_msg_id)
    _check_content(command.content, context)
    if command.reply_to is not None:
        _check_reply(talk, command.reply_to, context)
    if command.origin is not None:
        _check_origin(command.origin, context)
    return MessagePosted(
        actor=context.actor,
        at=context.now,
        message_id=context.new_id,
        ordinal=talk.ordinal + 1,
        client_msg_id=command.client_msg_id,
        content=command.content,
        reply_to=command.reply_to,
        mentions=_checked_mentions(command.mentions, rights, is_member) if command.mentions else (),
        origin=command.origin,
    )


def _check_content(raw: msgspec.Raw, context: Context) -> None:
    content = parse_content(raw, context.limits)
    if context.unseen and type(content) is Forward:
        for index, message in enumerate(content.messages):
            if (message.conversation_id, message.seq) in context.unseen:
                raise invalid(f"content.messages[{index}]", "is no message that you may see")


def _check_reply(talk: Talk, seq: int, context: Context) -> None:
    try:
        _target(talk, seq, context)
    except Problem as problem:
        if problem.code != "not_found":
            raise
        raise invalid("reply_to", "is no message of this conversation") from None


def _check_origin(origin: Origin, context: Context) -> None:
    if not context.importing:
        raise Problem("forbidden", "only an import may give an origin")
    text.client_key("origin.id", origin.id)
    if not 0 <= origin.at <= context.now:
        raise invalid("origin.at", "must lie between 1970 and now")


def _checked_mentions(
    mentions: tuple[str, ...], rights: Rights, is_member: Callable[[str], bool]
) -> tuple[str, ...]:
    if mentions == MENTION_ALL:
        if not rights.mentions_all:
            raise Problem("forbidden", "only admins and the owner may mention all")
        return MENTION_ALL
    if len(mentions) > MENTIONS_MAX:
        raise invalid("mentions", f"must name at most {MENTIONS_MAX} members")
    if not all(is_member(user_id) for user_id in mentions):
        raise invalid("mentions", "must name members only")
    return tuple(dict.fromkeys(mentions))


def _target(talk: Talk, seq: int, context: Context) -> Message:
    """The message, if the actor may see it."""
    if ("", seq) in context.unseen:
        raise Problem("not_found", "no such message")
    return _any_target(talk, seq, context)


def _any_target(talk: Talk, seq: int, context: Context) -> Message:
    message = talk.message(seq) or context.older.get(seq)
    if message is not None:
        return message
    if 0 < seq < talk.window_start:
        raise Problem("unavailable", "this message is older than what can be looked up now")
    raise Problem("not_found", "no such message")


def _standing(talk: Talk, seq: int, context: Context) -> Message:
    message = _target(talk, seq, context)
    if message.recalled:
        raise Problem("conflict", "the message was recalled")
    return message


def _edit(talk: Talk, command: EditMessage, context: Context, rights: Rights) -> tuple[Event, ...]:
    message = _target(talk, command.seq, context)
    if message.author != context.actor:
        raise Problem("forbidden", "only its author may edit a message")
    if message.recalled:
        raise Problem("conflict", "the message was recalled")
    window_s = context.limits.edit_window_s if rights.edit_window_s is None else rights.edit_window_s
    if context.now - message.at > window_s * 1000:
        raise Problem("forbidden", "the time for editing is over")
    _check_content(command.content, context)
    written = context.written
    if written is not None and written.edited_seq == message.edited_seq and _same(written, command):
        return ()
    return (MessageEdited(actor=context.actor, at=context.now, target=command.seq, content=command.content),)


def _same(written: Written, command: EditMessage) -> bool:
    return canonical(written.content) == canonical(command.content)


def _recall(talk: Talk, command: RecallMessage, context: Context, rights: Rights) -> tuple[Event, ...]:
    # Who moderates may recall any message, one before the own joining too.
    message = (_any_target if rights.moderates else _target)(talk, command.seq, context)
    own = message.author == context.actor
    if not own and not rights.moderates:
        raise Problem("forbidden", "only its author or an admin may recall a message")
    if message.recalled:
        return ()
    window_s = context.limits.recall_window_s if rights.recall_window_s is None else rights.recall_window_s
    if not rights.moderates and context.now - message.at > window_s * 1000:
        raise Problem("forbidden", "the time for recalling is over")
    return (MessageRecalled(actor=context.actor, at=context.now, target=command.seq, by_admin=not own),)


def _react(talk: Talk, command: AddReaction, context: Context, _rights: Rights) -> tuple[Event, ...]:
    emoji = text.emoji("emoji", command.emoji)
    message = _standing(talk, command.seq, context)
    users = message.reactions.get(emoji)
    if users is not None and context.actor in users:
        return ()
    if users is None and len(message.reactions) >= context.limits.reaction_kinds:
        raise Problem(
            "conflict", f"a message takes at most {context.limits.reaction_kinds} kinds of reactions"
        )
    return (ReactionAdded(actor=context.actor, at=context.now, target=command.seq, emoji=emoji),)


def _unreact(talk: Talk, command: RemoveReaction, context: Context, _rights: Rights) -> tuple[Event, ...]:
    emoji = text.emoji("emoji", command.emoji)
    message = _target(talk, command.seq, context)
    if context.actor not in message.reactions.get(emoji, _NOBODY):
        return ()
    return (ReactionRemoved(actor=context.actor, at=context.now, target=command.seq, emoji=emoji),)


def _pin(talk: Talk, command: PinMessage, context: Context, rights: Rights) -> tuple[Event, ...]:
    _require_pins(rights)
    if command.seq in talk.pins:
        return ()
    _standing(talk, command.seq, context)
    if len(talk.pins) >= context.limits.pins:
        raise Problem("conflict", f"at most {context.limits.pins} messages can be pinned")
    return (MessagePinned(actor=context.actor, at=context.now, target=command.seq),)


def _unpin(talk: Talk, command: UnpinMessage, context: Context, rights: Rights) -> tuple[Event, ...]:
    _require_pins(rights)
    if command.seq in talk.pins:
        return (MessageUnpinned(actor=context.actor, at=context.now, target=command.seq),)
    _target(talk, command.seq, context)
    return ()


def _require_pins(rights: Rights) -> None:
    if not rights.pins:
        raise Problem("forbidden", "only admins and the owner may pin messages")


_DECIDE: dict[type[Command], Callable[[Talk, Any, Context, Rights], tuple[Event, ...]]] = {
    EditMessage: _edit,
    RecallMessage: _recall,
    AddReaction: _react,
    RemoveReaction: _unreact,
    PinMessage: _pin,
    UnpinMessage: _unpin,
}
