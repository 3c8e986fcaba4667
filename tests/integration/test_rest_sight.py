"""What a member cannot see, it cannot aim at: replies, reactions, pins, forwards; and marks that sending made."""

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


async def refused(person: Person, method: str, path: str, body: Any = None) -> str:
    """The code of the refusal, and the first field that it names."""
    problem = problem_of(await person.call(method, path, body))
    fields = [error["field"] for error in problem.get("errors", ())]
    return " ".join([problem["code"], *fields[:1]])


def forward(*places: tuple[str, int]) -> dict[str, Any]:
    """A content that passes these messages on."""
    return {
        "kind": "forward",
        "messages": [{"conversation_id": name, "seq": seq} for name, seq in places],
    }


async def test_what_lies_before_a_hidden_history_cannot_be_aimed_at(built: House) -> None:
    ann, bob = await built.person("ann"), await built.person("bob")
    room = await ann.group(history_visible=False, join="open")
    old = (await ann.send(room, "before bob"))["seq"]
    await bob.do("POST", f"/v1/groups/{room}/join")
    await ann.do("PATCH", f"/v1/groups/{room}/members/bob", {"role": "admin"})
    messages = f"/v1/conversations/{room}/messages"
    assert await refused(bob, "PUT", f"{messages}/{old}/reactions/x") == "not_found"
    assert await refused(bob, "PUT", f"{messages}/{old}/pin") == "not_found"
    reply = {"client_msg_id": "r", "content": {"kind": "text", "text": "what?"}, "reply_to": old}
    assert await refused(bob, "POST", messages, reply) == "validation_failed reply_to"
    new = (await bob.send(room, "since bob"))["seq"]
    assert "seq" in await bob.do("PUT", f"{messages}/{new}/reactions/x")
    # Admins recall any message, always.
    assert "seq" in await bob.do("DELETE", f"{messages}/{old}")


async def test_what_was_seen_before_leaving_can_still_be_aimed_at(built: House) -> None:
    ann, bob = await built.person("ann"), await built.person("bob")
    room = await ann.group("bob", history_visible=False, join="open")
    seen = (await ann.send(room, "seen"))["seq"]
    await bob.do("POST", f"/v1/groups/{room}/leave")
    missed = (await ann.send(room, "missed"))["seq"]
    await bob.do("POST", f"/v1/groups/{room}/join")
    messages = f"/v1/conversations/{room}/messages"
    assert "seq" in await bob.do("PUT", f"{messages}/{seen}/reactions/x")
    assert await refused(bob, "PUT", f"{messages}/{missed}/reactions/x") == "not_found"


async def test_an_ex_member_learns_nothing_that_came_later(built: House) -> None:
    ann, bob = await built.person("ann"), await built.person("bob")
    room = await ann.group("bob", join="open")
    seq = (await ann.send(room, "before"))["seq"]
    message = f"/v1/conversations/{room}/messages/{seq}"
    for person, emoji in ((ann, "a"), (bob, "b")):
        await person.do("PUT", f"{message}/reactions/{emoji}")
    await bob.do("POST", f"/v1/groups/{room}/leave")
    left = await bob.get(message)
    assert [(row["emoji"], row["count"], row["mine"]) for row in left["reactions"]] == [
        ("a", 1, False),
        ("b", 1, True),
    ]
    await built.person("cem")
    cem = await built.log_in("cem", "d2")
    await cem.do("POST", f"/v1/groups/{room}/join")
    for emoji in ("a", "c"):
        await cem.do("PUT", f"{message}/reactions/{emoji}")
    await ann.do("PUT", f"{message}/pin")
    await ann.do("PATCH", message, {"content": {"kind": "text", "text": "afterwards"}})
    assert await bob.get(message) == left
    assert await bob.get(f"{message}/edits") == []
    assert await bob.get("/v1/search?query=afterwards") == []
    assert len(await cem.get("/v1/search?query=afterwards")) == 1
    # Who comes back to a visible history sees all of it.
    await bob.do("POST", f"/v1/groups/{room}/join")
    shown = await bob.get(message)
    assert [(row["emoji"], row["count"]) for row in shown["reactions"]] == [("a", 2), ("b", 1), ("c", 1)]
    assert (shown["pinned"], shown["content"]["text"]) == (True, "afterwards")
    assert len(await bob.get("/v1/search?query=afterwards")) == 1


