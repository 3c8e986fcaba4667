"""uvicorn's HTTP/1.1 protocol with what it leaves open: bounds on a request's head, problems for what is no HTTP, and a
short way for the calls that come by the thousand.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from functools import partial
from typing import Any, cast

import httptools
import msgspec
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from domain.errors import Problem
from gateways.rest import express
from gateways.rest.edge import HEADER_BYTES_MAX, REQUEST_LINE_BYTES_MAX, new_request_id
from gateways.rest.problems import PROBLEM_TYPE, problem_document
from gateways.rest.short_calls import Target, target_of

HEAD_BYTES_MAX = HEADER_BYTES_MAX + REQUEST_LINE_BYTES_MAX
"""Unparsed bytes of a head; what is within but too long for the face is refused there, by the same code."""
HEAD_S = 20.0
"""From the connection, or from the first byte of a later request, to the end of the head."""
SHORT_CALLS_MAX = 64
"""Of one connection and unanswered; the next one takes the long way, which stops reading until they are."""


class _Unheard:
    """Where uvicorn tells that a call's connection is lost."""

    def set(self) -> None:
        """Nothing waits for it."""


class _ShortCall:
    """A call on the short way, with what uvicorn wants to know of the newest call of a connection."""

    __slots__ = ("answer", "conversation_id", "disconnected", "keep_alive", "response_complete")
    message_event = _Unheard()

    def __init__(self, conversation_id: str, keep_alive: bool) -> None:
        self.conversation_id = conversation_id
        self.keep_alive = keep_alive
        self.answer: express.ShortAnswer | None = None
        self.disconnected = False
        self.response_complete = False
        """Its answer was written, and so were those of all earlier calls."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. A head that is too large, too slow or no HTTP is answered with a problem and ends it.

    What may take the short way and is plainly right goes to the application's `state.express`, without a task. Such calls
    to different conversations that come one behind the other need not wait for each other; whatever else comes waits
    until all earlier calls are answered. Answers keep the order of their calls.
    """

    _head_bytes = 0
    _in_head = True
    _head_begun = False
    _head_timer: asyncio.TimerHandle | None = None
    _target: Target | None = None
    """Of a call that may be short and whose body is being read."""
    _short_body = b""
    _writing = False
    _server_headers: Any = None
    _kept_lines = b""
    _chunk = b""
    """What is being parsed."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        state = getattr(self.config.app, "state", None)
        self._express: express.Express | None = getattr(state, "express", None)
        self._short_calls: deque[_ShortCall] = deque()
        self._short_conversations: set[str] = set()

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
        self._chunk = data
        super().data_received(data)
        self._chunk = b""
        if not self._in_head or self.transport.is_closing():
            return
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(Problem("headers_too_large"))
        elif self._head_begun and self._head_timer is None:
            self._await_head()

    @override
    def handle_websocket_upgrade(self) -> None:
        """As uvicorn does it, but frames that came in one piece with the request are not lost."""
        upgrade = sys.exc_info()[1]
        super().handle_websocket_upgrade()
        if isinstance(upgrade, httptools.HttpParserUpgrade):
            behind = self._chunk[upgrade.args[0] :]
            if behind:
                cast("asyncio.Protocol", self.transport.get_protocol()).data_received(behind)

    @override
    def on_message_begin(self) -> None:
        # Most heads come whole: only one that does not gets a timer, when the data is read. And only a call that takes the
        # long way gets a scope.
        self._head_begun = True
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    @override
    def on_headers_complete(self) -> None:
        self._in_head = self._head_begun = False
        self._end_timer()
        if self._express is not None and self._may_be_short():
            self._target = target_of(self.parser.get_method(), self.url)
        if self._target is None:
            self._begin_long_way()

    @override
    def on_body(self, body: bytes) -> None:
        if self._target is None:
            super().on_body(body)
            return
        self._short_body += body
        if len(self._short_body) > express.BODY_BYTES_MAX:
            self._take_long_way()

    @override
    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        if self._target is not None:
            if self._take_short_way(self._target):
                self._target, self._short_body = None, b""
                return
            self._take_long_way()
        super().on_message_complete()

    # --- two ways ----------------------------------------------------------------------------------------

    def _may_be_short(self) -> bool:
        """Whether nothing about the call but its body is out of the ordinary, and no call on the long way is before it."""
        newest: Any = self.cycle
        return (
            (newest is None or newest.response_complete or (bool(self._short_calls) and newest.keep_alive))
            and not self.pipeline
            and len(self._short_calls) < SHORT_CALLS_MAX
            and not self.expect_100_continue
            and not self.flow.write_paused
            and self.limit_concurrency is None
            and not self.root_path
            and not self.parser.should_upgrade()
            and self.parser.get_http_version() == "1.1"
        )

    def _take_short_way(self, target: Target) -> bool:
        if self._express is None or target.conversation_id in self._short_conversations:
            return False  # The order of two is sure once the first is answered.
        before: Any = self.cycle
        call: Any = _ShortCall(target.conversation_id, self.parser.should_keep_alive())
        self.cycle = call
        self._short_calls.append(call)
        self._short_conversations.add(target.conversation_id)
        if self._express.take(target, self.headers, self._short_body, partial(self._answered, call)):
            return True
        self._short_calls.pop()
        self._short_conversations.discard(target.conversation_id)
        self.cycle = before
        return False

    def _begin_long_way(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url = url
        self.headers += headers  # the list that the scope holds
        self.expect_100_continue = expects
        super().on_headers_complete()

    def _take_long_way(self) -> None:
        body, self._target, self._short_body = self._short_body, None, b""
        self._begin_long_way()
        if body:
            super().on_body(body)

    def _answered(self, call: _ShortCall, answer: express.ShortAnswer) -> None:
        """Keep the answer; those of one turn of the loop leave in one write, since a flush answers many calls at once."""
        call.answer = answer
        if call is self._short_calls[0] and not self._writing:
            self._writing = True
            self.loop.call_soon(self._write_due)

    def _write_due(self) -> None:
        """Write the answers up to the first that is missing."""
        self._writing = False
        calls = self._short_calls
        parts: list[bytes] = []
        call = None
        while calls and (answer := calls[0].answer) is not None:
            call = calls.popleft()
            call.response_complete = True
            self._short_conversations.discard(call.conversation_id)
            self.server_state.total_requests += 1
            close = b"" if call.keep_alive else b"connection: close\r\n"
            parts += (
                STATUS_LINE[answer.status],
                self._server_lines(),
                close,
                answer.lines,
                b"\r\n",
                answer.body,
            )
        if call is None or self.transport.is_closing():
            return
        self.transport.write(b"".join(parts))
        if not call.keep_alive:
            self.transport.close()
        if not calls:
            self.server_state.total_requests -= 1  # uvicorn counts the last one
            self.on_response_complete()

    def _server_lines(self) -> bytes:
        if (
            self._server_headers is not self.server_state.default_headers
        ):  # uvicorn makes new ones every second
            self._server_headers = self.server_state.default_headers
            self._kept_lines = b"".join([b"%b: %b\r\n" % pair for pair in self._server_headers])
        return self._kept_lines

    # --- refusals ----------------------------------------------------------------------------------------

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
