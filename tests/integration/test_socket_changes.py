"""Edit, recall, react and pin over a real socket; and `sync`, which is the same as `POST /v1/sync`."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.house import Frame, House, Line, content

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


def changed(answer: Frame, seq: int) -> None:
    """An ack of a change, with the seq of the new event."""
    assert set(answer) == {"op", "ref", "conversation_id", "seq", "at", "position"}, answer
    assert (answer["op"], answer["seq"]) == ("ack", seq)


def unchanged(answer: Frame, conversation_id: str) -> None:
    """An ack of what was so already."""
    assert answer.pop("ref")
    assert answer == {"op": "ack", "conversation_id": conversation_id, "changed": False}


async def test_every_change_answers_with_its_own_event(house: House) -> None:
    ann, bob = await house.people("ann", "bob")
    group = await ann.group("bob")
    mine, theirs = await ann.line(), await bob.line()
    await mine.ask("send", conversation_id=group, client_msg_id="k", content=content("one"))
    at = {"conversation_id": group, "seq": 3}

    changed(await mine.ask("edit", **at, content=content("two")), 4)
    changed(await theirs.ask("react", **at, emoji="👍"), 5)
    unchanged(await theirs.ask("react", **at, emoji="👍"), group)
    changed(await theirs.ask("unreact", **at, emoji="👍"), 6)
    unchanged(await theirs.ask("unreact", **at, emoji="👍"), group)
    changed(await mine.ask("pin", **at), 7)
    unchanged(await mine.ask("pin", **at), group)
    changed(await mine.ask("unpin", **at), 8)
    unchanged(await mine.ask("unpin", **at), group)
    changed(await mine.ask("recall", **at), 9)
    unchanged(await mine.ask("recall", **at), group)

    await theirs.next("event", conversation_id=group, seq=9)
    told = [
        (frame["type"], frame["actor"], frame["data"]) for frame in theirs.of("event", conversation_id=group)
    ]
    assert told[1:] == [
        ("message_edited", "ann", {"target": 3, "content": content("two")}),
        ("reaction_added", "bob", {"target": 3, "emoji": "👍"}),
        ("reaction_removed", "bob", {"target": 3, "emoji": "👍"}),
        ("message_pinned", "ann", {"target": 3}),
        ("message_unpinned", "ann", {"target": 3}),
        ("message_recalled", "ann", {"target": 3}),
    ]


async def test_refusals_of_changes(house: House) -> None:
    ann, bob, carl = await house.people("ann", "bob", "carl")
    group = await ann.group("bob")
    mine, theirs, strange = await ann.line(), await bob.line(), await carl.line()
    await mine.ask("send", conversation_id=group, client_msg_id="k", content=content("one"))
    at = {"conversation_id": group, "seq": 3}
    cases: tuple[tuple[Line, str, Frame, str], ...] = (
        (theirs, "edit", {**at, "content": content("x")}, "forbidden"),
        (theirs, "recall", at, "forbidden"),
        (theirs, "pin", at, "forbidden"),
        (mine, "edit", {**at, "seq": 99, "content": content("x")}, "not_found"),
        (mine, "edit", {**at, "seq": 1, "content": content("x")}, "not_found"),
        (mine, "edit", {**at, "content": {"kind": "text", "text": ""}}, "validation_failed"),
        (mine, "react", {**at, "emoji": ""}, "validation_failed"),
        (mine, "react", {**at, "emoji": "x" * 33}, "validation_failed"),
        (mine, "react", {**at, "emoji": "a\nb"}, "validation_failed"),
        (mine, "react", {**at, "seq": -5, "emoji": "x"}, "not_found"),
        (mine, "pin", {**at, "seq": 2**63 - 1}, "not_found"),
        (mine, "pin", {**at, "seq": "3"}, "validation_failed"),
        (mine, "pin", {**at, "key": ""}, "validation_failed"),
        (mine, "pin", {**at, "key": "k\u0000"}, "validation_failed"),
        (strange, "react", {**at, "emoji": "x"}, "not_found"),
        (strange, "recall", at, "not_found"),
        (strange, "pin", {"conversation_id": "other/" + group, "seq": 3}, "not_found"),
        (strange, "edit", {"conversation_id": "me", "seq": 1, "content": content("x")}, "not_found"),
        (strange, "recall", {"conversation_id": "user:ann", "seq": 1}, "not_found"),
        (strange, "recall", {"conversation_id": "tenant:default", "seq": 1}, "not_found"),
    )
    for line, op, values, code in cases:
        assert await line.refused(op, **values) == code, (op, values)
    await mine.ask("recall", **at)
    for op, values in (("edit", {"content": content("x")}), ("react", {"emoji": "x"}), ("pin", {})):
        assert await mine.refused(op, **at, **values) == "conflict"
    await ann.rest.dissolve_group(group)
    assert await mine.refused("pin", **at) == "gone"


async def test_keys_make_changes_repeatable(house: House) -> None:
    ann, _ = await house.people("ann", "bob")
    group = await ann.group("bob")
    line = await ann.line()
    await line.ask("send", conversation_id=group, client_msg_id="k", content=content("one"))
    at = {"conversation_id": group, "seq": 3}
    first = await line.ask("react", **at, emoji="x", key="r1")
    await line.ask("unreact", **at, emoji="x")
    again = await line.ask("react", **at, emoji="x", key="r1")
    assert again == {**first, "ref": again["ref"], "replayed": True}
    assert await line.refused("react", **at, emoji="y", key="r1") == "idempotency_conflict"
    # Another op is another key.
    changed(await line.ask("pin", **at, key="r1"), 6)
    edit = await line.ask("edit", **at, content={"kind": "text", "text": "b"}, key="e1")
    repeated = await line.ask("edit", **at, content={"text": "b", "kind": "text"}, key="e1")
    assert (repeated["seq"], repeated["replayed"]) == (edit["seq"], True)


async def test_sync_is_the_same_on_both_faces(house: House) -> None:
    ann, bob = await house.people("ann", "bob")
    groups = [await ann.group("bob") for _ in range(3)]
    for group in groups:
        for _ in range(3):
            await ann.post(group)
    line = await bob.line()
    await house.fresh()
    questions: tuple[Frame, ...] = (
        {"have": {}},
        {"have": {groups[0]: 2}, "only": True},
        {"have": {groups[0]: 0, "me": 0}, "recent": 2},
        {"have": {groups[0]: 2, groups[1]: 99, "g_unknown": 3}, "limit": 2},
        {"have": dict.fromkeys(groups, 0), "limit": 1},
    )
    for values in questions:
        answer = await line.ask("sync", **values)
        assert set(answer) == {"op", "ref", "log_id", "conversations", "complete", "next"}
        by_rest = (await bob.rest.call("POST", "/v1/sync", values, keyed=False)).decode()
        for name, part in answer["conversations"].items():
            assert name in by_rest
            assert len(part.get("events", ())) <= values.get("limit", 500)


async def test_walking_a_sync_repeats_and_loses_nothing_while_messages_come(house: House) -> None:
    ann, bob = await house.people("ann", "bob")
    groups = [await ann.group("bob") for _ in range(4)]
    line, mine = await bob.line(), await ann.line()
    have: dict[str, int] = dict.fromkeys(groups, 0)
    got: dict[str, list[int]] = {name: [] for name in groups}
    cursor: dict[str, str] = {}
    for number in range(200):
        name = groups[number % 4]
        await mine.ask("send", conversation_id=name, client_msg_id=f"k{number}", content=content("x"))
        if number % 5:
            continue
        page = await line.ask("sync", have=have, only=True, limit=7, **cursor)
        for found, part in page["conversations"].items():
            got[found] += [event["seq"] for event in part["events"]]
        if page["next"] is None:
            have, cursor = {name: seqs[-1] if seqs else 0 for name, seqs in got.items()}, {}
        else:
            cursor = {"cursor": page["next"]}
    for seqs in got.values():
        assert seqs == list(range(1, len(seqs) + 1))
    assert sum(map(len, got.values())) > 100


async def test_refusals_of_sync(house: House) -> None:
    line = await (await house.person("ann")).line()
    many = {f"g_{number}": 0 for number in range(1_001)}
    for values in (
        {"have": {}, "limit": 0}, {"have": {}, "limit": 1_001}, {"have": {}, "recent": 51},
        {"have": {}, "recent": -1}, {"have": {"me": -1}}, {"have": many}, {"have": {}, "cursor": "nonsense"},
    ):  # fmt: skip
        answer = await line.ask("sync", **values)
        assert answer["problem"]["code"] == "validation_failed"
        assert answer["problem"]["errors"][0]["field"] in values
    line.say("sync", have={}, limit=0)
    await line.settle()
    assert line.of("error")[-1]["ref"] is None
    thousand = {f"g_{number}": number for number in range(1_000)}
    assert (await line.ask("sync", have=thousand))["conversations"].keys() == {"me"}


async def test_more_syncs_than_may_wait_are_refused_and_the_rest_answered(house: House) -> None:
    line = await (await house.person("ann")).line()
    answers = await asyncio.gather(*[line.ask("sync", have={}) for _ in range(80)])
    ops = [answer["op"] for answer in answers]
    assert ops.count("events") >= 50
    refused = [answer["problem"] for answer in answers if answer["op"] == "error"]
    assert all(problem["code"] == "overloaded" and problem["retry_after_ms"] for problem in refused)
    assert (await line.ask("sync", have={}))["op"] == "events"
