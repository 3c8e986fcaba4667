"""The contract to the letter: every list has pages, every read takes positions, nothing unknown is taken, nothing is rewritten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.rest_house import SHARDS, House, Person, data_of, house, problem_of

pytestmark = pytest.mark.slow


@pytest.fixture
async def built(tmp_path: Path) -> AsyncIterator[House]:
    """A house without rate limits."""
    async with house(tmp_path) as opened:
        yield opened


async def walked(person: Person, path: str, limit: int) -> list[Any]:
    """All rows of a list, page by page."""
    rows: list[Any] = []
    cursor: str | None = None
    mark = "&" if "?" in path else "?"
    while True:
        more = "" if cursor is None else f"&cursor={cursor}"
        page = (await person.call("GET", f"{path}{mark}limit={limit}{more}")).json()
        assert len(page["data"]) <= limit
        rows += page["data"]
        cursor = page["next"]
        if cursor is None:
            return rows


async def test_lists_that_stand_in_memory_have_pages_too(built: House) -> None:
    ann, _ = await built.person("ann"), await built.person("bob")
    for device in ("d2", "d3"):
        built.clock.now += 1_000
        await built.log_in("ann", device)
    room = await ann.group("bob", join="invite")
    for _ in range(3):
        await ann.do("POST", f"/v1/groups/{room}/invites")
    seq = (await ann.send(room, "v1"))["seq"]
    message = f"/v1/conversations/{room}/messages/{seq}"
    for text in ("v2", "v3", "v4"):
        await ann.do("PATCH", message, {"content": {"kind": "text", "text": text}})
    lists = {
        "/v1/sessions": ("device_id", ["d1", "d2", "d3"]),
        f"{message}/edits": ("content", [{"kind": "text", "text": f"v{n}"} for n in (1, 2, 3)]),
        "/v1/presence?users=bob,ann": ("user_id", ["bob", "ann"]),
    }
    for path, (field, wanted) in lists.items():
        for limit in (1, 2, 3, 200):
            assert [row[field] for row in await walked(ann, path, limit)] == wanted, path
    whole = await ann.get(f"/v1/groups/{room}/invites")
    assert len(whole) == 3
    assert await walked(ann, f"/v1/groups/{room}/invites", 2) == whole
    for path in (*lists, f"/v1/groups/{room}/invites"):
        mark = "&" if "?" in path else "?"
        for wrong in ("limit=0", "limit=201", "limit=x", "cursor=x", "cursor="):
            refused = problem_of(await ann.call("GET", f"{path}{mark}{wrong}"))
            assert [error["field"] for error in refused["errors"]] == [wrong.partition("=")[0]]


async def test_a_group_shows_the_windows_in_force(built: House) -> None:
    ann = await built.person("ann")
    path = f"/v1/groups/{await ann.group()}"

    async def windows() -> tuple[int, int]:
        row = await ann.get(path)
        return row["recall_window_s"], row["edit_window_s"]

    assert await windows() == (120, 86_400)
    await ann.do("PATCH", path, {"recall_window_s": 0, "edit_window_s": 60})
    assert await windows() == (0, 60)
    await ann.do("PATCH", path, {"recall_window_s": None})
    assert await windows() == (120, 60)


async def test_presence_rows_are_whole(built: House) -> None:
    ann = await built.person("ann")
    row = {"user_id": "ann", "online": False, "devices": [], "last_seen": None}
    assert await ann.get("/v1/presence?users=ann") == [row]


async def test_both_tokens_are_new_within_one_second(built: House) -> None:
    ann = await built.person("ann")
    assert ann.session["position"]
    body = {"refresh_token": ann.session["refresh_token"]}
    renewed = data_of(await built.client.post("/v1/sessions/refresh", json=body))
    assert renewed["session_id"] == ann.session["session_id"]
    for name in ("access_token", "refresh_token"):
        assert renewed[name] != ann.session[name]


async def test_every_read_takes_a_position(built: House) -> None:
    ann = await built.person("ann")
    room = await ann.group()
    position = (await ann.send(room, "x"))["position"]
    for path in ("/v1/users/me", "/v1/sessions", f"/v1/groups/{room}/invites", "/v1/conversations"):
        assert (await ann.call("GET", f"{path}?min_position={position}")).status_code == 200
        for wrong in ("x", f"{SHARDS}:1", "0:x", ""):
            problem = problem_of(await ann.call("GET", f"{path}?min_position={wrong}"))
            assert (problem["code"], problem["errors"][0]["field"]) == ("validation_failed", "min_position")


async def test_calls_without_a_body_take_no_fields(built: House) -> None:
    ann, bob = await built.person("ann"), await built.person("bob")
    room = await ann.group("bob")
    calls = [
        (ann, "PUT", "/v1/direct/bob"),
        (ann, "PUT", f"/v1/groups/{room}/mute"),
        (ann, "DELETE", f"/v1/groups/{room}/mute"),
        (bob, "POST", f"/v1/groups/{room}/leave"),
        (ann, "DELETE", f"/v1/groups/{room}"),
    ]
    for person, method, path in calls:
        problem = problem_of(await person.call(method, path, {"reason": "x"}))
        assert (problem["code"], problem["errors"][0]["field"]) == ("validation_failed", "reason")
        assert problem_of(await person.call(method, path, [1]))["code"] == "validation_failed"
        headers = {"Authorization": f"Bearer {person.session['access_token']}"}
        for kind, body, code in (
            ("application/json", b"{", "malformed"),
            ("text/plain", b"x", "unsupported_media_type"),
        ):
            headers["Content-Type"] = kind
            refused = await built.client.request(method, path, content=body, headers=headers)
            assert problem_of(refused)["code"] == code
        assert data_of(await person.call(method, path, {}))


async def test_what_is_not_built_yet_says_so_whatever_is_asked(built: House) -> None:
    ann = await built.person("ann")
    for method, path, body in (
        ("POST", "/v1/friend-requests", {"to": "bob", "message": "hi"}),
        ("PATCH", "/v1/friends/bob", {"remark": "x"}),
        ("GET", "/v1/friends?limit=10", None),
        ("GET", "/v1/friend-requests?limit=10&cursor=x", None),
    ):
        assert problem_of(await ann.call(method, path, body))["code"] == "unavailable"
    upload = await ann.call("POST", "/v1/media", files={"file": ("a.txt", b"abc")})
    assert problem_of(upload)["code"] == "unavailable"


async def test_an_emoji_is_any_percent_encoded_string(built: House) -> None:
    ann = await built.person("ann")
    room = await ann.group()
    message = f"/v1/conversations/{room}/messages/{(await ann.send(room, 'x'))['seq']}"
    for path in ("a%2Fb", "%2F", "%25", "%3F%23"):
        assert "seq" in await ann.do("PUT", f"{message}/reactions/{path}")
    found = [row["emoji"] for row in (await ann.get(message))["reactions"]]
    assert found == ["a/b", "/", "%", "?#"]
    assert "seq" in await ann.do("DELETE", f"{message}/reactions/a%2Fb")
    assert problem_of(await ann.call("PUT", f"{message}/reactions/"))["code"] == "validation_failed"


CONTENT = '{"kind": "custom", "data":  [1e2, 1.10, 12345678901234567890.5, -0, 1E5, "\\u00e9"]}'


async def test_content_passes_as_it_was_written(built: House) -> None:
    ann = await built.person("ann")
    room = await ann.group()
    messages = f"/v1/conversations/{room}/messages"
    headers = {"Authorization": f"Bearer {ann.session['access_token']}", "Content-Type": "application/json"}
    body = f'{{"client_msg_id": "a", "\\u0063ontent": {CONTENT}}}'.encode()
    sent = data_of(await built.client.post(messages, content=body, headers=headers))
    shown = (await ann.call("GET", f"{messages}/{sent['seq']}")).text
    assert CONTENT in shown
    edit = f'{{"content": {CONTENT.replace("1.10", "7.100")}}}'.encode()
    data_of(await built.client.patch(f"{messages}/{sent['seq']}", content=edit, headers=headers))
    assert "7.100" in (await ann.call("GET", f"{messages}/{sent['seq']}")).text
