"""A user's lasting session: log in, stay connected, miss nothing, send each message once."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Any, Self

from client import deliveries
from client.clock import Clock, SystemClock, backoff_s
from client.deliveries import ConversationReset, Delivery, LogChanged, LogIn
from client.frames import Ack, Behind, Event, EventsPage, Hint, Reconnect, Welcome
from client.problem import ConnectionLostError, ProblemError, SessionEndedError, plain_error
from client.records import SessionTokens
from client.rest import RestClient
from client.socket import PUSHES_BUFFERED_MAX, Push, SocketClient
from client.tracker import Tracker


class ChatSession:
    """Use as `async with ChatSession(…) as session`, and read `events()` from one place.

    Each event of each conversation is delivered once, in seq order, over any number of reconnects; what
    happened while away comes by sync. When nobody takes events (`buffered_max`), later ones are left at the
    server and asked for when there is room. Operations survive reconnects: they are repeated with the same
    key until their deadline.

    `have` and `log_id` are what an earlier process stored of `positions` and `log_id`; without them, events
    count from now on (`history=True`: from the beginning of every conversation). Leaving the block closes the
    socket but does not end the session at the server.
    """

    def __init__(
        self,
        rest: RestClient,
        user_id: str,
        log_in: LogIn,
        *,
        have: Mapping[str, int] | None = None,
        log_id: str | None = None,
        history: bool = False,
        on_hint: Callable[[Hint], None] | None = None,
        clock: Clock | None = None,
        jitter: random.Random | None = None,
        buffered_max: int = PUSHES_BUFFERED_MAX,
        deadline_s: float = deliveries.DEADLINE_S,
    ) -> None:
        self.user_id = user_id
        self.log_id = log_id
        self.rest = rest.as_user("")
        self.tracker = Tracker(user_id, self._deliver, have)
        self.connections = 0
        self._log_in = log_in
        self._tokens: SessionTokens | None = None
        self._resuming = have is not None
        self._history = history
        self._on_hint = on_hint
        self._clock: Clock = clock or SystemClock()
        self._jitter = jitter or random.Random()  # noqa: S311 - a delay is no secret
        self._buffered_max = buffered_max
        self._deadline_s = deadline_s
        self._buffer: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        self._stale = asyncio.Event()
        self._ready = asyncio.Event()
        self._socket: SocketClient | None = None
        self._failure: Exception | None = None
        self._pages_void = False
        self._hint_ms: int | None = None
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def by_password(
        cls,
        rest: RestClient,
        user_id: str,
        password: str,
        device_id: str,
        device_kind: str = "bot",
        **options: Any,
    ) -> ChatSession:
        """A session of a registered user."""
        return cls(rest, user_id, lambda: rest.log_in(user_id, password, device_id, device_kind), **options)

    @classmethod
    def by_app_key(
        cls, rest: RestClient, user_id: str, device_id: str, scope: str | None = None, **options: Any
    ) -> ChatSession:
        """A session that the tenant vouches for by signed calls."""
        return cls(rest, user_id, lambda: rest.create_token(user_id, device_id, scope=scope), **options)

    async def __aenter__(self) -> Self:
        """Returns when the first socket is welcome; SessionEndedError or ProblemError if it cannot be."""
        self._task = asyncio.create_task(self._run(), name=f"chat session {self.user_id}")
        try:
            async with asyncio.timeout(self._deadline_s):
                await self._connected()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the socket; operations in flight and `events()` end with SessionEndedError."""
        self._fail(SessionEndedError("closed by the client", 1000))
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def positions(self) -> dict[str, int]:
        """The last delivered seq of each conversation: what to store, and to give as `have` next time."""
        return dict(self.tracker.have)

    async def events(self) -> AsyncGenerator[Delivery, None]:
        """Events and notices in order, until the session ends: then its error."""
        while True:
            while self._buffer:
                yield self._buffer.popleft()
                if self.tracker.stale and len(self._buffer) <= self._buffered_max // 2:
                    self._stale.set()
            if self._failure is not None:
                raise self._failure
            self._arrived.clear()
            await self._arrived.wait()

    async def perform(self, op: str, *, deadline_s: float | None = None, **values: Any) -> Any:
        """One operation up to its answer, repeated over reconnects and retryable refusals with the same key.

        Operations started in some order are sent, and after a reconnect sent again, in that order.
        TimeoutError at the deadline; then, and after cancellation, it may or may not have happened.
        """
        limit_s = self._deadline_s if deadline_s is None else deadline_s
        async with asyncio.timeout(limit_s):
            for attempt in range(1, deliveries.ATTEMPTS_MAX + 1):
                socket = await self._connected()
                try:
                    return await socket.ask(op, deadline_s=limit_s, **values)
                except ConnectionLostError:
                    continue
                except ProblemError as error:
                    if not error.retryable:
                        raise
                    hint_ms = error.retry_after_ms
                await self._clock.sleep(backoff_s(attempt, self._jitter, hint_ms))
        raise ConnectionLostError("too many attempts")

    async def send(
        self,
        conversation_id: str | None = None,
        content: Mapping[str, Any] | str = "",
        *,
        to: str | None = None,
        client_msg_id: str | None = None,
        reply_to: int | None = None,
        mentions: Iterable[str] | None = None,
        deadline_s: float | None = None,
    ) -> Ack:
        """Posts a message (a plain string is a text) once, whatever happens to the connection.

        Durable when it returns.
        """
        ack: Ack = await self.perform(
            "send",
            deadline_s=deadline_s,
            conversation_id=conversation_id,
            to=to,
            client_msg_id=client_msg_id or uuid.uuid4().hex,
            content={"kind": "text", "text": content} if isinstance(content, str) else content,
            reply_to=reply_to,
            mentions=None if mentions is None else list(mentions),
        )
        return ack

    async def change(self, op: str, conversation_id: str, seq: int, **values: Any) -> Ack:
        """`edit` (content), `recall`, `react` and `unreact` (emoji), `pin`, `unpin` of a message."""
        values.setdefault("key", uuid.uuid4().hex)
        ack: Ack = await self.perform(op, conversation_id=conversation_id, seq=seq, **values)
        return ack

    async def mark(self, op: str, conversation_id: str, seq: int) -> Ack:
        """`read` or `received` up to a seq."""
        ack: Ack = await self.perform(op, conversation_id=conversation_id, seq=seq)
        return ack

    # staying connected

    async def _connected(self) -> SocketClient:
        while True:
            if self._failure is not None:
                raise self._failure
            if self._socket is not None and self._socket.ended is None:
                return self._socket
            await self._ready.wait()
            if self._socket is None or self._socket.ended is not None:
                self._ready.clear()

    async def _run(self) -> None:
        attempt = 0
        bad_tokens = 0
        while self._failure is None:
            connections = self.connections
            try:
                await self._connect_once()
            except ConnectionLostError as error:
                bad_tokens = bad_tokens + 1 if error.close_code == deliveries.BAD_TOKEN else 0
                if error.close_code in deliveries.ENDING_CODES or bad_tokens > 1:
                    self._fail(SessionEndedError(error.reason, error.close_code))
                    return
                if bad_tokens:
                    self._tokens = None
            except ProblemError as error:
                if error.code == "unauthenticated" and self._tokens is not None:
                    self._tokens = None
                elif not error.retryable:
                    self._fail(error)
                    return
                self._hint_ms = error.retry_after_ms
            except (OSError, TimeoutError):
                pass  # the server is away: the pause below, then again
            except Exception as error:  # a defect here must end the session, not hang its callers
                self._fail(error)
                raise
            attempt = 1 if self.connections > connections else attempt + 1
            hint_ms, self._hint_ms = self._hint_ms, None
            await self._clock.sleep(backoff_s(attempt, self._jitter, hint_ms))

    async def _connect_once(self) -> None:
        """One socket from log-in to its end, which is raised."""
        tokens = await self._fresh_tokens()
        have = self.tracker.named() if self._resuming else None
        self._pages_void = False
        self.tracker.discovering = True
        socket = await SocketClient.connect(
            self.rest.socket_url, on_push=self._push, on_welcome=self._welcome, on_end=self._ended
        )
        async with socket:
            welcome = await socket.hello(tokens.access_token, have)
            if have is not None:
                self.tracker.mark_unnamed(have)
            self.connections += 1
            self._socket = socket
            self._ready.set()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._discover_and_repair(socket))
                    group.create_task(self._keep_tokens_fresh())
                    group.create_task(socket.until_end())
                    group.create_task(self._watch(socket, welcome.heartbeat_s))
            except ExceptionGroup as errors:
                error = plain_error(errors, (ConnectionLostError, ProblemError, TimeoutError, OSError))
                raise (error if error is errors else socket.ended or error) from None
            finally:
                self._socket = None

    async def _fresh_tokens(self) -> SessionTokens:
        tokens = self._tokens
        if (
            tokens is not None
            and tokens.expires_at.timestamp() - self._clock.now() <= deliveries.REFRESH_BEFORE_S
        ):
            try:
                tokens = await self.rest.refresh(tokens.refresh_token)
            except ProblemError as error:
                if error.code != "unauthenticated":
                    raise
                tokens = None
        if tokens is None:
            tokens = await self._log_in()
        self._tokens = tokens
        self.rest.token = tokens.access_token
        return tokens

    async def _keep_tokens_fresh(self) -> None:
        while True:
            tokens = await self._fresh_tokens()
            left_s = tokens.expires_at.timestamp() - self._clock.now() - deliveries.REFRESH_BEFORE_S
            await self._clock.sleep(max(1.0, left_s))

    async def _watch(self, socket: SocketClient, heartbeat_s: float) -> None:
        """Ends when the socket has: a dead peer shows by a ping that nobody answers."""
        while True:
            await self._clock.sleep(heartbeat_s)
            async with asyncio.timeout(deliveries.PING_DEADLINE_S):
                await socket.ping()

    # missing nothing

    async def _discover_and_repair(self, socket: SocketClient) -> None:
        await self._discover(socket)
        idle = 0
        while True:
            if self.tracker.stale and self._has_room():
                idle = 0 if await self._repair(socket) else idle + 1
                if idle > deliveries.REPAIRS_WITHOUT_PROGRESS_MAX:
                    raise ConnectionLostError("a gap does not close", 4408)
                if idle:
                    await self._clock.sleep(backoff_s(idle, self._jitter))
            else:
                self._stale.clear()
                await self._stale.wait()

    async def _discover(self, socket: SocketClient) -> None:
        """Conversations that came while away, or all there are at the first time, by their heads."""
        named = self.tracker.named()
        cursor: str | None = None
        for _ in range(deliveries.DISCOVERY_PAGES_MAX):
            page = await socket.sync(named, recent=0, limit=deliveries.SYNC_LIMIT, cursor=cursor)
            for name, part in page.conversations.items():
                if name in named:
                    continue  # hello's pages and the repair see to these
                from_start = self._resuming or self._history
                self.tracker.discovered(name, 0 if from_start else part.head, part.head)
            cursor = page.next
            if cursor is None:
                break
        self._resuming = True
        self.tracker.end_discovery()

    async def _repair(self, socket: SocketClient) -> bool:
        """One sync for stale conversations; True if it brought something or settled one."""
        before = self.tracker.named(self.tracker.stale)
        page = await socket.sync(before, only=True, limit=deliveries.SYNC_LIMIT)
        self._page(page)
        if page.complete and page.next is None:
            for name in before.keys() - page.conversations.keys():
                self.tracker.unknown(name)
        return any(
            name not in self.tracker.stale or self.tracker.have.get(name, 0) != seq
            for name, seq in before.items()
        )

    def _welcome(self, welcome: Welcome) -> None:
        if self.log_id is not None and self.log_id != welcome.log_id:
            self._pages_void = True  # hello named positions of another log
            self._forget(welcome.log_id)
        self.log_id = welcome.log_id

    def _forget(self, log_id: str) -> None:
        self.log_id = log_id
        self.tracker.drop_all()
        self._notice(LogChanged(log_id))
        self._stale.set()

    def _push(self, push: Push) -> None:
        if type(push) is Event:
            self.tracker.live(push)
        elif self._pages_void and isinstance(push, EventsPage | Behind):
            # What these cover comes live no more: the repair has to reach as far.
            self.tracker.reaches(push.heads)
        elif isinstance(push, EventsPage):
            self._page(push)
        elif isinstance(push, Behind):
            self.tracker.behind(push.conversation_id, push.have)
        elif isinstance(push, Reconnect):
            self._hint_ms = push.after_ms
        elif self._on_hint is not None and not isinstance(push, Event):
            self._on_hint(push)
        if self.tracker.stale:
            self._stale.set()

    def _page(self, page: EventsPage) -> None:
        if self.log_id is not None and page.log_id != self.log_id:
            self._forget(page.log_id)
            return
        for name, part in page.conversations.items():
            if not self.tracker.page(name, part):
                self._notice(ConversationReset(name, part.head))

    def _has_room(self) -> bool:
        return len(self._buffer) < self._buffered_max

    def _deliver(self, event: Event) -> bool:
        if not self._has_room():
            return False
        self._notice(event)
        return True

    def _notice(self, delivery: Delivery) -> None:
        self._buffer.append(delivery)
        self._arrived.set()

    def _ended(self, _error: ConnectionLostError) -> None:
        self._socket = None
        self._ready.clear()

    def _fail(self, failure: Exception) -> None:
        if self._failure is None:
            self._failure = failure
        if self._socket is not None:
            self._socket.close()
        self._ready.set()
        self._arrived.set()
