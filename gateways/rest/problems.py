"""Problems on the wire (RFC 9457): every refusal of the REST face leaves through `problem_response`."""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from domain.errors import STATUS_BY_CODE, FieldError, Problem
from eventlog.port import LogUnavailableError, OutcomeUnknownError
from eventlog.secrets import SecretsUnavailableError

PROBLEM_TYPE = "application/problem+json"
FIELD_ERRORS_MAX = 50
"""More wrong fields of one request are not listed."""
_TITLES: Mapping[str, str] = {
    "malformed": "The body is not the JSON that is wanted",
    "unauthenticated": "No valid token",
    "forbidden": "Not allowed",
    "not_found": "Not found",
    "method_not_allowed": "No such method here",
    "conflict": "The state forbids it",
    "idempotency_conflict": "The key was used with another payload",
    "gone": "No longer here",
    "too_large": "Too large",
    "unsupported_media_type": "The body must be JSON",
    "validation_failed": "Some values are wrong",
    "rate_limited": "Too many calls",
    "headers_too_large": "The request line or headers are too large",
    "overloaded": "Too busy",
    "unavailable": "Not available now",
    "outcome_unknown": "It may or may not have happened",
}
_CODE_BY_STATUS: Mapping[int, str] = {
    400: "malformed",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    422: "validation_failed",
    429: "rate_limited",
    431: "headers_too_large",
}
_log = structlog.get_logger("minutebook.rest")


def problem_document(problem: Problem, request_id: str) -> dict[str, Any]:
    """The problem as the contract shows it."""
    document: dict[str, Any] = {
        "type": f"urn:minutebook:problem:{problem.code}",
        "title": _TITLES[problem.code],
        "status": problem.status,
        "detail": problem.detail or _TITLES[problem.code],
        "code": problem.code,
        "request_id": request_id,
    }
    if problem.errors:
        document["errors"] = [{"field": error.field, "message": error.message} for error in problem.errors]
    if problem.retry_after_ms is not None:
        document["retry_after_ms"] = problem.retry_after_ms
    return document


def problem_response(problem: Problem, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer, with the headers that its code needs."""
    sent = dict(headers or {})
    if problem.code == "unauthenticated":
        sent.setdefault("WWW-Authenticate", 'Bearer realm="minutebook"')
    if problem.retry_after_ms is not None:
        sent["Retry-After"] = retry_after(problem.retry_after_ms)
    if problem.code in {"too_large", "headers_too_large"}:
        # What is left of the request is not read: the connection ends with the answer.
        sent["Connection"] = "close"
    body = msgspec.json.encode(problem_document(problem, request_id))
    return Response(body, problem.status, headers=sent, media_type=PROBLEM_TYPE)


def retry_after(milliseconds: int) -> str:
    """The `Retry-After` header: whole seconds, at least one."""
    return str(max(1, math.ceil(milliseconds / 1000)))


def request_id_of(request: Request) -> str:
    """The id that the edge gave this request."""
    return str(request.scope.get("request_id", ""))


def problem_of(error: BaseException) -> Problem | None:
    """What an exception means to the caller; None: nobody expected it."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        return _validation_problem(error.errors())
    if isinstance(error, HTTPException):
        return _http_problem(error)
    if isinstance(error, OutcomeUnknownError):
        return Problem("outcome_unknown", "repeat with the same key")
    if isinstance(error, ClientDisconnect):
        return Problem("malformed", "the request ended too early")  # nobody reads it
    if isinstance(error, LogUnavailableError | SecretsUnavailableError | TimeoutError):
        return Problem("unavailable", "try again", retry_after_ms=1_000)
    return None


def unexpected(error: BaseException, request_id: str, where: str) -> Problem:
    """Log an exception that nobody expected, by its place and type: its text may hold what somebody wrote."""
    stack = "".join(traceback.format_tb(error.__traceback__, limit=-20))
    _log.error("request_failed", request_id=request_id, where=where, error=type(error).__name__, stack=stack)
    return Problem("unavailable", "something went wrong here; the request id finds it in the log")


def _http_problem(error: HTTPException) -> Problem:
    code = _CODE_BY_STATUS.get(error.status_code)
    if code is None:
        code = "malformed" if error.status_code < 500 else "unavailable"
    return Problem(code)


def _validation_problem(errors: Sequence[Any]) -> Problem:
    fields = tuple(_field_error(error) for error in errors[:FIELD_ERRORS_MAX])
    named = ", ".join(dict.fromkeys(error.field for error in fields))
    return Problem("validation_failed", f"wrong: {named}"[:400], errors=fields)


def _field_error(error: Mapping[str, Any]) -> FieldError:
    """One field and what is wrong with it; the value itself is not repeated."""
    place = [str(part) for part in error["loc"]]
    if place and place[0] in {"body", "query", "path", "header"}:
        place = place[1:]
    field = ".".join(place)[:200] or "body"
    kind = str(error["type"])
    if kind == "missing":
        return FieldError(field, "is required")
    if kind == "extra_forbidden":
        return FieldError(field, "is not known")
    message = str(error["msg"]).removeprefix("Value error, ")
    return FieldError(field, message[:200])


def install_problem_handlers(app: FastAPI) -> None:
    """Answer what the router itself refuses (no such path or method) as a problem; routes answer their
    own.
    """

    async def answer(request: Request, error: Exception) -> Response:
        return answer_of(request, error)

    for kind in (Problem, HTTPException):
        app.add_exception_handler(kind, answer)


def answer_of(request: Request, error: Exception) -> Response:
    """The answer to an exception, expected or not."""
    request_id = request_id_of(request)
    problem = problem_of(error) or unexpected(error, request_id, request.method)
    headers = getattr(error, "headers", None)
    return problem_response(problem, request_id, headers if isinstance(headers, Mapping) else None)


def problem_schema() -> dict[str, Any]:
    """The JSON schema of a problem, for OpenAPI."""
    field_error = {
        "type": "object",
        "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
        "required": ["field", "message"],
    }
    return {
        "title": "Problem",
        "type": "object",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "code": {"type": "string", "enum": sorted(STATUS_BY_CODE)},
            "request_id": {"type": "string"},
            "errors": {"type": "array", "items": field_error},
            "retry_after_ms": {"type": "integer"},
        },
        "required": ["type", "title", "status", "detail", "code", "request_id"],
    }
