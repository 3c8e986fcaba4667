"""Hello: token, interest, missed events, then live ones; never a live event of a conversation before its missed ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from domain.errors import Problem
from domain.streams import inbox_stream, qualified
from gateways.socket.ops import HAVE_NAMES_MAX, Hello
from gateways.socket.session import SocketSession
from projections.shapes import HelloAnswer
from projections.wire import wire_time

if TYPE_CHECKING:
    from gateways.socket.desk import SocketDesk

_encode = msgspec.json.Encoder().encode
EVENTS_PER_PAGE = 200


async def greet(desk: SocketDesk, session: SocketSession, op: Hello) -> None:
    """Bring a session from its hello to live, or close it with the contract's code. Raises nothing but cancellation."""
    try:
        caller = await desk.sessions.check(op.token)
        have = _checked(op)
    except Problem as problem:
        session.fail(op.ref, problem)
        session.close(*_CLOSES.get(problem.code, (4401, "bad token")))
        return
    if session.ended:
        return
    session.known_as(caller)
    desk.enter(session)
    try:
        upto = await _catch_up(desk, session, have)
    except Problem as problem:
        session.fail(op.ref, problem)
        session.close(1012, "views are not ready; reconnect")
        return
    if not session.ended:
        session.go_live(upto)
        desk.live(session)


_CLOSES: Mapping[str, tuple[int, str]] = {
    "validation_failed": (4400, "bad have"),
    "unavailable": (1012, "try again"),
    "overloaded": (1012, "try again"),
}


def _checked(op: Hello) -> dict[str, int] | None:
    have = op.have
    if have is UNSET:
        return None
    assert isinstance(have, dict)
    if len(have) > HAVE_NAMES_MAX:
        raise Problem("validation_failed", f"have: at most {HAVE_NAMES_MAX} conversations")
    if any(not 0 <= seq < 2**63 for seq in have.values()):
        raise Problem("validation_failed", "have: every seq is 0 or more and fits 64 bits")
    return have


async def _catch_up(desk: SocketDesk, session: SocketSession, have: dict[str, int] | None) -> dict[str, int]:
    """Interest first, then reads. Returns the highest seq per stream that the missed events account for."""
    tenant, user_id = session.user
    # Who speaks for the user is listed already, so a joining or leaving after these heads reaches the session itself.
    await desk.views.caught_up(desk.head_positions())
    for name, access in (await desk.views.timeline.user_conversations(tenant, user_id)).items():
        stream = qualified(tenant, name)
        if access.current and not session.parted_meanwhile(stream):
            desk.interest.listen(session, stream)
    if have is None:
        _welcome(desk, session)
        return {}
    await desk.views.caught_up(desk.head_positions())
    answer = await desk.views.inbox.hello(tenant, user_id, have)
    _welcome(desk, session)
    _write_missed(desk, session, answer)
    upto = {qualified(tenant, name): seq for name, seq in answer.upto.items() if name != "me"}
    upto[inbox_stream(tenant, user_id)] = answer.upto.get("me", 0)
    return upto


def _welcome(desk: SocketDesk, session: SocketSession) -> None:
    session.write(
        _encode(
            {
                "op": "welcome",
                "user_id": session.user[1],
                "session_id": session.session_id,
                "log_id": desk.log_id,
                "heartbeat_s": desk.heartbeat_s,
                "server_time": wire_time(desk.now_ms()),
            }
        )
    )


def _write_missed(desk: SocketDesk, session: SocketSession, answer: HelloAnswer) -> None:
    """The missed events as `events` pages, the last one complete; then the conversations that are behind."""
    pages: list[dict[str, object]] = [{}]
    events = 0
    for name, conversation in answer.conversations.items():
        count = 0 if conversation.events is UNSET else len(conversation.events)
        if events and events + count > EVENTS_PER_PAGE:
            pages.append({})
            events = 0
        pages[-1][name] = conversation
        events += count
    for index, page in enumerate(pages):
        last = index == len(pages) - 1
        frame = {
            "op": "events",
            "ref": None,
            "log_id": desk.log_id,
            "conversations": page,
            "complete": last,
            "next": None,
        }
        session.write(_encode(frame))
    for behind in answer.behind:
        session.write(
            _encode(
                {
                    "op": "behind",
                    "conversation_id": behind.conversation_id,
                    "have": behind.have,
                    "head": behind.head,
                }
            )
        )
