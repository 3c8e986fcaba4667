"""The control socket: what goes over it, and what it refuses."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from domain.errors import Problem
from ops.control import (
    CONNECTIONS_MAX,
    LINE_BYTES_MAX,
    ControlLostError,
    ControlServer,
    NoServerError,
    ask,
)
from ops.operations import (
    AskBackup,
    AskCreateKey,
    AskKeys,
    AskParked,
    AskRebuild,
    AskRetry,
    AskRevokeKey,
    AskRollBack,
    AskStatus,
    BackupMade,
    KeyMade,
    KeyRow,
    Parked,
    Progress,
    Rebuilt,
    Report,
    RolledBack,
    Status,
)

STATUS = Status(
    version="1",
    process_id=1,
    url="http://127.0.0.1:1",
    log_id="log",
    shards=4,
    events=9,
    writable=True,
    queued_orders=0,
    view_lag_commits=0,
    parked=0,
    read_models=["timeline"],
)
PARKED = Parked(
    projection="timeline", stream="g_1", from_version=2, shard=1, position=5, at=7, error="UnknownEventError"
)
BACK = RolledBack(name="timeline", old_version=2, new_version=1, events=4, seconds=0.1)
KEY = KeyMade(tenant="acme", key_id="ak_1", secret="shown once", expires_at=5)
ROW = KeyRow(tenant="acme", key_id="ak_1", created_at=3, expires_at=None, revoked=False)


class Desk:
    """Operations that answer at once, fail, or wait, by what they are asked."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.asked: list[object] = []

    async def status(self) -> Status:
        self.begun.set()
        return STATUS

    async def rebuild(self, name: str, report: Report, share: float, *, only_if_same: bool) -> Rebuilt:
        self.asked.append((name, share, only_if_same))
        if name == "forever":
            self.begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if name == "broken":
            raise RuntimeError("it broke")
        for done in (1, 2):
            report(Progress(done, 2, "commits"))
        return Rebuilt(
            name=name,
            old_version=1,
            new_version=2,
            events=3,
            seconds=0.5,
            same=True,
            switched=True,
            digest="d",
        )

    async def roll_back(self, name: str, report: Report, share: float) -> RolledBack:
        self.asked.append((name, share))
        return BACK

    async def backup(self, target: Path, report: Report) -> BackupMade:
        raise Problem("conflict", f"{target} is not empty")

    async def parked(self) -> list[Parked]:
        return [PARKED]

    async def retry(self, projection: str, stream: str, skip_because: str | None) -> bool:
        self.asked.append((projection, stream, skip_because))
        return skip_because is not None

    async def create_key(self, tenant: str, expires_at: int | None) -> KeyMade:
        return KEY

    async def keys(self, tenant: str) -> list[KeyRow]:
        return [ROW]

    async def revoke_key(self, tenant: str, key_id: str) -> bool:
        return key_id == "ak_1"


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    operations = Desk()
    async with ControlServer(tmp_path / "control.sock", operations):
        yield operations


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


async def test_every_request_has_its_answer(desk: Desk, path: Path) -> None:
    assert await ask(path, AskStatus(), Status) == STATUS
    assert await ask(path, AskParked(), list[Parked]) == [PARKED]
    assert await ask(path, AskCreateKey("acme"), KeyMade) == KEY
    assert await ask(path, AskKeys("acme"), list[KeyRow]) == [ROW]
    assert await ask(path, AskRevokeKey("acme", "ak_1"), bool)
    assert not await ask(path, AskRetry("timeline", "g_1"), bool)
    assert await ask(path, AskRetry("timeline", "g_1", "a reason"), bool)
    assert await ask(path, AskRollBack("timeline", 0.7), RolledBack) == BACK
    assert desk.asked[-2:] == [("timeline", "g_1", "a reason"), ("timeline", 0.7)]


async def test_progress_comes_before_the_answer(desk: Desk, path: Path) -> None:
    seen: list[Progress] = []
    built = await ask(path, AskRebuild("timeline", 0.7, True), Rebuilt, seen.append)
    assert built.same
    assert seen[-1] == Progress(2, 2, "commits")
    assert desk.asked == [("timeline", 0.7, True)]


async def test_a_refusal_is_a_problem(desk: Desk, path: Path) -> None:
    with pytest.raises(Problem) as refused:
        await ask(path, AskBackup("/somewhere"), BackupMade)
    assert (refused.value.code, refused.value.detail) == ("conflict", "/somewhere is not empty")


async def test_a_defect_is_told_in_a_sentence_and_the_server_goes_on(desk: Desk, path: Path) -> None:
    with pytest.raises(Problem, match="it broke"):
        await ask(path, AskRebuild("broken"), Rebuilt)
    assert await ask(path, AskStatus(), Status) == STATUS


async def test_a_client_that_goes_away_cancels_what_it_asked_for(desk: Desk, path: Path) -> None:
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(ask(path, AskRebuild("forever"), Rebuilt))
        await desk.begun.wait()
        asking.cancel()
    await desk.cancelled.wait()


async def test_the_end_of_the_server_ends_what_runs(tmp_path: Path) -> None:
    desk, path = Desk(), tmp_path / "control.sock"
    async with asyncio.TaskGroup() as tasks:
        async with ControlServer(path, desk):
            asking = tasks.create_task(_lost(path))
            await desk.begun.wait()
        assert await asking
    assert desk.cancelled.is_set()
    assert not path.exists()


async def _lost(path: Path) -> bool:
    try:
        await ask(path, AskRebuild("forever"), Rebuilt)
    except ControlLostError:
        return True
    return False


@pytest.mark.parametrize(
    "line", [b"{}\n", b"nonsense\n", b'{"ask":"unknown"}\n', b"x" * (LINE_BYTES_MAX + 2), b""]
)
async def test_what_is_no_request_is_refused(desk: Desk, path: Path, line: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(line)
    writer.write_eof()
    assert b"malformed" in await reader.readline()
    writer.close()
    await writer.wait_closed()
    assert await ask(path, AskStatus(), Status) == STATUS


async def test_connections_are_bounded(desk: Desk, path: Path) -> None:
    idle = [await asyncio.open_unix_connection(str(path)) for _ in range(CONNECTIONS_MAX)]
    with pytest.raises(Problem) as refused:
        await ask(path, AskStatus(), Status)
    assert refused.value.code == "overloaded"
    for _, writer in idle:
        writer.close()
        await writer.wait_closed()


async def test_the_socket_is_its_owners_alone(desk: Desk, path: Path) -> None:
    assert mode_of(path) == 0o600


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_a_socket_that_is_left_over_is_replaced(path: Path) -> None:
    await asyncio.to_thread(path.touch)
    async with ControlServer(path, Desk()):
        assert await ask(path, AskStatus(), Status) == STATUS


async def test_nobody_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoServerError):
        await ask(tmp_path / "control.sock", AskStatus(), Status)


async def test_a_path_longer_than_the_kernel_takes_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    async with ControlServer(deep / "control.sock", Desk()):
        assert await ask(deep / "control.sock", AskStatus(), Status) == STATUS