async def test_only_what_one_may_see_is_passed_on(built: House) -> None:
    ann, bob, cem = [await built.person(name) for name in ("ann", "bob", "cem")]
    room, elsewhere = await ann.group("bob"), await cem.group("ann")
    said, secret = (await ann.send(room, "said"))["seq"], (await cem.send(elsewhere, "secret"))["seq"]
    messages = f"/v1/conversations/{room}/messages"

    def body(*places: tuple[str, int], name: str = "f") -> dict[str, Any]:
        return {"client_msg_id": name, "content": forward(*places)}

    assert (await ann.do("POST", messages, body((room, said), (elsewhere, secret))))["seq"]
    for place in ((elsewhere, secret), (room, 1), (room, 999), ("g_nowhere", 1), ("me", 1)):
        code = await refused(bob, "POST", messages, body((room, said), place))
        assert code == "validation_failed content.messages[1]"
    own = (await bob.do("POST", messages, body((room, said))))["seq"]
    edit = {"content": forward((elsewhere, secret))}
    assert await refused(bob, "PATCH", f"{messages}/{own}", edit) == ("validation_failed content.messages[0]")
    # An escaped spelling is the same content.
    escaped = b'{"client_msg_id": "g", "content": {"kind": "\\u0066orward", "messages": '
    escaped += b'[{"conversation_id": "%b", "seq": %d}]}}' % (elsewhere.encode(), secret)
    headers = {"Authorization": f"Bearer {bob.session['access_token']}", "Content-Type": "application/json"}
    answer = await built.client.post(messages, content=escaped, headers=headers)
    assert problem_of(answer)["code"] == "validation_failed"


async def test_an_edit_to_what_it_says_already_is_no_change(built: House) -> None:
    ann = await built.person("ann")
    room = await ann.group()
    seq = (await ann.send(room, "v1"))["seq"]
    path = f"/v1/conversations/{room}/messages/{seq}"

    def body(text: str, **more: str) -> dict[str, Any]:
        return {"content": {"text": text, **more, "kind": "text"}}

    assert await ann.do("PATCH", path, body("v1"), key="k") == {"changed": False}
    second = await ann.do("PATCH", path, body("v2"), key="k")
    assert await ann.do("PATCH", path, body("v2"), key="k") == second | {"replayed": True}
    assert await ann.do("PATCH", path, body("v2")) == {"changed": False}
    assert "seq" in await ann.do("PATCH", path, body("v1"))
    assert [row["content"]["text"] for row in await ann.get(f"{path}/edits")] == ["v1", "v2"]
    assert "edited_at" in await ann.get(path)


async def test_sending_marks_as_read_and_a_lower_mark_is_no_change(built: House) -> None:
    ann, bob = await built.person("ann"), await built.person("bob")
    room = await ann.group("bob")
    said, own = (await ann.send(room, "hi"))["seq"], (await bob.send(room, "hello"))["seq"]
    head = len(await bob.get("/v1/conversations/me/events"))
    path = f"/v1/conversations/{room}/read"
    unchanged = {"read_seq": own, "unread": 0, "changed": False}
    assert [await bob.do("PUT", path, {"seq": seq}) for seq in (0, said, own)] == [unchanged] * 3
    assert len(await bob.get("/v1/conversations/me/events")) == head
    later = (await ann.send(room, "news"))["seq"]
    marked = await bob.do("PUT", path, {"seq": later})
    assert marked == {"read_seq": later, "unread": 0, "position": marked["position"]}
    newest = await bob.get(f"/v1/conversations/me/events?after={head}&min_position={marked['position']}")
    assert [row["data"] for row in newest] == [{"conversation_id": room, "read_seq": later}]
    assert await refused(bob, "PUT", path, {"seq": later + 1}) == "validation_failed seq"
