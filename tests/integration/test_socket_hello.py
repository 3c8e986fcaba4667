"""The hello over a real socket: who is let in, what was missed, and nothing live before it."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from urllib.parse import urlsplit

import pytest

from commands.caller import Caller, Keyed
from domain.group import DissolveGroup
from gateways.socket import session as socket_session
from gateways.tokens import AccessTokens
from tests.integration.house import TENANT, House, Line, ManualTime, content

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


def forged(token: str, header: dict[str, str]) -> str:
    """The token under another header, with its own signature or none."""
    _, claims, signature = token.split(".")
    text = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    return f"{text}.{claims}.{'' if header['alg'] == 'none' else signature}"


async def test_the_welcome_names_the_session(house: House) -> None:
    ann = await house.person("ann")
    line = await house.line()
    line.say("hello", token=ann.token)
    welcome = await line.next("welcome")
    assert welcome.pop("server_time").endswith("Z")
    assert welcome == {
        "op": "welcome",
        "user_id": "ann",
        "session_id": ann.session_id,
        "log_id": house.server.log.log_id,
        "heartbeat_s": 30,
    }


async def test_bad_tokens_close_4401(house: House) -> None:
    ann = await house.person("ann")
    expired, _ = AccessTokens(b"x" * 32).issue(TENANT, "ann", ann.session_id, 0)
    stranger, _ = AccessTokens(b"x" * 32).issue(
        TENANT, "ann", ann.session_id, house.server.faces.socket_desk.now_ms()
    )
    gone, _ = house.server.faces.sessions.issue(TENANT, "ann", "s_unknown", None)
    nobody, _ = house.server.faces.sessions.issue(TENANT, "nobody", "s_unknown", None)
    for token in (
        "", "rubbish", "a.b.c", "x" * 5_000, expired, stranger, gone, nobody,
        forged(ann.token, {"alg": "none", "typ": "JWT"}),
        forged(ann.token, {"alg": "HS512", "typ": "JWT"}),
        ann.token[:-2] + ("AA" if ann.token[-2:] != "AA" else "BB"),
    ):  # fmt: skip
        line = await house.line()
        line.say("hello", token=token)
        assert await line.ended() == 4401, token[:20]
        assert [frame["problem"]["code"] for frame in line.frames] == ["unauthenticated"]


async def test_an_ended_session_is_not_let_in(house: House) -> None:
    ann = await house.person("ann")
    await house.end(ann)
    line = await house.line()
    line.say("hello", token=ann.token)
    assert await line.ended() == 4401


async def test_what_breaks_the_rules_of_the_first_frame_closes_4400(house: House) -> None:
    ann = await house.person("ann")
    hello = json.dumps({"op": "hello", "token": ann.token}).encode()
    for raw in (b'{"op":"ping"}', b"{", b"[]", b'{"op":"hello"}', b'{"op":"nonsense"}'):
        line = await house.line()
        line.raw(raw)
        assert await line.ended() == 4400, raw
    line = await house.line()
    line.raw(hello, first_byte=0x82)
    assert await line.ended() == 4400
    line = await ann.line()
    line.raw(hello)
    assert (await line.ended(), line.close_reason) == (4400, "second hello")
    line = await ann.line()
    line.raw(b"x", first_byte=0x82)
    assert await line.ended() == 4400


async def test_a_bad_have_is_an_error_and_closes_4400(house: House) -> None:
    ann = await house.person("ann")
    many: dict[str, int] = {f"g_{number}": 0 for number in range(1_001)}
    bad: tuple[object, ...] = ({"me": -1}, {"me": 2**63}, {"me": "1"}, {"me": 1.5}, {"me": None}, [], 5, many)
    for have in bad:
        line = await house.line()
        line.say("hello", token=ann.token, have=have, ref="h")
        assert await line.ended() == 4400, str(have)[:50]
        assert [(frame["op"], frame["ref"]) for frame in line.frames] == [("error", "h")]


async def test_who_says_nothing_for_five_seconds_is_closed_4401(house: House) -> None:
    time = ManualTime()
    house.use(time)
    ann = await house.person("ann")
    first = await house.line()
    time.advance(3.0)
    second, greeted = await house.line(), await ann.line()
    time.advance(2.0)
    assert await first.ended() == 4401
    await greeted.settle()
    assert second.close_code is None
    time.advance(3.0)
    assert await second.ended() == 4401
    await greeted.settle()


@pytest.mark.parametrize("cut", [0, 1, 20, 180])
async def test_frames_that_come_with_the_upgrade_are_not_lost(house: House, cut: int) -> None:
    """RFC 6455 bids clients to wait for the answer; one that does not must not lose its hello in silence."""
    ann = await house.person("ann")
    hello = json.dumps({"op": "hello", "token": ann.token}).encode()
    frame = b"\x81\xfe" + len(hello).to_bytes(2, "big") + b"\0\0\0\0" + hello
    address = urlsplit(house.url)
    upgrade = (
        f"GET /v1/ws HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head, rest = (upgrade + frame)[:cut], (upgrade + frame)[cut:]
    for part in (head, rest[:-9]):
        writer.write(part)
        await writer.drain()
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    writer.write(rest[-9:])
    assert b'{"op":"welcome","user_id":"ann"' in await reader.readuntil(b'"ann"')
    writer.close()
    await writer.wait_closed()


async def test_frames_right_behind_the_hello_are_answered_after_the_welcome(house: House) -> None:
    ann, _ = await house.people("ann", "bob")
    line = await house.line()
    line.say("hello", token=ann.token, have={})
    line.say("ping", ref="p")
    line.say("send", ref="s", to="bob", client_msg_id="k", content=content("x"))
    line.say("sync", ref="y", have={})
    await line.until(lambda: {"p", "s", "y"} <= {frame.get("ref") for frame in line.frames})
    assert [frame["op"] for frame in line.frames[:3]] == ["welcome", "events", "pong"]
    assert not line.of("error")


async def test_ten_bad_frames_in_a_minute_close_4400(house: House) -> None:
    time = ManualTime()
    house.use(time)
    line = await (await house.person("ann")).line()
    bad = (
        b"{", b"[]", b'"x"', b"{}", b'{"op":5}', b'{"op":"nonsense","ref":"a"}', b'{"op":"ping","x":1}',
        b'{"op":"read","ref":"b"}', b'{"op":"ping","ref":5}',
    )  # fmt: skip
    for raw in bad:
        line.raw(raw)
    await line.settle()
    assert [frame["ref"] for frame in line.of("error")] == [
        None,
        None,
        None,
        None,
        None,
        "a",
        None,
        "b",
        None,
    ]
    assert line.of("error")[5]["problem"]["code"] == "validation_failed"
    time.advance(61.0)
    for raw in bad:
        line.raw(raw)
    await line.settle()
    line.raw(b'{"op":"ping","op":"ping"}')
    assert await line.ended() == 4400
    assert len(line.of("error")) == 19


async def test_missed_events_come_before_live_ones(house: House) -> None:
    ann, bob = await house.people("ann", "bob")
    group = await ann.group("bob")
    for _ in range(5):
        await ann.post(group)
    line = await bob.line({group: 2, "me": 0})
    await line.next("events", complete=True)
    await ann.post(group)
    await line.next("event", conversation_id=group, seq=8)
    assert line.seqs(group) == [3, 4, 5, 6, 7, 8]
    page = line.of("events")[0]
    assert set(page) >= {"op", "log_id", "conversations", "complete"}
    part = page["conversations"][group]
    assert set(part) == {"first_seq", "head", "read_seq", "unread", "mentions", "events", "complete"}
    assert (part["first_seq"], part["head"], part["unread"], part["complete"]) == (1, 7, 5, True)
    assert set(part["events"][0]) == {"seq", "type", "actor", "at", "data"}
    assert [event["type"] for event in page["conversations"]["me"]["events"]] == ["session_opened"]


async def test_nothing_missed_strangers_and_resets(house: House) -> None:
    ann, bob = await house.people("ann", "bob")
    group, other = await ann.group("bob"), await ann.group()
    line = await bob.line({group: 99, other: 0, "g_unknown": 5, "nonsense/../": 1, "": 3, "x" * 5_000: 1})
    page = await line.next("events", complete=True)
    assert page["conversations"] == {group: {"reset": True, "head": 2}}
    empty = await bob.line({})
    assert (await empty.next("events", complete=True))["conversations"] == {}
    await ann.post(group)
    await ann.post(other)
    for listening in (line, empty):
        await listening.next("event", conversation_id=group, seq=3)
        await listening.settle()
        assert listening.seqs(other) == []


async def test_without_have_there_are_no_pages(house: House) -> None:
    ann, bob = await house.people("ann", "bob")
    group = await ann.group("bob")
    await ann.post(group)
    line = await bob.line()
    await ann.post(group)
    await line.next("event", conversation_id=group, seq=4)
    assert line.seqs(group) == [4]
    assert not line.of("events")


async def test_who_misses_too_much_is_behind_and_hears_only_what_is_new(house: House) -> None:
    ann, bob = await house.people("ann", "bob")
    long, short = await ann.group("bob"), await ann.group("bob")
    mine = await ann.line()
    for start in range(0, 1_000, 250):
        await asyncio.gather(
            *[
                mine.ask("send", conversation_id=long, client_msg_id=f"k{n}", content=content("x"))
                for n in range(start, start + 250)
            ]
        )
    await ann.post(short)
    exactly = await bob.line({long: 2})
    await exactly.next("events", complete=True)
    assert exactly.seqs(long) == list(range(3, 1_003))
    parts = [page["conversations"][long] for page in exactly.of("events") if long in page["conversations"]]
    assert [part["complete"] for part in parts] == [False] * (len(parts) - 1) + [True]
    assert all(len(part["events"]) <= 200 for part in parts)

    line = await bob.line({long: 1, short: 2})
    await line.next("events", complete=True)
    assert line.of("behind") == [{"op": "behind", "conversation_id": long, "have": 1, "head": 1_002}]
    assert line.seqs(short) == [3]
    await ann.post(long)
    await line.next("event", conversation_id=long, seq=1_003)
    assert line.seqs(long) == [1_003]
    both = await bob.line({long: 2, short: 2})
    await both.next("events", complete=True)
    # The newest activity is served first; together they are one too many.
    assert [(frame["conversation_id"], frame["head"]) for frame in both.of("behind")] == [(long, 1_003)]


async def test_large_events_reach_a_healthy_reader_whole(house: House) -> None:
    ann, bob = await house.people("ann", "bob")
    group = await ann.group("bob")
    mine = await ann.line()
    for number in range(240):
        ack = await mine.ask(
            "send", conversation_id=group, client_msg_id=f"k{number}", content=content("x" * 16_000)
        )
        assert ack["op"] == "ack"
    line = await bob.line({group: 0})
    await line.next("events", complete=True)
    assert line.seqs(group) == list(range(1, 243))
    synced: list[int] = []
    cursor: dict[str, str] = {}
    for _ in range(30):
        page = await line.ask("sync", have={group: 0}, only=True, limit=1_000, **cursor)
        synced += [event["seq"] for event in page["conversations"][group]["events"]]
        assert page["complete"] == page["conversations"][group]["complete"] == (page["next"] is None)
        if page["complete"]:
            break
        cursor = {"cursor": page["next"]}
    assert synced == list(range(1, 243))
    assert await everything_answered(line, group)


async def everything_answered(line: Line, group: str) -> bool:
    """Twenty syncs at once, each of several hundred kilobytes, to a reader that takes them."""
    answers = await asyncio.gather(*[line.ask("sync", have={group: 0}, only=True) for _ in range(20)])
    return all(answer["op"] == "events" for answer in answers) and line.close_code is None


async def test_recalled_messages_are_empty_in_hello_and_sync(house: House) -> None:
    ann, bob = await house.people("ann", "bob")
    group = await ann.group("bob")
    seq = await ann.post(group, "secret")
    await ann.rest.edit(group, seq, content("secret too"))
    live = await bob.line()
    await ann.rest.recall(group, seq)
    await live.next("event", conversation_id=group, type="message_recalled")
    line = await bob.line({group: 0})
    page = await line.next("events", complete=True)
    synced = await line.ask("sync", have={group: 0})
    for answer in (page, synced):
        events = answer["conversations"][group]["events"]
        posted, edited = events[2], events[3]
        assert (posted["data"]["content"], posted["data"]["recalled"]) == (None, True)
        assert (edited["data"]["content"], edited["data"]["recalled"]) == (None, True)
        assert "secret" not in json.dumps(answer)


async def test_nothing_is_lost_or_doubled_while_messages_flow(house: House) -> None:
    ann, bob = await house.people("ann", "bob")
    groups = [await ann.group("bob") for _ in range(3)]
    mine = await ann.line()
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    sent = 0
    position: dict[str, int] = dict.fromkeys(groups, 0)
    for _ in range(40):
        burst = [chance.choice(groups) for _ in range(chance.randrange(1, 20))]
        asked = []
        for group in burst:
            sent += 1
            asked.append(
                mine.ask("send", conversation_id=group, client_msg_id=f"k{sent}", content=content("x"))
            )
        flowing = asyncio.gather(*asked)
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
        line = await bob.line(position)
        heads: dict[str, int] = {}
        for ack in await flowing:
            heads[ack["conversation_id"]] = max(ack["seq"], heads.get(ack["conversation_id"], 0))
        for group, head in heads.items():
            await line.until(lambda: line.seqs(group)[-1:] == [head])  # noqa: B023 - awaited at once
        for group in groups:
            seqs = line.seqs(group)
            assert seqs == list(range(position[group] + 1, position[group] + 1 + len(seqs))), f"seed {seed}"
            position[group] += len(seqs)
        line.cut()
        assert await line.ended() == 1006


async def test_a_session_that_catches_up_holds_back_only_so_much(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await house.people("ann", "bob")
    group = await ann.group("bob")
    mine = await ann.line()
    monkeypatch.setattr(socket_session, "PENDING_FRAMES_MAX", 5)
    held = asyncio.Event()
    asked = asyncio.Event()
    inbox = house.server.views.inbox
    hello = inbox.hello

    async def slow_hello(*args: object, **values: object) -> object:
        asked.set()
        await held.wait()
        return await hello(*args, **values)  # type: ignore[arg-type]

    monkeypatch.setattr(inbox, "hello", slow_hello)
    line = await house.line()
    line.say("hello", token=bob.token, have={group: 0})
    await asked.wait()
    for number in range(6):
        await mine.ask("send", conversation_id=group, client_msg_id=f"k{number}", content=content("x"))
    assert await line.ended() == 4408
    held.set()
    await mine.settle()
    assert not line.frames


async def test_dissolved_and_left_conversations_are_told_but_not_listened_to(house: House) -> None:
    ann, bob = await house.people("ann", "bob")
    left, dissolved = await ann.group("bob"), await ann.group("bob")
    await ann.rest.remove_member(left, "bob")
    await house.server.desk.execute(Caller(TENANT, "ann"), dissolved, DissolveGroup(), Keyed("test"))
    await ann.post(left)
    line = await bob.line({left: 0, dissolved: 0})
    page = await line.next("events", complete=True)
    assert page["conversations"][left]["left"] is True
    assert line.seqs(left) == [1, 2, 3]
    assert page["conversations"][dissolved]["events"][-1]["type"] == "group_dissolved"
    await ann.post(left)
    await line.settle()
    assert line.seqs(left) == [1, 2, 3]
