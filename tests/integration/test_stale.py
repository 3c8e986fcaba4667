"""A gateway that has lost sight of the record delivers and accepts nothing."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from typing_extensions import override

from gateways.routes import EverythingHere
from tests.integration.house import House, content, open_house

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


class Blind(EverythingHere):
    """Routes that a test makes stale."""

    def __init__(self) -> None:
        self.blind = False

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
