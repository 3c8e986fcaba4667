"""Hello: token, interest, missed events, then live ones; never a live event of a conversation before its missed ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from domain.errors import Problem
from domain.streams import inbox_stream, qualified
from gateways.socket.hub import log_failure
from gateways.socket.ops import Hello, check_have
from gateways.socket.recalls import Recalls
from gateways.socket.session import SocketSession
from projections.shapes import Behind, HelloAnswer, SyncedConversation
from projections.wire import wire_time

if TYPE_CHECKING:
    from gateways.socket.desk import SocketDesk

_encode = msgspec.json.Encoder().encode
EVENTS_PER_PAGE = 200
BYTES_PER_PAGE = 128 * 1024
BEHINDS_PER_TURN = 200


async def greet(desk: SocketDesk, session: SocketSession, op: Hello) -> None:
    """Bring a session from its hello to live, or close it with the contract's code. Raises nothing but cancellation."""
    try:
        await _greet(desk, session, op)
    except Exception as error:  # noqa: BLE001 - a socket that is neither live nor closed would hang for ever
        log_failure("hello", error)
        session.close(1011, "internal error")
    finally:
        session.recalls = None


async def _greet(desk: SocketDesk, session: SocketSession, op: Hello) -> None:
    try:
        caller = await desk.sessions.check(op.token)
        have = None if op.have is UNSET else op.have
        if have is not None:
            check_have(have)
    except Problem as problem:
        session.fail(op.ref, problem)
        session.close(*_CLOSES.get(problem.code, (4401, "bad token")))
        return
    if session.ended:
        return
    session.known_as(caller)
    session.recalls = Recalls()
    desk.enter(session)
    try:
        upto = await _catch_up(desk, session, have, op.ref)
        read_s = desk.monotonic_s()
    except Problem as problem:
        session.fail(op.ref, problem)
        session.close(1012, "views are not ready; reconnect")
        return
    while session.release(upto):
        await desk.pace(session)
    if desk.routes.proven_s() <= read_s:
        # The views may be ahead of what comes here.
        session.skip(upto, read_s)
    if not session.ended:
        desk.live(session)


_CLOSES: Mapping[str, tuple[int, str]] = {
    "validation_failed": (4400, "bad have"),
    "unavailable": (1012, "try again"),
    "overloaded": (1012, "try again"),
}


async def _catch_up(
    desk: SocketDesk, session: SocketSession, have: dict[str, int] | None, ref: str | None
) -> dict[str, int]:
    """Interest first, then reads. Returns the highest seq per stream that is not delivered live: the missed events account for it, or it
    lies before the user joined.
    """
    tenant, user_id = session.user
    # Who speaks for the user is listed already, so a joining or leaving after these heads reaches the session itself.
    came = await desk.routes.settled()
    await desk.views.caught_up(desk.head_positions())
    upto: dict[str, int] = {}
    for name, access in (await desk.views.timeline.user_conversations(tenant, user_id)).items():
        stream = qualified(tenant, name)
        if access.current and not session.ended and not session.parted_meanwhile(stream):
            desk.interest.listen(session, stream)
            if access.first_seq > 1 and access.position > came.get(access.shard, 0):
                # The views may know of a joining that has yet to come here, behind what the user may not see.
                upto[stream] = access.first_seq - 1
    await desk.routes.settled()
    if have is None:
        _welcome(desk, session, ref)
        return upto
    await desk.views.caught_up(desk.head_positions())
    answer = await desk.views.inbox.hello(tenant, user_id, have)
    _welcome(desk, session, ref)
    await _write_behind(desk, session, answer.behind)
    await _write_missed(desk, session, answer)
    upto |= {qualified(tenant, name): seq for name, seq in answer.upto.items() if name != "me"}
    upto[inbox_stream(tenant, user_id)] = answer.upto.get("me", 0)
    return upto


def _welcome(desk: SocketDesk, session: SocketSession, ref: str | None) -> None:
    welcome: dict[str, object] = {
        "op": "welcome",
        "user_id": session.user[1],
        "session_id": session.session_id,
        "log_id": desk.log_id,
        "heartbeat_s": desk.heartbeat_s,
        "server_time": wire_time(desk.now_ms()),
    }
    if ref is not None:
        welcome["ref"] = ref
    session.write(_encode(welcome))


async def _write_behind(desk: SocketDesk, session: SocketSession, behind: list[Behind]) -> None:
    """The conversations that miss too much, before the pages: a client that has read the last page knows everything."""
    for number, row in enumerate(behind, 1):
        frame = {"op": "behind", "conversation_id": row.conversation_id, "have": row.have, "head": row.head}
        session.write(_encode(frame))
        if number % BEHINDS_PER_TURN == 0:
            await desk.pace(session)


async def _write_missed(desk: SocketDesk, session: SocketSession, answer: HelloAnswer) -> None:
    """The missed events as `events` pages, the last one complete; each waits until the reader has taken the one before."""
    page: dict[str, SyncedConversation] = {}
    events = size = 0
    for name, part in _parts(answer.conversations):
        raw = [] if part.events is UNSET else part.events
        part_size = sum(len(bytes(event)) for event in raw)
        if page and (
            name in page or events + len(raw) > EVENTS_PER_PAGE or size + part_size > BYTES_PER_PAGE
        ):
            _write_page(desk, session, page, last=False)
            await desk.pace(session)
            page, events, size = {}, 0, 0
        page[name] = part
        events += len(raw)
        size += part_size
    _write_page(desk, session, page, last=True)


def _parts(conversations: Mapping[str, SyncedConversation]) -> Iterator[tuple[str, SyncedConversation]]:
    """The conversations, those that are too long for a page in parts; only the last part of one is complete."""
    for name, conversation in conversations.items():
        if conversation.events is UNSET:
            yield name, conversation
            continue
        rest = conversation.events
        while len(rest) > (fitting := _fitting(rest)):
            yield name, msgspec.structs.replace(conversation, events=rest[:fitting], complete=False)
            rest = rest[fitting:]
        yield name, msgspec.structs.replace(conversation, events=rest)


def _fitting(events: list[msgspec.Raw]) -> int:
    """How many of the events make one page, at least one if there is any."""
    size = 0
    for index, event in enumerate(events[:EVENTS_PER_PAGE]):
        size += len(bytes(event))
        if size > BYTES_PER_PAGE and index:
            return index
    return min(len(events), EVENTS_PER_PAGE)


def _write_page(
    desk: SocketDesk, session: SocketSession, page: Mapping[str, SyncedConversation], *, last: bool
) -> None:
    if session.recalls is not None:
        page = session.recalls.applied(page)
    frame = {
        "op": "events",
        "ref": None,
        "log_id": desk.log_id,
        "conversations": page,
        "complete": last,
        "next": None,
    }
    session.write(_encode(frame))
