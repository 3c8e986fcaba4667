"""The opening handshake: one upgrade request in, one complete HTTP response and perhaps a handler out.

Checking is the `websockets` library's sans-io core; nothing of it outlives the call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from websockets.datastructures import Headers
from websockets.exceptions import HeaderLineTooLong, InvalidHeader, RequestLineTooLong, TooManyHeaders
from websockets.headers import parse_subprotocol
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from domain.errors import Problem
from gateways.rest.edge import new_request_id
from gateways.rest.problems import problem_document, retry_after

if TYPE_CHECKING:
    from gateways.socket.port import SocketHandler

SOCKET_PATH: Final = "/v1/ws"
JSON_SUBPROTOCOL: Final = "minutebook.v1.json"
WEBSOCKET_VERSION: Final = "13"

ClientAddress = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Handshake:
    """A sound upgrade request for the socket's path; whether the caller may connect is the acceptor's to say.

    `origin` is None for clients that are no browsers; `host` is what an own-origin check compares it with.
    """

    path: str
    query: str
    origin: str | None
    host: str | None
    subprotocols: tuple[str, ...]
    headers: Sequence[tuple[str, str]]
    client: ClientAddress | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused handshake: `body` is a complete application/problem+json document."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Acceptor(Protocol):
    """Decides about a handshake; must not block. Raising refuses it with 503."""

    def accept(self, handshake: Handshake) -> SocketHandler | Refusal: ...


def refuse(
    status: int, code: str, detail: str, *headers: tuple[str, str], retry_after_ms: int | None = None
) -> Refusal:
    """A refusal with the problem document of one of the contract's codes; `status` may be another than the code's own."""
    problem = Problem(code, detail, retry_after_ms=retry_after_ms)
    document = problem_document(problem, new_request_id()) | {"status": status}
    if retry_after_ms is not None:
        headers = (*headers, ("Retry-After", retry_after(retry_after_ms)))
    return Refusal(status, msgspec.json.encode(document), headers)


def answer_handshake(
    request_bytes: bytes, client: ClientAddress | None, acceptor: Acceptor, bytes_max: int
) -> tuple[bytes, SocketHandler | None]:
    """The response to write and the handler of the accepted socket, None if it was refused (then: close)."""
    if len(request_bytes) > bytes_max:
        return refusal_bytes(refuse(431, "headers_too_large", f"request over {bytes_max} bytes")), None
    core = ServerProtocol(max_size=None)
    request = _parse(core, request_bytes)
    if isinstance(request, Refusal):
        return refusal_bytes(request), None
    response = _checked_response(core, request)
    if isinstance(response, Refusal):
        return refusal_bytes(response), None
    outcome = _negotiate(request, response, client, acceptor)
    if isinstance(outcome, Refusal):
        return refusal_bytes(outcome), None
    return response.serialize(), outcome


def _parse(core: ServerProtocol, request_bytes: bytes) -> Request | Refusal:
    core.receive_data(request_bytes)
    for event in core.events_received():
        if isinstance(event, Request):
            return event
    if isinstance(core.handshake_exc, (HeaderLineTooLong, RequestLineTooLong, TooManyHeaders)):
        return refuse(431, "headers_too_large", "a header line is too long, or there are too many")
    return refuse(400, "malformed", "not a readable upgrade request")


def _checked_response(core: ServerProtocol, request: Request) -> Response | Refusal:
    """The 101 response, or why the request is no WebSocket upgrade for us."""
    if request.path.partition("?")[0] != SOCKET_PATH:
        return refuse(404, "not_found", f"the socket is at {SOCKET_PATH}")
    response = core.accept(request)
    status = response.status_code
    if status == HTTPStatus.SWITCHING_PROTOCOLS:
        return response
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return refuse(status, "method_not_allowed", "an upgrade is a GET", ("Allow", "GET"))
    version = request.headers.get_all("Sec-WebSocket-Version")
    if version and version != [WEBSOCKET_VERSION]:
        supported = ("Sec-WebSocket-Version", WEBSOCKET_VERSION)
        return refuse(426, "malformed", "only WebSocket version 13 is spoken", supported)
    if status == HTTPStatus.UPGRADE_REQUIRED:
        return refuse(status, "malformed", "not a WebSocket upgrade", ("Upgrade", "websocket"))
    return refuse(400, "malformed", "the upgrade request breaks RFC 6455 section 4")


def _negotiate(
    request: Request, response: Response, client: ClientAddress | None, acceptor: Acceptor
) -> SocketHandler | Refusal:
    """Select the sub-protocol, then ask the acceptor."""
    headers = request.headers
    try:
        offered = _offered_subprotocols(headers)
    except InvalidHeader:
        return refuse(400, "malformed", "unreadable Sec-WebSocket-Protocol")
    if offered and JSON_SUBPROTOCOL not in offered:
        return refuse(400, "malformed", f"the sub-protocol spoken here is {JSON_SUBPROTOCOL}")
    if offered:
        response.headers["Sec-WebSocket-Protocol"] = JSON_SUBPROTOCOL
    path, _, query = request.path.partition("?")
    origins, hosts = headers.get_all("Origin"), headers.get_all("Host")
    if len(origins) > 1 or len(hosts) > 1:
        return refuse(400, "malformed", "more than one Origin or Host")
    return acceptor.accept(
        Handshake(
            path=path,
            query=query,
            origin=origins[0] if origins else None,
            host=hosts[0] if hosts else None,
            subprotocols=offered,
            headers=tuple(headers.raw_items()),
            client=client,
        )
    )


def _offered_subprotocols(headers: Headers) -> tuple[str, ...]:
    offers = headers.get_all("Sec-WebSocket-Protocol")
    return tuple(str(name) for offer in offers for name in parse_subprotocol(offer))


def refusal_bytes(refusal: Refusal) -> bytes:
    """A refusal as a complete HTTP response, after which the connection closes."""
    headers = Headers()
    headers["Content-Type"] = "application/problem+json"
    headers["Content-Length"] = str(len(refusal.body))
    headers["Connection"] = "close"
    headers["Cache-Control"] = "no-store"
    for name, value in refusal.headers:
        headers[name] = value
    response = Response(refusal.status, HTTPStatus(refusal.status).phrase, headers, refusal.body)
    return response.serialize()
