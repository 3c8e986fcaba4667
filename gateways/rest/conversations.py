"""Conversations of the caller: the inbox, direct conversations, personal settings, sync and search."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from domain.direct import OpenDirect
from domain.errors import Problem, invalid
from domain.inbox import ChangeSettings
from domain.streams import direct_conversation_id
from gateways.rest import answers, bodies
from gateways.rest.call import Changing, Reading, conversation_of, marked
from gateways.rest.fields import (
    PAGE_DEFAULT,
    Cursor,
    IdPath,
    Limit,
    SearchText,
    TimeQuery,
    UserPath,
)
from gateways.rest.messages import access_to
from gateways.rest.routing import MemberRoute
from gateways.rest.texts import OPAQUE_ID_PATTERN, USER_ID_PATTERN

router = APIRouter(prefix="/v1", route_class=MemberRoute, tags=["conversations"])


@router.put(
    "/direct/{user_id}",
    response_model=answers.Envelope[answers.Direct],
    responses=answers.CHANGE,
    operation_id="open_direct",
)
async def open_direct(call: Changing, user_id: UserPath) -> Response:
    """Open or find the conversation with a user; with oneself: notes."""
    conversation_id = direct_conversation_id(call.caller.tenant, call.user_id, user_id)
    answer = await call.change(conversation_id, OpenDirect(peer=user_id))
    data: dict[str, Any] = {"conversation_id": conversation_id}
    if not answer.changed:
        return call.answer(data | {"changed": False})
    return call.answer(marked(data | {"position": answer.token}, answer))


@router.get(
    "/conversations",
    response_model=answers.Listing[answers.Conversation],
    responses=answers.READ,
    operation_id="list_conversations",
)
async def list_conversations(call: Reading, limit: Limit = PAGE_DEFAULT, cursor: Cursor = None) -> Response:
    """The caller's conversations, newest activity first."""
    inbox = call.services.views.inbox
    return call.page(await inbox.conversations(call.caller.tenant, call.user_id, limit=limit, cursor=cursor))


@router.get(
    "/conversations/{conversation_id}",
    response_model=answers.Envelope[answers.Conversation],
    responses=answers.READ,
    operation_id="get_conversation",
)
async def get_conversation(call: Reading, conversation_id: IdPath) -> Response:
    """One conversation of the caller."""
    name = conversation_of(conversation_id)
    row = await call.services.views.inbox.conversation(call.caller.tenant, call.user_id, name)
    if row is None:
        raise Problem("not_found")
    return call.answer(row)


@router.patch(
    "/conversations/{conversation_id}",
    response_model=answers.Envelope[answers.Changed],
    responses=answers.CHANGE,
    operation_id="change_conversation",
)
async def change_conversation(
    call: Changing, conversation_id: IdPath, body: bodies.ChangeConversation
) -> Response:
    """Pin or mute a conversation for oneself."""
    await call.caught_up(None)
    await access_to(call, conversation_of(conversation_id))
    command = ChangeSettings(conversation_id=conversation_id, pinned=body.pinned, muted=body.muted)
    answer = await call.change(f"inbox:{call.user_id}", command, body.model_dump(exclude_none=True))
    if not answer.changed:
        return call.answer({"changed": False})
    return call.answer(marked({"position": answer.token}, answer))


@router.post(
    "/sync",
    response_model=answers.Envelope[answers.Synced],
    responses=answers.CHANGE,
    operation_id="sync",
    tags=["sync"],
)
async def sync(call: Reading, body: bodies.Sync) -> Response:
    """What is new since `have`, of all conversations; the same as the socket's op."""
    answer = await call.services.views.inbox.sync(
        call.caller.tenant,
        call.user_id,
        body.have,
        limit=body.limit,
        recent=body.recent,
        only=body.only,
        cursor=body.cursor,
    )
    return call.answer(answer)


@router.get(
    "/search",
    response_model=answers.Listing[answers.FoundMessage],
    responses=answers.READ,
    operation_id="search_messages",
    tags=["search"],
)
async def search_messages(
    call: Reading,
    query: SearchText,
    conversation_id: Annotated[str | None, Query(pattern=OPAQUE_ID_PATTERN)] = None,
    sender: Annotated[str | None, Query(alias="from", pattern=USER_ID_PATTERN)] = None,
    after: TimeQuery = None,
    before: TimeQuery = None,
    limit: Limit = PAGE_DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """Messages that the caller may see, newest first; all words must occur."""
    if not query.strip():
        raise invalid("query", "must have a visible character")
    if conversation_id is not None:
        await access_to(call, conversation_of(conversation_id))
    page = await call.services.views.search.search(
        call.caller.tenant,
        call.user_id,
        query,
        conversation_id=conversation_id,
        sender=sender,
        after=after,
        before=before,
        limit=limit,
        cursor=cursor,
    )
    return call.page(page)
