"""The listening socket: what connections get from it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop
from typing_extensions import override

from ops.serving import AddressInUseError, listen, url_of


class Accepted(asyncio.Protocol):
    """Takes one connection and looks whether small writes leave at once."""

    def __init__(self, delayed: asyncio.Future[bool]) -> None:
        self._delayed = delayed

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        accepted = transport.get_extra_info("socket")
        self._delayed.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0)
        transport.close()


async def _is_delayed() -> bool:
    loop = asyncio.get_running_loop()
    delayed: asyncio.Future[bool] = loop.create_future()
    listener = listen("127.0.0.1", 0)
    server = await loop.create_server(lambda: Accepted(delayed), sock=listener)
    async with server:
        _, writer = await asyncio.open_connection(*listener.getsockname())
        async with asyncio.timeout(5):
            found = await delayed
        writer.close()
        await writer.wait_closed()
    return found


@pytest.mark.parametrize("make_loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
def test_small_frames_do_not_wait_for_acknowledgements(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    with asyncio.Runner(loop_factory=make_loop) as runner:
        assert runner.run(_is_delayed()) is False


def test_a_free_port_is_told_and_a_taken_one_named() -> None:
    host = "127.0.0.1"
    with listen(host, 0) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://{host}:{port}"
        with pytest.raises(AddressInUseError, match=rf"{port} is in use by another program; choose another"):
            listen(host, port)
