"""uvicorn's HTTP/1.1 protocol with what it leaves open: bounds on a request's head, and problems for what is no HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from domain.errors import Problem
from gateways.rest.edge import HEADER_BYTES_MAX, REQUEST_LINE_BYTES_MAX, new_request_id
from gateways.rest.problems import PROBLEM_TYPE, problem_document

HEAD_BYTES_MAX = HEADER_BYTES_MAX + REQUEST_LINE_BYTES_MAX
"""Unparsed bytes of a head; what is within but too long for the face is refused there, by the same code."""
HEAD_S = 20.0
"""From the connection, or from the first byte of a later request, to the end of the head."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. A head that is too large, too slow or no HTTP is answered with a problem and ends it."""

    _head_bytes = 0
    _in_head = True
    _head_timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._end_timer()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self._refuse(Problem("headers_too_large"))

    @override
    def on_message_begin(self) -> None:
        if self._head_timer is None:
            self._await_head()
        super().on_message_begin()

    @override
    def on_headers_complete(self) -> None:
        self._in_head = False
        self._end_timer()
        super().on_headers_complete()

    @override
    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_complete()

    @override
    def send_400_response(self, msg: str) -> None:
        too_long = len(self.url) > REQUEST_LINE_BYTES_MAX if hasattr(self, "url") else False
        self._refuse(Problem("headers_too_large") if too_long else Problem("malformed", "this is not HTTP"))

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S, self._too_slow)

    def _end_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        self._end_timer()
        request_id = new_request_id()
        body = msgspec.json.encode(problem_document(problem, request_id))
        head = [
            STATUS_LINE[problem.status],
            b"content-type: %b\r\n" % PROBLEM_TYPE.encode(),
            b"content-length: %d\r\n" % len(body),
            b"x-request-id: %b\r\n" % request_id.encode(),
            b"x-content-type-options: nosniff\r\nconnection: close\r\n\r\n",
        ]
        self.transport.write(b"".join([*head, body]))
        self.transport.close()
