"""What stands at the root: the chat page, health, the interface's description and its reference page."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.routing import Route
from typing_extensions import override

from domain.errors import FieldError, Problem
from gateways.rest import answers
from gateways.rest.call import Plain
from gateways.rest.probe import status_of
from gateways.rest.reference import REFERENCE_CONTENT_SECURITY_POLICY, reference_page
from gateways.rest.routing import StrictRoute
from gateways.web import CONTENT_SECURITY_POLICY, PageFile, page_files


class HealthRoute(StrictRoute):
    """A route that is asked often and by machines: no limit."""

    @override
    async def admit(self, request: Request) -> None:
        request.app.state.gatekeeper.admit_unlimited(request)


health = APIRouter(route_class=HealthRoute, tags=["health"])


@health.get(
    "/livez",
    response_model=answers.Envelope[answers.Health],
    responses=answers.problems(),
    operation_id="live",
)
async def live(call: Plain) -> Response:
    """The process answers."""
    return call.answer({"status": "ok"})


@health.get(
    "/readyz",
    response_model=answers.Envelope[answers.Health],
    responses=answers.problems(),
    operation_id="ready",
)
async def ready(call: Plain) -> Response:
    """The server can do its work; else `unavailable`, and `errors` names what cannot."""
    wrong = call.services.readiness()
    if wrong:
        errors = tuple(FieldError(name, reason) for name, reason in wrong.items())
        raise Problem("unavailable", "not ready", errors=errors)
    return call.answer({"status": status_of(call.services.remarks())})


class Fixed:
    """Bytes that stay the same for as long as the server runs, with an entity tag."""

    def __init__(self, body: bytes, media_type: str, content_security_policy: str) -> None:
        self._body = body
        self._media_type = media_type
        self._tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        self._headers = {
            "ETag": self._tag,
            "Cache-Control": "no-cache",
            "Content-Security-Policy": content_security_policy,
        }

    def answer(self, request: Request) -> Response:
        """The bytes, or 304 for a caller who has them."""
        known = request.headers.get("if-none-match", "").split(",")
        if self._tag in [part.strip().removeprefix("W/") for part in known]:
            return Response(status_code=304, headers=self._headers)
        return Response(self._body, headers=self._headers, media_type=self._media_type)


def _page_route(page: PageFile) -> Route:
    fixed = Fixed(page.file.read_bytes(), page.media_type, CONTENT_SECURITY_POLICY)

    async def serve(request: Request) -> Response:
        return fixed.answer(request)

    return Route(page.url_path, serve, methods=["GET"])


def _made_route(path: str, make: Callable[[], Fixed]) -> Route:
    """A route whose bytes are made at the first call, off the loop: that takes a second."""
    made = functools.lru_cache(maxsize=1)(make)

    async def serve(request: Request) -> Response:
        return (await asyncio.to_thread(made)).answer(request)

    return Route(path, serve, methods=["GET"])


def page_routes(openapi: Callable[[], dict[str, Any]]) -> list[Route]:
    """The routes of the static files, which are read once, here, and of `/openapi.json` and `/docs`."""

    def description() -> Fixed:
        return Fixed(msgspec.json.encode(openapi()), "application/json", "default-src 'none'")

    def reference() -> Fixed:
        page = reference_page(openapi()).encode()
        return Fixed(page, "text/html; charset=utf-8", REFERENCE_CONTENT_SECURITY_POLICY)

    routes = [_page_route(page) for page in page_files()]
    return [*routes, _made_route("/openapi.json", description), _made_route("/docs", reference)]
