"""The op `send`, over a real socket: its acks, its refusals, its repetitions."""

from __future__ import annotations

import pytest

from tests.integration.house import House, content

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


async def test_the_ack_says_where_the_message_stands_and_every_socket_gets_the_event(house: House) -> None:
    ann, bob = await house.people("ann", "bob")
    group = await ann.group("bob")
    first, second, other = await ann.line(), await ann.line(), await bob.line()

    ack = await first.ask("send", conversation_id=group, client_msg_id="k1", content=content("hello"))

    assert set(ack) == {"op", "ref", "conversation_id", "seq", "message_id", "ordinal", "at", "position"}
    assert (ack["op"], ack["conversation_id"], ack["seq"], ack["ordinal"]) == ("ack", group, 3, 1)
    shard, position = ack["position"].split(":")
    assert int(shard) < 4
    assert int(position) > 0
    for line in (first, second, other):
        event = await line.next("event", conversation_id=group, seq=3)
        assert set(event) == {"op", "conversation_id", "seq", "type", "actor", "at", "data"}
        assert (event["type"], event["actor"], event["at"]) == ("message_posted", "ann", ack["at"])
        assert event["data"] == {
            "message_id": ack["message_id"], "client_msg_id": "k1", "ordinal": 1, "content": content("hello"),
        }  # fmt: skip


async def test_a_send_to_a_user_opens_the_conversation_in_the_same_commit(house: House) -> None:
    ann, bob = await house.people("ann", "bob")
    mine, theirs = await ann.line(), await bob.line()

    ack = await mine.ask("send", to="bob", client_msg_id="k1", content=content("hello"))

    assert (ack["seq"], ack["ordinal"]) == (2, 1)
    for line in (mine, theirs):
        opened = await line.next("event", conversation_id=ack["conversation_id"], seq=1)
        assert (opened["type"], opened["data"]) == ("direct_opened", {"users": ["ann", "bob"]})
        assert (await line.next("event", conversation_id=ack["conversation_id"], seq=2))[
            "type"
        ] == "message_posted"
    again = await theirs.ask("send", to="ann", client_msg_id="k1", content=content("hello"))
    assert (again["conversation_id"], again["seq"]) == (ack["conversation_id"], 3)


async def test_a_repetition_gets_the_first_answer_from_either_face(house: House) -> None:
    ann, _ = await house.people("ann", "bob")
    line = await ann.line()
    first = await line.ask("send", to="bob", client_msg_id="k1", content={"kind": "text", "text": "x"})
    conversation_id = first["conversation_id"]

    again = await line.ask("send", to="bob", client_msg_id="k1", content={"text": "x", "kind": "text"})
    by_id = await line.ask(
        "send", conversation_id=conversation_id, client_msg_id="k1", content=content("x"), mentions=[]
    )
    by_rest = await ann.rest.post(conversation_id, "k1", content("x"))

    for repeated in (again, by_id):
        assert repeated == {**first, "ref": repeated["ref"], "replayed": True}
    assert (by_rest.seq, by_rest.message_id, by_rest.replayed) == (first["seq"], first["message_id"], True)
    other = {"conversation_id": conversation_id, "client_msg_id": "k1"}
    assert await line.refused("send", **other, content=content("y")) == "idempotency_conflict"
    assert await line.refused("send", **other, content=content("x"), reply_to=2) == "idempotency_conflict"
    await line.settle()
    assert line.seqs(conversation_id) == [1, 2]


async def test_what_rest_sent_is_repeated_by_the_socket(house: House) -> None:
    ann, _ = await house.people("ann", "bob")
    group = await ann.group("bob")
    seq = await ann.post(group, "x", "k1")
    line = await ann.line()
    ack = await line.ask("send", conversation_id=group, client_msg_id="k1", content=content("x"))
    assert (ack["seq"], ack["replayed"]) == (seq, True)


