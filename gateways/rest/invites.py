"""Invites: codes that let people into a group.

A code names its group, is made from the call's key, and is stored as a digest only.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from domain import group
from domain.errors import Problem
from domain.group import GroupState, InviteCreated
from gateways.rest import answers, bodies
from gateways.rest.call import Changing, ReadingState, RowPlace, change_answer, group_of, marked
from gateways.rest.fields import PAGE_DEFAULT, Cursor, IdPath, Limit
from gateways.rest.routing import MemberRoute
from projections.wire import wire_time

router = APIRouter(prefix="/v1", route_class=MemberRoute, tags=["groups"])
_SECRET_CHARACTERS = 26
_CODE = re.compile(r"([A-Za-z0-9_.:-]{1,100})~([a-z2-7]{26})")


def code_of(server_secret: bytes, group_id: str, command_id: bytes) -> str:
    """The code that the command with this id makes: always the same one, so that a repeated call shows it
    again.
    """
    digest = hmac.digest(server_secret, b"invite\x00" + group_id.encode() + b"\x00" + command_id, "sha256")
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    number = int.from_bytes(digest)
    secret = "".join(alphabet[(number >> (5 * place)) & 31] for place in range(_SECRET_CHARACTERS))
    return f"{group_id}~{secret}"


def code_digest(code: str) -> str:
    """What is stored of a code. Codes hold 130 random bits, so a plain digest cannot be searched."""
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest()


def group_of_code(code: str) -> str:
    """The group that a code names. A text that is no code is `not_found`, as a wrong code is."""
    match = _CODE.fullmatch(code)
    if match is None:
        raise Problem("not_found")
    return group_of(match[1])


@router.post(
    "/groups/{group_id}/invites",
    status_code=201,
    response_model=answers.Envelope[answers.NewInvite],
    responses=answers.CHANGE,
    operation_id="create_invite",
)
async def create_invite(
    call: Changing, group_id: IdPath, body: bodies.CreateInvite | None = None
) -> Response:
    """Make an invite. The code is shown to this call and its repetitions only."""
    wanted = body or bodies.CreateInvite()
    payload = wanted.model_dump(exclude_none=True)
    keyed = call.keyed(payload, client_key=call.client_key or secrets.token_hex(16))
    command_id = keyed.key(call.caller.tenant, call.user_id)
    code = code_of(call.services.server_secret, group_of(group_id), command_id)
    command = group.CreateInvite(
        code_digest=code_digest(code), max_uses=wanted.max_uses, expires_at=wanted.expires_at
    )
    answer = await call.services.desk.execute(call.caller, group_id, command, keyed)
    data: dict[str, Any] = {"code": code, "position": answer.token}
    for row in answer.events:
        if isinstance(row.event, InviteCreated):
            data["invite_id"] = row.event.invite_id
    return call.answer(marked(data, answer), 201)


@router.get(
    "/groups/{group_id}/invites",
    response_model=answers.Listing[answers.Invite],
    responses=answers.READ,
    operation_id="list_invites",
)
async def list_invites(
    call: ReadingState, group_id: IdPath, limit: Limit = PAGE_DEFAULT, cursor: Cursor = None
) -> Response:
    """The invites that can still be used; for admins and the owner."""
    state = await call.services.desk.peek_as(call.caller.tenant, group_of(group_id), call.user_id)
    assert isinstance(state, GroupState)
    member = state.members.get(call.user_id)
    if member is None:
        raise Problem("forbidden" if call.user_id in state.former else "not_found")
    if member.role == "member":
        raise Problem("forbidden", "only admins and the owner may do this")
    now = call.services.now_ms()
    rows: list[tuple[RowPlace, dict[str, Any]]] = []
    for invite_id, invite in sorted(state.invites.items()):
        if not invite.usable(now):
            continue
        row: dict[str, Any] = {"invite_id": invite_id, "uses": invite.uses, "created_by": invite.created_by}
        if invite.max_uses is not None:
            row["max_uses"] = invite.max_uses
        if invite.expires_at is not None:
            row["expires_at"] = wire_time(invite.expires_at)
        rows.append(((0, invite_id), row))
    return call.part("invites", rows, limit, cursor)


@router.delete(
    "/groups/{group_id}/invites/{invite_id}",
    response_model=answers.Envelope[answers.Change],
    responses=answers.CHANGE,
    operation_id="revoke_invite",
)
async def revoke_invite(call: Changing, group_id: IdPath, invite_id: IdPath) -> Response:
    """Make a code useless."""
    command = group.RevokeInvite(invite_id=invite_id)
    return call.changed(group_id, await call.change(group_of(group_id), command))


@router.post(
    "/invites/{code}/accept",
    response_model=answers.Envelope[answers.Change],
    responses=answers.CHANGE,
    operation_id="accept_invite",
)
async def accept_invite(call: Changing, code: IdPath) -> Response:
    """Join the group that a code lets into."""
    group_id = group_of_code(code)
    digest = code_digest(code)
    command = group.AcceptInvite(code_digest=digest)
    keyed = call.keyed({"code_digest": digest}, scope=f"POST /v1/invites/{digest}/accept")
    answer = await call.services.desk.execute(call.caller, group_id, command, keyed)
    return call.answer(change_answer(group_id, answer))
