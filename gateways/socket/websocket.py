"""The raw WebSocket layer: a protocol class for uvicorn's `ws=`, without a task, queue or timer per socket.

    socket_class = build_websocket_protocol(acceptor, SocketLimits())
    uvicorn.Config(app, ws=socket_class)

One object per connection. Received bytes become plain calls on a SocketHandler; frames sent in one turn of
the loop leave in one `transport.write`, made by one callback for all sockets of that turn. The
transport's write buffer is the queue, and it is bounded.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from typing_extensions import override

from gateways.socket.frames import (
    PING_FRAME,
    PONG,
    CloseCode,
    FrameReader,
    ProtocolViolation,
    encode_frame,
    encode_text_frame,
)
from gateways.socket.handshake import (
    Acceptor,
    ClientAddress,
    Handshake,
    Refusal,
    answer_handshake,
    refusal_bytes,
    refuse,
)
from gateways.socket.hub import SocketHub, log_failure
from gateways.socket.outlet import CLOSING, ENDING, OPEN, Outlet, State
from gateways.socket.port import SocketHandler, SocketLimits
from gateways.socket.sweeper import SocketSweeper

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

__all__ = [
    "Acceptor",
    "Handshake",
    "Refusal",
    "SocketHandler",
    "SocketHub",
    "SocketLimits",
    "WebSocket",
    "build_websocket_protocol",
    "encode_text_frame",
]


class WebSocket(Outlet):
    """One connection; handlers use `send_frame`, `close`, `pause_reading`, `resume_reading`."""

    __slots__ = (
        "_connections",
        "_control_count",
        "_control_tick",
        "_handler",
        "_heard_tick",
        "_reader",
        "_transport_paused",
        "accepts_frames",
    )

    def __init__(
        self,
        config: Config,  # uvicorn passes it
        server_state: ServerState,
        app_state: dict[str, Any],  # uvicorn passes it
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__()
        self._connections = cast("set[Any]", server_state.connections)
        self._reader: FrameReader | None = None
        self._handler: SocketHandler | None = None
        self.accepts_frames = True  # false while the handler has paused reading
        self._transport_paused = False
        self._heard_tick = 0
        self._control_tick = 0
        self._control_count = 0

    # What handlers use

    def pause_reading(self) -> None:
        """Stop delivering messages until `resume_reading`; the peer is then held back by TCP."""
        if self._state is OPEN:
            self.accepts_frames = False
            self._pause_transport()

    def resume_reading(self) -> None:
        """Deliver again, from the next turn of the loop on."""
        if not self.accepts_frames:
            self.accepts_frames = True
            self._mark()

    # What uvicorn and the loop call

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over from the HTTP protocol."""
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)

    @override
    def data_received(self, data: bytes) -> None:
        """First the whole upgrade request, then frames; never raises."""
        state = self._state
        if state is OPEN or state is CLOSING:
            self._heard_tick = self.hub.sweeper.now
            self._read(data)
        elif state is State.CONNECTING:
            self._shake_hands(data)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whatever the cause."""
        self._state = State.LOST
        self._connections.discard(self)
        self.hub.sweeper.discard(self)
        self._reader = self._pending = self._backlog = None
        self._notify_closed()

    def shutdown(self) -> None:
        """Called by uvicorn when it stops: close with 1012, wait at most `close_s` for the peer."""
        if self._state is State.CONNECTING:
            self._transport.close()
        else:
            self.close(CloseCode.SERVICE_RESTART, "restart")

    @override
    def on_due(self) -> None:
        """Called by the sweeper: heartbeat, silence, the end of patience with a closing peer."""
        sweeper, limits = self.hub.sweeper, self.hub.limits
        if self._state is not OPEN:
            self._expire(sweeper.now)
            return
        if not self.accepts_frames:
            self._heard_tick = sweeper.now  # it is we who do not listen
        silence_left = self._heard_tick + self.hub.silence_ticks - sweeper.now
        if silence_left <= 0:
            self.close(CloseCode.SILENT, f"silent for {limits.silence_s} s")
            return
        if sweeper.now >= self._deadline_tick:
            self._deadline_tick = sweeper.now + self.hub.heartbeat_ticks
            self.send_frame(PING_FRAME)
        if self._state is OPEN:  # the ping may have been the frame too many
            sweeper.schedule(self, min(silence_left, self._deadline_tick - sweeper.now))

    @override
    def run_turn(self) -> None:
        """Once per turn in which something happened: write, end, read on, tell the handler."""
        self._marked = False
        if self._pending is not None:
            self._write_pending()
        if self._transport_paused and self.accepts_frames:
            self._read(b"")
        if self._state is not OPEN:
            self._run_closing_turn()

    def _run_closing_turn(self) -> None:
        if self._state is CLOSING and not self.accepts_frames:
            self.accepts_frames = True  # a paused handler must not keep the peer's close from being read
            self._read(b"")
        if self._state is ENDING and self._pending is None:
            self._end_output()
        self._notify_closed()

    # What the frame reader calls

    def on_text(self, payload: bytes) -> None:
        """A text message: the handler's, unless we are closing."""
        if self._state is OPEN and self._handler is not None:
            self._handler.text(payload)

    def on_binary(self, payload: bytes) -> None:
        """A binary message: the handler's, unless we are closing."""
        if self._state is OPEN and self._handler is not None:
            self._handler.binary(payload)

    def on_ping(self, payload: bytes) -> None:
        """Answer, if the peer keeps to the bound of control frames."""
        if self._count_control_frame():
            self.send_frame(encode_frame(PONG, payload))

    def on_pong(self) -> None:
        """Any byte is a sign of life, so a pong means nothing more."""
        self._count_control_frame()

    def on_close(self, code: int) -> None:
        """Echo the peer's close, or take it as the echo of ours."""
        if self._state is OPEN:
            self._begin_close(code, "", ENDING)
        elif self._state is CLOSING:
            self._state = ENDING
            self._mark()

    # Inside

    def _shake_hands(self, request: bytes) -> None:
        client = _client_address(self._transport)
        hub = self.hub
        try:
            bytes_max = hub.limits.handshake_bytes_max
            response, handler = answer_handshake(request, client, hub.acceptor, bytes_max)
        except Exception as error:  # noqa: BLE001 - any failure of the acceptor
            log_failure("acceptor", error)
            response, handler = (
                refusal_bytes(refuse(503, "unavailable", "try again later", retry_after_ms=1_000)),
                None,
            )
        self._transport.write(response)
        if handler is None:
            self._state = State.ENDED
            self._transport.close()
            return
        self._transport.set_write_buffer_limits(high=hub.limits.unsent_bytes_max)
        self._state = OPEN
        self._reader = FrameReader()
        self._handler = handler
        self._heard_tick = hub.sweeper.now
        self._deadline_tick = hub.sweeper.now + hub.heartbeat_ticks
        hub.sweeper.schedule(self, min(hub.heartbeat_ticks, hub.silence_ticks))
        try:
            handler.opened(self)
        except Exception as error:  # noqa: BLE001 - any failure of the handler
            self._handler_failed(error)

    def _read(self, data: bytes) -> None:
        reader, limits = self._reader, self.hub.limits
        if reader is None:
            return
        try:
            more = reader.feed(data, self, limits.message_bytes_max, limits.frames_per_turn_max)
        except ProtocolViolation as violation:
            self._fail(violation.code, violation.reason)
            return
        except Exception as error:  # noqa: BLE001 - any failure of the handler
            self._handler_failed(error)
            return
        if more:
            self._pause_transport()
            self._mark()
        elif self._transport_paused and self.accepts_frames:
            self._resume_transport()

    def _pause_transport(self) -> None:
        if not self._transport_paused and not self._transport.is_closing():
            self._transport_paused = True
            self._transport.pause_reading()

    def _resume_transport(self) -> None:
        if self._transport_paused and not self._transport.is_closing():
            self._transport_paused = False
            self._transport.resume_reading()

    def _count_control_frame(self) -> bool:
        now = self.hub.sweeper.now
        if self._control_tick != now:
            self._control_tick = now
            self._control_count = 0
        self._control_count += 1
        if self._control_count <= self.hub.limits.control_frames_per_tick_max:
            return True
        self.close(CloseCode.TOO_MANY_FRAMES, "too many control frames")
        return False

    def _fail(self, code: int, reason: str) -> None:
        """The stream is unreadable from here on: nothing can be awaited from the peer but its end."""
        if self._state is OPEN:
            self.hub.closing(code)
            self._begin_close(code, reason, ENDING)
        elif self._state is CLOSING:
            self._state = ENDING
            self._mark()

    def _handler_failed(self, error: Exception) -> None:
        log_failure("handler", error)
        self._fail(CloseCode.INTERNAL_ERROR, "internal error")

    def _end_output(self) -> None:
        """Half-close: an orderly close here could reset the connection and take our close frame with it."""
        self._state = State.ENDED
        self._reader = None
        transport = self._transport
        if transport.is_closing():
            return
        self._resume_transport()
        try:
            if transport.can_write_eof():
                transport.write_eof()
            else:
                transport.close()  # TLS knows no half-close
        except OSError:  # the peer has cut the connection already
            transport.abort()

    def _notify_closed(self) -> None:
        handler, self._handler = self._handler, None
        if handler is None:
            return
        try:
            handler.closed()
        except Exception as error:  # noqa: BLE001 - any failure of the handler
            log_failure("handler", error)


def _client_address(transport: asyncio.Transport) -> ClientAddress | None:
    peer = transport.get_extra_info("peername")
    if isinstance(peer, (tuple, list)) and len(peer) >= 2:
        return str(peer[0]), int(peer[1])
    return None


def build_websocket_protocol(
    acceptor: Acceptor, limits: SocketLimits, sweeper: SocketSweeper[Outlet] | None = None
) -> type[WebSocket]:
    """The class to give uvicorn as `ws=`; its `hub` is the registry of its sockets. One per server."""

    class BoundWebSocket(WebSocket):
        __slots__ = ()
        hub = SocketHub(acceptor, limits, SocketSweeper() if sweeper is None else sweeper)

    return BoundWebSocket
