"""A whole embedded server on a real port, in the test's own loop, and people with sockets that tests look into."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn

from client.problem import ConnectionLostError
from client.rest import RestClient
from client.websocket import WebSocket, open_websocket
from commands.accounts import Device
from commands.caller import Caller, Keyed
from gateways.rest.protocol import BoundedHttpProtocol
from gateways.socket.hub import SocketHub
from ops.serving import HttpServer
from ops.settings import load_settings
from ops.wiring import Server, open_server

TENANT = "default"
WAIT_S = 10.0
"""A test that waits longer has failed."""

Frame = dict[str, Any]


class ManualTime:
    """Monotonic seconds and timers that only a test moves."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def monotonic_s(self) -> float:
        """Now."""
        return self.now_s

    def call_later(self, delay_s: float, callback: Callable[[], None], /) -> object:
        """`loop.call_later`."""
        self._timers.append((self.now_s + delay_s, next(self._numbers), callback))
        return callback

    def advance(self, seconds: float) -> None:
        """Let time pass; what is due runs at its time, in order."""
        end_s = self.now_s + seconds
        while due := sorted(timer for timer in self._timers if timer[0] <= end_s):
            self._timers.remove(due[0])
            self.now_s = due[0][0]
            due[0][2]()
        self.now_s = end_s


class Line:
    """One socket of a test: frames out, every frame that came in, in order, and how it ended."""

    def __init__(self, person: Person | None) -> None:
        self.person = person
        self.frames: list[Frame] = []
        self.answered: set[str] = set()
        """The refs that came back."""
        self.newest: dict[str, int] = {}
        """The last seq that came of each conversation."""
        self.close_code: int | None = None
        self.close_reason = ""
        self._socket: WebSocket | None = None
        self._changed = asyncio.Event()
        self._refs = itertools.count(1)

    async def connect(self, url: str) -> None:
        """Shake hands."""
        self._socket = await open_websocket(url, self._text, self._closed)

    def _text(self, payload: bytes) -> None:
        frame = json.loads(payload)
        self.frames.append(frame)
        if frame.get("ref") is not None:
            self.answered.add(frame["ref"])
        if frame["op"] == "event":
            self.newest[frame["conversation_id"]] = frame["seq"]
        elif frame["op"] == "events":
            for name, part in frame["conversations"].items():
                if part.get("events"):
                    self.newest[name] = part["events"][-1]["seq"]
        self._changed.set()

    def _closed(self, code: int, reason: str) -> None:
        self.close_code, self.close_reason = code, reason
        self._changed.set()

    @property
    def socket(self) -> WebSocket:
        """The connection."""
        assert self._socket is not None
        return self._socket

    def raw(self, payload: bytes, first_byte: int = 0x81) -> None:
        """A frame as it is."""
        self.socket._send_frame(first_byte, payload)

    def say(self, op: str, **values: Any) -> None:
        """An op without waiting."""
        self.raw(json.dumps({"op": op, **values}).encode())

    async def until(self, what: Callable[[], bool]) -> None:
        """Wait for a condition that frames or the end bring about."""
        async with asyncio.timeout(WAIT_S):
            while not what():
                self._changed.clear()
                await self._changed.wait()

    async def next(self, op: str, **like: Any) -> Frame:
        """The first frame, already here or still to come, with these values."""
        found: list[Frame] = []

        def look() -> bool:
            for frame in self.frames:
                if frame["op"] == op and all(frame.get(name) == value for name, value in like.items()):
                    found.append(frame)
                    return True
            if self.close_code is not None:
                raise AssertionError(f"closed {self.close_code} {self.close_reason}: {self.frames[-3:]}")
            return False

        await self.until(look)
        return found[0]

    async def ask(self, op: str, **values: Any) -> Frame:
        """An op and the frame that answers its `ref`."""
        ref = f"r{next(self._refs)}"
        self.say(op, ref=ref, **values)
        answer: list[Frame] = []

        def look() -> bool:
            if ref in self.answered:
                answer.extend(frame for frame in self.frames if frame.get("ref") == ref)
            if not answer and self.close_code is not None:
                raise AssertionError(f"closed {self.close_code} {self.close_reason}")
            return bool(answer)

        await self.until(look)
        return answer[0]

    async def refused(self, op: str, **values: Any) -> str:
        """The code of the refusal of an op."""
        answer = await self.ask(op, **values)
        assert answer["op"] == "error", answer
        assert set(answer) == {"op", "ref", "problem"}
        assert {"type", "title", "status", "detail", "code", "request_id"} <= set(answer["problem"])
        return str(answer["problem"]["code"])

    async def settle(self) -> None:
        """Everything that the server had decided to tell before this call is here."""
        await self.ask("ping")

    async def ended(self) -> int:
        """The close code."""
        await self.until(lambda: self.close_code is not None)
        assert self.close_code is not None
        return self.close_code

    def of(self, op: str, **like: Any) -> list[Frame]:
        """The frames that came, by op and values."""
        return [
            frame
            for frame in self.frames
            if frame["op"] == op and all(frame.get(name) == value for name, value in like.items())
        ]

    def seqs(self, conversation_id: str) -> list[int]:
        """Every seq of a conversation in the order it came, from pages and live alike."""
        seqs: list[int] = []
        for frame in self.frames:
            if frame["op"] == "event" and frame["conversation_id"] == conversation_id:
                seqs.append(frame["seq"])
            elif frame["op"] == "events" and conversation_id in frame["conversations"]:
                seqs += [event["seq"] for event in frame["conversations"][conversation_id].get("events", ())]
        return seqs

    def close(self) -> None:
        """Leave."""
        if self._socket is not None and self.close_code is None:
            self._socket.close()

    def cut(self) -> None:
        """Vanish."""
        self.socket.abort()


