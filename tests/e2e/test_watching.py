"""What an operator sees of the processes of a cluster: probes, metrics, traces, and how they stop."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from client.rest import RestClient
from ops.roles.role import Role
from tests.e2e.cluster import Place, RoleCluster
from tests.e2e.collector import collector
from tests.e2e.test_roles import PASSWORD, Person, posted
from tests.e2e.test_traces import CALLER, SEND, TRACE, named, sent_under_a_trace, telemetry
from tests.integration.house import Line, content
from tests.tidy import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.services, pytest.mark.timeout(600)]

NODES: Mapping[str, tuple[str, ...]] = {
    # In the order in which they start: a gateway waits for nobody, but its users would.
    f"{role}-1": (role.value,)
    for role in sorted(Role, key=lambda role: role is Role.GATEWAY)
}
"""Each role by itself."""
FEW: Mapping[str, tuple[str, ...]] = {
    "owner-1": ("owner", "relay"),
    "others-1": tuple(role.value for role in Role if role not in {Role.OWNER, Role.RELAY, Role.GATEWAY}),
    "gateway-1": ("gateway",),
}
"""All roles in as few processes as show how a trace goes from one to the next."""
STOP_S_MAX = 30.0
IN_FLIGHT = 8
_ROW = re.compile(r"^\| `(minutebook_\w+)`", re.MULTILINE)


@asynccontextmanager
async def running(
    place: Place, folder: Path, nodes: Mapping[str, tuple[str, ...]], more: Mapping[str, str]
) -> AsyncIterator[RoleCluster]:
    """A cluster that does not outlive the test."""
    cluster = RoleCluster(folder, place, nodes, more=more)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.kill()


@pytest.fixture
def place(mongodb_uri: str, kafka_bootstrap: str, redis_url: str, mongodb_database: str) -> Place:
    """One of each server."""
    return Place(mongodb=mongodb_uri, kafka=kafka_bootstrap, redis=redis_url, database=mongodb_database)


async def _metrics_urls(cluster: RoleCluster) -> dict[str, str]:
    """The base of each process's metrics port."""
    words = {node: await process.said() for node, process in cluster.processes.items()}
    return {node: line.split()[-1].removesuffix("/metrics") for node, line in words.items()}


