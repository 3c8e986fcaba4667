"""Groups: making, reading, changing, dissolving, muting and handing over."""

from __future__ import annotations

import secrets
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from msgspec import UNSET

from commands.caller import Keyed
from domain import group
from domain.errors import Problem
from domain.streams import group_conversation_id, id_from_digest
from gateways.rest import answers, bodies
from gateways.rest.call import Call, Changing, Reading, group_of, marked
from gateways.rest.fields import Body, IdPath
from gateways.rest.routing import MemberRoute

router = APIRouter(prefix="/v1/groups", route_class=MemberRoute, tags=["groups"])


@router.post(
    "",
    status_code=201,
    response_model=answers.Envelope[answers.NewGroup],
    responses=answers.CHANGE,
    operation_id="create_group",
)
async def create_group(call: Changing, body: bodies.CreateGroup) -> Response:
    """Make a group; the caller becomes its owner. `seq` is the group's head."""
    payload = body.model_dump(exclude_unset=True)
    # The group's id comes from the key, so without one from the client the call needs one of its own.
    keyed = call.keyed(payload, client_key=call.client_key or secrets.token_hex(16))
    command = group.CreateGroup(
        name=body.name,
        description=body.description,
        avatar=body.avatar,
        members=tuple(body.members),
        join=body.join,
        max_members=body.max_members,
        history_visible=body.history_visible,
        members_may_add=body.members_may_add,
    )
    group_id = _new_group_id(call, keyed)
    answer = await call.services.desk.execute(call.caller, group_id, command, keyed)
    data = {"conversation_id": group_id, "seq": answer.seq, "position": answer.token}
    return call.answer(marked(data, answer), 201)


def _new_group_id(call: Call, keyed: Keyed) -> str:
    return group_conversation_id(id_from_digest(keyed.key(call.caller.tenant, call.user_id)))


@router.get(
    "/{group_id}",
    response_model=answers.Envelope[answers.Group],
    responses=answers.READ,
    operation_id="get_group",
)
async def get_group(call: Reading, group_id: IdPath) -> Response:
    """A group; strangers of open and approval groups see a part of it."""
    row = await call.services.views.timeline.group(call.caller.tenant, call.user_id, group_of(group_id))
    if row is None:
        raise Problem("not_found")
    if "my_role" in row:
        settings = call.services.settings
        windows = {"recall_window_s": settings.recall_window_s, "edit_window_s": settings.edit_window_s}
        row = windows | row
    return call.answer(row)


@router.patch(
    "/{group_id}",
    response_model=answers.Envelope[answers.Change],
    responses=answers.CHANGE,
    operation_id="change_group",
)
async def change_group(call: Changing, group_id: IdPath, body: bodies.ChangeGroup) -> Response:
    """Change settings."""
    given = given_fields(body)
    command = group.ChangeGroup(**{name: given.get(name, UNSET) for name in bodies.ChangeGroup.model_fields})
    return call.changed(group_id, await call.change(group_of(group_id), command, given))


def given_fields(body: Body) -> dict[str, Any]:
    """The fields that the request gave, null or not."""
    return {name: getattr(body, name) for name in body.model_fields_set}


@router.delete(
    "/{group_id}",
    response_model=answers.Envelope[answers.Change],
    responses=answers.CHANGE,
    operation_id="dissolve_group",
)
async def dissolve_group(call: Changing, group_id: IdPath) -> Response:
    """Dissolve the group; its members keep what they saw."""
    return call.changed(group_id, await call.change(group_of(group_id), group.DissolveGroup()))


@router.post(
    "/{group_id}/transfer",
    response_model=answers.Envelope[answers.Change],
    responses=answers.CHANGE,
    operation_id="transfer_group",
)
async def transfer_group(call: Changing, group_id: IdPath, body: bodies.TransferGroup) -> Response:
    """Make another member the owner."""
    command = group.TransferOwnership(to=body.to)
    return call.changed(group_id, await call.change(group_of(group_id), command, {"to": body.to}))


@router.put(
    "/{group_id}/mute",
    response_model=answers.Envelope[answers.Change],
    responses=answers.CHANGE,
    operation_id="mute_group",
)
async def mute_group(call: Changing, group_id: IdPath) -> Response:
    """Let only admins and the owner post."""
    return call.changed(group_id, await call.change(group_of(group_id), group.MuteGroup()))


@router.delete(
    "/{group_id}/mute",
    response_model=answers.Envelope[answers.Change],
    responses=answers.CHANGE,
    operation_id="unmute_group",
)
async def unmute_group(call: Changing, group_id: IdPath) -> Response:
    """Let all members post again."""
    return call.changed(group_id, await call.change(group_of(group_id), group.UnmuteGroup()))
