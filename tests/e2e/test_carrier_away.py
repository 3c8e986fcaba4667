"""Kafka is away for long: sockets of ended sessions end in time, views go on, and a projector that starts meanwhile does the work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import httpx
import pytest

from client.problem import ProblemError
from client.rest import RestClient
from docker.local.kafka import KafkaCluster
from tests.e2e.cluster import Place, RoleCluster
from tests.e2e.process import ServerProcess
from tests.integration.house import Line, content

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.services,
    pytest.mark.crash,
    pytest.mark.timeout(400),
]

PASSWORD = "a quiet afternoon"
SOON_S = 30.0
"""A look at the log takes a second; the rest is for a busy machine, and half of the time that Kafka may be away."""
NODES: Mapping[str, tuple[str, ...]] = {
    "owner-1": ("owner", "relay"),
    "gateway-1": ("gateway",),
    "projector-1": ("projector",),
}
STAND_IN = ("projector-2", ("projector",))


class House:
    """The processes, and a Kafka of their own."""

    def __init__(self, roles: RoleCluster, kafka: KafkaCluster) -> None:
        self.roles = roles
        self.kafka = kafka

    @property
    def gateway(self) -> ServerProcess:
        """The one there is."""
        return self.roles["gateway-1"]

    async def readiness(self) -> str:
        """What the gateway says of itself; empty while it is not ready."""
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{self.gateway.url}/readyz")
            return str(answer.json()["data"]["status"]) if answer.status_code == 200 else ""


@pytest.fixture
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    with KafkaCluster(tmp_path / "kafka") as kafka:
        place = Place(
            mongodb=request.getfixturevalue("mongodb_uri"),
            kafka=kafka.address,
            redis=request.getfixturevalue("redis_url"),
            database=request.getfixturevalue("mongodb_database"),
        )
        roles = RoleCluster(tmp_path, place, dict([*NODES.items(), STAND_IN]))
        try:
            for node in NODES:
                await roles[node].start()
            yield House(roles, kafka)
        finally:
            await roles.kill()


async def test_the_log_carries_what_kafka_does_not(house: House) -> None:
    async with RestClient(house.gateway.url) as rest:
        for user_id in ("ann", "bob"):
            await rest.create_user(user_id, PASSWORD)
        ann = rest.as_user((await rest.log_in("ann", PASSWORD, "d1")).access_token)
        ended = await rest.log_in("bob", PASSWORD, "d1")
        room = str((await ann.create_group("room", ["bob"])).conversation_id)
        other = (await rest.log_in("bob", PASSWORD, "d2")).access_token
        lines = {
            "ended": await welcomed(house.gateway, ended.access_token),
            "other": await welcomed(house.gateway, other),
        }
        await asyncio.to_thread(house.kafka.kill)

        async with asyncio.timeout(SOON_S):
            posted = await ann.post(room, "k1", content("over the log"))
            await lines["other"].until(lambda: lines["other"].newest.get(room, 0) >= posted.seq)
        await rest.as_user(ended.access_token).end_session()
        async with asyncio.timeout(SOON_S):
            assert await lines["ended"].ended() == 4403
        async with asyncio.timeout(SOON_S):
            while not (await house.readiness()).startswith("degraded: feed faces: Kafka cannot be reached"):
                pass

        # The only projector dies, and the one that takes its place never hears of a group.
        await house.roles["projector-1"].kill()
        await ann.post(room, "k2", content("for who stands in"))
        await house.roles["projector-2"].start()
        async with asyncio.timeout(SOON_S):
            while not await shown(ann, room, "for who stands in"):
                pass
        await asyncio.to_thread(house.kafka.restart)
        posted = await ann.post(room, "k3", content("at last"))
        await lines["other"].until(lambda: lines["other"].newest.get(room, 0) >= posted.seq)
        async with asyncio.timeout(SOON_S):
            while not await shown(ann, room, "at last"):
                pass
        lines["other"].close()


async def welcomed(gateway: ServerProcess, token: str) -> Line:
    """A socket after its hello, which is refused for a moment while the views are behind."""
    while True:
        line = Line(None)
        await line.connect(gateway.socket_url)
        line.say("hello", token=token)
        await line.until(lambda line=line: line.close_code is not None or bool(line.of("welcome")))  # type: ignore[misc]
        if line.close_code is None:
            return line


async def shown(user: RestClient, room: str, text: str) -> bool:
    """Whether the views have the message; the answer itself waits for them, and may say that they are behind."""
    try:
        page = await user.messages(room)
    except ProblemError:
        return False
    return any(row.content == content(text) for row in page.data)
