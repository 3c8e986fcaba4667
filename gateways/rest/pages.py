"""What stands at the root: the chat page, health, the interface's description and its reference page."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.routing import Route

from domain.errors import FieldError, Problem
from gateways.rest import answers
from gateways.rest.call import Plain
from gateways.rest.reference import REFERENCE_CONTENT_SECURITY_POLICY, reference_page
from gateways.rest.routing import StrictRoute
from gateways.web import CONTENT_SECURITY_POLICY, page_files

Endpoint = Callable[[Request], Response]


class HealthRoute(StrictRoute):
    """A route that is asked often and by machines: no limit."""

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
    return call.answer({"status": "ok"})


def fixed(body: bytes, media_type: str, content_security_policy: str) -> Endpoint:
    """An endpoint that answers with the same bytes for as long as the server runs, with an entity tag."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Content-Security-Policy": content_security_policy}

    def endpoint(request: Request) -> Response:
        known = [
            part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")
        ]
        if tag in known:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=media_type)

    return endpoint


def _route(path: str, endpoint: Endpoint) -> Route:
    async def serve(request: Request) -> Response:
        return endpoint(request)

    return Route(path, serve, methods=["GET"])


def page_routes(openapi: Callable[[], dict[str, Any]]) -> list[Route]:
    """The routes of the static files, of `/openapi.json` and of `/docs`. All files are read once, here."""
    routes = [
        _route(page.url_path, fixed(page.file.read_bytes(), page.media_type, CONTENT_SECURITY_POLICY))
        for page in page_files()
    ]
    document = openapi()
    description = fixed(msgspec.json.encode(document), "application/json", "default-src 'none'")
    reference = fixed(
        reference_page(document).encode(), "text/html; charset=utf-8", REFERENCE_CONTENT_SECURITY_POLICY
    )
    return [*routes, _route("/openapi.json", description), _route("/docs", reference)]
