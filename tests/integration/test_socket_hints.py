"""Hints over a real socket: marks and receipts, numbers, typing, presence. Who may not know is not told."""

from __future__ import annotations

import pytest

from commands.caller import Keyed
from tests.integration.house import House, ManualTime, content

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


async def test_marks_are_acknowledged_and_told_to_members_and_own_devices(house: House) -> None:
    ann, bob, carl = await house.people("ann", "bob", "carl")
    group = await ann.group("bob")
    await ann.post(group)
    mine, reading, device, strange = await ann.line(), await bob.line(), await bob.line(), await carl.line()

    answer = await reading.ask("read", conversation_id=group, seq=3)
    assert answer == {"op": "ack", "ref": answer["ref"]}
    for line in (mine, reading, device):
        receipt = await line.next("receipt")
        assert receipt == {"op": "receipt", "conversation_id": group, "user_id": "bob", "read": 3}
    marked = await device.next("event", conversation_id="me", type="read_marked")
    assert marked["data"] == {"conversation_id": group, "read_seq": 3}
    answer = await reading.ask("received", conversation_id=group, seq=3)
    assert answer == {"op": "ack", "ref": answer["ref"]}
    assert (await mine.next("receipt", received=3))["user_id"] == "bob"
    # A lower mark is no news.
    assert (await reading.ask("received", conversation_id=group, seq=2))["op"] == "ack"
    assert (await reading.ask("read", conversation_id=group, seq=2))["op"] == "ack"
    await mine.settle()
    assert len(mine.of("receipt")) == 2
    assert (await bob.rest.conversation(group))["read_seq"] == 3
    for line in (strange,):
        await line.settle()
        assert not line.of("receipt")
        assert await line.refused("read", conversation_id=group, seq=1) == "not_found"
        assert await line.refused("received", conversation_id=group, seq=1) == "not_found"


async def test_a_mark_by_rest_is_told_though_its_owner_has_no_socket(house: House) -> None:
    ann, bob = await house.people("ann", "bob")
    group = await ann.group("bob")
    seq = await ann.post(group)
    mine = await ann.line()
    await bob.rest.mark_read(group, seq)
    assert await mine.next("receipt", user_id="bob", read=seq)


async def test_a_mark_takes_a_key_like_every_change(house: House) -> None:
    ann, _ = await house.people("ann", "bob")
    group = await ann.group("bob")
    line = await ann.line()
    for _ in range(2):
        assert (await line.ask("read", conversation_id=group, seq=2, key="k"))["op"] == "ack"
    assert await line.refused("read", conversation_id=group, seq=2, key="") == "validation_failed"


async def test_wrong_marks_cost_an_error_only_with_a_ref(house: House) -> None:
    ann, bob = await house.people("ann", "bob")
    group = await ann.group("bob")
    line = await ann.line()
    for op in ("read", "received"):
        assert await line.refused(op, conversation_id=group, seq=3) == "validation_failed"
        assert await line.refused(op, conversation_id=group, seq=-1) == "validation_failed"
        for name in ("g_none", "a/" + group, "me", "", "x" * 200, "inbox:ann"):
            assert await line.refused(op, conversation_id=name, seq=1) == "not_found", name
    before = len(line.of("error"))
    line.say("read", conversation_id="g_none", seq=1)
    line.say("typing", conversation_id="g_none", on=True)
    line.say("presence", users=["NO"])
    await line.settle()
    assert len(line.of("error")) == before
    assert await line.refused("typing", conversation_id="g_none", on=True) == "not_found"
    assert await line.refused("presence", users=["NO"]) == "validation_failed"
    assert await line.refused("presence", users=["bob"] * 501) == "validation_failed"
    await bob.rest.leave_group(group)
    theirs = await bob.line()
    for op in ("read", "received"):
        assert await theirs.refused(op, conversation_id=group, seq=1) == "forbidden"
    assert await theirs.refused("typing", conversation_id=group, on=True) == "forbidden"


