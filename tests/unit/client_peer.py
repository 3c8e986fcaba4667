"""A server that speaks the wire and says what the test tells it: real sockets, scripted answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import pytest
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

E = TypeVar("E", bound=Exception)
Json = dict[str, Any]
WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body) if self.body else None


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer; `cut` ends the connection without a word, `raw` are bytes as they are, then the end."""

    status: int = 200
    body: Any = None
    cut: bool = False
    headers: tuple[str, ...] = ()
    raw: bytes | None = None


Answering = Callable[[Call], Reply]


def problem(code: str, status: int, **more: Any) -> Reply:
    """A refusal."""
    return Reply(status, {"type": "about:blank", "title": code, "status": status, "code": code, **more})


async def failure(kind: type[E], operation: Coroutine[Any, Any, object]) -> E:
    """The error that an operation ends with: a task of it ends well, so that its group goes on."""
    with pytest.raises(kind) as caught:
        await operation
    return caught.value


class PeerSocket:
    """The server's end of one WebSocket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._protocol = ServerProtocol()
        self._frames: list[Frame] = []

    async def accept(self, head: bytes) -> None:
        """Shakes hands."""
        self._protocol.receive_data(head)
        (request,) = self._protocol.events_received()
        assert isinstance(request, Request)
        self._protocol.send_response(self._protocol.accept(request))
        self._flush()

    async def frame(self) -> Frame:
        """The next frame of the client."""
        while not self._frames:
            data = await asyncio.wait_for(self._reader.read(65536), WAIT_S)
            if not data:
                raise EOFError
            self._protocol.receive_data(data)
            self._frames += [event for event in self._protocol.events_received() if isinstance(event, Frame)]
        return self._frames.pop(0)

    async def take(self, op: str | None = None) -> Json:
        """The next object of the client, whose op must be `op`. Raises EOFError when the client closes."""
        frame = await self.frame()
        if frame.opcode is Opcode.CLOSE:
            raise EOFError
        assert frame.opcode is Opcode.TEXT, frame
        value: Json = json.loads(bytes(frame.data))
        assert op is None or value["op"] == op, value
        return value

    def give(self, *values: Json) -> None:
        """Sends objects, all in one write."""
        for value in values:
            self._protocol.send_text(json.dumps(value).encode())
        self._flush()

    def give_bytes(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self._writer.write(data)

    def framed(self, value: Json, *, fin: bool = True) -> bytes:
        """The bytes of one text frame."""
        self._protocol.send_text(json.dumps(value).encode(), fin=fin)
        return b"".join(self._protocol.data_to_send())

    async def greet(self, user_id: str = "ann", log_id: str = "log-1", **more: Any) -> Json:
        """Takes hello and answers welcome."""
        hello = await self.take("hello")
        self.give(
            {
                "op": "welcome",
                "user_id": user_id,
                "session_id": "s",
                "log_id": log_id,
                "heartbeat_s": 30,
                **more,
            }
        )
        return hello

    def close(self, code: int, reason: str = "") -> None:
        """Sends a close frame and ends the connection."""
        self._protocol.send_close(code, reason)
        self._flush()
        self._writer.close()

    def cut(self) -> None:
        """Ends the connection without a close frame."""
        self._writer.transport.abort()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._writer.write(data)


class Peer:
    """Listens on a free port; `answering` answers HTTP, WebSockets wait in `sockets`."""

    def __init__(
        self,
        answering: Answering | None = None,
        serving: Callable[[PeerSocket], Awaitable[None]] | None = None,
    ) -> None:
        self.answering = answering
        self.serving = serving
        self.refusing: bytes | None = None
        self.calls: list[Call] = []
        self.connections = 0
        self.sockets: asyncio.Queue[PeerSocket] = asyncio.Queue()
        self.url = ""
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for _ in range(3):  # the loop closes aborted transports in its next turns
            await asyncio.sleep(0)

    @property
    def socket_url(self) -> str:
        """Where the WebSocket is."""
        return "ws" + self.url.removeprefix("http") + "/v1/ws"

    async def socket(self) -> PeerSocket:
        """The next WebSocket that a client opens."""
        return await asyncio.wait_for(self.sockets.get(), WAIT_S)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.append(writer)
        self.connections += 1
        try:
            await self._talk(reader, writer)
        except (EOFError, ConnectionError):
            writer.close()
        except BaseException:  # the script failed: its client must not wait for the answer
            writer.transport.abort()
            raise
        finally:
            self._tasks.discard(task)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode().strip().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            if headers.get("upgrade") == "websocket" and self.refusing is not None:
                writer.write(self.refusing)
                writer.close()
                return
            if headers.get("upgrade") == "websocket":
                socket = PeerSocket(reader, writer)
                await socket.accept(head)
                if self.serving is not None:
                    await self.serving(socket)
                else:
                    self.sockets.put_nowait(socket)
                return
            method, target, _ = first.split(" ")
            plain = dict(line.split(": ", 1) for line in lines)
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            call = Call(method, target, {name.lower(): value for name, value in plain.items()}, body)
            self.calls.append(call)
            assert self.answering is not None
            reply = self.answering(call)
            if reply.cut:
                writer.transport.abort()
                return
            if reply.raw is not None:
                writer.write(reply.raw)
                writer.close()
                return
            payload = json.dumps(reply.body).encode()
            more = "".join(f"{line}\r\n" for line in reply.headers)
            writer.write(
                f"HTTP/1.1 {reply.status} X\r\ncontent-length: {len(payload)}\r\n{more}\r\n".encode()
                + payload
            )


class HeldClock:
    """Time that stands still but for sleeping, which takes no time and is written down."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.time = now
        self.slept: list[float] = []
        self.longest_s = 5.0
        self.moved = asyncio.Event()

    def now(self) -> float:
        """The held time."""
        return self.time

    async def sleep(self, seconds: float) -> None:
        """Short pauses pass at once; long ones (heartbeat, token life) wait until the test moves time."""
        self.slept.append(seconds)
        if seconds <= self.longest_s:
            self.time += seconds
            await asyncio.sleep(0)
            return
        due = self.time + seconds
        while self.time < due:
            self.moved.clear()
            await self.moved.wait()

    def move(self, seconds: float) -> None:
        """Lets time pass."""
        self.time += seconds
        self.moved.set()
