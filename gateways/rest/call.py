"""One request: who calls, what it may read, how it changes something, and how it is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from fastapi import Depends, Request
from fastapi.responses import Response

from commands.caller import Answer, Caller, Keyed
from domain.errors import Problem, invalid
from domain.event import Command
from domain.streams import StreamKind, kind_of
from gateways.json import canonical_json
from gateways.rest.fields import IdempotencyKey, MinPosition
from gateways.rest.problems import request_id_of
from gateways.rest.services import RestServices
from gateways.rest.texts import positions_of
from gateways.sending import conversation_name
from projections.cursors import cursor_of, place_of
from projections.shapes import Page
from projections.wire import wire_time

ME = "me"
RowPlace = tuple[int, str]
"""Where a row stands in its list: a number, and an id where numbers may be equal."""
_encode = msgspec.json.Encoder().encode


class Call:
    """What an endpoint is given. `caller` is set on routes for users; `tenant` on all."""

    def __init__(
        self,
        request: Request,
        services: RestServices,
        tenant: str,
        caller: Caller | None,
        app_key: str | None = None,
    ) -> None:
        self.request = request
        self.services = services
        self.tenant = tenant
        self._caller = caller
        self.app_key = app_key
        self.client_key: str | None = None

    @property
    def caller(self) -> Caller:
        """The user. Raises `unauthenticated` on a route that anybody may call."""
        if self._caller is None:
            raise Problem("unauthenticated")
        return self._caller

    @property
    def user_id(self) -> str:
        """The calling user."""
        return self.caller.user_id

    @property
    def address(self) -> str:
        """The network address of the peer, for limits."""
        client = self.request.client
        return client.host if client is not None else "unknown"

    @property
    def scope(self) -> str:
        """Where the keys of this call count: method and path (and app key), so that one key may be used for
        two groups.
        """
        place = f"{self.request.method} {self.request.scope['path']}"
        return place if self.app_key is None else f"{place} {self.app_key}"

    def keyed(self, payload: Any, scope: str | None = None, client_key: str | None = None) -> Keyed:
        """The key of a change; `payload` is its JSON value without credentials."""
        return Keyed(scope or self.scope, client_key or self.client_key, canonical_json(payload))

    async def change(self, name: str, command: Command, payload: Any = None) -> Answer:
        """Do it, as the caller, under the call's key. Raises Problem."""
        return await self.services.desk.execute(self.caller, name, command, self.keyed(payload))

    async def caught_up(self, min_position: str | None) -> None:
        """Wait until views show what the caller has seen: `min_position`, else everything that was
        acknowledged.
        """
        if min_position is None:
            positions = self.services.desk.head_positions()
        else:
            positions = positions_of(min_position, self.services.settings.shard_count)
        await self.services.views.caught_up(positions)

    # --- answers ---

    def answer(self, data: Any, status: int = 200) -> Response:
        """`data` in the envelope. Structs and raw JSON in it stand as they are."""
        document = {"data": data, "request_id": request_id_of(self.request)}
        return Response(_encode(document), status, media_type="application/json")

    def page(self, page: Page) -> Response:
        """A list."""
        document = {"data": page.data, "next": page.next, "request_id": request_id_of(self.request)}
        return Response(_encode(document), 200, media_type="application/json")

    def part(
        self, purpose: str, rows: Sequence[tuple[RowPlace, Any]], limit: int, cursor: str | None
    ) -> Response:
        """A page of a list that stands in memory whole: `rows` are (place, row), ascending by place.

        `purpose` names the list in its cursors. Raises `validation_failed` for the cursor of another list.
        """
        if cursor is not None:
            after = place_of(purpose, cursor, tuple[int, str])
            rows = [row for row in rows if row[0] > after]
        following = cursor_of(purpose, rows[limit - 1][0]) if len(rows) > limit else None
        document = {
            "data": [row for _, row in rows[:limit]],
            "next": following,
            "request_id": request_id_of(self.request),
        }
        return Response(_encode(document), 200, media_type="application/json")

    def changed(self, conversation_id: str, answer: Answer) -> Response:
        """A change answer."""
        return self.answer(change_answer(conversation_id, answer))


def change_answer(
    conversation_id: str, answer: Answer, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """`{conversation_id, seq, at, position}`, or `{changed: false}` when there was nothing to do."""
    if not answer.changed:
        return {"changed": False}
    data: dict[str, Any] = {"conversation_id": conversation_id}
    if answer.seq is not None:
        data["seq"] = answer.seq
    data |= {"at": wire_time(answer.at), "position": answer.token}
    data |= more or {}
    return marked(data, answer)


def marked(data: dict[str, Any], answer: Answer) -> dict[str, Any]:
    """With `replayed` when the answer is an earlier one's."""
    return data | {"replayed": True} if answer.replayed else data


def group_of(group_id: str) -> str:
    """The stream of a group. A name of another kind is `not_found`: no path leads to other streams."""
    if kind_of(group_id) is not StreamKind.GROUP:
        raise Problem("not_found")
    return group_id


def conversation_of(conversation_id: str) -> str:
    """The stream of a conversation, of either kind."""
    return conversation_name(conversation_id)


async def call_of(request: Request) -> Call:
    """The call that the route admitted."""
    call: Call = request.state.call
    return call


async def keyed_call(call: Annotated[Call, Depends(call_of)], idempotency_key: IdempotencyKey = None) -> Call:
    """The call of a change, with its key."""
    if idempotency_key is not None:
        if "\x00" in idempotency_key:
            raise invalid("Idempotency-Key", "must not contain NUL")
        call.client_key = idempotency_key
    return call


async def reading_call(call: Annotated[Call, Depends(call_of)], min_position: MinPosition = None) -> Call:
    """The call of a read, once views have caught up."""
    await call.caught_up(min_position)
    return call


async def state_call(call: Annotated[Call, Depends(call_of)], min_position: MinPosition = None) -> Call:
    """The call of a read that the log's own state answers: it is never behind what this server acknowledged."""
    if min_position is not None:
        await call.caught_up(min_position)
    return call


Plain = Annotated[Call, Depends(call_of)]
Changing = Annotated[Call, Depends(keyed_call)]
Reading = Annotated[Call, Depends(reading_call)]
ReadingState = Annotated[Call, Depends(state_call)]
