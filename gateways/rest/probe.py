"""What every process answers on its metrics port: `/metrics`, `/livez` and `/readyz`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from prometheus_client import CollectorRegistry, make_asgi_app
from starlette.types import ASGIApp, Receive, Scope, Send

from domain.errors import FieldError, Problem
from gateways.rest.edge import new_request_id
from gateways.rest.problems import PROBLEM_TYPE, problem_document

_JSON = b"application/json"


class Probe:
    """An ASGI application. Until `watch` is called the process starts: it lives, and is not ready."""

    def __init__(self) -> None:
        self._exposition: ASGIApp = make_asgi_app(CollectorRegistry())
        self._readiness: Callable[[], Mapping[str, str]] = lambda: {"server": "starting"}
        self._remarks: Callable[[], Mapping[str, str]] = dict

    def watch(
        self,
        registry: CollectorRegistry,
        readiness: Callable[[], Mapping[str, str]],
        remarks: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """The process runs. `readiness` answers what is not ready, by part (empty: ready), `remarks` what is worse than it should be."""
        self._remarks = remarks
        self._exposition = make_asgi_app(registry)
        self._readiness = readiness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        path = scope["path"] if scope["method"] in ("GET", "HEAD") else ""
        if path == "/metrics":
            await self._exposition(scope, receive, send)
        elif path == "/livez":
            await _answer(send, 200, {"data": {"status": "ok"}, "request_id": new_request_id()})
        elif path == "/readyz":
            await self._ready(send)
        else:
            await _problem(send, Problem("not_found"))

    async def _ready(self, send: Send) -> None:
        reasons = self._readiness()
        if reasons:
            errors = tuple(FieldError(part, reason) for part, reason in reasons.items())
            await _problem(send, Problem("unavailable", "not ready", errors=errors))
        else:
            status = status_of(self._remarks())
            await _answer(send, 200, {"data": {"status": status}, "request_id": new_request_id()})


def status_of(remarks: Mapping[str, str]) -> str:
    """What a process says that can work: `ok`, or `degraded` and why."""
    if not remarks:
        return "ok"
    return "degraded: " + "; ".join(f"{part}: {words}" for part, words in remarks.items())


async def _problem(send: Send, problem: Problem) -> None:
    document = problem_document(problem, new_request_id())
    await _answer(send, problem.status, document, PROBLEM_TYPE.encode())


async def _answer(send: Send, status: int, document: Mapping[str, object], kind: bytes = _JSON) -> None:
    body = msgspec.json.encode(document)
    headers = [
        (b"content-type", kind),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
