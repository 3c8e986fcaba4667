"""Members of a group: the list, adding, removing, changing, joining, leaving."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter
from fastapi.responses import Response
from msgspec import UNSET

from domain import group
from domain.errors import Problem
from gateways.rest import answers, bodies
from gateways.rest.call import Call, Changing, Reading, group_of
from gateways.rest.fields import PAGE_DEFAULT, Cursor, IdPath, Limit, UserPath
from gateways.rest.groups import given_fields
from gateways.rest.invites import code_digest
from gateways.rest.messages import access_to
from gateways.rest.routing import MemberRoute
from projections.shapes import Page

router = APIRouter(prefix="/v1/groups/{group_id}", route_class=MemberRoute, tags=["groups"])
_decode_row = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@router.get(
    "/members",
    response_model=answers.Listing[answers.Member],
    responses=answers.READ,
    operation_id="list_members",
)
async def list_members(
    call: Reading, group_id: IdPath, limit: Limit = PAGE_DEFAULT, cursor: Cursor = None
) -> Response:
    """The members."""
    access = await access_to(call, group_of(group_id))
    page = await call.services.views.timeline.members(access, limit=limit, cursor=cursor)
    return call.page(await _with_presence(call, page))


async def _with_presence(call: Call, page: Page) -> Page:
    rows = [_decode_row(bytes(row)) for row in page.data]
    user_ids = [msgspec.json.decode(bytes(row["user_id"]), type=str) for row in rows]
    known = await call.services.presence.of(call.caller.tenant, user_ids)
    online = {row.user_id: row.online for row in known}
    for user_id, row in zip(user_ids, rows, strict=True):
        row["online"] = msgspec.Raw(b"true" if online.get(user_id) else b"false")
    return Page([msgspec.Raw(msgspec.json.encode(row)) for row in rows], page.next)


@router.get(
    "/members/{user_id}",
    response_model=answers.Envelope[answers.Member],
    responses=answers.READ,
    operation_id="get_member",
)
async def get_member(call: Reading, group_id: IdPath, user_id: UserPath) -> Response:
    """One member."""
    access = await access_to(call, group_of(group_id))
    row = await call.services.views.timeline.member(access, user_id)
    if row is None:
        raise Problem("not_found")
    (known,) = await call.services.presence.of(call.caller.tenant, [user_id])
    return call.answer(msgspec.to_builtins(row) | {"online": known.online})


@router.post(
    "/members",
    response_model=answers.Envelope[answers.Change],
    responses=answers.CHANGE,
    operation_id="add_members",
)
async def add_members(call: Changing, group_id: IdPath, body: bodies.AddMembers) -> Response:
    """Add users: all, or none if one is unknown."""
    command = group.AddMembers(user_ids=tuple(body.user_ids))
    return call.changed(group_id, await call.change(group_of(group_id), command, {"user_ids": body.user_ids}))


@router.delete(
    "/members/{user_id}",
    response_model=answers.Envelope[answers.Change],
    responses=answers.CHANGE,
    operation_id="remove_member",
)
async def remove_member(call: Changing, group_id: IdPath, user_id: UserPath) -> Response:
    """Remove somebody else."""
    return call.changed(group_id, await call.change(group_of(group_id), group.RemoveMember(user_id=user_id)))


@router.patch(
    "/members/{user_id}",
    response_model=answers.Envelope[answers.Change],
    responses=answers.CHANGE,
    operation_id="change_member",
)
async def change_member(
    call: Changing, group_id: IdPath, user_id: UserPath, body: bodies.ChangeMember
) -> Response:
    """Change a member's role or alias, or mute it until a time."""
    given = given_fields(body)
    command = group.ChangeMember(
        user_id=user_id,
        role=given.get("role", UNSET),
        alias=given.get("alias", UNSET),
        muted_until=given.get("muted_until", UNSET),
    )
    return call.changed(group_id, await call.change(group_of(group_id), command, given))


@router.post(
    "/join",
    response_model=answers.Envelope[answers.Change],
    responses=answers.CHANGE,
    operation_id="join_group",
)
async def join_group(call: Changing, group_id: IdPath, body: bodies.JoinGroup | None = None) -> Response:
    """Join an open group, or an invite group with a code.

    Joining by approval is not built yet: `unavailable`.
    """
    code = None if body is None else body.code
    digest = None if code is None else code_digest(code)
    payload: dict[str, Any] = {} if body is None else body.model_dump(exclude_none=True)
    payload.pop("code", None)
    if digest is not None:
        payload["code_digest"] = digest
    command = group.JoinGroup(code_digest=digest)
    return call.changed(group_id, await call.change(group_of(group_id), command, payload))


@router.post(
    "/leave",
    response_model=answers.Envelope[answers.Change],
    responses=answers.CHANGE,
    operation_id="leave_group",
)
async def leave_group(call: Changing, group_id: IdPath) -> Response:
    """Leave."""
    return call.changed(group_id, await call.change(group_of(group_id), group.LeaveGroup()))
