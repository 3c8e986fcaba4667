"""Bad input and callers without rights: the right problem code on every route, and nothing stored."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from gateways.rest.app import api_routes
from gateways.rest.routing import MemberRoute, SignedRoute
from tests.integration.rest_house import NOW, PASSWORD, SECRET, SHARDS, House, data_of, house, problem_of

pytestmark = pytest.mark.slow
_PLACES = {
    "{group_id}": "g_nothing",
    "{conversation_id}": "g_nothing",
    "{user_id}": "nobody",
    "{session_id}": "s_nothing",
    "{invite_id}": "i_nothing",
    "{request_id}": "r_nothing",
    "{media_id}": "m_nothing",
    "{code}": "g_nothing~aaaaaaaaaaaaaaaaaaaaaaaaaa",
    "{seq}": "1",
    "{emoji}": "%F0%9F%91%8D",
    "{verb}": "accept",
}


@pytest.fixture
async def built(tmp_path: Path) -> AsyncIterator[House]:
    """A house without rate limits."""
    async with house(tmp_path) as opened:
        yield opened


def _path(template: str) -> str:
    for place, value in _PLACES.items():
        template = template.replace(place, value)
    return template


def _member_calls() -> list[tuple[str, str]]:
    return [
        (method, _path(route.path))
        for route in api_routes()
        if isinstance(route, MemberRoute)
        for method in sorted(route.methods or ())
    ]


def _token(**changes: Any) -> str:
    claims = {
        "iss": "minutebook",
        "aud": "minutebook",
        "iat": NOW // 1000,
        "exp": NOW // 1000 + 900,
        "sub": "ann",
        "sid": "s_1",
        "ten": "default",
        "typ": "access",
    }
    return jwt.encode(claims | changes, SECRET, algorithm="HS256")


async def test_no_route_for_users_answers_without_a_valid_token(built: House) -> None:
    calls = _member_calls()
    assert len(calls) > 50
    wrong = [
        None,
        "Bearer",
        "Bearer x.y.z",
        "Basic YW5uOng=",
        f"Bearer {_token()}",
        f"Bearer {_token(exp=NOW // 1000 - 1)}",
        "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.",
    ]
    for method, path in calls:
        for authorization in wrong:
            headers = {} if authorization is None else {"Authorization": authorization}
            response = await built.client.request(method, path, headers=headers, content=b"{")
            assert problem_of(response)["code"] == "unauthenticated", (method, path, authorization)
            assert response.headers["www-authenticate"].startswith("Bearer")


async def test_no_signed_route_answers_without_a_signature(built: House) -> None:
    for route in api_routes():
        if isinstance(route, SignedRoute):
            response = await built.client.post(route.path, json={})
            assert problem_of(response)["code"] == "unauthenticated"


async def test_unknown_paths_and_methods(built: House) -> None:
    ann = await built.person("ann")
    for path in (
        "/nothing",
        "/v1",
        "/v1/",
        "/v1/nothing",
        "/v1/groups/",
        "/metrics",
        "/docs/x",
        "/../etc/passwd",
        "/v1/users/a%2fb",
    ):
        assert problem_of(await ann.call("GET", path))["code"] in ("not_found", "validation_failed")
    for method, path in (
        ("DELETE", "/v1/users"),
        ("PUT", "/v1/sessions"),
        ("OPTIONS", "/v1/groups"),
        ("POST", "/livez"),
    ):
        response = await ann.call(method, path)
        assert problem_of(response)["code"] == "method_not_allowed"
        assert response.headers["allow"]


_BODIES: list[tuple[bytes, str]] = [
    (b"", "malformed"),
    (b" ", "malformed"),
    (b"{", "malformed"),
    (b"\xff", "malformed"),
    (b'{"name":"a","name":"b"}', "malformed"),
    (b'{"name":"\\ud800"}', "malformed"),
    (b'{"name":NaN}', "malformed"),
    (b'{"name":-Infinity}', "malformed"),
    (b'{"max_members":9223372036854775808}', "malformed"),
    (b'{"max_members":' + b"9" * 5_000 + b"}", "malformed"),
    (b"[" * 33 + b"]" * 33, "malformed"),
    (b"[" * 100_000, "malformed"),
    (b"null", "validation_failed"),
    (b"[]", "validation_failed"),
    (b'"x"', "validation_failed"),
    (b'{"name":"\\u0000"}', "validation_failed"),
    (b'{"name":1}', "validation_failed"),
    (b"{}", "validation_failed"),
    (b'{"name":"a","other":1}', "validation_failed"),
    (b'{"name":"a","max_members":"1"}', "validation_failed"),
    (b'{"name":"a","max_members":true}', "validation_failed"),
    (b'{"name":"a","max_members":1.5}', "validation_failed"),
    (b'{"name":"a","history_visible":1}', "validation_failed"),
    (b'{"name":"a","join":"public"}', "validation_failed"),
    (b'{"name":"' + b"a" * 129 + b'"}', "validation_failed"),
    (b'{"name":" \\t "}', "validation_failed"),
    (b'{"name":"a\\u202eb"}', "validation_failed"),
    (b'{"name":"a","members":["Ann"]}', "validation_failed"),
    (b'{"name":"a","members":["me"]}', "validation_failed"),
    (b'{"name":"a","members":["nobody"]}', "validation_failed"),
    (b'{"name":"a","members":"ann"}', "validation_failed"),
]


async def test_bad_bodies(built: House) -> None:
    ann = await built.person("ann")
    headers = {"Authorization": f"Bearer {ann.session['access_token']}", "Content-Type": "application/json"}
    for body, code in _BODIES:
        response = await built.client.post("/v1/groups", content=body, headers=headers)
        problem = problem_of(response)
        assert problem["code"] == code, body[:60]
        assert code != "validation_failed" or problem["errors"]
    assert await ann.get("/v1/conversations") == []


async def test_every_body_refuses_what_it_does_not_know(built: House) -> None:
    """Each route with a body: no JSON, another type, an unknown field; before anything else is looked at."""
    ann = await built.person("ann")
    token = {"Authorization": f"Bearer {ann.session['access_token']}"}
    as_json = token | {"Content-Type": "application/json"}
    seen = 0
    for route in api_routes():
        if route.body_field is None or isinstance(route, SignedRoute):
            continue
        seen += 1
        for method in route.methods or ():
            path = _path(route.path)
            text = await built.client.request(
                method, path, content=b"{}", headers=token | {"Content-Type": "text/plain"}
            )
            assert problem_of(text)["code"] == "unsupported_media_type", path
            for body, code in (
                (b"{,}", "malformed"),
                (b'{"zz_unknown":1}', "validation_failed"),
                (b"[]", "validation_failed"),
            ):
                response = await built.client.request(method, path, content=body, headers=as_json)
                assert problem_of(response)["code"] == code, (path, body)
    assert seen >= 15


async def test_bodies_and_heads_have_bounds(built: House) -> None:
    ann = await built.person("ann")
    huge = json.dumps({"name": "x" * (256 * 1024)}).encode()
    headers = {"Authorization": f"Bearer {ann.session['access_token']}", "Content-Type": "application/json"}
    assert (
        problem_of(await built.client.post("/v1/groups", content=huge, headers=headers))["code"]
        == "too_large"
    )

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(huge), 10_000):
            yield huge[start : start + 10_000]

    chunked = await built.client.post("/v1/groups", content=chunks(), headers=headers)
    assert problem_of(chunked)["code"] == "too_large"
    long = await built.client.get("/v1/groups/x", headers=headers | {"X-Long": "x" * 40_000})
    assert problem_of(long)["code"] == "headers_too_large"
    assert problem_of(await ann.call("GET", "/v1/users?query=" + "x" * 17_000))["code"] == "headers_too_large"


async def test_content_has_a_bound(built: House) -> None:
    ann = await built.person("ann")
    room = await ann.group()
    body = {"client_msg_id": "1", "content": {"kind": "text", "text": "x" * 16_384}}
    assert (
        problem_of(await ann.call("POST", f"/v1/conversations/{room}/messages", body))["code"] == "too_large"
    )
    body["content"] = {"kind": "custom", "data": "x" * 8_192}
    assert (
        problem_of(await ann.call("POST", f"/v1/conversations/{room}/messages", body))["code"] == "too_large"
    )


async def test_bad_messages(built: House) -> None:
    ann = await built.person("ann")
    room = await ann.group()
    path = f"/v1/conversations/{room}/messages"
    text = {"kind": "text", "text": "x"}
    for wrong in (
        {"client_msg_id": "", "content": text},
        {"client_msg_id": "x" * 129, "content": text},
        {"content": text},
        {"client_msg_id": "1"},
        {"client_msg_id": "1", "content": "x"},
        {"client_msg_id": "1", "content": {}},
        {"client_msg_id": "1", "content": {"kind": "nothing"}},
        {"client_msg_id": "1", "content": {"kind": "system", "text": "x"}},
        {"client_msg_id": "1", "content": {"kind": "text", "text": "x", "more": 1}},
        {"client_msg_id": "1", "content": {"kind": "text", "text": "\u200b"}},
        {"client_msg_id": "1", "content": {"kind": "text", "text": "a\x00"}},
        {"client_msg_id": "1", "content": text, "reply_to": 99},
        {"client_msg_id": "1", "content": text, "reply_to": -1},
        {"client_msg_id": "1", "content": text, "reply_to": "1"},
        {"client_msg_id": "1", "content": text, "mentions": ["bob"]},
        {"client_msg_id": "1", "content": text, "mentions": "all"},
        {"client_msg_id": "1", "content": text, "origin": {"at": "yesterday", "id": "1"}},
    ):
        response = await ann.call("POST", path, wrong)
        problem = problem_of(response)
        assert problem["code"] == "validation_failed", wrong
        assert problem["errors"], wrong
    origin = {"client_msg_id": "1", "content": text, "origin": {"at": "2004-11-15T10:15:00Z", "id": "1"}}
    assert problem_of(await ann.call("POST", path, origin))["code"] == "forbidden"
    assert await ann.get(path) == []


async def test_bad_queries_and_paths(built: House) -> None:
    ann = await built.person("ann")
    room = await ann.group()
    base = f"/v1/conversations/{room}"
    for path in (
        f"{base}/messages?limit=0",
        f"{base}/messages?limit=201",
        f"{base}/messages?limit=x",
        f"{base}/messages?limit=1.0",
        f"{base}/messages?limit=%2B1",
        f"{base}/messages?limit=1&limit=2",
        f"{base}/messages?after=-1",
        f"{base}/messages?after=9223372036854775808",
        f"{base}/messages?after={'9' * 400}",
        f"{base}/messages?after=1&before=2",
        f"{base}/messages?cursor=nonsense",
        f"{base}/messages?unknown=1",
        f"{base}/events?cursor=x",
        f"{base}/messages/0",
        f"{base}/messages/x",
        f"{base}/messages/9223372036854775808",
        f"{base}/messages?min_position=x",
        f"{base}/messages?min_position=1",
        f"{base}/messages?min_position=-1:1",
        f"{base}/messages?min_position={SHARDS + 1}:1",
        "/v1/users/Ann",
        "/v1/users/a%00b",
        "/v1/users?query=%00",
        "/v1/users?query=%ff",
        "/v1/presence",
        "/v1/presence?users=",
        "/v1/presence?users=Ann",
        "/v1/search",
        "/v1/search?query=",
        "/v1/search?query=x&after=yesterday",
        "/v1/search?query=x&from=Ann",
        "/v1/conversations?cursor=nonsense",
        "/v1/conversations?limit=true",
    ):
        assert problem_of(await ann.call("GET", path))["code"] == "validation_failed", path
    for emoji in ("x" * 33, "%01", "%ff", "%20", "%F0%9F%91%8D" * 9):
        response = await ann.call("PUT", f"{base}/messages/1/reactions/{emoji}")
        assert problem_of(response)["code"] == "validation_failed", emoji
    late = await ann.call("GET", f"{base}/messages?min_position=0:999999")
    assert problem_of(late)["code"] == "unavailable"


async def test_no_path_leads_to_other_streams(built: House) -> None:
    ann, _ = await built.person("ann"), await built.person("bob")
    for name in ("user:bob", "inbox:bob", "inbox:ann", "tenant:default", "cluster", "shard-0", "me", "x"):
        send = {"client_msg_id": "1", "content": {"kind": "text", "text": "x"}}
        for method, path, body in (
            ("POST", f"/v1/conversations/{name}/messages", send),
            ("PUT", f"/v1/conversations/{name}/read", {"seq": 1}),
            ("PATCH", f"/v1/conversations/{name}", {"pinned": True}),
            ("DELETE", f"/v1/conversations/{name}/messages/1", None),
            ("GET", f"/v1/conversations/{name}", None),
            ("GET", f"/v1/conversations/{name}/messages", None),
            ("PATCH", f"/v1/groups/{name}", {"name": "x"}),
            ("GET", f"/v1/groups/{name}", None),
            ("GET", f"/v1/groups/{name}/members", None),
            ("POST", f"/v1/groups/{name}/join", None),
            ("POST", f"/v1/groups/{name}/invites", None),
            ("GET", f"/v1/groups/{name}/invites", None),
            ("POST", f"/v1/invites/{name}~{'a' * 26}/accept", None),
        ):
            response = await ann.call(method, path, body)
            assert problem_of(response)["code"] == "not_found", (method, path)


async def test_erasure_and_what_is_not_built(built: House) -> None:
    ann = await built.person("ann")
    wrong = await ann.call("DELETE", "/v1/users/me", {"password": "not the one"})
    assert problem_of(wrong)["code"] == "forbidden"
    assert (
        problem_of(await ann.call("DELETE", "/v1/users/me", {"password": PASSWORD}))["code"] == "unavailable"
    )
    for method, path in (("GET", "/v1/friends"), ("POST", "/v1/media"), ("POST", "/v1/friend-requests")):
        assert problem_of(await ann.call(method, path))["code"] == "unavailable"


async def test_a_failure_that_nobody_expected_tells_nothing(
    built: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await built.person("ann")

    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret /work/main/path.py sqlite")

    monkeypatch.setattr(built.views.directory, "user", fail)
    response = await ann.call("GET", "/v1/users/ann")
    assert problem_of(response)["code"] == "unavailable"
    assert "secret" not in response.text


async def test_readiness(built: House) -> None:
    assert data_of(await built.client.get("/livez")) == {"status": "ok"}
    assert data_of(await built.client.get("/readyz")) == {"status": "ok"}
    built.ready["log"] = "the disk is full"
    problem = problem_of(await built.client.get("/readyz"))
    assert (problem["code"], problem["errors"]) == (
        "unavailable",
        [{"field": "log", "message": "the disk is full"}],
    )
    assert data_of(await built.client.get("/livez")) == {"status": "ok"}
