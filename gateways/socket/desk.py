"""The socket side's desk: what all sessions share. Takes hellos and the ops that need the read side, and owns their tasks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ParamSpec, Protocol
from urllib.parse import urlsplit

import msgspec
import structlog

from commands.caller import Answer, Caller, Keyed
from commands.marks import ReadMarks
from commands.port import CommandPort, Outline
from commands.tasks import TaskOwner
from domain.errors import Problem, invalid
from domain.event import Command
from domain.streams import qualified
from domain.text import client_key
from gateways.limits import LimitSettings, Rate
from gateways.presence import Presence
from gateways.rest.problems import problem_document
from gateways.routes import EverythingHere, Routes
from gateways.sending import conversation_name
from gateways.sessions import Sessions
from gateways.socket import ops
from gateways.socket.handshake import Handshake, Refusal, refuse
from gateways.socket.hello import greet
from gateways.socket.hints import Hints
from gateways.socket.hub import log_failure
from gateways.socket.interest import Interest
from gateways.socket.recalls import Recalls
from gateways.socket.session import SYNCS_WAITING_MAX, SocketSession
from projections.views import ReadSide

_log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode
P = ParamSpec("P")
HELLO_S = 5.0
TASKS_MAX = 10_000
HELLOS_MAX = 100_000
"""Sockets that have yet to say hello; more are refused."""
PACE_FIRST_S = 0.002
PACE_MAX_S = 0.1
PACE_GIVE_UP_S = 30.0
"""A reader that takes nothing of its missed events for so long is a slow reader."""
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
        desk: CommandPort,
        marks: ReadMarks,
        sessions: Sessions,
        views: ReadSide,
        presence: Presence,
        interest: Interest,
        limits: LimitSettings,
        log_id: str,
        heartbeat_s: int,
        origins: frozenset[str],
        now_ms: Callable[[], int],
        monotonic_s: Callable[[], float],
        schedule: Schedule,
        routes: Routes | None = None,
    ) -> None:
        self.routes = routes or EverythingHere()
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
        self.schedule = schedule
        self._tasks = TaskOwner("socket", TASKS_MAX)
        self.hints = Hints(self)
        self._hellos: dict[SocketSession, float] = {}
        self._hello_timer: object | None = None
        self._draining = False
        self._come_back: Callable[[], int] | None = None
        """When somebody is to come back, in ms, once the server drains."""
        self._problems = 0

    async def close(self) -> None:
        """Stop everything that was started for sockets. Idempotent."""
        self._draining = True
        self.hints.close()
        await self._tasks.close()

    # --- connections -------------------------------------------------------------------------------------------------------------

    def accept(self, handshake: Handshake) -> SocketSession | Refusal:
        """A session for a handshake of an allowed origin."""
        if len(self._hellos) >= HELLOS_MAX:
            return refuse(503, "overloaded", "too many sockets wait for their hello", retry_after_ms=5_000)
        if self._draining:
            return refuse(503, "unavailable", "the server is shutting down", retry_after_ms=2_000)
        if handshake.origin is not None and not self._origin_allowed(handshake.origin, handshake.host):
            return refuse(403, "forbidden", "this origin may not connect")
        return SocketSession(self)

    def _origin_allowed(self, origin: str, host: str | None) -> bool:
        if origin in self._origins:
            return True
        try:
            own = urlsplit(origin).netloc
        except ValueError:  # what no browser sends
            return False
        return host is not None and own.lower() == host.lower()

    def await_hello(self, session: SocketSession) -> None:
        """The session has 5 s to say hello. One timer for all of them, in order of arrival."""
        self._hellos[session] = self.monotonic_s() + HELLO_S
        if self._hello_timer is None:
            self._hello_timer = self.schedule(HELLO_S, self._end_silent)

    def _end_silent(self) -> None:
        self._hello_timer = None
        now_s = self.monotonic_s()
        while self._hellos:
            session = next(iter(self._hellos))
            due_s = self._hellos[session]
            if due_s > now_s:
                self._hello_timer = self.schedule(due_s - now_s, self._end_silent)
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
        for other in siblings[: max(0, len(siblings) + 1 - self.limits.sockets_per_session)]:
            other.end(replaced=True)
        self.interest.enter(session)

    def live(self, session: SocketSession) -> None:
        """The session is live: it counts as presence."""
        if session.caller is not None:
            session.live_device = self.sessions.device_kind_of(session.caller)
            self.presence.came(*session.user, session.live_device)
        if self._come_back is not None:  # it said hello before the drain
            self._ask_to_come_back(session, self._come_back)

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
        self._come_back = after_ms
        for tenant, user_id in tuple(self.interest.users()):
            for session in tuple(self.interest.sessions_of(tenant, user_id)):
                self._ask_to_come_back(session, after_ms)

    def _ask_to_come_back(self, session: SocketSession, after_ms: Callable[[], int]) -> None:
        session.hint(self.hints.frame({"op": "reconnect", "after_ms": after_ms()}))

    def send_away(self) -> None:
        """Close every socket for its client to come back: something may have been missed here."""
        for tenant, user_id in tuple(self.interest.users()):
            for session in tuple(self.interest.sessions_of(tenant, user_id)):
                session.close(1012, "too far behind; reconnect")

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
            self._queue_sync(session, caller, op)
        elif isinstance(op, ops.Read):
            self._start(session, op.ref, self._read, session, caller, op)
        elif isinstance(op, ops.Received):
            self._start(session, op.ref, self._received, session, caller, op)
        elif isinstance(op, ops.Typing):
            self._start(session, op.ref, self.hints.typing, session, op)
        elif isinstance(op, ops.PresenceOf):
            self._start(session, op.ref, self.hints.subscribe_presence, session, op)

    def start(self, work: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Run a hint's work; False: dropped, since too much runs already, or the record is out of sight, and a hint may be lost."""
        if self._tasks.full or self.routes.stale:
            return False
        self._tasks.start(_quietly(work, *args, **kwargs))
        return True

    async def outline(self, tenant: str, conversation_id: str) -> Outline:
        """The outline of a conversation that is known to exist. Raises Problem."""
        return await self._desk.outline(tenant, conversation_id)

    def release_slowly(self, session: SocketSession) -> None:
        """Let what a burst brought leave in portions."""
        if self._tasks.full:
            session.close(1012, "too busy; reconnect")
        else:
            self._tasks.start(self._release(session))

    async def _release(self, session: SocketSession) -> None:
        while session.release({}):
            await self.pace(session)

    async def pace(self, session: SocketSession) -> None:
        """Let what was written leave, and wait until the reader has taken most of it; ends the session if it never does."""
        await asyncio.sleep(0)
        pause_s, waited_s = PACE_FIRST_S, 0.0
        while session.lagging and not session.ended:
            if waited_s >= PACE_GIVE_UP_S:
                session.close(4408, "slow reader")
                return
            await asyncio.sleep(pause_s)
            waited_s += pause_s
            pause_s = min(pause_s * 2, PACE_MAX_S)

    def _start(
        self,
        session: SocketSession,
        ref: str | None,
        work: Callable[P, Awaitable[None]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Do what a frame asks for. What is wrong with a hint costs an error only if it has a `ref`."""
        if self._tasks.full:
            session.fail(
                ref, Problem("overloaded", "too many requests are waiting; try again", retry_after_ms=250)
            )
        else:
            self._tasks.start(_answered(session, ref, ref is not None, work, *args, **kwargs))

    def _queue_sync(self, session: SocketSession, caller: Caller, op: ops.Sync) -> None:
        """One sync of a socket at a time, so that its answers never outrun its reader."""
        waiting = session.syncs
        if waiting is None:
            # Without a task there is nobody to empty the queue: `_start` then refuses this one.
            session.syncs = None if self._tasks.full else deque([op])
            self._start(session, op.ref, self._answer_syncs, session, caller)
        elif len(waiting) >= SYNCS_WAITING_MAX:
            session.fail(op.ref, Problem("overloaded", "too many syncs are waiting", retry_after_ms=250))
        else:
            waiting.append(op)

    async def _answer_syncs(self, session: SocketSession, caller: Caller) -> None:
        try:
            while session.syncs and not session.ended:
                op = session.syncs[0]
                await _answered(session, op.ref, True, self._sync, session, caller, op)
                session.syncs.popleft()
                await self.pace(session)
        finally:
            session.syncs = None

    async def _sync(self, session: SocketSession, caller: Caller, op: ops.Sync) -> None:
        limit, recent = _sync_bounds(op)
        recalls = session.recalls = Recalls()
        try:
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
        finally:
            session.recalls = None
        if recalls.too_many:
            raise Problem("unavailable", "too much was recalled meanwhile", retry_after_ms=250)
        body = _encode(msgspec.structs.replace(answer, conversations=recalls.applied(answer.conversations)))
        session.write(b'{"op":"events","ref":%b,%b' % (_encode(op.ref), body[1:]))

    async def _read(self, session: SocketSession, caller: Caller, op: ops.Read) -> None:
        if op.key is not None:
            client_key("key", op.key)
        await self._know_membership(session, caller, op.conversation_id)
        await self._marks.mark(caller, op.conversation_id, op.seq)
        session.write(_encode({"op": "ack", "ref": op.ref}))

    async def _received(self, session: SocketSession, caller: Caller, op: ops.Received) -> None:
        await self._know_membership(session, caller, op.conversation_id)
        await self.views.timeline.marks_allowed(caller.tenant, caller.user_id, op.conversation_id, op.seq)
        self.hints.received(session, op.conversation_id, op.seq)
        session.write(_encode({"op": "ack", "ref": op.ref}))

    async def _know_membership(self, session: SocketSession, caller: Caller, conversation_id: str) -> None:
        """What the socket does not listen to may have ended a moment ago: then the views must know it before they are asked."""
        name = conversation_name(conversation_id)
        if qualified(caller.tenant, name) not in session.streams:
            await self.views.caught_up(self.head_positions())

    def problem_document(self, problem: Problem) -> dict[str, Any]:
        """The problem as the contract shows it; numbered, so that the log finds it."""
        self._problems += 1
        return problem_document(problem, f"socket-{self._problems}")


async def _answered(
    session: SocketSession,
    ref: str | None,
    told: bool,
    work: Callable[P, Awaitable[None]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> None:
    """`told`: whether a refusal is answered."""
    try:
        await work(*args, **kwargs)
    except Problem as problem:
        if told:
            session.fail(ref, problem)
    except Exception as error:  # noqa: BLE001 - whatever failed, the client must not wait for ever
        log_failure("op", error)
        if told:
            session.fail(ref, Problem("unavailable", "something went wrong here", retry_after_ms=1_000))


async def _quietly(work: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs) -> None:
    """A hint that cannot be told is lost."""
    try:
        await work(*args, **kwargs)
    except Problem as problem:
        _log.debug("hint lost", code=problem.code)


def _sync_bounds(op: ops.Sync) -> tuple[int, int]:
    limit = SYNC_LIMIT if op.limit is None else op.limit
    recent = 0 if op.recent is None else op.recent
    if not 1 <= limit <= SYNC_LIMIT_MAX:
        raise invalid("limit", f"1 to {SYNC_LIMIT_MAX}")
    if not 0 <= recent <= SYNC_RECENT_MAX:
        raise invalid("recent", f"0 to {SYNC_RECENT_MAX}")
    ops.check_have(op.have)
    return limit, recent