REFUSALS: tuple[tuple[dict[str, object], str], ...] = (
    ({"to": "nobody"}, "not_found"),
    ({"to": "me"}, "validation_failed"),
    ({"to": "Bob"}, "validation_failed"),
    ({"to": "b" * 60_000}, "validation_failed"),
    ({"conversation_id": "g_unknown"}, "not_found"),
    ({"conversation_id": "other/g_1"}, "not_found"),
    ({"conversation_id": "user:ann"}, "not_found"),
    ({"conversation_id": "inbox:ann"}, "not_found"),
    ({"conversation_id": "shard-0"}, "not_found"),
    ({"conversation_id": "me"}, "not_found"),
    ({"conversation_id": "g_\u0000"}, "not_found"),
    ({"conversation_id": "g_" + "x" * 30_000}, "not_found"),
    ({}, "validation_failed"),
    ({"to": "bob", "conversation_id": "g_1"}, "validation_failed"),
    ({"to": "bob", "conversation_id": ""}, "validation_failed"),
    ({"to": "bob", "client_msg_id": ""}, "validation_failed"),
    ({"to": "bob", "client_msg_id": "k" * 129}, "validation_failed"),
    ({"to": "bob", "client_msg_id": "k\u0000"}, "validation_failed"),
    ({"to": "bob", "content": {"kind": "text"}}, "validation_failed"),
    ({"to": "bob", "content": {"kind": "text", "text": " "}}, "validation_failed"),
    ({"to": "bob", "content": {"kind": "system", "text": "x"}}, "validation_failed"),
    ({"to": "bob", "content": 5}, "validation_failed"),
    ({"to": "bob", "content": None}, "validation_failed"),
    ({"to": "bob", "content": {"kind": "text", "text": "x" * 17_000}}, "too_large"),
    ({"to": "bob", "content": {"kind": "custom", "data": "x" * 9_000}}, "too_large"),
    ({"to": "bob", "reply_to": 7}, "validation_failed"),
    ({"to": "bob", "reply_to": -1}, "validation_failed"),
    ({"to": "bob", "mentions": ["carl"]}, "validation_failed"),
    ({"to": "bob", "mentions": "bob"}, "validation_failed"),
    ({"to": "bob", "origin": {"at": "2004-11-15T10:15:00Z", "id": "x"}}, "forbidden"),
    ({"to": "bob", "surprise": 1}, "validation_failed"),
)


async def test_refusals(house: House) -> None:
    ann, _ = await house.people("ann", "bob")
    lines = [await ann.line() for _ in range(5)]
    for number, (values, code) in enumerate(REFUSALS):
        # Ten unreadable frames a minute end a socket, so each asks its part.
        line = lines[number % len(lines)]
        frame = {"client_msg_id": "k1", "content": content("x"), **values}
        assert await line.refused("send", **frame) == code, str(values)[:100]
    # A refusal is not remembered: the same key is free.
    assert (await lines[0].ask("send", to="bob", client_msg_id="k1", content=content("x")))["op"] == "ack"


async def test_validation_problems_name_the_field(house: House) -> None:
    line = await (await house.person("ann")).line()
    for values, field in (
        ({"client_msg_id": "k", "content": content("x"), "to": 5}, "to"),
        ({"client_msg_id": "k", "content": content("x"), "to": "ann", "extra": 1}, "extra"),
        ({"content": content("x"), "to": "ann"}, "client_msg_id"),
        ({"client_msg_id": "k", "content": content("x"), "to": "NO"}, "to"),
        ({"client_msg_id": "", "content": content("x"), "to": "ann"}, "client_msg_id"),
        ({"client_msg_id": "k", "content": content("x")}, "conversation_id"),
    ):
        answer = await line.ask("send", **values)
        assert [error["field"] for error in answer["problem"]["errors"]] == [field], answer


async def test_an_import_keeps_the_time_and_id_of_the_origin(house: House) -> None:
    await house.person("bob")
    ann = await house.person("ann", scope="import")
    line = await ann.line()
    origin = {"at": "2004-11-15T10:15:00.123Z", "id": "irc-7"}
    ack = await line.ask("send", to="bob", client_msg_id="k1", content=content("x"), origin=origin)
    event = await line.next("event", conversation_id=ack["conversation_id"], seq=2)
    assert event["data"]["origin"] == origin
    wrong_times = ("yesterday", "2004-11-15T10:15:00", "2999-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00")
    for wrong in (
        *wrong_times,
        "20041115T101500Z",
        "2004-W47-1T10:15:00Z",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00.5+05:00",
    ):
        values = {"to": "bob", "client_msg_id": "k2", "content": content("x")}
        assert await line.refused("send", **values, origin={"at": wrong, "id": "x"}) == "validation_failed"


async def test_a_block_closes_the_pair_to_both_sides(house: House) -> None:
    ann, bob = await house.people("ann", "bob")
    mine, theirs = await ann.line(), await bob.line()
    await mine.ask("send", to="bob", client_msg_id="k1", content=content("x"))
    await ann.rest.call("PUT", "/v1/blocks/bob")
    for line, to in ((mine, "bob"), (theirs, "ann")):
        assert await line.refused("send", to=to, client_msg_id="k2", content=content("x")) == "forbidden"
    assert (await mine.next("event", conversation_id="me", type="user_blocked"))["data"] == {"user_id": "bob"}
    await theirs.settle()
    assert not [frame for frame in theirs.of("event") if frame["type"].startswith("user_")]