async def test_receipts_do_not_cross_a_block(house: House) -> None:
    ann, _bob = await house.people("ann", "bob")
    mine, theirs = await ann.line(), await _bob.line()
    ack = await theirs.ask("send", to="ann", client_msg_id="k", content=content("x"))
    await ann.rest.call("PUT", "/v1/blocks/bob")
    await mine.ask("read", conversation_id=ack["conversation_id"], seq=2)
    await mine.next("receipt", user_id="ann")
    await theirs.settle()
    assert not theirs.of("receipt")
    assert await mine.refused("typing", conversation_id=ack["conversation_id"], on=True) == "forbidden"
    assert await theirs.refused("typing", conversation_id=ack["conversation_id"], on=True) == "forbidden"


async def test_receipts_of_large_groups_go_to_own_devices_only(house: House) -> None:
    ann, bob = await house.people("ann", "bob")
    for number in range(99):
        await house.server.faces.accounts.register("default", f"u{number}", None, None, Keyed("test"))
    group = await ann.group("bob", *[f"u{number}" for number in range(99)])
    seq = await ann.post(group)
    mine, theirs = await ann.line(), await bob.line()
    await theirs.ask("read", conversation_id=group, seq=seq)
    await theirs.next("receipt", read=seq)
    await mine.settle()
    assert not mine.of("receipt")
    await ann.rest.remove_member(group, "u0")
    await theirs.ask("received", conversation_id=group, seq=seq)
    assert await mine.next("receipt", received=seq)


async def test_inbox_numbers_come_once_a_second_and_conversation(house: House) -> None:
    time = ManualTime()
    house.use(time)
    ann, bob = await house.people("ann", "bob")
    group = await ann.group("bob")
    mine, theirs = await ann.line(), await bob.line()
    for number in range(5):
        await mine.ask("send", conversation_id=group, client_msg_id=f"k{number}", content=content("x"))
    await theirs.settle()
    assert not theirs.of("inbox")
    time.advance(1.0)
    numbers = await theirs.next("inbox")
    assert numbers == {
        "op": "inbox", "conversation_id": group, "unread": 5, "mentions": 0, "read_seq": 0,
        "pinned": False, "muted": False,
    }  # fmt: skip
    assert (await mine.next("inbox"))["read_seq"] == 7
    await theirs.ask("read", conversation_id=group, seq=6)
    time.advance(1.0)
    assert (await theirs.next("inbox", read_seq=6))["unread"] == 1
    await mine.ask("recall", conversation_id=group, seq=7)
    time.advance(1.0)
    assert (await theirs.next("inbox", unread=0))["read_seq"] == 6
    await bob.rest.change_conversation(group, muted=True, pinned=True)
    await theirs.next("event", conversation_id="me", type="conversation_settings_changed")
    time.advance(1.0)
    assert await theirs.next("inbox", muted=True, pinned=True)
    assert len(theirs.of("inbox")) == 4


async def test_numbers_are_not_told_to_somebody_who_was_removed_meanwhile(house: House) -> None:
    time = ManualTime()
    house.use(time)
    ann, bob = await house.people("ann", "bob")
    group = await ann.group("bob")
    mine, theirs = await ann.line(), await bob.line()
    await mine.ask("send", conversation_id=group, client_msg_id="k", content=content("x"))
    await ann.rest.remove_member(group, "bob")
    await theirs.next("event", type="member_removed")
    time.advance(1.0)
    await mine.next("inbox")
    await theirs.settle()
    assert theirs.frames[-2]["type"] == "member_removed"


