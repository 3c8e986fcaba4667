"""The way of two users through the REST face: accounts, groups, messages, reading, sync, search."""

from __future__ import annotations

from pathlib import Path

from tests.integration.rest_house import data_of, house, problem_of


async def test_two_users_chat_in_a_group(tmp_path: Path) -> None:
    async with house(tmp_path) as built:
        ann, bob = await built.person("ann"), await built.person("bob")
        room = await ann.group("bob")
        sent = await ann.send(room, "hello there")
        assert sent["seq"] == 3
        assert sent["ordinal"] == 1
        rows = await bob.get(f"/v1/conversations/{room}/messages")
        assert [(row["seq"], row["content"]["text"]) for row in rows] == [(3, "hello there")]
        inbox = await bob.get("/v1/conversations")
        assert [(row["conversation_id"], row["unread"]) for row in inbox] == [(room, 1)]
        read = await bob.do("PUT", f"/v1/conversations/{room}/read", {"seq": 3})
        assert (read["read_seq"], read["unread"]) == (3, 0)
        found = await bob.get("/v1/search?query=hello")
        assert [(row["conversation_id"], row["seq"]) for row in found] == [(room, 3)]
        synced = await bob.do("POST", "/v1/sync", {"have": {room: 0}})
        assert [event["type"] for event in synced["conversations"][room]["events"]] == [
            "group_created",
            "member_added",
            "message_posted",
        ]


async def test_a_direct_conversation(tmp_path: Path) -> None:
    async with house(tmp_path) as built:
        ann, bob = await built.person("ann"), await built.person("bob")
        pair = (await ann.do("PUT", "/v1/direct/bob"))["conversation_id"]
        assert await ann.do("PUT", "/v1/direct/bob") == {"conversation_id": pair, "changed": False}
        assert await bob.get("/v1/conversations") == []
        await ann.send(pair, "psst")
        row = (await bob.get("/v1/conversations"))[0]
        assert (row["kind"], row["peer"]) == ("direct", {"user_id": "ann", "name": "ann"})
        assert data_of(await bob.call("PUT", "/v1/blocks/ann"))["position"]
        assert await bob.do("PUT", "/v1/blocks/ann") == {"changed": False}
        assert [row["user_id"] for row in await bob.get("/v1/blocks")] == ["ann"]
        refused = await ann.call(
            "POST",
            f"/v1/conversations/{pair}/messages",
            {"client_msg_id": "x", "content": {"kind": "text", "text": "?"}},
        )
        assert problem_of(refused)["code"] == "forbidden"
        await bob.do("DELETE", "/v1/blocks/ann")
        await ann.send(pair, "again")


async def test_messages_are_edited_recalled_reacted_to_and_pinned(tmp_path: Path) -> None:
    async with house(tmp_path) as built:
        ann, bob = await built.person("ann"), await built.person("bob")
        room = await ann.group("bob")
        seq = (await bob.send(room, "teh"))["seq"]
        message = f"/v1/conversations/{room}/messages/{seq}"
        await bob.do("PATCH", message, {"content": {"kind": "text", "text": "the"}})
        await ann.do("PUT", f"{message}/reactions/%F0%9F%91%8D")
        assert await ann.do("PUT", f"{message}/reactions/%F0%9F%91%8D") == {"changed": False}
        await ann.do("PUT", f"{message}/pin")
        row = await bob.get(message)
        assert row["content"]["text"] == "the"
        assert row["pinned"] is True
        assert row["reactions"] == [{"emoji": "👍", "count": 1, "users": ["ann"], "mine": False}]
        assert [edit["content"]["text"] for edit in await ann.get(f"{message}/edits")] == ["teh"]
        await ann.do("DELETE", f"{message}/reactions/%F0%9F%91%8D")
        await ann.do("DELETE", f"{message}/pin")
        await ann.do("DELETE", message)
        row = await bob.get(message)
        assert (row["content"], row["recalled"]) == (None, True)
        late = await bob.call("PATCH", message, {"content": {"kind": "text", "text": "x"}})
        assert problem_of(late)["code"] == "conflict"
        events = await bob.get(f"/v1/conversations/{room}/events?limit=200")
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


