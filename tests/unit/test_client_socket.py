"""One socket: operations matched by ref, half frames, cancellation, ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.frames import Opcode

from client.frames import Ack, Event, EventsPage, Typing
from client.problem import ConnectionLostError, ProblemError
from client.socket import SocketClient
from tests.unit.client_peer import Peer, PeerSocket, failure


def event(seq: int, conversation_id: str = "c", **data: Any) -> dict[str, Any]:
    """A live event."""
    return {
        "op": "event",
        "conversation_id": conversation_id,
        "seq": seq,
        "type": "message_posted",
        "actor": "bob",
        "at": "2026-11-25T05:00:00.000Z",
        "data": data,
        "of_a_later_version": True,
    }


def ack(ref: str, seq: int = 1) -> dict[str, Any]:
    """A send's answer."""
    return {
        "op": "ack",
        "ref": ref,
        "conversation_id": "c",
        "seq": seq,
        "message_id": f"m{seq}",
        "ordinal": seq,
        "at": "t",
        "position": "1:1",
    }


async def greeted(peer: Peer, **options: Any) -> tuple[SocketClient, PeerSocket]:
    """A socket after hello, and its other end."""
    client = await SocketClient.connect(peer.socket_url, **options)
    server = await peer.socket()
    async with asyncio.TaskGroup() as group:
        hello = group.create_task(client.hello("token", {"c": 3}))
        said = group.create_task(server.greet())
    assert hello.result().log_id == "log-1"
    assert said.result() == {"op": "hello", "token": "token", "have": {"c": 3}}
    return client, server


async def until_end(client: SocketClient) -> tuple[list[Event], ConnectionLostError]:
    """The events until the socket ended, and its end."""
    taken: list[Event] = []
    try:
        async for push in client.pushes():
            assert isinstance(push, Event)
            taken.append(push)
    except ConnectionLostError as error:
        return taken, error
    raise AssertionError("pushes ended without an error")


async def send(client: SocketClient, number: int) -> Ack:
    """A send and its answer."""
    content = {"kind": "text", "text": f"t{number}"}
    return await client.send("c", client_msg_id=f"k{number}", content=content)


async def test_answers_are_matched_by_ref_in_any_order() -> None:
    async with Peer() as peer, asyncio.TaskGroup() as tasks:
        client, server = await greeted(peer)
        first, second = (tasks.create_task(send(client, number)) for number in (1, 2))
        one, two = await server.take("send"), await server.take("send")
        assert (one["client_msg_id"], two["client_msg_id"]) == ("k1", "k2")
        server.give(ack(two["ref"], 2), event(1), ack(one["ref"], 1))
        assert ((await first).seq, (await second).seq) == (1, 2)
        client.close()


async def test_an_error_frame_is_a_problem() -> None:
    async with Peer() as peer, asyncio.TaskGroup() as tasks:
        client, server = await greeted(peer)
        pending = tasks.create_task(failure(ProblemError, send(client, 1)))
        frame = await server.take("send")
        problem = {"code": "forbidden", "status": 403, "title": "No", "detail": "not a member", "type": "x"}
        server.give({"op": "error", "ref": frame["ref"], "problem": problem})
        assert str(await pending) == "forbidden: not a member"
        server.give({"op": "error", "ref": None, "problem": problem}, {"op": "something_new", "x": 1})
        ping = tasks.create_task(client.ping())
        server.give({"op": "pong", "ref": (await server.take("ping"))["ref"]})
        await ping
        assert client.unanswered_problems == 1
        client.close()


async def test_a_refused_hello_raises() -> None:
    async with Peer() as peer, asyncio.TaskGroup() as tasks:
        client = await SocketClient.connect(peer.socket_url)
        server = await peer.socket()
        hello = tasks.create_task(failure(ConnectionLostError, client.hello("old")))
        await server.take("hello")
        server.close(4401, "bad token")
        assert (await hello).close_code == 4401


async def test_cancelling_an_operation_leaves_the_socket_usable() -> None:
    async with Peer() as peer, asyncio.TaskGroup() as tasks:
        client, server = await greeted(peer)
        lost = tasks.create_task(send(client, 1))
        frame = await server.take("send")
        lost.cancel()
        with pytest.raises(asyncio.CancelledError):
            await lost
        server.give(ack(frame["ref"]))  # too late: dropped
        later = tasks.create_task(send(client, 2))
        server.give(ack((await server.take("send"))["ref"], 2))
        assert (await later).seq == 2
        client.close()


async def test_a_deadline_leaves_the_socket_usable() -> None:
    async with Peer() as peer, asyncio.TaskGroup() as tasks:
        client, server = await greeted(peer)
        with pytest.raises(TimeoutError):
            await client.send("c", client_msg_id="k", content={}, deadline_s=0)
        later = tasks.create_task(send(client, 2))
        frame = await server.take("send")
        if frame["client_msg_id"] == "k":
            frame = await server.take("send")
        server.give(ack(frame["ref"], 2))
        assert (await later).seq == 2
        client.close()


