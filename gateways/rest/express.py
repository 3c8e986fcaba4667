"""The short way of the calls that come by the thousand: from the HTTP protocol straight to the desk.

Between the two stand, for every other call, ASGI, the layers of the application, the router and its
validation: nine tenths of what a send costs. Only what is plainly right goes the short way. Whatever is not
(an unknown session, a field too many, another media type) is left to the route of the same path, which knows
how to refuse it, so that no rule is written twice and no answer differs.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import structlog

from commands.caller import Answer, Caller
from domain.errors import Problem
from gateways.rest.edge import finished_headers, new_request_id
from gateways.rest.metrics import RestMetrics
from gateways.rest.problems import problem_of, problem_response, unexpected
from gateways.rest.services import RestServices
from gateways.rest.short_calls import Target

BODY_BYTES_MAX = 64 * 1024
"""Longer bodies take the long way."""
HEAD_BYTES_MAX = 4 * 1024
"""Of names and values; longer heads take the long way too."""
_KEY = re.compile(rb"[!-~]{1,128}").fullmatch
_encode = msgspec.json.Encoder().encode

Headers = Sequence[tuple[bytes, bytes]]


class ShortAnswer(NamedTuple):
    """An answer, but for the header lines that are the connection's."""

    status: int
    lines: bytes
    body: bytes


Respond = Callable[[ShortAnswer], None]
"""Called once; must not raise."""


class _Head(NamedTuple):
    """What the headers of a call say."""

    caller: Caller
    key: str | None
    media_type: bytes | None


class Express:
    """Serves the short routes. One for all connections of a server."""

    def __init__(self, services: RestServices, metrics: RestMetrics) -> None:
        self._desk = services.desk
        self._sessions = services.sessions
        self._limits = services.limits
        self._metrics = metrics
        self._log = structlog.get_logger("minutebook.rest").bind()
        headers = finished_headers([(b"content-type", b"application/json")], "")
        self._headers = _lines([pair for pair in headers if pair[0] != b"x-request-id"])

    def take(self, target: Target, headers: Headers, body: bytes, respond: Respond) -> bool:
        """Do it; `respond` is called at once or later. False: not plainly right, and nothing was done."""
        began_s = time.perf_counter()
        route = target.route
        if route.needs_state and not self._desk.sees_hot:
            return False
        try:
            head = self._head(headers)
            if head is None or not (head.media_type == b"application/json" if route.has_body else not body):
                return False
            order = route.read(head.caller, target.conversation_id, head.key, body)
        except (Problem, ValueError):
            return False
        if order is None:
            return False
        request_id = new_request_id()

        def done(result: Answer | Problem) -> None:
            answer = self._answer(request_id, head.caller, target, result)
            respond(answer)
            template, method, status = route.template, route.method, answer.status
            self._metrics.answered(template, method, status, time.perf_counter() - began_s)
            self._log.debug("answered", request_id=request_id, route=template, method=method, status=status)

        try:
            self._limits.rest(head.caller.tenant, head.caller.user_id)
        except Problem as problem:
            done(problem)
        else:
            self._desk.submit(head.caller, order.name, order.command, order.keyed, done)
        return True

    def _head(self, headers: Headers) -> _Head | None:
        """None if something about it is out of the ordinary. Raises Problem."""
        token = key = media_type = None
        size = 0
        for name, value in headers:
            size += len(name) + len(value)
            if name == b"authorization":
                if token is not None or value[:7].lower() != b"bearer ":
                    return None
                token = value[7:].strip().decode("latin-1")
            elif name == b"content-type":
                media_type = value
            elif name == b"idempotency-key":
                if key is not None or _KEY(value) is None:
                    return None
                key = value.decode("ascii")
            elif name == b"origin":
                return None
        if token is None or size > HEAD_BYTES_MAX:
            return None
        caller = self._sessions.recall(token)
        return None if caller is None else _Head(caller, key, media_type)

    def _answer(
        self, request_id: str, caller: Caller, target: Target, result: Answer | Problem
    ) -> ShortAnswer:
        """As the long way would answer."""
        try:
            if isinstance(result, Answer):
                data = target.route.data_of(self._desk, caller, target.conversation_id, result)
                body = _encode({"data": data, "request_id": request_id})
                own = b"x-request-id: %b\r\ncontent-length: %d\r\n" % (request_id.encode(), len(body))
                return ShortAnswer(target.route.status, self._headers + own, body)
            problem = result
        except Exception as error:  # noqa: BLE001 - nothing leaves but problems
            problem = problem_of(error) or unexpected(error, request_id, target.route.method)
        response = problem_response(problem, request_id)
        # The call was read to its end, whatever is wrong with it: the connection goes on.
        kept = [pair for pair in response.raw_headers if pair[0] != b"connection"]
        lines = _lines(finished_headers(kept, request_id))
        return ShortAnswer(response.status_code, lines, bytes(response.body))


def _lines(headers: Headers) -> bytes:
    return b"".join([b"%b: %b\r\n" % pair for pair in headers])
