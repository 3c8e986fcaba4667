"""Pushing over real processes: a gateway gets what its own people listen to, and a killed pusher costs nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import httpx
import pytest

from client.rest import RestClient
from tests.e2e.cluster import Place, RoleCluster
from tests.e2e.test_roles import PASSWORD, Person

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.services, pytest.mark.timeout(600)]

RECEIVED = re.compile(r"^minutebook_routes_received_total (\S+)$", re.MULTILINE)
LIVE = re.compile(r"^minutebook_routes_live 1", re.MULTILINE)
SETTLED_S = 60.0
NODES: Mapping[str, tuple[str, ...]] = {
    "others-1": ("owner", "relay", "projector", "jobs"),
    "pusher-1": ("pusher",),
    "gateway-1": ("gateway",),
    "gateway-2": ("gateway",),
}


@pytest.fixture
async def cluster(
    mongodb_uri: str, kafka_bootstrap: str, redis_url: str, mongodb_database: str, tmp_path: Path
) -> AsyncIterator[RoleCluster]:
    """Two gateways, a pusher, and the rest in one process."""
    place = Place(mongodb=mongodb_uri, kafka=kafka_bootstrap, redis=redis_url, database=mongodb_database)
    found = RoleCluster(tmp_path, place, NODES, more={"MINUTEBOOK_METRICS_PORT": "0"})
    try:
        await found.start()
        yield found
    finally:
        await found.kill()


class Meter:
    """What a gateway tells of itself."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def text(self) -> str:
        async with httpx.AsyncClient() as http:
            return (await http.get(self._url, timeout=SETTLED_S)).text

    async def received(self) -> float:
        """Commits that a pusher sent it."""
        found = RECEIVED.search(await self.text())
        assert found is not None
        return float(found[1])

    async def until_served(self) -> None:
        """Until a pusher is what it goes by."""
        async with asyncio.timeout(SETTLED_S):
            while LIVE.search(await self.text()) is None:
                continue


async def test_each_gateway_gets_its_own_and_a_killed_pusher_costs_nothing(cluster: RoleCluster) -> None:
    one, two = cluster["gateway-1"], cluster["gateway-2"]
    meters = [Meter((await gateway.said()).split()[-1]) for gateway in (one, two)]
    async with RestClient(one.url) as rest:
        for user_id in ("ann", "bob", "cid"):
            await rest.create_user(user_id, PASSWORD)
        ann_rest = rest.as_user((await rest.log_in("ann", PASSWORD, "d0")).access_token)
        room = str((await ann_rest.create_group("room", ["bob"])).conversation_id)
        elsewhere = str((await ann_rest.create_group("elsewhere", ["cid"])).conversation_id)
    ann, bob, cid = Person("ann"), Person("bob"), Person("cid")
    await ann.connect(one, room)
    await cid.connect(one, elsewhere)
    await bob.connect(two, room)
    for meter in meters:
        await meter.until_served()

    before = [await meter.received() for meter in meters]
    for number in range(5):
        await ann.send(elsewhere, f"ann-elsewhere-{number}")
    await cid.line.until(lambda: cid.line.newest.get(elsewhere, 0) >= ann.acks["ann-elsewhere-4"])
    await ann.send(room, "ann-room")
    await bob.line.until(lambda: bob.line.newest.get(room, 0) >= ann.acks["ann-room"])
    after = [await meter.received() for meter in meters]
    # All of it here; there only what bob listens to (and what may still have come of his logging in).
    assert after[0] - before[0] >= 6
    assert 1 <= after[1] - before[1] <= 3

    bob.line.say("typing", conversation_id=room, on=True)
    await ann.line.next("typing", conversation_id=room, user_id="bob", on=True)

    async def talk(person: Person, first: int) -> None:
        for number in range(first, first + 10):
            await person.send(room, f"{person.user_id}-{number}")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(talk(ann, 0))
        tasks.create_task(talk(bob, 0))
        tasks.create_task(cluster["pusher-1"].kill())
    # Without any pusher, and across a socket that moves to the other gateway.
    bob.leave(room)
    await talk(ann, 10)
    await bob.connect(one, room)
    await talk(bob, 10)
    cluster["gateway-2"].signal(SIGSTOP)
    await cluster["pusher-1"].start()
    cluster["gateway-2"].signal(SIGCONT)
    await talk(ann, 20)
    head = max(*ann.acks.values(), *bob.acks.values())
    for person in (ann, bob):
        await person.line.until(lambda person=person: person.line.newest.get(room, 0) >= ann.acks["ann-29"])  # type: ignore[misc]
        person.leave(room)
        assert person.seen == list(range(person.seen[0], head + 1)), person.user_id
    for meter in meters:
        await meter.until_served()