async def test_groups_are_run(tmp_path: Path) -> None:
    async with house(tmp_path) as built:
        ann, bob, cem = [await built.person(name) for name in ("ann", "bob", "cem")]
        room = await ann.group(join="invite")
        group = f"/v1/groups/{room}"
        invite = await ann.do("POST", f"{group}/invites", {"max_uses": 1})
        assert [row["invite_id"] for row in await ann.get(f"{group}/invites")] == [invite["invite_id"]]
        joined = await bob.do("POST", f"/v1/invites/{invite['code']}/accept")
        assert joined["conversation_id"] == room
        assert (
            problem_of(await cem.call("POST", f"/v1/invites/{invite['code']}/accept"))["code"] == "not_found"
        )
        other = await ann.do("POST", f"{group}/invites")
        await ann.do("DELETE", f"{group}/invites/{other['invite_id']}")
        assert (
            problem_of(await cem.call("POST", f"{group}/join", {"code": other["code"]}))["code"]
            == "not_found"
        )
        await ann.do("POST", f"{group}/members", {"user_ids": ["cem"]})
        await ann.do("PATCH", f"{group}/members/bob", {"role": "admin"})
        await bob.do("PATCH", f"{group}/members/bob", {"alias": "Bobby"})
        await bob.do("PATCH", group, {"name": "parlour", "announcement": "be kind"})
        await bob.do("PUT", f"{group}/mute")
        shown = await cem.get(group)
        assert (shown["name"], shown["member_count"], shown["my_role"]) == ("parlour", 3, "member")
        rows = await cem.get(f"{group}/members")
        assert [(row["user_id"], row["role"]) for row in rows] == [
            ("ann", "owner"),
            ("bob", "admin"),
            ("cem", "member"),
        ]
        assert (await cem.get(f"{group}/members/bob"))["alias"] == "Bobby"
        await bob.do("DELETE", f"{group}/mute")
        await bob.do("DELETE", f"{group}/members/cem")
        assert problem_of(await cem.call("POST", f"{group}/leave"))["code"] == "forbidden"
        assert problem_of(await ann.call("POST", f"{group}/leave"))["code"] == "conflict"
        await ann.do("POST", f"{group}/transfer", {"to": "bob"})
        await ann.do("POST", f"{group}/leave")
        await bob.do("DELETE", group)
        assert problem_of(await bob.call("DELETE", group))["code"] == "gone"
        assert (await cem.get("/v1/conversations"))[0]["left"] is True


async def test_profiles_settings_and_presence(tmp_path: Path) -> None:
    async with house(tmp_path) as built:
        ann, _ = await built.person("ann"), await built.person("bob")
        await ann.do("PATCH", "/v1/users/me", {"name": "Ann A.", "bio": "hi", "friend_policy": "any"})
        assert (await ann.get("/v1/users/me"))["friend_policy"] == "any"
        assert await ann.get("/v1/users/ann") == {"user_id": "ann", "name": "Ann A.", "bio": "hi"}
        assert [row["user_id"] for row in await ann.get("/v1/users?query=bo")] == ["bob"]
        room = await ann.group("bob")
        await ann.do("PATCH", f"/v1/conversations/{room}", {"pinned": True})
        assert await ann.do("PATCH", f"/v1/conversations/{room}", {"pinned": True}) == {"changed": False}
        assert (await ann.get(f"/v1/conversations/{room}"))["pinned"] is True
        built.services.presence.came("default", "bob", "web")
        rows = await ann.get("/v1/presence?users=bob,nobody,ann,bob")
        assert [(row["user_id"], row["online"]) for row in rows] == [("bob", True), ("ann", False)]
        await ann.do("PUT", "/v1/blocks/bob")
        assert [row["user_id"] for row in await ann.get("/v1/presence?users=bob,ann")] == ["ann"]
        await ann.do("DELETE", "/v1/blocks/bob")
        assert [row["user_id"] for row in await ann.get("/v1/presence?users=bob")] == ["bob"]
        await ann.do("DELETE", f"/v1/groups/{room}/members/bob")
        assert await ann.get("/v1/presence?users=bob") == []
        events = await ann.get("/v1/conversations/me/events")
        assert "conversation_settings_changed" in [event["type"] for event in events]
