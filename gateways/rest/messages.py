"""Messages and events of a conversation."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter
from fastapi.responses import Response

from commands.caller import Answer
from domain import conversation as talk
from domain.conversation import MessagePosted
from domain.errors import Problem, invalid
from domain.event import Command
from gateways.rest import answers, bodies
from gateways.rest.call import ME, Call, Changing, Plain, Reading, change_answer, conversation_of
from gateways.rest.fields import PAGE_DEFAULT, Cursor, EmojiPath, IdPath, Limit, SeqPath, SeqQuery
from gateways.rest.routing import MemberRoute
from gateways.sending import sending
from projections.shapes import Access

CURSOR_DIGITS_MAX = 18
PREFIX = "/v1/conversations/{conversation_id}"
SEND_ROUTE = f"{PREFIX}/messages"

router = APIRouter(prefix=PREFIX, route_class=MemberRoute, tags=["messages"])


async def access_to(call: Call, conversation_id: str) -> Access:
    """What the caller may see. Raises `not_found` for strangers and unknown conversations alike."""
    access = await call.services.views.timeline.access(call.caller.tenant, call.user_id, conversation_id)
    if access is None:
        raise Problem("not_found")
    return access


class _Contentful(msgspec.Struct, frozen=True):
    content: msgspec.Raw


_contentful = msgspec.json.Decoder(_Contentful).decode


async def content_of(call: Call) -> msgspec.Raw:
    """The content of a request that was read and found strict, as the client wrote it."""
    return _contentful(await call.request.body()).content


@router.post(
    "/messages",
    status_code=201,
    response_model=answers.Envelope[answers.SentMessage],
    responses=answers.CHANGE,
    operation_id="send_message",
)
async def send_message(call: Plain, conversation_id: IdPath, body: bodies.SendMessage) -> Response:
    """Send a message; `client_msg_id` is its key, so a repetition is the same message."""
    name, command, keyed = sending(
        call.caller,
        conversation_id=conversation_of(conversation_id),
        client_msg_id=body.client_msg_id,
        content=await content_of(call),
        reply_to=body.reply_to,
        mentions=body.mentions,
        origin=None if body.origin is None else (body.origin.at, body.origin.id),
    )
    answer = await call.services.desk.execute(call.caller, name, command, keyed)
    return call.answer(sent_data(conversation_id, answer), 201)


def sent_data(conversation_id: str, answer: Answer) -> dict[str, Any]:
    """The data of a send's answer."""
    for row in answer.events:
        if isinstance(row.event, MessagePosted):
            more = {"seq": row.seq, "message_id": row.event.message_id, "ordinal": row.event.ordinal}
            return change_answer(conversation_id, answer, more)
    return change_answer(conversation_id, answer)