async def test_every_role_is_probed_measured_and_traced(place: Place, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        collecting = await stack.enter_async_context(collector())
        more = {"MINUTEBOOK_METRICS_PORT": "0", **telemetry(collecting)}
        cluster = await stack.enter_async_context(running(place, tmp_path, FEW, more))
        http = await stack.enter_async_context(httpx.AsyncClient())
        urls = await _metrics_urls(cluster)
        line = await sent_under_a_trace(cluster["gateway-1"].url)
        line.close()
        # Ready once they are caught up; nothing is failing here, so that is soon.
        for url in urls.values():
            assert (await http.get(f"{url}/livez")).json()["data"] == {"status": "ok"}
            answer = await http.get(f"{url}/readyz")
            assert answer.status_code == 200, (url, answer.text)
        wanted = {
            SEND,
            "command PostMessage",
            "own PostMessage",
            "flush",
            "relay",
            "apply to views",
            "deliver",
        }
        await collecting.until(
            lambda spans: wanted <= {span.name for span in spans if span.trace_id == TRACE}
        )
        seen = named(collecting.of(TRACE))
        command = seen["command PostMessage"]
        assert (seen[SEND].parent, command.parent) == (CALLER, seen[SEND].span_id)
        assert {span.parent for name, span in seen.items() if span not in (seen[SEND], command)} == {
            command.span_id
        }
        assert {name: span.node for name, span in seen.items()} == {
            SEND: "gateway-1",
            "command PostMessage": "gateway-1",
            "own PostMessage": "owner-1",
            "flush": "owner-1",
            "relay": "owner-1",
            "apply to views": "others-1",
            "deliver": "gateway-1",
        }
        told = {node: (await http.get(f"{url}/metrics")).text for node, url in urls.items()}
        _check_metrics(told)


def _check_metrics(told: Mapping[str, str]) -> None:
    """What the operator's page lists is what the processes tell."""
    shown: set[str] = set()
    for node, text in told.items():
        families = list(text_string_to_metric_families(text))
        names = [family.name for family in families if family.name.startswith("minutebook_")]
        assert len(names) == len(set(names)), node
        shown |= {
            f"{family.name}_total" if family.type == "counter" else family.name
            for family in families
            if family.name.startswith("minutebook_")
        }
        (info,) = [family for family in families if family.name == "minutebook_process_info"]
        assert info.samples[0].labels["node"] == node
    documented = _ROW.findall((ROOT / "docs" / "operations.md").read_text())
    assert len(documented) == len(set(documented))
    assert (shown - set(documented), set(documented) - shown) == (set(), set())


class Load:
    """A person who sends all the time, a few messages ahead of their acknowledgements, and repeats none."""

    def __init__(self, person: Person, room: str) -> None:
        self._person = person
        self._room = room
        self._sent = 0
        self.stopped = False

    @property
    def line(self) -> Line:
        """The socket."""
        return self._person.line

    @property
    def acked(self) -> dict[str, int]:
        """Seqs by client message id."""
        return {frame["ref"]: frame["seq"] for frame in self.line.of("ack")}

    async def run(self) -> None:
        """Until it is stopped, or its gateway hangs up."""
        while not self._over():
            if self._sent - len(self.line.answered) < IN_FLIGHT:
                key = f"{self._person.user_id}-{self._sent}"
                self._sent += 1
                message = content(key)
                self.line.say("send", ref=key, conversation_id=self._room, client_msg_id=key, content=message)
                await asyncio.sleep(0)
                continue
            try:
                await self.line.until(
                    lambda: self._over() or self._sent - len(self.line.answered) < IN_FLIGHT
                )
            except TimeoutError:
                continue  # A role is away; whoever waits for more looks at the time.

    def _over(self) -> bool:
        return self.stopped or self.line.close_code is not None

    async def goes_on(self) -> None:
        """Wait for some more acknowledgements."""
        wanted = len(self.acked) + 2 * IN_FLIGHT
        async with asyncio.timeout(90):
            while len(self.acked) < wanted:
                try:
                    await self.line.until(lambda: len(self.acked) >= wanted)
                except TimeoutError:
                    continue


async def _stopped_in_time(cluster: RoleCluster, node: str) -> None:
    began_s = time.monotonic()
    assert await cluster[node].stop() == 0, cluster[node].log[-2_000:]
    assert time.monotonic() - began_s < STOP_S_MAX


async def test_every_role_drains_under_load_and_loses_nothing(place: Place, tmp_path: Path) -> None:
    nodes = {**NODES, "gateway-2": ("gateway",)}
    async with running(place, tmp_path, nodes, {"MINUTEBOOK_DRAIN_S": "0.5"}) as cluster:
        one, two = cluster["gateway-1"], cluster["gateway-2"]
        async with RestClient(one.url) as rest:
            for user_id in ("ann", "bob"):
                await rest.create_user(user_id, PASSWORD)
            token = (await rest.log_in("ann", PASSWORD, "d0")).access_token
            room = str((await rest.as_user(token).create_group("room", ["bob"])).conversation_id)
        ann, bob = Person("ann"), Person("bob")
        await ann.connect(one, room)
        await bob.connect(two, room)
        loads = [Load(ann, room), Load(bob, room)]
        async with asyncio.TaskGroup() as tasks:
            for load in loads:
                tasks.create_task(load.run())
            # The owner first, since all others are of use only with one; it comes back, and they need not.
            await loads[0].goes_on()
            await _stopped_in_time(cluster, "owner-1")
            await cluster["owner-1"].start()
            for node in (name for name in nodes if not name.startswith(("owner", "gateway"))):
                await loads[0].goes_on()
                await _stopped_in_time(cluster, node)
            for load in loads:
                await load.goes_on()
            await _stopped_in_time(cluster, "gateway-2")
            assert await bob.line.ended() == 1012
            await loads[0].goes_on()
            loads[0].stopped = True
            await _stopped_in_time(cluster, "gateway-1")
        for node in nodes:
            if cluster[node].running:
                await _stopped_in_time(cluster, node)
        found = await posted(place)
        keys = [key for _, _, key in found]
        assert len(keys) == len(set(keys))
        acked = {**loads[0].acked, **loads[1].acked}
        assert acked.items() <= {key: seq for _, seq, key in found}.items()
        assert len(acked) > 10 * IN_FLIGHT
