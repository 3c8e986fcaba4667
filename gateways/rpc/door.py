"""The door of a server for other nodes: how many are let in, how many may knock at once, and what is said of those who are not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
import structlog

from gateways.rpc.handshake import HandshakeError
from gateways.rpc.settings import Tls

_log = structlog.get_logger(__name__)
T = TypeVar("T")

REFUSAL_LOG_S = 1.0


def listen_at(server: grpc.aio.Server, address: str, tls: Tls | None) -> int:
    """The port. Raises RuntimeError if it is taken."""
    if tls is None:
        return server.add_insecure_port(address)
    return server.add_secure_port(address, tls.of_server())


class Door:
    """`whom` names those who knock, one and several: `("node", "links")`. At most `strangers` shake hands at once, each for `connect_s`."""

    def __init__(self, whom: tuple[str, str], strangers_max: int, connect_s: float) -> None:
        self._one, self._several = whom
        self._strangers_max = strangers_max
        self._connect_s = connect_s
        self._strangers = 0
        self._refusal_logged_at = -REFUSAL_LOG_S

    async def admit(self, shake_hands: Callable[[], Awaitable[T]], *, full: bool) -> T:
        """What `shake_hands` returns. Raises HandshakeError; also at once if the house is `full`."""
        if full or self._strangers >= self._strangers_max:
            raise HandshakeError(f"no more {self._several} are taken now")
        self._strangers += 1
        try:
            async with asyncio.timeout(self._connect_s):
                return await shake_hands()
        except TimeoutError:
            raise HandshakeError("the handshake took too long") from None
        finally:
            self._strangers -= 1

    def log_refusal(self, peer: str, reason: str) -> None:
        """At most one line a second: whoever knocks all the time must not fill the disk."""
        now = asyncio.get_running_loop().time()
        if now - self._refusal_logged_at >= REFUSAL_LOG_S:
            self._refusal_logged_at = now
            _log.warning(f"{self._one} refused", peer=peer, reason=reason)