@router.get(
    "/messages",
    response_model=answers.Listing[answers.Message],
    responses=answers.READ,
    operation_id="list_messages",
)
async def list_messages(
    call: Reading,
    conversation_id: IdPath,
    after: SeqQuery = None,
    before: SeqQuery = None,
    around: SeqQuery = None,
    limit: Limit = PAGE_DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """A page of messages, ascending by seq; without `after`, `before` or `around` the newest."""
    given = [
        name
        for name, value in (("after", after), ("before", before), ("around", around))
        if value is not None
    ]
    if len(given) > 1:
        raise invalid(given[1], f"cannot stand beside {given[0]}")
    access = await access_to(call, conversation_id)
    timeline = call.services.views.timeline
    return call.page(
        await timeline.messages(access, after=after, before=before, around=around, limit=limit, cursor=cursor)
    )


@router.get(
    "/messages/{seq}",
    response_model=answers.Envelope[answers.Message],
    responses=answers.READ,
    operation_id="get_message",
)
async def get_message(call: Reading, conversation_id: IdPath, seq: SeqPath) -> Response:
    """One message."""
    access = await access_to(call, conversation_id)
    row = await call.services.views.timeline.message(access, seq)
    if row is None:
        raise Problem("not_found")
    return call.answer(row)


@router.get(
    "/messages/{seq}/edits",
    response_model=answers.Listing[answers.Edit],
    responses=answers.READ,
    operation_id="list_edits",
)
async def list_edits(
    call: Reading,
    conversation_id: IdPath,
    seq: SeqPath,
    limit: Limit = PAGE_DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """The earlier contents of a message, oldest first."""
    access = await access_to(call, conversation_id)
    rows = await call.services.views.timeline.edits(access, seq)
    if rows is None:
        raise Problem("not_found")
    return call.part("edits", [((number, ""), row) for number, row in enumerate(rows)], limit, cursor)


@router.get(
    "/events",
    response_model=answers.Listing[answers.Event],
    responses=answers.READ,
    operation_id="list_events",
)
async def list_events(
    call: Reading,
    conversation_id: IdPath,
    after: SeqQuery = None,
    limit: Limit = PAGE_DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """The events behind `after`, ascending. `me` is the caller's own stream."""
    views, position = call.services.views, _position(after, cursor)
    if conversation_id == ME:
        caller = call.caller
        return call.page(
            await views.inbox.me_events(caller.tenant, caller.user_id, after=position, limit=limit)
        )
    access = await access_to(call, conversation_id)
    return call.page(await views.timeline.events(access, after=position, limit=limit))


def _position(after: int | None, cursor: str | None) -> int:
    """Where a page of events starts: their cursor is the last seq."""
    if cursor is None:
        return after or 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= CURSOR_DIGITS_MAX):
        raise invalid("cursor", "is no cursor of this list")
    return int(cursor)


async def _act(call: Call, conversation_id: str, command: Command, payload: Any = None) -> Response:
    return call.changed(
        conversation_id, await call.change(conversation_of(conversation_id), command, payload)
    )


@router.patch(
    "/messages/{seq}",
    response_model=answers.Envelope[answers.Change],
    responses=answers.CHANGE,
    operation_id="edit_message",
)
async def edit_message(
    call: Changing, conversation_id: IdPath, seq: SeqPath, body: bodies.EditMessage
) -> Response:
    """Give one's own message another content."""
    command = talk.EditMessage(seq=seq, content=await content_of(call))
    return await _act(call, conversation_id, command, {"content": body.content})


@router.delete(
    "/messages/{seq}",
    response_model=answers.Envelope[answers.Change],
    responses=answers.CHANGE,
    operation_id="recall_message",
)
async def recall_message(call: Changing, conversation_id: IdPath, seq: SeqPath) -> Response:
    """Recall a message."""
    return await _act(call, conversation_id, talk.RecallMessage(seq=seq))


@router.put(
    "/messages/{seq}/reactions/{emoji:path}",
    response_model=answers.Envelope[answers.Change],
    responses=answers.CHANGE,
    operation_id="react",
)
async def react(call: Changing, conversation_id: IdPath, seq: SeqPath, emoji: EmojiPath) -> Response:
    """React with an emoji."""
    return await _act(call, conversation_id, talk.AddReaction(seq=seq, emoji=emoji))


@router.delete(
    "/messages/{seq}/reactions/{emoji:path}",
    response_model=answers.Envelope[answers.Change],
    responses=answers.CHANGE,
    operation_id="unreact",
)
async def unreact(call: Changing, conversation_id: IdPath, seq: SeqPath, emoji: EmojiPath) -> Response:
    """Take a reaction back."""
    return await _act(call, conversation_id, talk.RemoveReaction(seq=seq, emoji=emoji))


@router.put(
    "/messages/{seq}/pin",
    response_model=answers.Envelope[answers.Change],
    responses=answers.CHANGE,
    operation_id="pin_message",
)
async def pin_message(call: Changing, conversation_id: IdPath, seq: SeqPath) -> Response:
    """Pin a message."""
    return await _act(call, conversation_id, talk.PinMessage(seq=seq))


@router.delete(
    "/messages/{seq}/pin",
    response_model=answers.Envelope[answers.Change],
    responses=answers.CHANGE,
    operation_id="unpin_message",
)
async def unpin_message(call: Changing, conversation_id: IdPath, seq: SeqPath) -> Response:
    """Unpin a message."""
    return await _act(call, conversation_id, talk.UnpinMessage(seq=seq))


@router.put(
    "/read",
    response_model=answers.Envelope[answers.Read],
    responses=answers.CHANGE,
    operation_id="mark_read",
)
async def mark_read(call: Plain, conversation_id: IdPath, body: bodies.MarkRead) -> Response:
    """Move the read mark; a lower one changes nothing."""
    answer = await call.services.read_marks.mark(call.caller, conversation_of(conversation_id), body.seq)
    await call.caught_up(None)
    numbers = await call.services.views.inbox.numbers(call.caller.tenant, call.user_id, conversation_id)
    if numbers is None:
        raise Problem("not_found")
    data: dict[str, Any] = {"read_seq": numbers.read_seq, "unread": numbers.unread}
    return call.answer(data | ({"changed": False} if answer is None else {"position": answer.token}))
