"""The socket side's desk: what all sessions share. Takes hellos and the ops that need the read side, and owns their tasks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from commands.caller import Answer, Caller, Keyed
from commands.desk import Desk
from commands.marks import ReadMarks
from commands.tasks import TaskOwner
from domain.errors import Problem
from domain.event import Command
from gateways.limits import LimitSettings, Rate
from gateways.presence import Presence
from gateways.rest.problems import problem_document
from gateways.sessions import Sessions
from gateways.socket import ops
from gateways.socket.handshake import Handshake, Refusal, refuse
from gateways.socket.hello import greet
from gateways.socket.hints import Hints
from gateways.socket.interest import Interest
from gateways.socket.session import SocketSession
from projections.views import Views

_encode = msgspec.json.Encoder().encode
HELLO_S = 5.0
TASKS_MAX = 10_000
HELLOS_MAX = 100_000
SYNC_LIMIT = 500
SYNC_LIMIT_MAX = 1_000
SYNC_RECENT_MAX = 50


class Schedule(Protocol):
    """`loop.call_later`."""

    def __call__(self, delay_s: float, callback: Callable[[], None], /) -> object: ...


class SocketDesk:
    """One per gateway. Implements the Acceptor of the raw socket layer."""

    def __init__(
        self,
        *,
        desk: Desk,
        marks: ReadMarks,
        sessions: Sessions,
        views: Views,
        presence: Presence,
        interest: Interest,
        limits: LimitSettings,
        log_id: str,
        heartbeat_s: int,
        origins: frozenset[str],
        now_ms: Callable[[], int],
        monotonic_s: Callable[[], float],
        schedule: Schedule,
    ) -> None:
        self._desk = desk
        self._marks = marks
        self.sessions = sessions
        self.views = views
        self.presence = presence
        self.interest = interest
        self.limits = limits
        self.log_id = log_id
        self.heartbeat_s = heartbeat_s
        self.frame_rate = Rate(limits.socket_frames_per_s, limits.socket_frames_burst)
        self.now_ms = now_ms
        self.monotonic_s = monotonic_s
        self._origins = origins
        self._schedule = schedule
        self._tasks = TaskOwner("socket", TASKS_MAX)
        self.hints = Hints(self, schedule)
        self._hellos: dict[SocketSession, float] = {}
        self._hello_timer: object | None = None
        self._draining = False
        self._problems = 0

    async def close(self) -> None:
        """Stop everything that was started for sockets. Idempotent."""
        self._draining = True
        self.hints.close()
        await self._tasks.close()

    # --- connections -------------------------------------------------------------------------------------------------------------

    def accept(self, handshake: Handshake) -> SocketSession | Refusal:
        """A session for a handshake of an allowed origin."""
        if self._draining:
            return refuse(503, "unavailable", "the server is shutting down")
        if handshake.origin is not None and not self._origin_allowed(handshake.origin, handshake.host):
            return refuse(403, "forbidden", "this origin may not connect")
        return SocketSession(self)

    def _origin_allowed(self, origin: str, host: str | None) -> bool:
        return origin in self._origins or (host is not None and urlsplit(origin).netloc == host)

    def await_hello(self, session: SocketSession) -> None:
        """The session has 5 s to say hello. One timer for all of them, in order of arrival."""
        self._hellos[session] = self.monotonic_s() + HELLO_S
        if self._hello_timer is None:
            self._hello_timer = self._schedule(HELLO_S, self._end_silent)

    def _end_silent(self) -> None:
        self._hello_timer = None
        now_s = self.monotonic_s()
        while self._hellos:
            session = next(iter(self._hellos))
            due_s = self._hellos[session]
            if due_s > now_s:
                self._hello_timer = self._schedule(due_s - now_s, self._end_silent)
                return
            del self._hellos[session]
            if session.awaits_hello:
                session.close(4401, "no hello in 5 s")

    def greet(self, session: SocketSession, op: ops.Hello) -> None:
        """Answer a hello."""
        self._hellos.pop(session, None)
        if self._tasks.full:
            session.close(1012, "too busy; reconnect")
            return
        self._tasks.start(greet(self, session, op))

    def enter(self, session: SocketSession) -> None:
        """The session's user is known: list it, and let the oldest go when it is one socket too many."""
        tenant, user_id = session.user
        siblings = [
            other
            for other in self.interest.sessions_of(tenant, user_id)
            if other.session_id == session.session_id
        ]
        for other in siblings[: len(siblings) + 1 - self.limits.sockets_per_session]:
            other.end(replaced=True)
        self.interest.enter(session)

    def live(self, session: SocketSession) -> None:
        """The session is live: it counts as presence."""
        if session.caller is not None:
            session.live_device = self.sessions.device_kind_of(session.caller)
            self.presence.came(*session.user, session.live_device)

    def left(self, session: SocketSession) -> None:
        """The socket is gone."""
        self._hellos.pop(session, None)
        if session.caller is None:
            return
        self.interest.leave(session)
        self.hints.left(session)
        if session.live_device is not None:
            self.presence.went(*session.user, session.live_device)

    def drain(self, after_ms: Callable[[], int]) -> None:
        """Take no new sockets and ask everybody to come back, each after its own while."""
        self._draining = True
        for tenant, user_id in tuple(self.interest.users()):
            for session in tuple(self.interest.sessions_of(tenant, user_id)):
                session.hint(self.hints.frame({"op": "reconnect", "after_ms": after_ms()}))

    @property
    def empty(self) -> bool:
        """Whether no session is left."""
        return not len(self.interest)

    # --- ops ---------------------------------------------------------------------------------------------------------------------

    def submit(
        self,
        caller: Caller,
        name: str,
        command: Command,
        keyed: Keyed,
        done: Callable[[Answer | Problem], None],
    ) -> None:
        """Pass a command on."""
        self._desk.submit(caller, name, command, keyed, done)

    def head_positions(self) -> Mapping[int, int]:
        """{shard: position} of everything durable."""
        return self._desk.head_positions()

    def take(self, session: SocketSession, caller: Caller, op: ops.AnyOp) -> None:
        """The ops that need the read side, or are hints."""
        if isinstance(op, ops.Sync):
            self._start(session, op.ref, self._sync(session, caller, op), hint=False)
        elif isinstance(op, ops.Read):
            self._start(session, op.ref, self._read(session, caller, op))
        elif isinstance(op, ops.Received):
            self._start(session, op.ref, self._received(session, caller, op))
        elif isinstance(op, ops.Typing):
            self._start(session, op.ref, self.hints.typing(session, op))
        elif isinstance(op, ops.PresenceOf):
            self._start(session, op.ref, self.hints.subscribe_presence(session, op))

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a hint's work; dropped when too much runs already, since a hint may be lost."""
        if self._tasks.full:
            work.close()
        else:
            self._tasks.start(work)

    def _start(
        self, session: SocketSession, ref: str | None, work: Coroutine[Any, Any, None], *, hint: bool = True
    ) -> None:
        if self._tasks.full:
            work.close()
            session.fail(
                ref, Problem("overloaded", "too many requests are waiting; try again", retry_after_ms=250)
            )
        else:
            self._tasks.start(_answered(session, ref, work, hint=hint))

    async def _sync(self, session: SocketSession, caller: Caller, op: ops.Sync) -> None:
        limit, recent = _sync_bounds(op)
        await self.views.caught_up(self.head_positions())
        answer = await self.views.inbox.sync(
            caller.tenant,
            caller.user_id,
            op.have,
            limit=limit,
            recent=recent,
            only=bool(op.only),
            cursor=op.cursor,
        )
        body = _encode(answer)
        session.write(b'{"op":"events","ref":%b,%b' % (_encode(op.ref), body[1:]))

    async def _read(self, session: SocketSession, caller: Caller, op: ops.Read) -> None:
        await self._marks.mark(caller, op.conversation_id, op.seq)
        session.write(_encode({"op": "ack", "ref": op.ref}))

    async def _received(self, session: SocketSession, caller: Caller, op: ops.Received) -> None:
        await self.views.timeline.marks_allowed(caller.tenant, caller.user_id, op.conversation_id, op.seq)
        self.hints.received(session, op.conversation_id, op.seq)
        session.write(_encode({"op": "ack", "ref": op.ref}))

    def problem_document(self, problem: Problem) -> dict[str, Any]:
        """The problem as the contract shows it; numbered, so that the log finds it."""
        self._problems += 1
        return problem_document(problem, f"socket-{self._problems}")


async def _answered(
    session: SocketSession, ref: str | None, work: Coroutine[Any, Any, None], *, hint: bool
) -> None:
    """A hint that is wrong costs an error only if it has a `ref`."""
    try:
        await work
    except Problem as problem:
        if ref is not None or not hint:
            session.fail(ref, problem)


def _sync_bounds(op: ops.Sync) -> tuple[int, int]:
    limit = SYNC_LIMIT if op.limit is None else op.limit
    recent = 0 if op.recent is None else op.recent
    if not 1 <= limit <= SYNC_LIMIT_MAX:
        raise Problem("validation_failed", f"limit: 1 to {SYNC_LIMIT_MAX}")
    if not 0 <= recent <= SYNC_RECENT_MAX:
        raise Problem("validation_failed", f"recent: 0 to {SYNC_RECENT_MAX}")
    if len(op.have) > ops.HAVE_NAMES_MAX:
        raise Problem("validation_failed", f"have: at most {ops.HAVE_NAMES_MAX} conversations")
    if any(not 0 <= seq < 2**63 for seq in op.have.values()):
        raise Problem("validation_failed", "have: every seq is 0 or more and fits 64 bits")
    return limit, recent
