"""An owner in a process of its own that is killed between its commits and their answers: what was acknowledged is there, once."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import msgspec
import pytest

from commands.caller import Answer
from commands.ownership import NodeShards
from commands.router import Router
from eventlog.memory import MemoryLog
from eventlog.sqlite import SqliteLog
from tests.contract.command_house import (
    CODEC,
    FAST_ROUTER,
    FAST_RPC,
    SHARDS,
    WAIT_S,
    caller,
    face,
    keyed,
    open_pair,
    post,
)

ROOT = Path(__file__).resolve().parents[2]
KILLS = 6
PATIENT = msgspec.structs.replace(FAST_ROUTER, deadline_s=60.0)


async def started(log: Path, port: int, kill_after: int, name: str = "one") -> tuple[Process, int]:
    """An owner that serves, and its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.command_child", str(log), str(port), str(kill_after), name,
        cwd=ROOT, stdin=PIPE, stdout=PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(3 * WAIT_S):
        line = await process.stdout.readline()
    return process, int(line)


async def ended(process: Process) -> int:
    """Its exit code, once its stdin has ended."""
    assert process.stdin is not None
    process.stdin.close()
    async with asyncio.timeout(3 * WAIT_S):
        await process.communicate()
    assert process.returncode is not None
    return process.returncode


class Talk:
    """Eight people who write without a pause, each message under its own key or under none."""

    def __init__(self, router: Router, name: str) -> None:
        self.router = router
        self.name = name
        self.acked: dict[str, Answer] = {}
        self.sent = 0
        self.over = False
        self.heard = asyncio.Event()

    async def write(self) -> None:
        """Until told that it is over."""
        while not self.over:
            self.sent += 1
            words = f"m{self.sent}"
            client_key = words if self.sent % 2 else None
            self.acked[words] = await self.router.execute(
                caller("ann"), self.name, post(words), keyed(self.name, client_key)
            )
            self.heard.set()


async def messages_of(path: Path, name: str) -> list[tuple[str, int | None, int]]:
    """(client id, seq, position) of the messages of a stream, as the log holds them; positions and versions are dense."""
    log = await SqliteLog.open(path, SHARDS)
    try:
        rows = []
        for shard in range(SHARDS):
            commits = await log.read_shard(shard, 0, 5_000)
            assert [commit.position for commit in commits] == list(range(1, len(commits) + 1))
            rows += [
                row for commit in commits if commit.stream == name for row in CODEC.decode(commit).events
            ]
        assert [row.version for row in rows] == list(range(1, len(rows) + 1))
        return [
            (row.event.client_msg_id, row.seq, row.position)
            for row in rows
            if hasattr(row.event, "client_msg_id")
        ]
    finally:
        await log.close()


@pytest.mark.slow
@pytest.mark.crash
async def test_killed_after_the_commit_and_before_the_answer(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    process, port = await started(path, 0, 0)
    rows = {"one": (f"127.0.0.1:{port}", f"0-{SHARDS - 1}")}
    log_id = await _log_id(path, process)
    killed = 0
    process, port = await started(path, port, 40)
    async with face(MemoryLog(log_id, SHARDS), rows, router=PATIENT) as house:
        name = await open_pair(house.router, "ann", "bob")
        talk = Talk(house.router, name)
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(talk.write())
            for number in range(KILLS):
                async with asyncio.timeout(3 * WAIT_S):
                    killed += await process.wait() == -signal.SIGKILL
                process, port = await started(path, port, 0 if number == KILLS - 1 else 30 + 7 * number)
            talk.over = True
        lost = house.router.counters.links_lost
    assert await ended(process) == 0
    assert killed == KILLS
    assert lost > 0
    found = await messages_of(path, name)
    ids = [client_id for client_id, _, _ in found]
    assert len(set(ids)) == len(ids), "duplicated"
    assert set(talk.acked) == set(ids), "lost or unexpected"
    told = {client_id: (answer.seq, answer.position) for client_id, answer in talk.acked.items()}
    assert told == {client_id: (seq, position) for client_id, seq, position in found}
    replayed = [client_id for client_id, answer in talk.acked.items() if answer.replayed]
    assert replayed, "no answer was ever cut off"


@pytest.mark.slow
@pytest.mark.crash
async def test_two_processes_that_own_the_same_shards_by_mistake(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    process, port = await started(path, 0, 0)
    log_id = await _log_id(path, process)
    one, port = await started(path, port, 0)
    two, other = one, 0
    rows = {"one": (f"127.0.0.1:{port}", f"0-{SHARDS - 1}"), "two": ("127.0.0.1:1", "")}
    async with face(MemoryLog(log_id, SHARDS), rows, router=PATIENT) as house:
        name = await open_pair(house.router, "ann", "bob")
        talk = Talk(house.router, name)
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(talk.write())
            two, other = await started(path, 0, 0, "two")
            house.rows[1] = NodeShards("two", f"127.0.0.1:{other}", "")
            await house.ownership.refresh()
            acked = len(talk.acked)
            async with asyncio.timeout(3 * WAIT_S):
                while len(talk.acked) < acked + 200:
                    await talk.heard.wait()
                    talk.heard.clear()
            talk.over = True
        shard = next(iter(talk.acked.values())).shard
        place = house.ownership.current().of(shard)
        assert (place.node, place.epoch > 1) == ("two", True)
        assert house.router.counters.not_owner > 0
    assert [await ended(one), await ended(two)] == [0, 0]
    told = {client_id: (answer.seq, answer.position) for client_id, answer in talk.acked.items()}
    found = await messages_of(path, name)
    assert told == {client_id: (seq, position) for client_id, seq, position in found}
    assert len(found) == len(told)


@pytest.mark.slow
@pytest.mark.crash
async def test_an_owner_that_hangs_is_given_up_and_asked_again_when_it_is_back(tmp_path: Path) -> None:
    """A stopped process answers nothing, and its kernel goes on taking what is sent: only pings can tell."""
    path = tmp_path / "log.db"
    process, port = await started(path, 0, 0)
    log_id = await _log_id(path, process)
    process, port = await started(path, port, 0)
    rows = {"one": (f"127.0.0.1:{port}", f"0-{SHARDS - 1}")}
    watchful = msgspec.structs.replace(FAST_RPC, keepalive_s=1.0, keepalive_timeout_s=0.5)
    async with face(MemoryLog(log_id, SHARDS), rows, router=PATIENT, rpc=watchful) as house:
        name = await open_pair(house.router, "ann", "bob")
        process.send_signal(signal.SIGSTOP)
        lost = asyncio.Event()
        house.ownership.unreachable = lambda shard, node: lost.set()  # type: ignore[method-assign]
        async with asyncio.TaskGroup() as group:
            sent = group.create_task(house.router.execute(caller("ann"), name, post("m1"), keyed(name, None)))
            try:
                async with asyncio.timeout(WAIT_S):
                    await lost.wait()
            finally:
                process.send_signal(signal.SIGCONT)
        assert sent.result().seq == 2
    assert await ended(process) == 0
    assert [client_id for client_id, _, _ in await messages_of(path, name)] == ["m1"]


async def _log_id(path: Path, process: Process) -> str:
    """Of the log that the process made; it ends."""
    assert await ended(process) == 0
    log = await SqliteLog.open(path, SHARDS)
    try:
        return log.log_id
    finally:
        await log.close()
