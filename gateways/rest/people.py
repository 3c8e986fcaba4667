"""Other people: profiles, the directory, blocks, presence."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from commands.caller import Answer
from domain import text
from domain.direct import BlockUser, UnblockUser
from domain.errors import Problem, invalid
from domain.event import Command
from domain.streams import direct_conversation_id
from gateways.rest import answers
from gateways.rest.call import Call, Changing, Reading, marked
from gateways.rest.fields import (
    PAGE_DEFAULT,
    QUERY_CHARACTERS_MAX,
    USERS_PER_CALL_MAX,
    Clean,
    Cursor,
    Limit,
    UserPath,
)
from gateways.rest.routing import MemberRoute

router = APIRouter(prefix="/v1", route_class=MemberRoute, tags=["people"])
_USERS_CHARACTERS_MAX = USERS_PER_CALL_MAX * 65


@router.get(
    "/users",
    response_model=answers.Listing[answers.Profile],
    responses=answers.READ,
    operation_id="list_users",
)
async def list_users(
    call: Reading,
    query: Annotated[str, Query(max_length=QUERY_CHARACTERS_MAX), Clean] = "",
    limit: Limit = PAGE_DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """The directory: users whose id or name begins with the query."""
    directory = call.services.views.directory
    return call.page(await directory.users(call.caller.tenant, query, limit=limit, cursor=cursor))


@router.get(
    "/users/{user_id}",
    response_model=answers.Envelope[answers.Profile],
    responses=answers.READ,
    operation_id="get_user",
)
async def get_user(call: Reading, user_id: UserPath) -> Response:
    """A public profile."""
    row = await call.services.views.directory.user(call.caller.tenant, user_id)
    if row is None:
        raise Problem("not_found")
    return call.answer(row)


@router.get(
    "/blocks",
    response_model=answers.Listing[answers.Block],
    responses=answers.READ,
    operation_id="list_blocks",
)
async def list_blocks(call: Reading, limit: Limit = PAGE_DEFAULT, cursor: Cursor = None) -> Response:
    """Whom the caller blocks."""
    directory = call.services.views.directory
    return call.page(await directory.blocks(call.caller.tenant, call.user_id, limit=limit, cursor=cursor))


@router.put(
    "/blocks/{user_id}",
    response_model=answers.Envelope[answers.Changed],
    responses=answers.CHANGE,
    operation_id="block_user",
)
async def block_user(call: Changing, user_id: UserPath) -> Response:
    """Block a user, who is told nothing."""
    return await _relate(call, user_id, BlockUser(peer=user_id))


@router.delete(
    "/blocks/{user_id}",
    response_model=answers.Envelope[answers.Changed],
    responses=answers.CHANGE,
    operation_id="unblock_user",
)
async def unblock_user(call: Changing, user_id: UserPath) -> Response:
    """Take a block back."""
    return await _relate(call, user_id, UnblockUser(peer=user_id))


async def _relate(call: Call, user_id: str, command: Command) -> Response:
    conversation_id = direct_conversation_id(call.caller.tenant, call.user_id, user_id)
    answer: Answer = await call.change(conversation_id, command)
    if not answer.changed:
        return call.answer({"changed": False})
    data: dict[str, Any] = {"user_id": user_id, "position": answer.token}
    return call.answer(marked(data, answer))


@router.get(
    "/presence",
    response_model=answers.Listing[answers.PresenceRow],
    responses=answers.READ,
    operation_id="list_presence",
)
async def list_presence(
    call: Reading,
    users: Annotated[str, Query(min_length=1, max_length=_USERS_CHARACTERS_MAX)],
    limit: Limit = USERS_PER_CALL_MAX,
    cursor: Cursor = None,
) -> Response:
    """Who of these users is online; only members of a common group and oneself, others are left out."""
    wanted = list(dict.fromkeys(users.split(",")))
    if len(wanted) > USERS_PER_CALL_MAX:
        raise invalid("users", f"must name at most {USERS_PER_CALL_MAX} users")
    for user_id in wanted:
        text.user_id("users", user_id)
    visible = await call.services.views.sight.visible(call.caller.tenant, call.user_id, wanted)
    rows = await call.services.presence.of(call.caller.tenant, visible)
    number = {user_id: index for index, user_id in enumerate(wanted)}
    return call.part("presence", [((number[row.user_id], ""), row) for row in rows], limit, cursor)
