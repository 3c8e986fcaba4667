"""How sockets end: sessions, devices, numbers, silence, floods, slow readers, drains; and who may open one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from client.problem import ConnectionLostError
from tests.integration.house import House, Line, ManualTime, content, open_house

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


async def test_logging_out_ends_every_socket_of_the_session_at_once(house: House) -> None:
    ann, bob = await house.people("ann", "bob")
    other = await house.log_in("ann", "d2")
    group = await ann.group("bob")
    lines = [await ann.line(), await ann.line({})]
    staying = await other.line()
    sending = await bob.line()
    sending.say("send", ref="s1", conversation_id=group, client_msg_id="k1", content=content("x"))
    async with asyncio.timeout(2.0):
        await ann.rest.end_session("current")
        for line in lines:
            assert await line.ended() == 4403
    await sending.ask("send", conversation_id=group, client_msg_id="k2", content=content("x"))
    await staying.next("event", conversation_id=group, seq=4)
    assert (await staying.next("event", conversation_id="me", type="session_closed"))["data"] == {
        "session_id": ann.session_id,
        "device_id": "d1",
    }
    late = await house.line()
    late.say("hello", token=ann.token)
    assert await late.ended() == 4401


async def test_an_ended_session_gets_nothing_after_its_end(house: House) -> None:
    ann, bob = await house.people("ann", "bob")
    group = await ann.group("bob")
    mine, sending = await ann.line(), await bob.line()
    for number in range(30):
        sending.say("send", conversation_id=group, client_msg_id=f"k{number}", content=content("x"))
    await ann.rest.end_session("current")
    assert await mine.ended() == 4403
    at = [
        frame["data"]["session_id"] for frame in mine.of("event", type="session_closed", conversation_id="me")
    ]
    assert at in ([], [ann.session_id])
    frames = len(mine.frames)
    await sending.ask("send", conversation_id=group, client_msg_id="last", content=content("x"))
    assert len(mine.frames) == frames


async def test_a_new_password_ends_the_other_sessions(house: House) -> None:
    await house.rest.create_user("ann", "a quiet afternoon")
    here = await house.rest.log_in("ann", "a quiet afternoon", "d1")
    there = await house.rest.log_in("ann", "a quiet afternoon", "d2")
    staying, going = await house.line(), await house.line()
    staying.say("hello", token=here.access_token)
    going.say("hello", token=there.access_token)
    await staying.next("welcome")
    await going.next("welcome")
    await house.rest.as_user(here.access_token).change_password("a quiet afternoon", "another afternoon")
    async with asyncio.timeout(2.0):
        assert await going.ended() == 4403
    await staying.settle()


async def test_a_newer_session_of_the_device_replaces_the_older(house: House) -> None:
    ann = await house.person("ann", "phone")
    tablet = await house.log_in("ann", "tablet")
    old, other = await ann.line(), await tablet.line()
    again = await house.log_in("ann", "phone")
    assert await old.ended() == 4409
    new = await again.line()
    await new.settle()
    await other.settle()


async def test_the_ninth_socket_replaces_the_oldest_and_no_other(house: House) -> None:
    ann = await house.person("ann")
    tablet = await (await house.log_in("ann", "tablet")).line()
    lines: list[Line] = []
    for _ in range(8):
        lines.append(await ann.line())
        for line in lines:
            await line.settle()
    ninth = await ann.line()
    assert await lines[0].ended() == 4409
    for line in (*lines[1:], ninth, tablet):
        await line.settle()


async def test_a_silent_socket_is_closed_4410_and_an_answering_one_stays(house: House) -> None:
    ann, bob = await house.people("ann", "bob")
    alive, silent = await ann.line(), await bob.line()
    for _ in range(80):
        house.hub.sweeper.tick()
        await alive.settle()
    await silent.settle()  # it answers pings, so it stays too
    for _ in range(76):
        house.hub.sweeper.tick()
    assert await silent.ended() == 4410


async def test_frames_over_64_kib_close_1009(house: House) -> None:
    ann = await house.person("ann")
    line = await ann.line()
    head = b'{"op":"ping","ref":"'
    line.raw(head + b"x" * (64 * 1024 - len(head) - 2) + b'"}')
    await line.until(lambda: bool(line.of("error")))
    assert line.of("error")[0]["problem"]["code"] == "validation_failed"
    line.raw(head + b"x" * (64 * 1024 - len(head) - 1) + b'"}')
    assert await line.ended() == 1009


async def test_a_slow_reader_is_cut_and_nobody_else(house: House) -> None:
    ann, bob = await house.people("ann", "bob")
    group = await ann.group("bob")
    mine, slow, healthy = await ann.line(), await bob.line(), await bob.line()
    transport = slow.socket._transport
    assert transport is not None
    transport.pause_reading()
    sent = 0
    while _is_open(house, slow):
        for _ in range(20):
            sent += 1
            mine.say("send", conversation_id=group, client_msg_id=f"k{sent}", content=content("x" * 16_000))
        await mine.settle()
        await mine.ask("send", conversation_id=group, client_msg_id=f"s{sent}", content=content("x"))
        assert sent < 2_000
    transport.resume_reading()
    assert await slow.ended() == 4408
    await healthy.settle()
    last = await mine.ask("send", conversation_id=group, client_msg_id="last", content=content("x"))
    await healthy.next("event", conversation_id=group, seq=last["seq"])
    assert healthy.seqs(group) == list(range(3, last["seq"] + 1))
    again = await bob.line({group: slow.newest.get(group, 0)})
    await again.next("events", complete=True)


def _is_open(house: House, line: Line) -> bool:
    """Whether the server still counts both sockets of the line's user."""
    assert line.person is not None
    return len(house.server.faces.socket_desk.interest.sessions_of("default", line.person.user_id)) == 2


