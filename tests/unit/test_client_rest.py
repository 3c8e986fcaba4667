"""REST calls: keys, retries, signing, problems, connections."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
from collections.abc import Sequence

import pytest

from client.caller import AppKey
from client.problem import ConnectionLostError, ProblemError
from client.rest import RestClient
from tests.unit.client_peer import Answering, Call, HeldClock, Peer, Reply, problem


def scripted(replies: Sequence[Reply]) -> Answering:
    """Answers one reply after the other."""
    left = list(replies)
    return lambda _call: left.pop(0)


def done(**data: object) -> Reply:
    """A success."""
    return Reply(201, {"data": data, "request_id": "r"})


def rest_of(peer: Peer, clock: HeldClock | None = None, app_key: AppKey | None = None) -> RestClient:
    """A client with a held clock."""
    return RestClient(peer.url, app_key=app_key, clock=clock or HeldClock(), jitter=random.Random(1))


POSTED = {"conversation_id": "c", "seq": 2, "message_id": "m", "ordinal": 1, "at": "t", "position": "1:2"}


@pytest.mark.parametrize(
    "failure",
    [
        problem("overloaded", 503, retry_after_ms=40),
        problem("unavailable", 503),
        problem("outcome_unknown", 504),
        problem("rate_limited", 429),
        Reply(502, "a proxy's page"),
        Reply(cut=True),
    ],
)
async def test_a_retry_keeps_the_key(failure: Reply) -> None:
    group = done(conversation_id="g", seq=1, position="0:1")
    async with Peer(scripted([failure, failure, group])) as peer, rest_of(peer) as rest:
        change = await rest.create_group("Tea", ["bob"])
    assert change.conversation_id == "g"
    keys = {call.headers["idempotency-key"] for call in peer.calls}
    assert len(peer.calls) == 3
    assert len(keys) == 1
    assert len({call.body for call in peer.calls}) == 1
    assert rest.repeats == 2


async def test_a_post_carries_its_client_msg_id_and_no_other_key() -> None:
    async with Peer(scripted([problem("overloaded", 503), done(**POSTED)])) as peer, rest_of(peer) as rest:
        posted = await rest.post("c", "k-1", {"kind": "text", "text": "hi"}, reply_to=1)
    assert posted.seq == 2
    for call in peer.calls:
        assert call.json() == {
            "client_msg_id": "k-1",
            "content": {"kind": "text", "text": "hi"},
            "reply_to": 1,
        }
        assert "idempotency-key" not in call.headers


@pytest.mark.parametrize(
    "code, status", [("conflict", 409), ("not_found", 404), ("validation_failed", 422), ("gone", 410)]
)
async def test_other_refusals_are_raised_at_once(code: str, status: int) -> None:
    refusal = problem(code, status, detail="no", errors=[{"field": "name", "message": "too long"}])
    async with Peer(scripted([refusal])) as peer, rest_of(peer) as rest:
        with pytest.raises(ProblemError) as caught:
            await rest.create_user("ann", "password1")
    assert (caught.value.code, caught.value.status, caught.value.detail) == (code, status, "no")
    assert caught.value.errors[0].field == "name"
    assert len(peer.calls) == 1


async def test_the_servers_hint_is_waited_for() -> None:
    clock = HeldClock()
    clock.longest_s = 100
    refusal = problem("rate_limited", 429, retry_after_ms=7_000)
    async with Peer(scripted([refusal, done(user_id="ann")])) as peer, rest_of(peer, clock) as rest:
        await rest.create_user("ann", "password1")
    assert clock.slept[0] >= 7.0


async def test_retry_after_header_counts_when_the_body_is_silent() -> None:
    clock = HeldClock()
    refusal = Reply(503, {"code": "overloaded"}, headers=("Retry-After: 3",))
    async with Peer(scripted([refusal, done(user_id="ann")])) as peer, rest_of(peer, clock) as rest:
        await rest.create_user("ann", "password1")
    assert clock.slept[0] >= 3.0


async def test_retries_end_at_the_deadline_with_the_last_refusal() -> None:
    async with Peer(lambda _call: problem("overloaded", 503)) as peer, rest_of(peer) as rest:
        with pytest.raises(ProblemError, match="overloaded"):
            await rest.call("POST", "/v1/groups", {"name": "Tea"}, deadline_s=5)
    assert 3 <= len(peer.calls) <= 20


async def test_a_refused_connection_is_retried_until_the_deadline() -> None:
    async with Peer() as peer:
        url = peer.url
    rest = RestClient(url, clock=HeldClock(), jitter=random.Random(1))
    with pytest.raises(OSError, match="Connect call failed"):
        await rest.call("GET", "/v1/users/me", deadline_s=2)
    assert rest.repeats > 2


async def test_signed_calls() -> None:
    key = AppKey("app", "secret")
    replies = [problem("unavailable", 503), done(user_id="ann")]
    async with Peer(scripted(replies)) as peer, rest_of(peer, app_key=key) as rest:
        await rest.create_user("ann", name="Ann", signed=True)
    nonces = set()
    for call in peer.calls:
        digest = hashlib.sha256(call.body).hexdigest()
        text = f"POST\n/v1/users\n{call.headers['x-timestamp']}\n{call.headers['x-nonce']}\n{digest}"
        assert call.headers["x-signature"] == hmac.new(b"secret", text.encode(), hashlib.sha256).hexdigest()
        assert call.headers["x-app-key"] == "app"
        assert "authorization" not in call.headers
        nonces.add(call.headers["x-nonce"])
    assert len(nonces) == 2
    assert "secret" not in repr(key)


async def test_a_signed_target_has_its_query() -> None:
    seen: list[Call] = []

    def answering(call: Call) -> Reply:
        seen.append(call)
        return Reply(200, {"data": {}, "request_id": "r"})

    async with Peer(answering) as peer, rest_of(peer, app_key=AppKey("a", "s")) as rest:
        await rest.call("GET", "/v1/users", query={"query": "a b&c", "limit": 3, "cursor": None}, signed=True)
    (call,) = seen
    assert call.target == "/v1/users?query=a+b%26c&limit=3"
    digest = hashlib.sha256(b"").hexdigest()
    text = f"GET\n{call.target}\n{call.headers['x-timestamp']}\n{call.headers['x-nonce']}\n{digest}"
    assert call.headers["x-signature"] == hmac.new(b"s", text.encode(), hashlib.sha256).hexdigest()


async def test_connections_are_kept_and_bounded() -> None:
    async with Peer(lambda _call: done(user_id="x")) as peer:
        rest = RestClient(peer.url, connections_max=3, clock=HeldClock())
        async with rest, asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(rest.user(f"u{number}"))
    assert len(peer.calls) == 50
    assert peer.connections == 3


async def test_a_kept_connection_that_the_server_closed_is_replaced() -> None:
    replies = [done(user_id="a"), Reply(cut=True), done(user_id="b")]
    async with Peer(scripted(replies)) as peer, rest_of(peer) as rest:
        assert (await rest.user("a"))["user_id"] == "a"
        assert (await rest.user("b"))["user_id"] == "b"
    assert peer.connections == 2


async def test_cancelling_a_call_does_not_give_its_answer_to_the_next() -> None:
    gate = asyncio.Event()
    async with Peer() as peer, rest_of(peer) as rest, asyncio.TaskGroup() as tasks:

        def answering(call: Call) -> Reply:
            gate.set()
            return done(user_id=call.target.rsplit("/", 1)[-1])

        peer.answering = answering
        first = tasks.create_task(rest.user("first"))
        await gate.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (await rest.user("second"))["user_id"] == "second"


async def test_paths_are_quoted() -> None:
    async with Peer(lambda _call: done(conversation_id="c", seq=3)) as peer, rest_of(peer) as rest:
        await rest.react("c", 2, "👍", on=True)
        await rest.react("c/../d", 2, "/", on=False)
    assert peer.calls[0].target == "/v1/conversations/c/messages/2/reactions/%F0%9F%91%8D"
    assert peer.calls[1].target == "/v1/conversations/c%2F..%2Fd/messages/2/reactions/%2F"
    assert [call.method for call in peer.calls] == ["PUT", "DELETE"]


async def test_lists_have_their_cursor() -> None:
    page = {
        "data": [{"seq": 1, "message_id": "m", "actor": "ann", "at": "t"}],
        "next": "n",
        "request_id": "r",
    }
    async with Peer(lambda _call: Reply(200, page)) as peer, rest_of(peer) as rest:
        messages = await rest.messages("c", after=0, limit=10)
    assert messages.next == "n"
    assert messages.data[0].actor == "ann"
    assert peer.calls[0].target == "/v1/conversations/c/messages?after=0&limit=10"


@pytest.mark.parametrize("garbage", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"])
async def test_garbage_is_a_lost_connection(garbage: bytes) -> None:
    async with Peer(lambda _call: Reply(raw=garbage)) as peer, rest_of(peer) as rest:
        with pytest.raises(ConnectionLostError):
            await rest.call("GET", "/v1/users/me", deadline_s=0.5)


async def test_sessions() -> None:
    tokens = {"session_id": "s", "access_token": "a", "expires_at": "2026-11-25T05:00:00.000Z", "new": 1}
    async with Peer(lambda _call: done(**tokens, refresh_token="r")) as peer, rest_of(peer) as rest:
        logged_in = await rest.log_in("ann", "password1", "d", "web")
        again = await rest.refresh(logged_in.refresh_token)
        assert again.expires_at.utcoffset() is not None
    assert peer.calls[0].json() == {
        "user_id": "ann",
        "password": "password1",
        "device_id": "d",
        "device_kind": "web",
    }
    assert peer.calls[1].json() == {"refresh_token": "r"}
