"""A gateway that has lost sight of the record delivers and accepts nothing."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from typing_extensions import override

from domain.streams import shard_of
from eventlog.record import Committed
from gateways.routes import EverythingHere
from gateways.socket import ops
from gateways.socket.pusher import BURST_EVENTS
from tests.integration.house import House, content, open_house

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


class Blind(EverythingHere):
    """Routes that a test makes stale."""

    def __init__(self) -> None:
        self.blind = False
        self.proven = float("inf")

    @override
    def proven_s(self) -> float:
        return self.proven

    @property
    @override
    def stale(self) -> bool:
        return self.blind


def blinded(house: House) -> Blind:
    """Have the house go by routes of the test's own."""
    routes = Blind()
    house.server.faces.socket_desk.routes = routes
    house.server.faces.sessions._routes = routes
    return routes


async def test_nothing_is_accepted_nobody_is_let_in_and_then_everything_goes_on(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        routes = blinded(house)
        ann, bob = await house.people("ann", "bob")
        group = await ann.group("bob")
        line, other = await ann.line(), await bob.line()
        routes.blind = True
        assert await line.refused("send", conversation_id=group, client_msg_id="k", content=content("x")) == (
            "unavailable"
        )
        assert (await line.ask("ping"))["op"] == "pong"
        late = await house.line()
        late.say("hello", token=ann.token)
        assert await late.ended() == 1012
        async with httpx.AsyncClient(base_url=house.url) as rest:
            headers = {"authorization": f"Bearer {ann.token}"}
            for method, path in (
                ("GET", "/v1/conversations"),
                ("POST", f"/v1/groups/{group}/leave"),
                ("POST", "/v1/sessions"),
            ):
                answer = await rest.request(method, path, headers=headers)
                assert answer.status_code == 503, path
                assert int(answer.headers["retry-after"]) >= 1
            assert (await rest.get("/livez")).status_code == 200
        line.say("typing", conversation_id=group, on=True)
        await line.settle()
        await other.settle()
        assert other.of("typing") == []
        routes.blind = False
        await line.ask("send", conversation_id=group, client_msg_id="k", content=content("x"))
        await other.next("event", conversation_id=group, type="message_posted")


async def test_whoever_may_have_missed_something_comes_back_and_is_looked_up_again(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        ann = await house.person("ann")
        line = await ann.line()
        sessions = house.server.faces.sessions
        assert sessions.recall(ann.token) is not None
        house.server.faces.begin_anew()
        assert await line.ended() == 1012
        assert sessions.recall(ann.token) is None
        await ann.line()
        assert sessions.recall(ann.token) is not None


async def commits_of(house: House, stream: str) -> list[Committed]:
    """The whole of a stream."""
    stores = house.server.stores
    shard = shard_of(stream, stores.log.shard_count)
    return [house.server.codec.decode(one) for one in await stores.log.read_stream(shard, stream, 0, 1_000)]


async def test_views_that_are_ahead_of_what_is_pushed_show_nothing_of_before_and_nothing_twice(
    tmp_path: Path,
) -> None:
    async with open_house(tmp_path) as house:
        routes = blinded(house)
        routes.proven = float("-inf")
        ann, bob = await house.people("ann", "bob")
        group = await ann.group(history_visible=False)
        hidden = await ann.post(group, "before bob")
        await ann.rest.add_members(group, ["bob"])
        shown = await ann.post(group, "with bob")
        line, missing = await bob.line(), await bob.line({group: 0})
        late = await commits_of(house, group)
        for batch in (late, late * BURST_EVENTS):  # as it comes, and as a burst
            house.server.faces.pusher.follow(batch)
            await line.settle()
            await missing.settle()
        assert min(line.seqs(group)) > hidden
        assert missing.seqs(group) == list(range(hidden + 1, shown + 1))


async def test_a_list_of_users_that_comes_behind_its_sockets_end_stays_on_no_list(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        ann = await house.person("ann")
        line = await ann.line()
        desk = house.server.faces.socket_desk
        (session,) = desk.interest.sessions_of("default", "ann")
        session.close(1012, "gone")
        assert await line.ended() == 1012
        assert session.ended
        await desk.hints.subscribe_presence(session, ops.PresenceOf(users=["ann"]))
        assert desk.hints.watched() == []