async def test_floods_are_refused_and_end_4429(tmp_path: Path) -> None:
    async with open_house(tmp_path / "data", rate_limit="on") as house:
        time = ManualTime()
        house.use(time)
        ann = await house.person("ann")
        line, other = await ann.line(), await ann.line()
        for number in range(199):
            line.say("ping", ref=f"p{number}")
        await line.until(lambda: len(line.of("pong")) == 199)
        assert not line.of("error")
        line.say("ping", ref="over")
        await line.until(lambda: bool(line.of("error")))
        refusal = line.of("error")[0]
        assert (refusal["ref"], refusal["problem"]["code"]) == ("over", "rate_limited")
        assert 1 <= refusal["problem"]["retry_after_ms"] <= 20
        time.advance(0.1)
        for number in range(5):
            assert (await line.ask("ping"))["op"] == "pong", number
        for _ in range(9):
            line.say("ping")
        assert await line.ended() == 4429
        assert len(line.of("error")) == 10
        await other.settle()


async def test_a_drain_asks_to_reconnect_and_takes_nobody_new(house: House) -> None:
    ann = await house.person("ann")
    lines = [await ann.line(), await ann.line({})]
    await lines[1].next("events", complete=True)
    late = await house.line()
    house.server.faces.socket_desk.drain(lambda: 1_234)
    late.say("hello", token=ann.token)
    await late.next("welcome")
    for line in (*lines, late):
        assert await line.next("reconnect") == {"op": "reconnect", "after_ms": 1_234}
        await line.settle()
    with pytest.raises(ConnectionLostError, match="503"):
        await house.line()
    for socket in house.hub.sockets():
        socket.shutdown()
    for line in (*lines, late):
        assert await line.ended() == 1012


async def handshake(house: House, *headers: str) -> str:
    """The status line of an upgrade."""
    address = urlsplit(house.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    lines = [
        "GET /v1/ws HTTP/1.1", f"Host: {address.netloc}", "Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", *headers, "", "",
    ]  # fmt: skip
    writer.write("\r\n".join(lines).encode())
    status = (await reader.readline()).decode()
    writer.close()
    await writer.wait_closed()
    return status.split(" ")[1]


async def test_only_the_same_and_the_allowed_origins_may_open_a_socket(tmp_path: Path) -> None:
    async with open_house(tmp_path / "data", origins=("https://app.example",)) as house:
        assert await handshake(house) == "101"
        assert await handshake(house, f"Origin: {house.url}") == "101"
        assert await handshake(house, "Origin: https://app.example") == "101"
        for origin in (
            "https://evil.example",
            "https://app.example.evil",
            "null",
            "http://[",
            house.url + "0",
        ):
            assert await handshake(house, f"Origin: {origin}") == "403", origin
        assert await handshake(house, "Sec-WebSocket-Protocol: minutebook.v1.json") == "101"
        assert await handshake(house, "Sec-WebSocket-Protocol: mqtt") == "400"