class Person:
    """A registered user with one session."""

    def __init__(self, house: House, user_id: str, token: str, session_id: str) -> None:
        self.house = house
        self.user_id = user_id
        self.token = token
        self.session_id = session_id
        self.rest: RestClient = house.rest.as_user(token)

    async def line(self, have: Mapping[str, int] | None = None) -> Line:
        """A socket that is welcome."""
        line = await self.house.line(self)
        hello: Frame = {"token": self.token}
        if have is not None:
            hello["have"] = dict(have)
        line.say("hello", **hello)
        await line.next("welcome")
        return line

    async def group(self, *members: str, **settings: Any) -> str:
        """A new group of one's own."""
        made = await self.rest.create_group("room", members, **settings)
        return str(made.conversation_id)

    async def post(self, conversation_id: str, text: str = "hi", client_msg_id: str | None = None) -> int:
        """A message by REST; its seq."""
        key = client_msg_id or f"m{next(self.house.numbers)}"
        return int((await self.rest.post(conversation_id, key, content(text))).seq)


class House:
    """The server and what tests reach it with."""

    def __init__(self, server: Server, url: str, rest: RestClient) -> None:
        self.server = server
        self.url = url
        self.rest = rest
        self.numbers = itertools.count(1)
        self.lines: list[Line] = []

    @property
    def hub(self) -> SocketHub:
        """The raw sockets."""
        return self.server.faces.websocket_class.hub

    def use(self, time: ManualTime) -> None:
        """Have the socket side live in the test's time. Call before the first socket."""
        desk = self.server.faces.socket_desk
        desk.monotonic_s = time.monotonic_s
        desk.schedule = time.call_later

    async def line(self, person: Person | None = None) -> Line:
        """A socket that has not said hello."""
        line = Line(person)
        await line.connect(self.url.replace("http", "ws") + "/v1/ws")
        self.lines.append(line)
        return line

    async def person(self, user_id: str, device_id: str = "d1", scope: str | None = None) -> Person:
        """Register, without a password to hash, and log in."""
        await self.server.faces.accounts.register(TENANT, user_id, None, None, Keyed("test"))
        return await self.log_in(user_id, device_id, scope)

    async def people(self, *user_ids: str) -> list[Person]:
        """Several."""
        return [await self.person(user_id) for user_id in user_ids]

    async def log_in(self, user_id: str, device_id: str = "d1", scope: str | None = None) -> Person:
        """Another session."""
        device = Device(device_id=device_id, device_kind="bot", scope=scope)
        grant = await self.server.faces.accounts.open_session(TENANT, user_id, device)
        session_id = grant.refresh.session_id
        token, _ = self.server.faces.sessions.issue(TENANT, user_id, session_id, scope)
        return Person(self, user_id, token, session_id)

    async def end(self, person: Person) -> None:
        """Log a person out."""
        caller = Caller(TENANT, person.user_id, person.session_id)
        await self.server.faces.accounts.end_session(caller, person.session_id, Keyed("test"))

    async def fresh(self) -> None:
        """Until the views hold everything that is durable."""
        await self.server.views.caught_up(self.server.desk.head_positions())


def content(text: str) -> Frame:
    """A text."""
    return {"kind": "text", "text": text}


@asynccontextmanager
async def open_house(folder: Path, **flags: Any) -> AsyncIterator[House]:
    """A running server over a folder; `flags` as settings. Everything is closed at the end, sockets first."""
    settings = load_settings(
        None, {"data": folder, "port": 0, "rate_limit": "off", "shards": 4, "linger_ms": 2.0, **flags}
    )
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(open_server(settings))
        http = HttpServer(
            uvicorn.Config(
                server.faces.app,
                port=0,
                loop="none",
                http=BoundedHttpProtocol,
                lifespan="off",
                log_config=None,
                ws=server.faces.websocket_class,
                timeout_graceful_shutdown=2,
            )
        )
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        tasks.create_task(http.serve())
        stack.callback(setattr, http, "should_exit", True)
        await http.listening.wait()
        port = http.servers[0].sockets[0].getsockname()[1]
        rest = await stack.enter_async_context(RestClient(f"http://127.0.0.1:{port}"))
        house = House(server, f"http://127.0.0.1:{port}", rest)
        try:
            yield house
        finally:
            for line in house.lines:
                line.close()
            for line in house.lines:
                with contextlib.suppress(ConnectionLostError):
                    await line.ended()


__all__ = ["Frame", "House", "Line", "ManualTime", "Person", "content", "open_house"]
