"""Routes that check in one order: who calls, what the body is, which query was asked, and only then the
endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from typing_extensions import override

from domain.errors import FieldError, Problem, invalid
from gateways.json import strict_json
from gateways.rest.problems import answer_of

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class StrictRoute(APIRoute):
    """A route that anybody may call.

    JSON bodies are read strictly, unknown and repeated query parameters refused, and fields where no body is known.
    """

    strict = True

    async def admit(self, request: Request) -> None:
        """Set who calls. Raises Problem."""
        request.app.state.gatekeeper.admit_anybody(request)

    @override
    def get_route_handler(self) -> Handler:
        """The handler of FastAPI behind the checks."""
        handle = super().get_route_handler()
        known = _query_names(self.dependant)
        body_wanted = self.body_field is not None
        body_required = (
            body_wanted and self.body_field is not None and self.body_field.field_info.is_required()
        )

        async def handler(request: Request) -> Response:
            try:
                await self.admit(request)
                _check_address(request)
                if self.strict:
                    if body_wanted:
                        await _read_json(request, body_required)
                    elif request.method != "GET":
                        await _check_no_fields(request)
                    _check_query(request, known)
                return await handle(request)
            except Exception as error:  # noqa: BLE001 - nothing leaves but problems
                return answer_of(request, error)

        return handler


class MemberRoute(StrictRoute):
    """A route for users with an access token."""

    @override
    async def admit(self, request: Request) -> None:
        await request.app.state.gatekeeper.admit_user(request)


class LooseRoute(MemberRoute):
    """A route for users that looks at nothing else of a call."""

    strict = False


class SignedRoute(StrictRoute):
    """A route for calls that a tenant has signed."""

    @override
    async def admit(self, request: Request) -> None:
        await request.app.state.gatekeeper.admit_tenant(request)


class RegistrationRoute(StrictRoute):
    """A route for anybody, and for signed calls where a signature is given."""

    @override
    async def admit(self, request: Request) -> None:
        if "x-app-key" in request.headers:
            await request.app.state.gatekeeper.admit_tenant(request)
        else:
            request.app.state.gatekeeper.admit_anybody(request)


async def _read_json(request: Request, required: bool) -> None:
    body = await request.body()
    if not body and not required:
        return
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and (body or media_type):
        raise Problem("unsupported_media_type", "the body must be application/json")
    request._json = strict_json(body)  # noqa: SLF001 - FastAPI finds it there, so the body is parsed once


async def _check_no_fields(request: Request) -> None:
    """Of a call that knows no body: nothing or an empty object, so that no field is taken for granted."""
    await _read_json(request, required=False)
    if not await request.body():
        return
    given = await request.json()
    if not isinstance(given, dict):
        raise invalid("body", "must be an object")
    if given:
        errors = tuple(FieldError(name[:100], "is not known") for name in list(given)[:20])
        raise Problem("validation_failed", "this call takes no fields", errors=errors)


def _check_address(request: Request) -> None:
    """Refuse escapes that are no UTF-8: the server would have put replacement characters into their place."""
    scope = request.scope
    for part, text in (("path", scope.get("raw_path") or b""), ("query", scope["query_string"])):
        try:
            unquote_to_bytes(text).decode("utf-8")
        except UnicodeDecodeError:
            raise invalid(part, "is not UTF-8") from None


def _check_query(request: Request, known: frozenset[str]) -> None:
    names = [name for name, _ in request.query_params.multi_items()]
    errors = [FieldError(name[:100], "is not known") for name in dict.fromkeys(names) if name not in known]
    errors += [FieldError(name[:100], "is given twice") for name in known if names.count(name) > 1]
    if errors:
        raise Problem("validation_failed", "the query is wrong", errors=tuple(errors[:20]))


def _query_names(dependant: Dependant) -> frozenset[str]:
    """The query parameters of an endpoint and of what it depends on."""
    names = {field.alias for field in dependant.query_params}
    return frozenset(names.union(*(_query_names(inner) for inner in dependant.dependencies)))
