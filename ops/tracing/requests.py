"""The REST face with spans: around the application, and around its short way."""

from __future__ import annotations

from opentelemetry.trace import Span, SpanKind, Status, StatusCode, use_span
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateways.rest.express import Express, Headers, Respond, ShortAnswer
from gateways.rest.short_calls import Target
from ops.tracing.spans import Spans

TRACEPARENT = b"traceparent"


class TracedRequests:
    """An ASGI layer: a span for each request, under the caller's if it brought one."""

    def __init__(self, app: ASGIApp, spans: Spans) -> None:
        self._app = app
        self._spans = spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other kinds of scope pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        span = _begun(self._spans, scope["method"], scope["headers"])
        try:
            with use_span(span, record_exception=False, set_status_on_exception=False):
                await self._app(scope, receive, send_noted)
        finally:
            # Its template, never its path: that names people.
            _end(span, scope["method"], getattr(scope.get("route"), "path", "none"), status)


class TracedExpress:
    """The short way, with the same span."""

    def __init__(self, express: Express, spans: Spans) -> None:
        self._express = express
        self._spans = spans

    def take(self, target: Target, headers: Headers, body: bytes, respond: Respond) -> bool:
        """See Express. What is left to the long way gets its span there."""
        route = target.route
        span = _begun(self._spans, route.method, headers)

        def answered(answer: ShortAnswer) -> None:
            _end(span, route.method, route.template, answer.status)
            respond(answer)

        with use_span(span, record_exception=False, set_status_on_exception=False):
            return self._express.take(target, headers, body, answered)


def _begun(spans: Spans, method: str, headers: Headers) -> Span:
    value = next((value for name, value in headers if name == TRACEPARENT), None)
    caller = None if value is None else spans.caller_of(value.decode("latin-1"))
    return spans.start(method, SpanKind.SERVER, {"http.request.method": method}, parent=caller)


def _end(span: Span, method: str, route: str, status: int) -> None:
    if span.is_recording():
        span.update_name(f"{method} {route}")
        span.set_attributes({"http.route": route, "http.response.status_code": status})
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
    span.end()
