"""Who may do what: every call of a group by a stranger, an ex-member, a member, an admin and the owner."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.rest_house import House, Person, house, problem_of

pytestmark = pytest.mark.slow

TEXT = {"kind": "text", "text": "x"}
CALLERS = ("stranger", "former", "member", "admin", "owner")
OK, NO, GONE_FROM = "ok", "forbidden", "not_found"

# What each of CALLERS gets. `{member}` is somebody else who is a plain member, `{seq}` a message by the member.
READS: dict[str, tuple[str, ...]] = {
    "/v1/groups/{g}": (GONE_FROM, OK, OK, OK, OK),
    "/v1/groups/{g}/members": (GONE_FROM, NO, OK, OK, OK),
    "/v1/groups/{g}/members/extra": (GONE_FROM, NO, OK, OK, OK),
    "/v1/groups/{g}/invites": (GONE_FROM, NO, NO, OK, OK),
    "/v1/conversations/{g}": (GONE_FROM, OK, OK, OK, OK),
    "/v1/conversations/{g}/messages": (GONE_FROM, OK, OK, OK, OK),
    "/v1/conversations/{g}/messages/{seq}": (GONE_FROM, OK, OK, OK, OK),
    "/v1/conversations/{g}/messages/{seq}/edits": (GONE_FROM, OK, OK, OK, OK),
    "/v1/conversations/{g}/events": (GONE_FROM, OK, OK, OK, OK),
    "/v1/search?query=x&conversation_id={g}": (GONE_FROM, OK, OK, OK, OK),
}
CHANGES: list[tuple[str, str, Any, tuple[str, ...]]] = [
    ("PATCH", "/v1/groups/{g}", {"name": "new"}, (GONE_FROM, NO, NO, OK, OK)),
    ("POST", "/v1/groups/{g}/members", {"user_ids": ["newcomer"]}, (GONE_FROM, NO, NO, OK, OK)),
    ("DELETE", "/v1/groups/{g}/members/extra", None, (GONE_FROM, NO, NO, OK, OK)),
    ("PATCH", "/v1/groups/{g}/members/extra", {"role": "admin"}, (GONE_FROM, NO, NO, NO, OK)),
    ("PATCH", "/v1/groups/{g}/members/extra", {"alias": "X"}, (GONE_FROM, NO, NO, OK, OK)),
    (
        "PATCH",
        "/v1/groups/{g}/members/extra",
        {"muted_until": "2100-01-01T00:00:00Z"},
        (GONE_FROM, NO, NO, OK, OK),
    ),
    ("POST", "/v1/groups/{g}/join", None, (GONE_FROM, GONE_FROM, OK, OK, OK)),
    ("POST", "/v1/groups/{g}/leave", None, (GONE_FROM, NO, OK, OK, "conflict")),
    ("POST", "/v1/groups/{g}/invites", {}, (GONE_FROM, NO, NO, OK, OK)),
    ("DELETE", "/v1/groups/{g}/invites/{invite}", None, (GONE_FROM, NO, NO, OK, OK)),
    ("POST", "/v1/groups/{g}/transfer", {"to": "extra"}, (GONE_FROM, NO, NO, NO, OK)),
    ("PUT", "/v1/groups/{g}/mute", None, (GONE_FROM, NO, NO, OK, OK)),
    ("DELETE", "/v1/groups/{g}/mute", None, (GONE_FROM, NO, NO, OK, OK)),
    ("DELETE", "/v1/groups/{g}", None, (GONE_FROM, NO, NO, NO, OK)),
    (
        "POST",
        "/v1/conversations/{g}/messages",
        {"client_msg_id": "new", "content": TEXT},
        (GONE_FROM, NO, OK, OK, OK),
    ),
    ("PATCH", "/v1/conversations/{g}/messages/{seq}", {"content": TEXT}, (GONE_FROM, NO, NO, NO, NO)),
    ("DELETE", "/v1/conversations/{g}/messages/{seq}", None, (GONE_FROM, NO, NO, OK, OK)),
    ("PUT", "/v1/conversations/{g}/messages/{seq}/reactions/a", None, (GONE_FROM, NO, OK, OK, OK)),
    ("DELETE", "/v1/conversations/{g}/messages/{seq}/reactions/a", None, (GONE_FROM, NO, OK, OK, OK)),
    ("PUT", "/v1/conversations/{g}/messages/{seq}/pin", None, (GONE_FROM, NO, NO, OK, OK)),
    ("DELETE", "/v1/conversations/{g}/messages/{seq}/pin", None, (GONE_FROM, NO, NO, OK, OK)),
    ("PUT", "/v1/conversations/{g}/read", {"seq": 2}, (GONE_FROM, NO, OK, OK, OK)),
    ("PATCH", "/v1/conversations/{g}", {"pinned": True}, (GONE_FROM, OK, OK, OK, OK)),
]


@pytest.fixture
async def built(tmp_path: Path) -> AsyncIterator[House]:
    """A house without rate limits."""
    async with house(tmp_path) as opened:
        yield opened


class Stage:
    """A closed group with one of each, made anew for each change."""

    def __init__(self, built: House) -> None:
        self.built = built
        self.people: dict[str, Person] = {}

    async def open(self) -> None:
        """Register everybody."""
        for name in (*CALLERS, "extra", "newcomer"):
            self.people[name] = await self.built.person(name)

    async def places(self) -> dict[str, str]:
        """A new group, and what paths name in it."""
        owner = self.people["owner"]
        group = await owner.group("former", "member", "admin", "extra")
        await owner.do("PATCH", f"/v1/groups/{group}/members/admin", {"role": "admin"})
        sent = await self.people["extra"].send(group, "x")
        invite = await owner.do("POST", f"/v1/groups/{group}/invites")
        await self.people["former"].do("POST", f"/v1/groups/{group}/leave")
        return {"g": group, "seq": str(sent["seq"]), "invite": invite["invite_id"]}


async def test_who_may_read(built: House) -> None:
    stage = Stage(built)
    await stage.open()
    places = await stage.places()
    for template, wanted in READS.items():
        path = template.format(**places)
        for caller, expected in zip(CALLERS, wanted, strict=True):
            response = await stage.people[caller].call("GET", path)
            got = OK if response.status_code == 200 else problem_of(response)["code"]
            assert got == expected, (caller, path)


async def test_who_may_change(built: House) -> None:
    stage = Stage(built)
    await stage.open()
    for method, template, body, wanted in CHANGES:
        for caller, expected in zip(CALLERS, wanted, strict=True):
            path = template.format(**await stage.places())
            response = await stage.people[caller].call(method, path, body)
            got = OK if response.status_code in (200, 201) else problem_of(response)["code"]
            assert got == expected, (caller, method, path, response.text)


async def test_what_is_refused_leaves_no_event(built: House) -> None:
    stage = Stage(built)
    await stage.open()
    places = await stage.places()
    group = places["g"]
    before = await stage.people["owner"].get(f"/v1/conversations/{group}/events?limit=200")
    for method, template, body, wanted in CHANGES:
        for caller, expected in zip(CALLERS, wanted, strict=True):
            if expected != OK:
                await stage.people[caller].call(method, template.format(**places), body)
    assert await stage.people["owner"].get(f"/v1/conversations/{group}/events?limit=200") == before


async def test_strangers_of_open_groups_see_a_part(built: House) -> None:
    ann, bob = await built.person("ann"), await built.person("bob")
    room = await ann.group(join="open", description="all are welcome")
    shown = await bob.get(f"/v1/groups/{room}")
    assert (shown["name"], shown["member_count"], shown["join"]) == ("room", 1, "open")
    assert "my_role" not in shown
    assert problem_of(await bob.call("GET", f"/v1/groups/{room}/members"))["code"] == "not_found"
    assert (await bob.do("POST", f"/v1/groups/{room}/join"))["seq"] == 2
    assert await bob.do("POST", f"/v1/groups/{room}/join") == {"changed": False}
    approval = await ann.group(join="approval")
    assert problem_of(await bob.call("POST", f"/v1/groups/{approval}/join"))["code"] == "unavailable"


async def test_history_is_cut_to_what_a_member_saw(built: House) -> None:
    ann, bob = await built.person("ann"), await built.person("bob")
    room = await ann.group(history_visible=False)
    await ann.send(room, "before")
    await ann.do("POST", f"/v1/groups/{room}/members", {"user_ids": ["bob"]})
    await ann.send(room, "during")
    await ann.do("DELETE", f"/v1/groups/{room}/members/bob")
    await ann.send(room, "after")
    rows = await bob.get(f"/v1/conversations/{room}/messages")
    assert [row["content"]["text"] for row in rows] == ["during"]
    assert [event["seq"] for event in await bob.get(f"/v1/conversations/{room}/events")] == [3, 4, 5]
    for seq in (2, 6):
        assert (
            problem_of(await bob.call("GET", f"/v1/conversations/{room}/messages/{seq}"))["code"]
            == "not_found"
        )
    for word, count in (("before", 0), ("during", 1), ("after", 0)):
        assert len(await bob.get(f"/v1/search?query={word}")) == count
