"""The OpenAPI 3.1 document: FastAPI's, with problems, security and nothing that is not so."""

from __future__ import annotations

from typing import Any

from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from gateways.rest.problems import problem_schema
from gateways.rest.routing import MemberRoute, RegistrationRoute, SignedRoute
from gateways.rest.signatures import SIGNATURE_HEADERS

_DESCRIPTION = (
    "Instant messaging whose only truth is its event log. "
    "Every answer is an envelope, every error a problem (RFC 9457)."
)
_SIGNED: dict[str, list[str]] = {
    f"signed_{name.removeprefix('x-').replace('-', '_')}": [] for name in SIGNATURE_HEADERS
}


def openapi_document(routes: list[APIRoute], version: str) -> dict[str, Any]:
    """The document of these routes, keys in a stable order."""
    document = get_openapi(
        title="Minutebook", version=version, openapi_version="3.1.0", description=_DESCRIPTION, routes=routes
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = problem_schema()
    document["components"]["securitySchemes"] = _security_schemes()
    document["components"]["responses"] = _shared_problems(document)
    for route in routes:
        security = _security_of(route)
        for method in route.methods or ():
            operation = document["paths"].get(route.path_format, {}).get(method.lower())
            if operation is not None and security is not None:
                operation["security"] = security
    return document


def _shared_problems(document: dict[str, Any]) -> dict[str, Any]:
    """The problem responses, each once; operations are made to refer to them."""
    shared: dict[str, Any] = {}
    for methods in document["paths"].values():
        for operation in methods.values():
            responses = operation["responses"]
            for status in [status for status in responses if status >= "400"]:
                shared[f"Problem{status}"] = responses[status]
                responses[status] = {"$ref": f"#/components/responses/Problem{status}"}
    return dict(sorted(shared.items()))


def _security_of(route: APIRoute) -> list[dict[str, list[str]]] | None:
    if isinstance(route, MemberRoute):
        return [{"bearer": []}]
    if isinstance(route, SignedRoute):
        return [_SIGNED]
    if isinstance(route, RegistrationRoute):
        return [{}, _SIGNED]
    return None


def _security_schemes() -> dict[str, Any]:
    schemes: dict[str, Any] = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    for scheme, header in zip(_SIGNED, SIGNATURE_HEADERS, strict=True):
        schemes[scheme] = {"type": "apiKey", "in": "header", "name": header.title()}
    return schemes
