"""The REST face as one ASGI application."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute, APIRouter

from gateways.rest import accounts, conversations, groups, invites, members, messages, pages, people, unbuilt
from gateways.rest.cors import CrossOrigin
from gateways.rest.edge import Edge
from gateways.rest.express import Express
from gateways.rest.gatekeeper import Gatekeeper
from gateways.rest.metrics import RestMetrics
from gateways.rest.openapi import openapi_document
from gateways.rest.problems import install_problem_handlers
from gateways.rest.services import RestServices

API_VERSION = "1"
_ROUTERS: tuple[APIRouter, ...] = (
    # `/users/me` before `/users/{user_id}`: the first that fits is taken.
    accounts.registration,
    accounts.anybody,
    accounts.signed,
    accounts.router,
    people.router,
    groups.router,
    members.router,
    invites.router,
    conversations.router,
    messages.router,
    pages.health,
    unbuilt.router,
)


def api_routes() -> list[APIRoute]:
    """Every route of the interface, in order."""
    return [route for router in _ROUTERS for route in router.routes if isinstance(route, APIRoute)]


@lru_cache(maxsize=1)
def openapi() -> dict[str, Any]:
    """The OpenAPI document; it depends on the code alone and is not to be changed."""
    return openapi_document(api_routes(), API_VERSION)


def build_app(services: RestServices) -> FastAPI:
    """The application. It owns nothing that must be closed; whoever made the services closes them."""
    app = FastAPI(title="Minutebook", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.gatekeeper = Gatekeeper(services)
    app.state.services = services
    app.router.routes.extend(api_routes())
    app.router.routes.extend(pages.page_routes(openapi))
    install_problem_handlers(app)
    app.add_middleware(CrossOrigin, origins=services.settings.origins)
    metrics = RestMetrics(services.registry)
    app.state.express = Express(services, metrics)
    app.add_middleware(Edge, body_bytes_max=services.settings.body_bytes_max, metrics=metrics)
    return app
