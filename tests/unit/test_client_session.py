"""A session stays: reconnects, gaps, resets, resent operations, token life, close codes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.deliveries import ConversationReset, Delivery, LogChanged
from client.frames import Event
from client.problem import ProblemError, SessionEndedError
from client.rest import RestClient
from client.session import ChatSession
from tests.unit.client_peer import Call, HeldClock, Peer, PeerSocket, Reply, failure, problem
from tests.unit.test_client_socket import ack, event

NOW = 1_700_000_000.0


def tokens(name: str, expires: float = NOW + 900) -> Reply:
    """A session's tokens."""
    at = datetime.fromtimestamp(expires, UTC).isoformat().replace("+00:00", "Z")
    data = {"session_id": "s", "access_token": name, "expires_at": at, "refresh_token": f"r-{name}"}
    return Reply(201, {"data": data, "request_id": "r"})


def page(conversations: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An events frame."""
    return {
        "op": "events",
        "log_id": "log-1",
        "conversations": conversations,
        "complete": True,
        "next": None,
        **more,
    }


def part(*seqs: int, complete: bool = True, head: int | None = None) -> dict[str, Any]:
    """One conversation of it."""
    last = max(seqs, default=0) if head is None else head
    return {"first_seq": 1, "head": last, "complete": complete, "events": [event(seq) for seq in seqs]}


@asynccontextmanager
async def connected(
    peer: Peer, clock: HeldClock | None = None, **options: Any
) -> AsyncIterator[tuple[ChatSession, PeerSocket, dict[str, Any]]]:
    """A session whose first socket is welcome and has discovered nothing; its socket and hello."""
    if peer.answering is None:
        peer.answering = lambda _call: tokens("t1")
    held = clock or HeldClock(NOW)
    rest = RestClient(peer.url, clock=held, jitter=random.Random(1))
    session = ChatSession.by_password(
        rest, "ann", "password1", "d", clock=held, jitter=random.Random(1), **options
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(session.__aenter__())
        server = await peer.socket()
        hello = await server.greet()
        await discovery(server)
    try:
        yield session, server, hello
    finally:
        await session.close()
        await rest.close()


async def discovery(server: PeerSocket, **conversations: Any) -> dict[str, Any]:
    """Answers the sync that follows every hello."""
    sync = await server.take("sync")
    assert "only" not in sync
    server.give(page(conversations, ref=sync["ref"]))
    return sync


async def repair(server: PeerSocket, **conversations: Any) -> dict[str, Any]:
    """Answers a sync for stale conversations; its `have`."""
    sync = await server.take("sync")
    assert sync["only"] is True
    server.give(page(conversations, ref=sync["ref"]))
    have: dict[str, Any] = sync["have"]
    return have


async def taken(session: ChatSession, count: int) -> list[Delivery]:
    """The next deliveries."""
    got: list[Delivery] = []
    async with aclosing(session.events()) as events:
        async for delivery in events:
            got.append(delivery)
            if len(got) == count:
                return got
    raise AssertionError("the session ended")


def seqs(deliveries: list[Delivery]) -> list[int]:
    """Seqs of events."""
    return [delivery.seq for delivery in deliveries if isinstance(delivery, Event)]


async def test_a_gap_is_closed_by_sync() -> None:
    async with Peer() as peer, connected(peer) as (session, server, hello):
        assert "have" not in hello
        server.give(event(5), event(6), event(9))
        assert await repair(server, c=part(7, 8, 9)) == {"c": 6}
        assert seqs(await taken(session, 5)) == [5, 6, 7, 8, 9]
        assert session.positions == {"c": 9}


async def test_a_page_that_lags_is_asked_for_again() -> None:
    async with Peer() as peer, connected(peer) as (session, server, _):
        server.give(event(5), event(9))
        assert await repair(server, c=part(6)) == {"c": 5}
        assert await repair(server, c=part()) == {"c": 6}
        assert await repair(server, c=part(7, 8)) == {"c": 6}
        assert seqs(await taken(session, 5)) == [5, 6, 7, 8, 9]


@pytest.mark.parametrize("code", [1001, 1012, 4408, 4410, 4429, 1006])
async def test_it_comes_back_and_says_what_it_has(code: int) -> None:
    async with Peer() as peer, connected(peer) as (session, server, _):
        server.give(event(5))
        await taken(session, 1)
        if code == 1006:
            server.cut()
        else:
            server.close(code)
        again = await peer.socket()
        assert (await again.greet())["have"] == {"c": 5}
        again.give(page({"c": part(6, 7)}), event(8))
        await discovery(again, c=part(6, 7), new=part(head=2))
        assert await repair(again, new=part(1, 2)) == {"new": 0}
        got = await taken(session, 5)
        assert seqs(got) == [6, 7, 8, 1, 2]
        assert session.connections == 2


async def test_unacknowledged_sends_are_sent_again_in_order_with_their_keys() -> None:
    async with Peer() as peer, connected(peer) as (session, server, _), asyncio.TaskGroup() as tasks:
        sends = [tasks.create_task(session.send("c", f"t{number}")) for number in range(5)]
        frames = [await server.take("send") for _ in range(5)]
        server.give(ack(frames[0]["ref"], 1))
        server.cut()
        again = await peer.socket()
        await again.greet()
        seen: list[str] = []
        while len(seen) < 4:
            frame = await again.take()
            if frame["op"] == "sync":
                again.give(page({}, ref=frame["ref"]))
                continue
            seen.append(frame["client_msg_id"])
            again.give(ack(frame["ref"], 2 + len(seen)))
        assert seen == [frame["client_msg_id"] for frame in frames[1:]]
        assert [(await send).seq for send in sends] == [1, 3, 4, 5, 6]


async def test_retryable_refusals_are_repeated_and_others_raised() -> None:
    async with Peer() as peer, connected(peer) as (session, server, _), asyncio.TaskGroup() as tasks:
        send = tasks.create_task(failure(ProblemError, session.send("c", "hi")))
        first = await server.take("send")
        server.give(
            {"op": "error", "ref": first["ref"], "problem": {"code": "overloaded", "retry_after_ms": 50}}
        )
        second = await server.take("send")
        assert second["client_msg_id"] == first["client_msg_id"]
        server.give({"op": "error", "ref": second["ref"], "problem": {"code": "forbidden", "status": 403}})
        assert (await send).code == "forbidden"


async def test_changes_carry_a_key() -> None:
    async with Peer() as peer, connected(peer) as (session, server, _), asyncio.TaskGroup() as tasks:
        change = tasks.create_task(session.change("react", "c", 3, emoji="x"))
        frame = await server.take("react")
        assert frame["key"]
        server.give({"op": "ack", "ref": frame["ref"], "changed": False})
        assert not (await change).changed
        mark = tasks.create_task(session.mark("read", "c", 3))
        frame = await server.take("read")
        server.give({"op": "ack", "ref": frame["ref"]})
        await mark


async def test_behind_is_synced() -> None:
    async with Peer() as peer, connected(peer, have={"c": 2}) as (session, server, hello):
        assert hello["have"] == {"c": 2}
        server.give({"op": "behind", "conversation_id": "c", "have": 2, "head": 6}, event(7))
        assert await repair(server, c=part(3, 4, complete=False, head=6)) == {"c": 2}
        assert await repair(server, c=part(5, 6)) == {"c": 4}
        assert seqs(await taken(session, 5)) == [3, 4, 5, 6, 7]


async def test_a_reset_is_told_and_everything_comes_again() -> None:
    async with Peer() as peer, connected(peer, have={"c": 20}) as (session, server, _):
        server.give(page({"c": {"reset": True, "head": 2}}))
        assert await repair(server, c=part(1, 2)) == {"c": 0}
        notice, *events = await taken(session, 3)
        assert notice == ConversationReset("c", 2)
        assert seqs(events) == [1, 2]


async def test_another_log_is_told_and_everything_comes_again() -> None:
    async with Peer() as peer, connected(peer, have={"c": 2}, log_id="log-0") as (session, server, hello):
        assert hello["have"] == {"c": 2}
        server.give(page({"c": part(3)}))  # answers a position of the old log: worthless
        assert await repair(server, c=part(1, 2, 3)) == {"c": 0}
        notice, *events = await taken(session, 4)
        assert notice == LogChanged("log-1")
        assert seqs(events) == [1, 2, 3]
        assert session.log_id == "log-1"


async def test_what_the_pages_of_another_log_cover_is_asked_for() -> None:
    async with Peer() as peer, connected(peer, have={"c": 2, "d": 1}, log_id="log-0") as (session, server, _):
        server.give({"op": "behind", "conversation_id": "d", "have": 1, "head": 2}, page({"c": part(3, 4)}))
        # What is asked may be answered by a view that is less far than the one of hello.
        assert await repair(server, c=part(1, 2, 3), d=part(1)) == {"c": 0, "d": 0}
        assert await repair(server, c=part(4), d=part(2)) == {"c": 3, "d": 1}
        notice, *events = await taken(session, 7)
        assert notice == LogChanged("log-1")
        assert sorted(seqs(events)) == [1, 1, 2, 2, 3, 4]


@pytest.mark.parametrize("code", [4400, 4403, 4409])
async def test_an_ended_session_ends(code: int) -> None:
    async with Peer() as peer, connected(peer) as (session, server, _), asyncio.TaskGroup() as tasks:
        send = tasks.create_task(failure(SessionEndedError, session.send("c", "hi")))
        await server.take("send")
        server.close(code, "over")
        assert (await send).close_code == code
        with pytest.raises(SessionEndedError):
            await taken(session, 1)


async def test_a_bad_token_means_logging_in_again_once() -> None:
    names = iter(["t1", "t2", "t3"])
    async with Peer(lambda _call: tokens(next(names))) as peer, connected(peer) as (session, server, hello):
        assert hello["token"] == "t1"
        server.close(4401)
        again = await peer.socket()
        assert (await again.take("hello"))["token"] == "t2"
        again.close(4401)
        with pytest.raises(SessionEndedError):
            await taken(session, 1)


async def test_the_token_is_renewed_before_it_expires() -> None:
    clock = HeldClock(NOW)

    def answering(call: Call) -> Reply:
        if call.target == "/v1/sessions/refresh":
            renewed.set()
            return tokens("t2", clock.now() + 900)
        return tokens("t1")

    renewed = asyncio.Event()
    async with (
        Peer(answering) as peer,
        connected(peer, clock) as (_session, server, _),
        asyncio.TaskGroup() as tasks,
    ):
        ponging = tasks.create_task(pong_forever(server))
        for _ in range(40):
            clock.move(25)
            await asyncio.sleep(0)
            if clock.now() - NOW >= 850:
                break
        await asyncio.wait_for(renewed.wait(), 5)
        assert clock.now() - NOW < 900
        assert peer.calls[-1].json() == {"refresh_token": "r-t1"}
        ponging.cancel()


async def pong_forever(server: PeerSocket) -> None:
    """Answers pings until cancelled."""
    while True:
        frame = await server.take()
        server.give({"op": "pong", "ref": frame["ref"]})


async def test_a_wrong_password_fails_at_once() -> None:
    async with Peer(lambda _call: problem("unauthenticated", 401)) as peer:
        rest = RestClient(peer.url, clock=HeldClock(NOW))
        session = ChatSession.by_password(rest, "ann", "wrong", "d", clock=HeldClock(NOW))
        with pytest.raises(ProblemError, match="unauthenticated"):
            await session.__aenter__()


async def test_drain_hint_is_kept() -> None:
    clock = HeldClock(NOW)
    async with Peer() as peer, connected(peer, clock) as (_, server, _hello):
        server.give({"op": "reconnect", "after_ms": 2_000})
        server.close(1012)
        again = await peer.socket()
        await again.greet()
        assert any(2.0 <= pause <= 2.3 for pause in clock.slept)
        await discovery(again)


async def test_a_full_buffer_leaves_events_at_the_server() -> None:
    async with (
        Peer() as peer,
        connected(peer, buffered_max=4) as (session, server, _),
        asyncio.TaskGroup() as tasks,
    ):
        server.give(*[event(seq) for seq in range(1, 11)])
        assert seqs(await taken(session, 4)) == [1, 2, 3, 4]
        reading = tasks.create_task(taken(session, 6))
        assert await repair(server, c=part(*range(5, 11))) == {"c": 4}
        assert await repair(server, c=part(*range(9, 11))) == {"c": 8}
        assert seqs(await reading) == [5, 6, 7, 8, 9, 10]


class Room:
    """A server with one conversation that loses, doubles and cuts as it is told."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        self.head = 0
        self.socket: PeerSocket | None = None

    async def serve(self, socket: PeerSocket) -> None:
        """Answers one socket until it ends."""
        hello = await socket.greet()
        if "have" in hello:
            socket.give(page({"c": part(*range(hello["have"].get("c", 0) + 1, self.head + 1))}))
        self.socket = socket
        while True:
            frame = await socket.take()
            if frame["op"] == "sync":
                after = frame["have"].get("c", 0)
                answer = (
                    part(*range(after + 1, self.head + 1)) if "c" in frame["have"] else part(head=self.head)
                )
                socket.give(page({"c": answer}, ref=frame["ref"]))
            elif frame["op"] == "send":
                self.post(socket, frame["ref"])

    def post(self, socket: PeerSocket, ref: str) -> None:
        """One more event, told as the next fault says."""
        self.head += 1
        fault = self.faults.pop(0) if self.faults else "good"
        tell = [event(self.head), ack(ref, self.head)]
        if fault == "ack first":
            tell.reverse()
        elif fault == "double":
            tell += [event(self.head), event(max(1, self.head - 1))]
        elif fault == "lost":
            tell = tell[1:]
        elif fault == "cut":
            tell = [ack(ref, self.head)]
        socket.give(*tell)
        if fault == "cut":
            socket.close(1012)
            raise EOFError


FAULTS = st.lists(st.sampled_from(["good", "ack first", "double", "lost", "cut"]), max_size=12)


@pytest.mark.slow
@settings(max_examples=30)
@given(FAULTS)
def test_whatever_happens_the_user_sees_each_event_once_in_order(faults: list[str]) -> None:
    async def scenario() -> None:
        room = Room(list(faults))
        async with Peer(lambda _call: tokens("t1"), room.serve) as peer:
            rest = RestClient(peer.url, clock=HeldClock(NOW))
            clock = HeldClock(NOW)
            async with ChatSession.by_password(
                rest, "ann", "password1", "d", clock=clock, jitter=random.Random(1), history=True
            ) as session:
                for _ in faults:
                    await session.send("c", "x")
                await session.send("c", "last")  # told well, so that a loss before it shows
                got = await asyncio.wait_for(taken(session, len(faults) + 1), 5)
                assert seqs(got) == list(range(1, len(faults) + 2))
            await rest.close()

    asyncio.run(scenario())
