"""One socket of one session.

Operations as awaitables, events as they come. No reconnecting: see `session`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, NoReturn, Self

import msgspec

from client.frames import (
    Ack,
    Behind,
    Event,
    EventsPage,
    Hint,
    Pong,
    Refused,
    Welcome,
    read_frame,
)
from client.problem import ConnectionLostError, ProblemError
from client.websocket import NO_CLOSE_FRAME, WebSocket, open_websocket

Push = Event | EventsPage | Behind | Hint
Answer = Welcome | Ack | EventsPage | Pong

DEADLINE_S = 30.0
OPERATIONS_IN_FLIGHT_MAX = 65_536
PUSHES_BUFFERED_MAX = 10_000
FRAME_BYTES_MAX = 64 * 1024
SLOW_READER = 4408
_encode = msgspec.json.Encoder().encode


class SocketClient:
    """A connected socket after its handshake; the first operation must be `hello`.

    Pushes (events, pages without `ref`, `behind`, hints) go to `on_push` in the order they came, called from
    the reading side and expected to return at once; without `on_push` they are kept for `pushes()`, at most
    `buffered_max`, beyond which this end closes the socket as a slow reader. `on_welcome` comes before the
    first push, `on_end` is the last call.

    Every operation ends by its answer (`ProblemError` for an error frame), by its deadline (TimeoutError) or
    by the end of the socket (ConnectionLostError). In the last two cases, and after cancellation, the server
    may or may not have done it; the socket stays usable and a late answer is dropped.
    """

    def __init__(
        self,
        *,
        on_push: Callable[[Push], None] | None = None,
        on_welcome: Callable[[Welcome], None] | None = None,
        on_end: Callable[[ConnectionLostError], None] | None = None,
        buffered_max: int = PUSHES_BUFFERED_MAX,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._on_push = on_push or self._keep
        self._on_welcome = on_welcome
        self._on_end = on_end
        self._buffered_max = buffered_max
        self._deadline_s = deadline_s
        self._loop = asyncio.get_running_loop()
        self._socket: WebSocket | None = None
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._welcome: asyncio.Future[Any] | None = None
        self._number = 0
        self._kept: deque[Push] = deque()
        self._arrived = asyncio.Event()
        self.ended: ConnectionLostError | None = None
        self._over = asyncio.Event()
        self.unanswered_problems = 0

    @classmethod
    async def connect(cls, url: str, **options: Any) -> SocketClient:
        """Connects to `ws://host:port/v1/ws`; options as of the class. ConnectionError if that fails."""
        client = cls(**options)
        async with asyncio.timeout(client._deadline_s):
            client._socket = await open_websocket(url, client._text, client._closed)
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()

    def close(self, code: int = 1000) -> None:
        """Closes; operations in flight end with ConnectionLostError."""
        if self._socket is not None:
            self._socket.close(code)
        self._closed(code, "closed by the client")

    async def until_end(self) -> NoReturn:
        """Waits for the end of the socket and raises it."""
        await self._over.wait()
        raise self.ended or ConnectionLostError("ended", NO_CLOSE_FRAME)

    # operations

    async def hello(self, token: str, have: Mapping[str, int] | None = None) -> Welcome:
        """Opens the session's socket; with `have` the missed events follow as pushes."""
        frame: dict[str, Any] = {"op": "hello", "token": token}
        if have is not None:
            frame["have"] = dict(have)
        self._welcome = self._loop.create_future()
        self._write(frame)
        return await self._answer(self._welcome, self._deadline_s)  # type: ignore[no-any-return]

    def request(self, op: str, **values: Any) -> asyncio.Future[Any]:
        """Sends one operation now and returns its answer as a future; values that are None are left out.

        The thin way for load: no deadline, no back-pressure (await `writable()` now and then). Awaiting
        several futures in the order of their requests pipelines them.
        """
        if len(self._waiting) >= OPERATIONS_IN_FLIGHT_MAX:
            raise ProblemError("overloaded", 503, "too many operations in flight on this socket")
        self._number += 1
        ref = str(self._number)
        frame = {"op": op, "ref": ref}
        frame.update({name: value for name, value in values.items() if value is not None})
        self._write(frame)
        future = self._waiting[ref] = self._loop.create_future()
        return future

    async def writable(self) -> None:
        """Returns when the socket takes more, at once mostly."""
        if self._socket is not None:
            await self._socket.writable()

    async def ask(self, op: str, *, deadline_s: float | None = None, **values: Any) -> Any:
        """One operation up to its answer, with back-pressure and deadline (seconds)."""
        await self.writable()
        future = self.request(op, **values)
        ref = str(self._number)
        try:
            return await self._answer(future, self._deadline_s if deadline_s is None else deadline_s)
        finally:
            self._waiting.pop(ref, None)

    async def send(
        self,
        conversation_id: str | None = None,
        *,
        to: str | None = None,
        client_msg_id: str,
        content: Mapping[str, Any],
        reply_to: int | None = None,
        mentions: Iterable[str] | None = None,
        origin: Mapping[str, Any] | None = None,
        deadline_s: float | None = None,
    ) -> Ack:
        """Posts a message; the ack means durable. Repeating the `client_msg_id` gives the first answer."""
        return await self.ask(  # type: ignore[no-any-return]
            "send",
            deadline_s=deadline_s,
            conversation_id=conversation_id,
            to=to,
            client_msg_id=client_msg_id,
            content=content,
            reply_to=reply_to,
            mentions=None if mentions is None else list(mentions),
            origin=origin,
        )

    async def edit(
        self, conversation_id: str, seq: int, content: Mapping[str, Any], *, key: str | None = None
    ) -> Ack:
        """Edits one's own message; `seq` of the ack is the new event's."""
        return await self._change("edit", conversation_id, seq, key, content=content)

    async def recall(self, conversation_id: str, seq: int, *, key: str | None = None) -> Ack:
        """Recalls a message."""
        return await self._change("recall", conversation_id, seq, key)

    async def react(self, conversation_id: str, seq: int, emoji: str, *, key: str | None = None) -> Ack:
        """Adds a reaction."""
        return await self._change("react", conversation_id, seq, key, emoji=emoji)

    async def unreact(self, conversation_id: str, seq: int, emoji: str, *, key: str | None = None) -> Ack:
        """Takes a reaction back."""
        return await self._change("unreact", conversation_id, seq, key, emoji=emoji)

    async def pin(self, conversation_id: str, seq: int, *, key: str | None = None) -> Ack:
        """Pins a message."""
        return await self._change("pin", conversation_id, seq, key)

    async def unpin(self, conversation_id: str, seq: int, *, key: str | None = None) -> Ack:
        """Unpins a message."""
        return await self._change("unpin", conversation_id, seq, key)

    async def read(self, conversation_id: str, seq: int) -> Ack:
        """Marks read up to a seq."""
        return await self._change("read", conversation_id, seq, None)

    async def received(self, conversation_id: str, seq: int) -> Ack:
        """Marks received up to a seq."""
        return await self._change("received", conversation_id, seq, None)

    async def sync(
        self,
        have: Mapping[str, int],
        *,
        limit: int | None = None,
        recent: int | None = None,
        only: bool | None = None,
        cursor: str | None = None,
    ) -> EventsPage:
        """Missed events after `have`; `next` goes with the same `have`."""
        return await self.ask(  # type: ignore[no-any-return]
            "sync", have=dict(have), limit=limit, recent=recent, only=only, cursor=cursor
        )

    async def ping(self) -> Pong:
        """A round trip."""
        return await self.ask("ping")  # type: ignore[no-any-return]

    def typing(self, conversation_id: str, on: bool = True) -> None:
        """A hint, without an answer."""
        self._write({"op": "typing", "conversation_id": conversation_id, "on": on})

    def watch_presence(self, user_ids: Iterable[str]) -> None:
        """Replaces the presence subscription (at most 500); rows come as pushes."""
        self._write({"op": "presence", "users": list(user_ids)})

    async def pushes(self) -> AsyncIterator[Push]:
        """What the server pushed, in order, until the socket ends: then ConnectionLostError."""
        while True:
            while self._kept:
                yield self._kept.popleft()
            if self.ended is not None:
                raise self.ended
            self._arrived.clear()
            await self._arrived.wait()

    # inside

    async def _change(self, op: str, conversation_id: str, seq: int, key: str | None, **values: Any) -> Ack:
        return await self.ask(op, conversation_id=conversation_id, seq=seq, key=key, **values)  # type: ignore[no-any-return]

    async def _answer(self, future: asyncio.Future[Any], deadline_s: float) -> Any:
        # A timer costs 2 us where `asyncio.timeout` costs 10: this is the path of every operation.
        timer = self._loop.call_later(deadline_s, _expire, future)
        try:
            return await future
        finally:
            timer.cancel()

    def _write(self, frame: Mapping[str, Any]) -> None:
        if self.ended is not None:
            raise self.ended
        if self._socket is None:
            raise ConnectionLostError("not connected", NO_CLOSE_FRAME)
        payload = _encode(frame)
        if len(payload) > FRAME_BYTES_MAX:  # the server would close the whole socket for it
            raise ProblemError("too_large", 413, "frame over 64 KiB")
        self._socket.send_text(payload)

    def _text(self, text: bytes) -> None:
        try:
            frame = read_frame(text)
        except ValueError:  # not our server, or not our protocol any more
            self._end_with(1002, "unreadable frame from the server")
            return
        kind = type(frame)
        if kind is Ack or kind is Pong or kind is EventsPage:
            ref = frame.ref  # type: ignore[union-attr]
            if ref is not None:
                self._settle(ref, frame)
            elif kind is EventsPage:
                self._on_push(frame)  # type: ignore[arg-type]
        elif kind is Refused:
            self._refused(frame)  # type: ignore[arg-type]
        elif kind is Welcome:
            if self._on_welcome is not None:
                self._on_welcome(frame)  # type: ignore[arg-type]
            if self._welcome is not None and not self._welcome.done():
                self._welcome.set_result(frame)
        elif frame is not None:
            self._on_push(frame)  # type: ignore[arg-type]

    def _settle(self, ref: str, frame: Any) -> None:
        future = self._waiting.pop(ref, None)
        if future is not None and not future.done():
            future.set_result(frame)

    def _refused(self, frame: Refused) -> None:
        error = ProblemError.of(frame.problem)
        future = self._waiting.pop(frame.ref, None) if frame.ref is not None else None
        if future is None and self._welcome is not None and not self._welcome.done():
            future = self._welcome
        if future is None:
            self.unanswered_problems += 1
        elif not future.done():
            future.set_exception(error)

    def _keep(self, push: Push) -> None:
        if len(self._kept) >= self._buffered_max:
            self._end_with(SLOW_READER, "pushes were not taken: this end is too slow")
            return
        self._kept.append(push)
        self._arrived.set()

    def _end_with(self, code: int, reason: str) -> None:
        self._closed(code, reason)
        if self._socket is not None:
            self._socket.close(code, reason)

    def _closed(self, code: int, reason: str) -> None:
        if self.ended is not None:
            return
        self.ended = ConnectionLostError(reason, code)
        waiting = [*self._waiting.values()]
        if self._welcome is not None:
            waiting.append(self._welcome)
        self._waiting.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(ConnectionLostError(reason, code))
                future.exception()  # a future nobody awaits any more is no error of its own
        self._arrived.set()
        self._over.set()
        if self._on_end is not None:
            self._on_end(self.ended)


def _expire(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(TimeoutError("no answer within the deadline"))
