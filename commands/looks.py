"""Looks: the questions of the command port, as they are asked of another node."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from commands.desk import Desk
from commands.port import Outline
from domain.aggregates import State


class LookKind(StrEnum):
    """Which question of the command port is asked."""

    PEEK = "peek"
    PEEK_AS = "peek_as"
    OUTLINE = "outline"
    USER_EXISTS = "user_exists"


class Look(msgspec.Struct, frozen=True):
    """A question about one aggregate. `user_id` is for PEEK_AS; `name` is the user's id for USER_EXISTS."""

    kind: LookKind
    tenant: str
    name: str
    user_id: str = ""


async def answer_look(desk: Desk, look: Look) -> State | Outline | bool:
    """The owner's side of a look. Raises Problem, NotOwner."""
    if look.kind is LookKind.PEEK:
        return await desk.peek(look.tenant, look.name)
    if look.kind is LookKind.PEEK_AS:
        return await desk.peek_as(look.tenant, look.name, look.user_id)
    if look.kind is LookKind.OUTLINE:
        return await desk.outline(look.tenant, look.name)
    return await desk.user_exists_here(look.tenant, look.name)
