"""The outermost layer: request ids, limits on what comes in, headers on what goes out, and no exception
past it.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import MutableMapping, Sequence
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.errors import Problem
from gateways.rest.metrics import RestMetrics
from gateways.rest.problems import problem_of, problem_response, unexpected

BODY_BYTES_MAX = 256 * 1024
HEADER_BYTES_MAX = 32 * 1024
REQUEST_LINE_BYTES_MAX = 16 * 1024
"""Room for the longest list of users that a call may name."""
CONTENT_SECURITY_POLICY_API = "default-src 'none'; frame-ancestors 'none'"
"""Of every answer that brings no policy of its own; pages do."""
_SECURITY_HEADERS: Sequence[tuple[bytes, bytes]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_log = structlog.get_logger("minutebook.rest")


_ids = random.Random(secrets.randbits(256))  # noqa: S311 - unique and no secret; the kernel's would cost a system call each


def new_request_id() -> str:
    """An id for one request."""
    return f"r_{_ids.getrandbits(96):024x}"


class Edge:
    """ASGI layer around everything. `body_bytes_max` counts what is really read, announced or not."""

    def __init__(self, app: ASGIApp, metrics: RestMetrics, body_bytes_max: int = BODY_BYTES_MAX) -> None:
        self._app = app
        self._metrics = metrics
        self._body_bytes_max = body_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other kinds of scope pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_request_id()
        scope["request_id"] = request_id
        began_s = time.perf_counter()
        status = 0

        async def send_finished(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = finished_headers(message["headers"], request_id)
            await send(message)

        try:
            _check_head(scope, self._body_bytes_max)
            await self._app(scope, _counted(receive, self._body_bytes_max), send_finished)
        except Exception as error:
            problem = problem_of(error) or unexpected(error, request_id, scope["method"])
            if status:
                # The head is out; ending the stream unfinished is the only way left to say that it is not
                # whole.
                raise
            await problem_response(problem, request_id)(scope, receive, send_finished)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.answered(route, scope["method"], status, time.perf_counter() - began_s)
            _log.debug("answered", request_id=request_id, route=route, method=scope["method"], status=status)


def _check_head(scope: MutableMapping[str, Any], body_bytes_max: int) -> None:
    line = len(scope.get("raw_path") or scope["path"].encode()) + len(scope.get("query_string", b""))
    if line > REQUEST_LINE_BYTES_MAX:
        raise Problem("headers_too_large", "the request line is too long")
    total = 0
    for name, value in scope["headers"]:
        total += len(name) + len(value) + 4
        if name == b"content-length" and (
            not value.isdigit() or len(value) > 12 or int(value) > body_bytes_max
        ):
            raise Problem("too_large", f"a body has at most {body_bytes_max} bytes")
    if total > HEADER_BYTES_MAX:
        raise Problem("headers_too_large")


def _counted(receive: Receive, body_bytes_max: int) -> Receive:
    read = 0

    async def receive_counted() -> Message:
        nonlocal read
        message = await receive()
        if message["type"] == "http.request":
            read += len(message.get("body", b""))
            if read > body_bytes_max:
                raise Problem("too_large", f"a body has at most {body_bytes_max} bytes")
        return message

    return receive_counted


def finished_headers(headers: Sequence[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """The headers of an answer with those that every answer has."""
    present = {name.lower() for name, _ in headers}
    finished = [*headers, (b"x-request-id", request_id.encode())]
    finished += [pair for pair in _SECURITY_HEADERS if pair[0] not in present]
    if b"content-security-policy" not in present:
        finished.append((b"content-security-policy", CONTENT_SECURITY_POLICY_API.encode()))
    if b"cache-control" not in present:
        finished.append((b"cache-control", b"no-store"))
    return finished