async def test_half_frames_and_fragments() -> None:
    async with Peer() as peer:
        client, server = await greeted(peer)
        pushes = client.pushes()
        long = server.framed(event(1, text="x" * 70_000))
        middle = server.framed(event(2, text="y" * 300))
        for data in (long[:1], long[1:5], long[5:-1], long[-1:] + middle[:3], middle[3:]):
            server.give_bytes(data)
            await asyncio.sleep(0)
        text = json.dumps(event(3)).encode()
        server.give_bytes(b"\x01\x05" + text[:5] + b"\x89\x02hi" + b"\x00\x00" + b"\x80\x7e")
        server.give_bytes(len(text[5:]).to_bytes(2, "big") + text[5:])
        seqs = []
        async for push in pushes:
            assert isinstance(push, Event)
            seqs.append(push.seq)
            if len(seqs) == 3:
                break
        assert seqs == [1, 2, 3]
        pong = await server.frame()
        assert (pong.opcode, bytes(pong.data)) == (Opcode.PONG, b"hi")
        client.close()


async def test_the_end_reaches_every_operation_and_the_reader() -> None:
    async with Peer() as peer, asyncio.TaskGroup() as tasks:
        client, server = await greeted(peer)
        pending = [tasks.create_task(failure(ConnectionLostError, send(client, number))) for number in (1, 2)]
        await server.take("send")
        server.give(event(1))
        server.close(4408, "slow")
        for task in pending:
            lost = await task
            assert (lost.close_code, lost.reason) == (4408, "slow")
        pushes, last = await until_end(client)
        assert [push.seq for push in pushes] == [1]  # what came before the end is still given
        assert last.close_code == 4408
        with pytest.raises(ConnectionLostError):
            await client.ping()


async def test_a_cut_connection_is_1006() -> None:
    async with Peer() as peer, asyncio.TaskGroup() as tasks:
        client, server = await greeted(peer)
        pending = tasks.create_task(failure(ConnectionLostError, send(client, 1)))
        await server.take("send")
        server.cut()
        assert (await pending).close_code == 1006


async def test_a_reader_too_slow_is_cut_and_says_so() -> None:
    async with Peer() as peer:
        client, server = await greeted(peer, buffered_max=10)
        server.give(*[event(seq) for seq in range(1, 30)])
        close = await server.frame()
        assert close.opcode is Opcode.CLOSE
        pushes, last = await until_end(client)
        assert [push.seq for push in pushes] == list(range(1, 11))
        assert last.close_code == 4408


async def test_a_frame_too_long_for_the_server_is_refused_here() -> None:
    async with Peer() as peer, asyncio.TaskGroup() as tasks:
        client, server = await greeted(peer)
        with pytest.raises(ProblemError, match="too_large"):
            await client.send("c", client_msg_id="k", content={"kind": "text", "text": "x" * 70_000})
        ping = tasks.create_task(client.ping())
        server.give({"op": "pong", "ref": (await server.take("ping"))["ref"]})
        await ping
        client.close()


async def test_operations_carry_their_fields() -> None:
    async with Peer() as peer, asyncio.TaskGroup() as tasks:
        client, server = await greeted(peer)
        operations = [
            client.edit("c", 2, {"kind": "text", "text": "e"}, key="k"),
            client.recall("c", 2),
            client.react("c", 2, "👍"),
            client.unreact("c", 2, "👍"),
            client.pin("c", 2),
            client.unpin("c", 2),
            client.read("c", 2),
            client.received("c", 2),
        ]
        names = ["edit", "recall", "react", "unreact", "pin", "unpin", "read", "received"]
        for name, operation in zip(names, operations, strict=True):
            task = tasks.create_task(operation)
            frame = await server.take(name)
            assert (frame["conversation_id"], frame["seq"]) == ("c", 2)
            server.give({"op": "ack", "ref": frame["ref"], "changed": False})
            assert not (await task).changed
        client.typing("c")
        assert await server.take() == {"op": "typing", "conversation_id": "c", "on": True}
        client.watch_presence(["bob"])
        assert await server.take() == {"op": "presence", "users": ["bob"]}
        client.close()


async def test_sync_answers_and_pushed_pages_are_told_apart() -> None:
    async with Peer() as peer, asyncio.TaskGroup() as tasks:
        taken: list[object] = []
        client, server = await greeted(peer, on_push=taken.append)
        sync = tasks.create_task(client.sync({"c": 1}, only=True))
        frame = await server.take("sync")
        assert (frame["have"], frame["only"]) == ({"c": 1}, True)
        page = {"op": "events", "log_id": "log-1", "complete": True, "next": None}
        part = {"first_seq": 1, "head": 2, "complete": True, "events": [event(2)]}
        server.give(
            {**page, "conversations": {"d": part}},
            {"op": "typing", "conversation_id": "c", "user_id": "bob", "on": True},
            {**page, "ref": frame["ref"], "conversations": {"c": part}},
        )
        answer = await sync
        assert answer.conversations["c"].events[0].seq == 2
        assert [type(push) for push in taken] == [EventsPage, Typing]
        client.close()


async def test_a_refused_handshake_is_a_connection_error() -> None:
    async with Peer() as peer:
        peer.refusing = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno"
        with pytest.raises(ConnectionLostError, match="403"):
            await SocketClient.connect(peer.socket_url)


async def test_unreadable_text_ends_the_socket() -> None:
    async with Peer() as peer:
        client, server = await greeted(peer)
        server.give_bytes(b"\x81\x03{a}")
        close = await server.frame()
        assert close.opcode is Opcode.CLOSE
        assert client.ended is not None
        assert client.ended.close_code == 1002
