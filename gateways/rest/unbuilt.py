"""Routes of the contract that are not built yet: `unavailable` for users, so that a client can tell them
from wrong paths.
"""

from __future__ import annotations

from typing import NoReturn

from fastapi import APIRouter

from domain.errors import Problem
from gateways.rest.routing import LooseRoute

_UNBUILT = (
    ("GET", "/v1/friend-requests"),
    ("POST", "/v1/friend-requests"),
    ("POST", "/v1/friend-requests/{request_id}/{verb}"),
    ("GET", "/v1/friends"),
    ("PATCH", "/v1/friends/{user_id}"),
    ("DELETE", "/v1/friends/{user_id}"),
    ("GET", "/v1/groups/{group_id}/join-requests"),
    ("POST", "/v1/groups/{group_id}/join-requests/{request_id}/{verb}"),
    ("GET", "/v1/conversations/{conversation_id}/receipts/{seq}"),
    ("POST", "/v1/media"),
    ("GET", "/v1/media/{media_id}"),
)

router = APIRouter(route_class=LooseRoute, include_in_schema=False)


async def _unavailable() -> NoReturn:
    raise Problem("unavailable", "this is not available yet")


for _method, _path in _UNBUILT:
    router.add_api_route(_path, _unavailable, methods=[_method], response_model=None)
