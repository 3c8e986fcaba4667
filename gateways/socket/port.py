"""The seam between the raw WebSocket layer and what lives above it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gateways.socket.websocket import WebSocket


class SocketHandler(Protocol):
    """What lives above one socket: plain calls from the loop, in stream order, never concurrently.

    An exception closes the socket with 1011. After `closed` nothing is called any more.
    """

    def opened(self, socket: WebSocket) -> None:
        """The handshake is answered; frames may be sent."""

    def text(self, payload: bytes) -> None:
        """One complete text message, valid UTF-8, within the size limit."""

    def binary(self, payload: bytes) -> None:
        """One complete binary message, within the size limit."""

    def closed(self) -> None:
        """Exactly once, whatever the cause, and never from inside `send_frame` or `close`.

        Comes as soon as the socket takes no more frames, which may be before the connection is gone.
        """


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """Every bound of a socket. `message_bytes_max` is at least 125, a bound the protocol sets itself."""

    message_bytes_max: int = 64 * 1024
    unsent_bytes_max: int = 1024 * 1024
    unsent_frames_max: int = 1000
    frames_per_turn_max: int = 64
    control_frames_per_tick_max: int = 50
    handshake_bytes_max: int = 16 * 1024
    heartbeat_s: int = 30
    silence_s: int = 75
    close_s: int = 5
