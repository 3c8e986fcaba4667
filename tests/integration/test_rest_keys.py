"""Keys: the same call again gives the first answer, another one is a conflict, no-ops are not remembered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.rest_house import House, Person, house, problem_of

pytestmark = pytest.mark.slow


@pytest.fixture
async def built(tmp_path: Path) -> AsyncIterator[House]:
    """A house without rate limits."""
    async with house(tmp_path) as opened:
        yield opened


async def _twice(
    person: Person, method: str, path: str, body: Any = None, key: str = "k1"
) -> tuple[Any, Any]:
    first = await person.call(method, path, body, key=key)
    again = await person.call(method, path, body, key=key)
    assert (first.status_code, again.status_code) in ((200, 200), (201, 201)), (first.text, again.text)
    return first.json()["data"], again.json()["data"]


async def test_every_change_is_repeatable(built: House) -> None:
    ann, bob = await built.person("ann"), await built.person("bob")
    await built.person("cem")
    room = await ann.group("bob", join="invite")
    seq = (await ann.send(room, "x"))["seq"]
    group, message = f"/v1/groups/{room}", f"/v1/conversations/{room}/messages/{seq}"
    calls: list[tuple[Person, str, str, Any]] = [
        (ann, "POST", "/v1/groups", {"name": "another"}),
        (ann, "PATCH", group, {"name": "parlour"}),
        (ann, "POST", f"{group}/members", {"user_ids": ["cem"]}),
        (ann, "PATCH", f"{group}/members/bob", {"role": "admin"}),
        (ann, "DELETE", f"{group}/members/cem", None),
        (ann, "POST", f"{group}/invites", {"max_uses": 2}),
        (ann, "PUT", f"{group}/mute", None),
        (ann, "DELETE", f"{group}/mute", None),
        (ann, "PATCH", message, {"content": {"kind": "text", "text": "y"}}),
        (ann, "PUT", f"{message}/reactions/a", None),
        (ann, "DELETE", f"{message}/reactions/a", None),
        (ann, "PUT", f"{message}/pin", None),
        (ann, "DELETE", f"{message}/pin", None),
        (ann, "DELETE", message, None),
        (ann, "PUT", "/v1/direct/bob", None),
        (ann, "PUT", "/v1/blocks/bob", None),
        (ann, "DELETE", "/v1/blocks/bob", None),
        (ann, "PATCH", f"/v1/conversations/{room}", {"pinned": True}),
        (ann, "PATCH", "/v1/users/me", {"bio": "hi"}),
        (ann, "POST", f"{group}/transfer", {"to": "bob"}),
        (ann, "POST", f"{group}/leave", None),
        (bob, "DELETE", group, None),
    ]
    for person, method, path, body in calls:
        first, again = await _twice(person, method, path, body)
        assert again == first | {"replayed": True}, (method, path)
    heads = await bob.get(f"/v1/conversations/{room}/events?limit=200")
    assert [event["seq"] for event in heads] == list(range(1, len(heads) + 1))


async def test_another_payload_is_a_conflict(built: House) -> None:
    ann = await built.person("ann")
    room = await ann.group()
    await ann.do("PATCH", f"/v1/groups/{room}", {"name": "one", "max_members": 10}, key="k")
    same = await ann.do("PATCH", f"/v1/groups/{room}", {"max_members": 10, "name": "one"}, key="k")
    assert same["replayed"] is True
    other = await ann.call("PATCH", f"/v1/groups/{room}", {"name": "two"}, key="k")
    assert problem_of(other)["code"] == "idempotency_conflict"
    assert (await ann.get(f"/v1/groups/{room}"))["name"] == "one"
    group = await ann.do("POST", "/v1/groups", {"name": "a"}, key="g")
    differing = await ann.call("POST", "/v1/groups", {"name": "b"}, key="g")
    assert problem_of(differing)["code"] == "idempotency_conflict"
    assert group["conversation_id"] != room


async def test_sends_have_their_own_key(built: House) -> None:
    ann = await built.person("ann")
    room, other = await ann.group(), await ann.group()
    path = f"/v1/conversations/{room}/messages"
    body = {"client_msg_id": "1", "content": {"kind": "location", "latitude": 1.0, "longitude": 2}}
    first = await ann.do("POST", path, body)
    body["content"] = {"kind": "location", "longitude": 2.0, "latitude": 1}
    assert await ann.do("POST", path, body) == first | {"replayed": True}
    body["content"] = {"kind": "text", "text": "x"}
    assert problem_of(await ann.call("POST", path, body))["code"] == "idempotency_conflict"
    elsewhere = await ann.do("POST", f"/v1/conversations/{other}/messages", body)
    assert "replayed" not in elsewhere


async def test_what_changed_nothing_is_not_remembered(built: House) -> None:
    ann, _ = await built.person("ann"), await built.person("bob")
    room = await ann.group("bob")
    path = f"/v1/groups/{room}/members"
    assert await ann.do("POST", path, {"user_ids": ["bob"]}, key="k") == {"changed": False}
    await ann.do("DELETE", f"{path}/bob")
    assert "replayed" not in await ann.do("POST", path, {"user_ids": ["bob"]}, key="k")
    refused = await ann.call("POST", path, {"user_ids": ["nobody"]}, key="n")
    assert problem_of(refused)["code"] == "validation_failed"
    await built.person("nobody")
    assert "replayed" not in await ann.do("POST", path, {"user_ids": ["nobody"]}, key="n")


async def test_bad_keys(built: House) -> None:
    ann = await built.person("ann")
    for key in ("", "x" * 129):
        response = await ann.call("POST", "/v1/groups", {"name": "x"}, key=key)
        assert problem_of(response)["code"] == "validation_failed"