async def test_typing_reaches_the_others_and_lapses(house: House) -> None:
    time = ManualTime()
    house.use(time)
    ann, bob, carl = await house.people("ann", "bob", "carl")
    group = await ann.group("bob")
    mine, device, theirs, strange = await ann.line(), await ann.line(), await bob.line(), await carl.line()
    mine.say("typing", conversation_id=group, on=True)
    await mine.settle()
    on = {"op": "typing", "conversation_id": group, "user_id": "ann", "on": True}
    assert await theirs.next("typing") == on
    time.advance(4.0)
    mine.say("typing", conversation_id=group, on=True)
    await mine.settle()
    time.advance(4.0)
    await theirs.settle()
    assert [frame["on"] for frame in theirs.of("typing")] == [True, True]
    time.advance(2.0)
    await theirs.settle()
    assert [frame["on"] for frame in theirs.of("typing")] == [True, True, False]
    mine.say("typing", conversation_id=group, on=True)
    mine.say("typing", conversation_id=group, on=False)
    await mine.settle()
    time.advance(10.0)
    await theirs.settle()
    assert [frame["on"] for frame in theirs.of("typing")] == [True, True, False, True, False]
    for line in (mine, device, strange):
        await line.settle()
        assert not line.of("typing")


async def test_typing_in_a_dissolved_group_is_refused(house: House) -> None:
    ann, bob = await house.people("ann", "bob")
    group = await ann.group("bob")
    mine, theirs = await ann.line(), await bob.line()
    await ann.rest.dissolve_group(group)
    await theirs.next("event", type="group_dissolved")
    assert await theirs.refused("typing", conversation_id=group, on=True) == "gone"
    await mine.settle()
    assert not mine.of("typing")


async def test_presence_is_told_to_members_of_a_common_group(house: House) -> None:
    ann, bob, carl = await house.people("ann", "bob", "carl")
    group = await ann.group("bob")
    watching, strange = await ann.line(), await carl.line()
    for line in (watching, strange):
        line.say("presence", users=["bob", "bob", "nobody", "carl"])
        await line.ask("received", conversation_id=group, seq=1)
    first = await watching.next("presence", user_id="bob")
    assert first == {"op": "presence", "user_id": "bob", "online": False, "devices": [], "last_seen": None}

    theirs = await bob.line()
    online = await watching.next("presence", online=True)
    assert (online["user_id"], online["devices"]) == ("bob", ["bot"])
    second = await bob.line()
    second.close()
    theirs.close()
    await watching.until(lambda: len(watching.of("presence")) == 3)
    gone = watching.of("presence")[-1]
    assert (gone["user_id"], gone["devices"]) == ("bob", [])
    assert gone["last_seen"].endswith("Z")
    assert len(watching.of("presence")) == 3
    assert not strange.of("presence", user_id="bob")
    own = await strange.next("presence")
    assert own["user_id"] == "carl"


async def test_presence_ends_with_a_block_a_removal_and_a_new_list(house: House) -> None:
    ann, bob, carl, dora = await house.people("ann", "bob", "carl", "dora")
    group = await ann.group("bob", "carl", "dora")
    watching = await ann.line()
    watching.say("presence", users=["bob", "carl", "dora", "ann"])
    for user_id in ("bob", "carl", "dora", "ann"):
        await watching.next("presence", user_id=user_id)
    await ann.rest.call("PUT", "/v1/blocks/bob")
    await ann.rest.remove_member(group, "carl")
    lines = [await person.line() for person in (bob, carl, dora)]
    await watching.next("presence", user_id="dora", online=True)
    for user_id in ("bob", "carl"):
        assert not watching.of("presence", user_id=user_id, online=True)
    blocked = lines[0]
    blocked.say("presence", users=["ann"])
    assert (await blocked.ask("ping"))["op"] == "pong"
    watching.say("presence", users=[])
    await watching.settle()
    told = len(watching.of("presence"))
    lines[2].close()
    await lines[2].ended()
    again = await dora.line()
    await again.settle()
    await watching.settle()
    assert len(watching.of("presence")) == told
    assert not blocked.of("presence")


async def test_ping_and_pong(house: House) -> None:
    line = await (await house.person("ann")).line()
    assert await line.ask("ping") == {"op": "pong", "ref": "r1"}
    line.say("ping")
    assert await line.next("pong", ref=None) == {"op": "pong"}
