"""The short way: taken by what is plainly right, the same answers as on the long way, and in the order of the calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from gateways.limits import LimitSettings
from gateways.rest.express import BODY_BYTES_MAX
from gateways.rest.protocol import SHORT_CALLS_MAX, BoundedHttpProtocol
from tests.integration.rest_house import House, Person, house

pytestmark = pytest.mark.slow
VARYING = {"date", "x-request-id", "content-length", "transfer-encoding"}
ORIGIN = {"at": "2004-11-15T10:15:00.000Z", "id": "log:1"}


class WireAnswer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: Any


class Counting:
    """The application, which counts the calls that reach it."""

    def __init__(self, built: House) -> None:
        self.state = built.app.state
        self.calls: list[str] = []
        self._app = built.app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls.append(f"{scope['method']} {scope['path']}")
        await self._app(scope, receive, send)


class Wire:
    """One connection, raw."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def answer(self) -> WireAnswer:
        """The next answer."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = [line.split(": ", 1) for line in head[1:] if line]
        headers = {name.lower(): value for name, value in pairs}
        body = await self._reader.readexactly(int(headers["content-length"]))
        return WireAnswer(int(head[0].split()[1]), headers, json.loads(body))

    async def ask(self, request: bytes) -> WireAnswer:
        """A call and its answer."""
        self.writer.write(request)
        return await self.answer()

    async def ended(self) -> bool:
        """Whether the server ended the connection, with nothing more to say."""
        return await self._reader.read() == b""


class Place(NamedTuple):
    """A house behind a real socket; `ann` owns `room`, where `bob` is, `cem` is in neither."""

    built: House
    app: Counting
    wire: Wire
    ann: Person
    bob: Person
    room: str


@asynccontextmanager
async def opened(folder: Path, limits: LimitSettings | None = None) -> AsyncIterator[Place]:
    """Everything; closed at the end."""
    async with house(folder, limits) as built:
        app = Counting(built)
        config = Config(app, log_config=None, lifespan="off", ws="none")
        config.load()
        state = ServerState()

        def protocol() -> BoundedHttpProtocol:
            return BoundedHttpProtocol(config=config, server_state=state, app_state={})

        server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        ann, bob = await built.person("ann"), await built.person("bob")
        await built.person("cem")
        room = await ann.group("bob")
        try:
            yield Place(built, app, Wire(reader, writer), ann, bob, room)
        finally:
            writer.close()
            server.close()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """A house without rate limits."""
    async with opened(tmp_path) as here:
        yield here


def post(person: Person | None, path: str, body: bytes, *lines: str, token: str | None = None) -> bytes:
    """The bytes of a POST."""
    return request("POST", person, path, body, *lines, token=token)


def request(
    method: str, person: Person | None, path: str, body: bytes, *lines: str, token: str | None = None
) -> bytes:
    """The bytes of a call."""
    head = [f"{method} {path} HTTP/1.1", "Host: minutebook.test", f"Content-Length: {len(body)}", *lines]
    if body and not any(line.lower().startswith("content-type") for line in lines):
        head.append("Content-Type: application/json")
    if token is None and person is not None:
        token = person.session["access_token"]
    if token is not None:
        head.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*head, "", ""]).encode() + body


def text(key: str, said: str = "hi", **more: Any) -> bytes:
    """The body of a send."""
    return json.dumps({"client_msg_id": key, "content": {"kind": "text", "text": said}, **more}).encode()


def messages(room: str) -> str:
    """The path of sends."""
    return f"/v1/conversations/{room}/messages"


async def long_way(place: Place, path: str, body: bytes, token: str | None) -> WireAnswer:
    """The same call without the protocol."""
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    response = await place.built.client.post(path, content=body, headers=headers)
    return WireAnswer(response.status_code, dict(response.headers), response.json())


def alike(first: WireAnswer, second: WireAnswer) -> None:
    """The same but for what differs between any two answers."""
    assert first.status == second.status
    for one, other in ((first, second), (second, first)):
        for name in one.headers.keys() - VARYING:
            assert one.headers[name] == other.headers[name], name
    assert {**first.body, "request_id": ""} == {**second.body, "request_id": ""}
    assert first.headers["x-request-id"] == first.body["request_id"]


async def test_plain_calls_never_reach_the_application(place: Place) -> None:
    sent = await place.wire.ask(post(place.ann, messages(place.room), text("k1")))
    assert (sent.status, sent.body["data"]["ordinal"]) == (201, 1)
    added = await place.wire.ask(
        post(place.ann, f"/v1/groups/{place.room}/members", b'{"user_ids":["cem"]}', "Idempotency-Key: k")
    )
    assert (added.status, added.body["data"]["seq"]) == (200, sent.body["data"]["seq"] + 1)
    left = await place.wire.ask(post(place.bob, f"/v1/groups/{place.room}/leave", b""))
    assert (left.status, left.body["data"]["seq"]) == (200, added.body["data"]["seq"] + 1)
    renamed = await place.wire.ask(request("PATCH", place.bob, "/v1/users/me", b'{"name":" Bobby "}'))
    assert (renamed.status, renamed.body["data"]["name"]) == (200, "Bobby")
    assert place.app.calls == []
    members = await place.ann.call("GET", f"/v1/groups/{place.room}/members")
    assert {row["user_id"] for row in members.json()["data"]} == {"ann", "cem"}


async def test_both_ways_remember_the_same_keys(place: Place) -> None:
    room, token = place.room, place.ann.session["access_token"]
    start = (await place.ann.send(room, "first"))["seq"]
    body = text("k1", "Grüße, 世界 \U0001f44b", reply_to=start, mentions=["bob"])
    spaced = json.dumps(json.loads(body), indent=1).encode()
    add, path = b'{"user_ids":["cem"]}', f"/v1/groups/{room}/members"
    first = await place.wire.ask(post(place.ann, messages(room), body))
    assert first.status == 201
    for again in (
        await long_way(place, messages(room), spaced, token),
        await place.wire.ask(post(place.ann, messages(room), spaced)),
    ):
        assert again.status == 201
        assert again.body["data"] == {**first.body["data"], "replayed": True}
    other = await place.wire.ask(post(place.ann, messages(room), text("k1", "other")))
    assert (other.status, other.body["code"]) == (409, "idempotency_conflict")
    added = await place.wire.ask(post(place.ann, path, add, "Idempotency-Key: k"))
    again_added = await place.ann.call("POST", path, {"user_ids": ["cem"]}, key="k")
    assert again_added.json()["data"] == {**added.body["data"], "replayed": True}
    unchanged = await place.wire.ask(post(place.ann, path, add))
    assert unchanged.body["data"] == {"changed": False}


WRONG_SENDS: list[bytes] = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"client_msg_id":"k"}',
    b'{"client_msg_id":"k","client_msg_id":"k","content":{"kind":"text","text":"x"}}',
    b'{"client_msg_id":"k","content":"x"}',
    b'{"client_msg_id":"k","content":null}',
    b'{"client_msg_id":"k","content":{"kind":"nothing"}}',
    b'{"client_msg_id":"k","content":{"kind":"system","text":"x"}}',
    b'{"client_msg_id":"k","content":{"kind":"text","text":"x","more":1}}',
    b'{"client_msg_id":"k","content":{"kind":"text","text":"\\ud800"}}',
    b'{"client_msg_id":"k","content":{"kind":"text","text":NaN}}',
    b'{"client_msg_id":"k\xff","content":{"kind":"text","text":"x"}}',
    text("k", " "),
    text("k", "x\x00"),
    text("k", "x" * 17_000),
    text("k", "x" * (BODY_BYTES_MAX + 1)),
    text(""),
    text("k" * 129),
    text("k\x00"),
    text("k", more=1),
    text("k", reply_to=-1),
    text("k", reply_to=1.5),
    text("k", reply_to="1"),
    text("k", reply_to=True),
    text("k", reply_to=2**64),
    text("k", reply_to=9_999),
    text("k", mentions=None),
    text("k", mentions=["", "bob"]),
    text("k", mentions=["nobody"]),
    text("k", mentions=["x" * 65]),
    text("k", mentions=["bob"] * 201),
    text("k", origin=ORIGIN),
    text("k", origin={**ORIGIN, "at": "yesterday"}),
    text("k", origin={**ORIGIN, "at": "1969-12-31T10:00:00Z"}),
    text("k", origin={**ORIGIN, "more": 1}),
    text("k", origin={"at": ORIGIN["at"]}),
]
WRONG_ADDITIONS: list[bytes] = [
    b"",
    b'{"user_ids":[]}',
    b'{"user_ids":"cem"}',
    b'{"user_ids":["me"]}',
    b'{"user_ids":["Cem"]}',
    b'{"user_ids":["cem\\n"]}',
    b'{"user_ids":["cem"],"more":1}',
    b'{"user_ids":["nobody"]}',
    json.dumps({"user_ids": ["cem"] * 201}).encode(),
]


@pytest.mark.parametrize("body", WRONG_SENDS)
async def test_wrong_sends_are_refused_alike(place: Place, body: bytes) -> None:
    path, token = messages(place.room), place.ann.session["access_token"]
    short = await place.wire.ask(post(place.ann, path, body, "Content-Type: application/json"))
    assert short.status >= 400
    other = await long_way(place, path, body, token)
    # Where the body was read to its end, only the long way ends the connection.
    for answer in (short, other):
        answer.headers.pop("connection", None)
    alike(short, other)
    assert (await place.ann.get(path)) == []


@pytest.mark.parametrize("body", WRONG_ADDITIONS)
async def test_wrong_additions_are_refused_alike(place: Place, body: bytes) -> None:
    path, token = f"/v1/groups/{place.room}/members", place.ann.session["access_token"]
    short = await place.wire.ask(post(place.ann, path, body))
    assert short.status >= 400
    alike(short, await long_way(place, path, body, token))


async def test_wrong_callers_and_places_are_refused_alike(place: Place) -> None:
    cem = await place.built.log_in("cem")
    other_tokens = [None, "nonsense", place.ann.session["access_token"][:-2] + "xx"]
    paths = [messages(place.room), messages("g_unknown"), messages("user"), messages("me")]
    for path in paths:
        for token in (*other_tokens, cem.session["access_token"]):
            short = await place.wire.ask(post(None, path, text("k"), token=token))
            assert short.status in {401, 404}
            alike(short, await long_way(place, path, text("k"), token))
    ended = place.bob.session["access_token"]
    await place.bob.do("DELETE", "/v1/sessions/current")
    short = await place.wire.ask(post(None, messages(place.room), text("k"), token=ended))
    assert short.status == 401
    alike(short, await long_way(place, messages(place.room), text("k"), ended))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"name":""}',
        b'{"name":null}',
        b'{"name":"a\\u202eb"}',
        b'{"name":"a\\u0007"}',
        b'{"nam":"x"}',
        b'{"name":"x","bio":"y"}',
        b'{"name":"x","friend_policy":"all"}',
        json.dumps({"name": "x" * 129}).encode(),
        json.dumps({"name": "x" + " " * 1_024}).encode(),
        b'{"name":"x"}',
        b'{"name":"ann"}',
    ],
)
async def test_renaming_is_answered_alike(place: Place, body: bytes) -> None:
    path, token = "/v1/users/me", place.ann.session["access_token"]
    short = await place.wire.ask(request("PATCH", place.ann, path, body, "Idempotency-Key: k"))
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}", "Idempotency-Key": "k"}
    other = await place.built.client.patch(path, content=body, headers=headers)
    answer = WireAnswer(other.status_code, dict(other.headers), other.json())
    if short.status == 200 and short.body["data"].get("changed") is not False:
        assert answer.body["data"].pop("replayed") is True
    alike(short, answer)


@pytest.mark.parametrize(
    "lines, path_end, status",
    [
        (["Content-Type: text/plain"], "", 415),
        (["Content-Type: application/json; charset=utf-8"], "", 201),
        ([], "?x=1", 422),
        ([], "?", 201),
        (["Authorization: Bearer twice"], "", 401),
        (["Origin: http://elsewhere.test"], "", 201),
        (["X-Long: " + "x" * 5_000], "", 201),
        (["Connection: keep-alive"], "", 201),
    ],
)
async def test_odd_calls_are_judged_by_the_route(
    place: Place, lines: list[str], path_end: str, status: int
) -> None:
    answer = await place.wire.ask(post(place.ann, messages(place.room) + path_end, text("k"), *lines))
    assert answer.status == status
    assert (await place.wire.ask(post(place.ann, messages(place.room), text("k2")))).status == 201


async def test_answers_keep_the_order_of_the_calls(place: Place) -> None:
    rooms = [place.room, *[await place.ann.group("bob") for _ in range(5)]]
    calls = [post(place.ann, messages(room), text("a")) for room in rooms]
    calls += [
        f"GET {messages(rooms[3])} HTTP/1.1\r\nHost: a\r\n".encode()
        + f"Authorization: Bearer {place.ann.session['access_token']}\r\n\r\n".encode(),
        post(place.ann, messages(rooms[3]), text("b")),
        post(place.ann, messages(rooms[3]), text("c")),
        post(place.ann, messages(rooms[3]), text("c")),
        post(place.ann, messages(rooms[1]), text("a")),
        post(place.ann, messages(rooms[0]), b"{"),
        post(place.ann, messages(rooms[0]), text("z")),
    ]
    place.wire.writer.write(b"".join(calls))
    for room in rooms:
        assert (await place.wire.answer()).body["data"]["conversation_id"] == room
    assert [row["client_msg_id"] for row in (await place.wire.answer()).body["data"]] == ["a"]
    assert (await place.wire.answer()).body["data"]["ordinal"] == 2
    assert (await place.wire.answer()).body["data"]["ordinal"] == 3
    again = (await place.wire.answer()).body["data"]
    assert (again["ordinal"], again["replayed"]) == (3, True)
    assert (await place.wire.answer()).body["data"]["replayed"] is True
    assert (await place.wire.answer()).status == 400
    assert (await place.wire.answer()).body["data"]["ordinal"] == 2


async def test_more_calls_than_may_wait_are_all_answered(place: Place) -> None:
    count = 3 * SHORT_CALLS_MAX
    senders = [post(place.ann, messages(f"g_{number}"), text("k")) for number in range(count)]
    place.wire.writer.write(b"".join(senders))
    for _ in range(count):
        assert (await place.wire.answer()).status == 404


async def test_a_body_in_pieces_and_one_behind_the_other(place: Place) -> None:
    request = post(place.ann, messages(place.room), text("k")) + post(
        place.bob, messages(place.room), text("k")
    )
    for start in range(0, len(request), 7):
        place.wire.writer.write(request[start : start + 7])
        await place.wire.writer.drain()
        await asyncio.sleep(0)
    assert (await place.wire.answer()).body["data"]["ordinal"] == 1
    assert (await place.wire.answer()).body["data"]["ordinal"] == 2


async def test_a_connection_ends_when_asked(place: Place) -> None:
    answer = await place.wire.ask(post(place.ann, messages(place.room), text("k"), "Connection: close"))
    assert (answer.status, answer.headers["connection"]) == (201, "close")
    assert await place.wire.ended()


async def test_what_comes_behind_the_last_call_of_a_connection_is_not_done(place: Place) -> None:
    other = await place.ann.group("bob")
    last = post(place.ann, messages(place.room), text("k"), "Connection: close")
    answer = await place.wire.ask(last + post(place.ann, messages(other), text("k")))
    assert (answer.status, answer.headers["connection"]) == (201, "close")
    assert await place.wire.ended()
    assert await place.ann.get(messages(other)) == []


async def test_a_caller_who_goes_away_is_served_all_the_same(place: Place) -> None:
    place.wire.writer.write(post(place.ann, messages(place.room), text("k")))
    await place.wire.writer.drain()
    place.wire.writer.transport.abort()
    again = await place.ann.send(place.room, "hi", "k")
    assert again["ordinal"] == 1
    assert len(await place.ann.get(messages(place.room))) == 1


async def test_limits_hold_on_the_short_way(tmp_path: Path) -> None:
    limits = LimitSettings(rest_burst_user=3, rest_per_s_user=1)
    async with opened(tmp_path, limits) as place:
        place.built.clock.now += 10_000
        answers = [
            await place.wire.ask(post(place.ann, messages(place.room), text(f"k{n}"))) for n in range(4)
        ]
        assert [answer.status for answer in answers] == [201, 201, 201, 429]
        assert answers[3].headers["retry-after"] == "1"
        assert answers[3].headers["content-type"] == "application/problem+json"
        alike(
            answers[3],
            await long_way(place, messages(place.room), text("k9"), place.ann.session["access_token"]),
        )
        assert place.app.calls == []


async def test_short_calls_are_counted(place: Place) -> None:
    await place.wire.ask(post(place.ann, messages(place.room), text("k")))
    labels = {
        "route": "/v1/conversations/{conversation_id}/messages",
        "method": "POST",
        "status": "201",
    }
    assert place.built.services.registry.get_sample_value("minutebook_rest_requests_total", labels) == 1
