"""What a process tells of itself: its registry, its readiness, the probes on the metrics port, and the bound on its stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric

from commands.node import Node
from eventlog.relay import Relay
from gateways.rest.probe import Probe
from ops.metrics.families import ProcessRegistry, Readings, counter, gauge
from ops.readiness import READY_LAG_COMMITS_MAX, Readiness, of_node, of_relay, of_views
from ops.stopping import TOO_LATE, Stop
from projections.views import ReadSide


def test_families_of_one_name_come_out_as_one() -> None:
    registry = ProcessRegistry("n1", ("relay", "owner"))

    def batches(feed: str) -> list[Metric]:
        return [counter("minutebook_feed_batches", "Batches", 2, {"feed": feed})]

    Readings(registry, lambda: batches("views"))
    Readings(registry, lambda: batches("faces"))
    Readings(registry, lambda: [gauge("minutebook_other", "Other", 1)])
    lines = generate_latest(registry).decode().splitlines()
    assert lines.count("# TYPE minutebook_feed_batches_total counter") == 1
    assert 'minutebook_feed_batches_total{feed="views"} 2.0' in lines
    assert 'minutebook_feed_batches_total{feed="faces"} 2.0' in lines
    assert any('minutebook_process_info{node="n1",roles="owner,relay",version=' in line for line in lines)


def test_all_reasons_are_named_by_their_parts() -> None:
    readiness = Readiness()
    assert not readiness()
    wrong: dict[str, str] = {}
    readiness.add(lambda: wrong)
    readiness.add(dict)
    wrong["log"] = "refuses"
    readiness.stopping = True
    assert readiness() == {"server": "stopping", "log": "refuses"}


@pytest.mark.parametrize(
    "writable,lost,parts",
    [
        (True, (), set()),
        (False, (), {"log"}),
        (True, (3, 5), {"shards"}),
        (False, (3,), {"log", "shards"}),
    ],
)
def test_an_owner_is_ready_while_its_log_and_all_its_shards_take_writes(
    writable: bool, lost: tuple[int, ...], parts: set[str]
) -> None:
    shards = {number: SimpleNamespace(lost=number in lost) for number in range(8)}
    node = cast("Node", SimpleNamespace(writable=writable, shards=shards))
    reasons = of_node(node)
    assert set(reasons) == parts
    assert ", ".join(map(str, lost)) in reasons.get("shards", "")


def test_views_and_the_relay_say_what_they_lack() -> None:
    def views(failing: bool, lag: int) -> Mapping[str, str]:
        return of_views(cast("ReadSide", SimpleNamespace(failing=failing, lag_commits=lag)))

    assert not views(False, READY_LAG_COMMITS_MAX)
    assert "behind" in views(False, READY_LAG_COMMITS_MAX + 1)["views"]
    assert "written" in views(True, 0)["views"]
    assert not of_relay(cast("Relay", SimpleNamespace(is_connected=True)))
    assert of_relay(cast("Relay", SimpleNamespace(is_connected=False)))["carrier"]


async def test_the_probe_lives_before_it_is_ready_and_says_what_is_wrong() -> None:
    probe, reasons = Probe(), {"views": "far behind"}
    transport = httpx.ASGITransport(cast("Any", probe))
    async with httpx.AsyncClient(transport=transport, base_url="http://probe.test") as http:
        assert (await http.get("/livez")).json()["data"] == {"status": "ok"}
        starting = await http.get("/readyz")
        assert (starting.status_code, starting.json()["code"]) == (503, "unavailable")
        assert starting.json()["errors"] == [{"field": "server", "message": "starting"}]
        assert (await http.get("/metrics")).status_code == 200

        probe.watch(ProcessRegistry("n1", ()), lambda: reasons)
        behind = await http.get("/readyz")
        assert behind.headers["content-type"] == "application/problem+json"
        assert behind.json()["errors"] == [{"field": "views", "message": "far behind"}]
        reasons.clear()
        assert (await http.get("/readyz")).json()["data"] == {"status": "ok"}
        probe.watch(ProcessRegistry("n1", ()), dict, lambda: {"carrier": "Kafka is away"})
        assert (await http.get("/readyz")).json()["data"] == {"status": "degraded: carrier: Kafka is away"}
        assert 'node="n1"' in (await http.get("/metrics")).text
        assert (await http.post("/readyz")).status_code == 404
        assert (await http.get("/v1/users/me")).status_code == 404


async def test_a_second_signal_leaves_less_time() -> None:
    ended: list[int] = []
    stop = Stop(ended.append)
    stop.signalled()
    assert (stop.asked.is_set(), stop.hurry.is_set()) == (True, False)
    stop.signalled()
    assert stop.hurry.is_set()
    stop.over()
    stop.over()
    assert ended == []


def test_a_stop_that_takes_too_long_ends_the_process_although_the_loop_hangs() -> None:
    ended = threading.Event()
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    async def hang() -> None:
        Stop(end, stop_s=0.01).signalled()
        assert ended.wait(5)  # Blocks the loop, as a defect would.

    asyncio.run(hang())
    assert codes == [TOO_LATE]
