"""A collector of OpenTelemetry's, as far as a test needs one: it takes spans over OTLP/HTTP and keeps them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

WAIT_S = 20.0


@dataclass(frozen=True, kw_only=True)
class SeenSpan:
    """A span as it was sent. Ids are hexadecimal; `parent` is empty for the first of a trace."""

    node: str
    name: str
    trace_id: str
    span_id: str
    parent: str
    links: tuple[str, ...]
    attributes: dict[str, str]


@dataclass
class Collector:
    """Listens at `url`."""

    url: str = ""
    spans: list[SeenSpan] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, what: Callable[[list[SeenSpan]], bool]) -> None:
        """Wait for a condition that spans bring about."""
        async with asyncio.timeout(WAIT_S):
            while not what(self.spans):
                self._changed.clear()
                await self._changed.wait()

    def of(self, trace_id: str) -> list[SeenSpan]:
        """The spans of a trace."""
        return [span for span in self.spans if span.trace_id == trace_id]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: requests one after the other."""
        while line := await reader.readline():
            assert line.startswith(b"POST /v1/traces"), line
            size = 0
            while (header := await reader.readline()).strip():
                name, _, value = header.partition(b":")
                if name.lower() == b"content-length":
                    size = int(value)
            self._take(await reader.readexactly(size))
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"
            )
        writer.close()

    def _take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            about = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [
                    SeenSpan(
                        node=about["service.instance.id"],
                        name=span.name,
                        trace_id=span.trace_id.hex(),
                        span_id=span.span_id.hex(),
                        parent=span.parent_span_id.hex(),
                        links=tuple(link.span_id.hex() for link in span.links),
                        attributes={one.key: str(one.value) for one in span.attributes},
                    )
                    for span in scope.spans
                ]
        self._changed.set()


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """One that listens."""
    found = Collector()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/traces"
    try:
        yield found
    finally:
        server.close()
