"""Durable direct messages through a cluster on real MongoDB, Kafka and Redis: 200 users in pairs, the two of a pair at two gateways.
Open loop at fixed rates.

One process of each role as `make run-cluster` starts them (with two gateways), and the all-in-one process over the same servers. Latency is
send → ack at the sender's gateway, and send → the peer's socket at the other one. Beside it, in the same run, a bare messenger: our socket
layer, one `insert_many` with majority and journal a flush, and frames out. CPU is that of whole processes, a message.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import uvloop

from bench.cluster_nodes import Flushes, Site, cpu_by_name, server_at, site
from bench.direct_messages import USERS, Load, send_at_rate
from bench.harness import Server, bare_messenger, percentile, table, tokens
from docker.local.roles import RoleProcess

RATES = (500, 1_000, 2_000)
WARM_UP_RATE = 400
WARM_UP_S = 3.0
IDLE_S = 2.0
BARE_DATABASE = "bare"
ROOT = Path(__file__).resolve().parent.parent
LOAD = "load"

RATE_GOAL, P99_GOAL_MS = 2_000, 100.0
CPU_GOAL_US = 350.0
P50_GOAL_MS, P50_GOAL_RATE = 12.0, 500


class Measured(NamedTuple):
    """One rate. `cpu_us` by process, a message."""

    rate: int
    done_per_s: float
    errors: int
    acks_s: Sequence[float]
    latencies_s: Sequence[float]
    cpu_us: Mapping[str, float]
    flushes: Flushes
    messages: int
    seconds: float

    def sum_us(self, names: Sequence[str]) -> float:
        """Of these processes together."""
        return sum(self.cpu_us[name] for name in names)

    def p(self, latencies_s: Sequence[float], share: float) -> float:
        """A percentile in milliseconds."""
        return percentile(latencies_s, share) * 1e3


async def measured(
    name: str, at: Site, database: str, faces: Sequence[Server], keys: Sequence[str], pids: Mapping[str, int],
    rates: Sequence[int], seconds: float,
) -> list[Measured]:  # fmt: skip
    """All rates, one after the other, over the same sockets; user n at face n modulo their number."""
    load = Load(name)
    for user, token in enumerate(keys):
        await load.connect(faces[user % len(faces)], user, token)
    while load.welcomes < USERS:
        await asyncio.sleep(0.05)
    watched = {**pids, LOAD: os.getpid()}
    await _idle(watched)
    await send_at_rate(load, WARM_UP_RATE, WARM_UP_S)
    _tell_missing(load, len(load.sent_at) - load.first)
    found = []
    for rate in rates:
        cpu_before, flushes_before = cpu_by_name(watched), at.flushes(database)
        took_s = await send_at_rate(load, rate, seconds)
        cpu_after, flushes = cpu_by_name(watched), at.flushes(database) - flushes_before
        count = len(load.sent_at) - load.first
        _tell_missing(load, count)
        cpu_us = {name: (spent - cpu_before[name]) / count * 1e6 for name, spent in cpu_after.items()}
        found.append(
            Measured(
                rate, load.delivered / took_s, len(load.errors), sorted(load.ack_s), sorted(load.latencies_s), cpu_us,
                flushes, count, took_s,
            )
        )  # fmt: skip
    for socket in load.sockets:
        socket.close()
    return found


async def _idle(watched: Mapping[str, int]) -> None:
    """Print what all this takes while nobody says anything."""
    await asyncio.sleep(IDLE_S)
    before = cpu_by_name(watched)
    await asyncio.sleep(IDLE_S)
    spent = {name: (cpu_s - before[name]) / IDLE_S * 1e3 for name, cpu_s in cpu_by_name(watched).items()}
    print(
        "idle, ms of CPU a second: " + ", ".join(f"{name} {ms:.0f}" for name, ms in spent.items()), flush=True
    )


def _tell_missing(load: Load, count: int) -> None:
    """Say so when not everything was done: the figures of such a rate are not to be trusted."""
    if load.delivered < count:
        first = load.errors[0].decode() if load.errors else "nothing was refused"
        print(
            f"NOT ALL DONE: of {count} messages {load.acks} were acknowledged, {len(load.latencies_s)} came to their peers,"
            f" {load.own} back to their senders, {len(load.errors)} were refused: {first};"
            f" {len(load.closed)} sockets were hung up on: {load.closed[:1]}",
            flush=True,
        )


def shown(title: str, ours: Sequence[Measured], names: Sequence[str], bare: Sequence[Measured]) -> None:
    """Print the tables of one way to run."""
    rows = [
        (
            one.rate, round(one.done_per_s), one.errors,
            f"{one.sum_us(names):.0f}", f"{reference.cpu_us['bare']:.0f}",
            f"{one.sum_us(names) / reference.cpu_us['bare']:.1f}",
            *(f"{one.p(one.acks_s, share):.1f}" for share in (0.5, 0.99)),
            *(f"{one.p(one.latencies_s, share):.1f}" for share in (0.5, 0.99)),
            *(f"{reference.p(reference.latencies_s, share):.1f}" for share in (0.5, 0.99)),
            f"{one.messages / max(1, one.flushes.count):.1f}", f"{one.flushes.count / one.seconds:.0f}",
            f"{one.flushes.microseconds / max(1, one.flushes.count) / 1e3:.1f}",
            f"{reference.messages / max(1, reference.flushes.count):.1f}",
        )
        for one, reference in zip(ours, bare, strict=True)
    ]  # fmt: skip
    columns = (
        "asked/s", "done/s", "errors", "CPU µs", "bare µs", "ratio", "ack p50", "p99 ms", "receive p50", "p99 ms",
        "bare p50", "p99 ms", "commits/flush", "flushes/s", "server ms", "bare commits/flush",
    )  # fmt: skip
    table(f"{title}: durable direct messages, {USERS} users in pairs, 200 bytes, per message", columns, rows)
    others = [name for name in ours[0].cpu_us if name not in names]
    table(
        "  of it by process, CPU µs a message; then the servers and the load itself",
        ("asked/s", *names, "ours", *others),
        [
            (
                one.rate, *(f"{one.cpu_us[name]:.0f}" for name in names), f"{one.sum_us(names):.0f}",
                *(f"{one.cpu_us[name]:.0f}" for name in others),
            )
            for one in ours
        ],
    )  # fmt: skip


def judged(ours: Sequence[Measured], names: Sequence[str]) -> None:
    """Print the goals beside what was measured."""
    rows: list[tuple[str, str, str, str]] = []

    def row(what: str, goal: str, figure: str, reached: bool) -> None:
        rows.append((what, goal, figure, "reached" if reached else "missed"))

    by_rate = {one.rate: one for one in ours}
    if (fast := by_rate.get(RATE_GOAL)) is not None:
        p99_ms = fast.p(fast.latencies_s, 0.99)
        all_done = fast.done_per_s >= 0.98 * RATE_GOAL and not fast.errors
        row("acknowledged and delivered", f">= {RATE_GOAL}/s", f"{fast.done_per_s:.0f}/s", all_done)
        row("send → receive p99 at it", f"<= {P99_GOAL_MS:.0f} ms", f"{p99_ms:.1f} ms", p99_ms <= P99_GOAL_MS)
    for one in ours:
        cpu_us = one.sum_us(names)
        row(
            f"CPU a message at {one.rate}/s",
            f"<= {CPU_GOAL_US:.0f} µs",
            f"{cpu_us:.0f} µs",
            cpu_us <= CPU_GOAL_US,
        )
    if (calm := by_rate.get(P50_GOAL_RATE)) is not None:
        p50_ms = calm.p(calm.latencies_s, 0.5)
        what = f"send → other gateway p50 at {P50_GOAL_RATE}/s"
        row(what, f"<= {P50_GOAL_MS:.0f} ms", f"{p50_ms:.1f} ms", p50_ms <= P50_GOAL_MS)
    table("  goals", ("what", "goal", "measured", "verdict"), rows)


def pids_of(running: Sequence[RoleProcess]) -> dict[str, int]:
    """By name."""
    return {process.name: process.pid for process in running if process.pid is not None}


async def measure(at: Site, modes: Sequence[str], rates: Sequence[int], seconds: float) -> None:
    """Print all tables."""
    servers = at.server_pids()
    async with bare_messenger(at.uri, BARE_DATABASE) as face:
        people = [str(user) for user in range(USERS)]
        pids = {"bare": face.pid, **servers}
        bare = await measured("bare", at, BARE_DATABASE, [face], people, pids, rates, seconds)
    at.client.drop_database(BARE_DATABASE)
    with at.one_process() as process:
        face = server_at(process, process.create_key())
        keys = await tokens(face, [f"u{number}" for number in range(USERS)])
        if "one" in modes:
            ours = await measured(
                "one", at, "minutebook", [face], keys, pids_of([process]) | servers, rates, seconds
            )
            shown("all roles in one process", ours, [process.name], bare)
    if "roles" in modes:
        with at.roles() as running:
            faces = [server_at(process, face.key) for process in running if process.roles == "gateway"]
            pids = pids_of(running)
            print(f"\npids: {pids | servers}", flush=True)
            ours = await measured("roles", at, "minutebook", faces, keys, pids | servers, rates, seconds)
            shown("a process for each role", ours, list(pids), bare)
            judged(ours, list(pids))


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=int, nargs="+", default=list(RATES))
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--modes", nargs="+", choices=("one", "roles"), default=["one", "roles"])
    parser.add_argument("--without", choices=("pusher",), help="a role that is left out")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT.parent) as folder,
        site(Path(folder), without=options.without) as at,
    ):
        uvloop.run(measure(at, options.modes, options.rates, options.seconds))


if __name__ == "__main__":
    main()
