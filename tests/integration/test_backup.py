"""A backup under load, restored into another folder, verified, served and written on."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from domain.errors import Problem
from eventlog.codec import decode_frame
from eventlog.sqlite import SqliteLog
from ops.audit.verifying import Verification
from ops.backup import MANIFEST, BackupError, Manifest, make_backup, read_manifest, restore
from ops.folder import DataFolder
from ops.operating import ServerOperations
from ops.operations import Progress
from tests.integration.house import open_house
from tests.integration.recorded import GROUP, data_folder, rows_of, story, write

POSTS_BEFORE = 20
POSTS_DURING = 60


def log_ids(folder: DataFolder) -> list[str]:
    """The ids in the frames, each once, in the order of the shards' positions."""
    with closing(sqlite3.connect(folder.log)) as db:
        frames = db.execute("SELECT frame FROM commits ORDER BY id").fetchall()
    return list(dict.fromkeys(decode_frame(bytes(frame)).log_id for (frame,) in frames))


def modes_of(folder: Path) -> set[int]:
    """The modes of all files in it."""
    return {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir() if path.suffix == ".db"}


@pytest.mark.slow
async def test_what_was_acknowledged_before_a_backup_is_in_it_and_life_goes_on_under_a_new_id(
    tmp_path: Path,
) -> None:
    target, seen = tmp_path / "backup", list[Progress]()
    async with open_house(tmp_path / "data") as house:
        anna, ben = await house.people("anna", "ben")
        room = await anna.group("ben")
        before = [await anna.post(room, f"before {number}") for number in range(POSTS_BEFORE)]
        operations = ServerOperations(house.server)

        async def go_on() -> None:
            for number in range(POSTS_DURING):
                await ben.post(room, f"during {number}")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(go_on())
            made = await operations.backup(target, seen.append)
        former = house.server.log.log_id
    assert seen[-1].done == seen[-1].total > 0
    assert modes_of(target) == {0o600}
    manifest = await asyncio.to_thread(read_manifest, target)
    assert (made.log_id, made.events) == (former, manifest.events)

    folder = DataFolder(tmp_path / "again")
    restored = await asyncio.to_thread(restore, target, folder.root)
    assert restored.former_log_id == former != restored.log_id
    assert modes_of(folder.root) == {0o600}
    found = Verification(folder, expected=manifest.expected())
    assert list(found.faults()) == []
    assert found.summary.events == manifest.events

    async with open_house(folder.root) as house:
        assert house.server.log.log_id == restored.log_id
        anna = await house.log_in("anna")
        seq = await anna.post(room, "after", client_msg_id="after-the-restore")
        assert seq > before[-1]
        views = house.server.views
        await views.caught_up(house.server.desk.head_positions())
        access = await views.timeline.access("default", "anna", room)
        assert access is not None
        page = await views.timeline.messages(access, limit=200)
        texts = [msgspec.json.decode(row)["content"]["text"] for row in page.data]
    assert texts[:POSTS_BEFORE] == [f"before {number}" for number in range(POSTS_BEFORE)]
    assert texts[-1] == "after"
    assert log_ids(folder) == [former, restored.log_id]
    assert list(Verification(folder).faults()) == []


async def backed_up(tmp_path: Path) -> tuple[DataFolder, Path, Manifest]:
    """A small folder and its backup."""
    folder = data_folder(tmp_path)
    await write(await story(), folder)
    folder.secrets.touch(0o600)
    log = await SqliteLog.open_read_only(folder.log)
    manifest = await make_backup(log, folder.secrets, tmp_path / "backup", 1_700_000_000_000)
    await log.close()
    return folder, tmp_path / "backup", manifest


async def test_a_restored_log_may_be_restored_again(tmp_path: Path) -> None:
    _, target, manifest = await backed_up(tmp_path)
    one = restore(target, tmp_path / "one")
    folder = DataFolder(tmp_path / "one")
    log = await SqliteLog.open_read_only(folder.log)
    await make_backup(log, folder.secrets, tmp_path / "second", 1_700_000_000_001)
    await log.close()
    two = restore(tmp_path / "second", tmp_path / "two")
    assert len({manifest.log_id, one.log_id, two.log_id}) == 3
    assert two.former_log_id == one.log_id
    assert list(Verification(DataFolder(tmp_path / "two")).faults()) == []


async def test_a_frame_of_the_former_log_behind_the_new_ones_is_found(tmp_path: Path) -> None:
    _, target, manifest = await backed_up(tmp_path)
    restore(target, tmp_path / "one")
    folder = DataFolder(tmp_path / "one")
    with closing(sqlite3.connect(folder.log, isolation_level=None)) as db:
        db.execute("DELETE FROM meta WHERE name = 'former_log_ids'")
    found = list(Verification(folder).faults())
    assert {fault.kind for fault in found} == {"log"}
    assert len(found) == sum(head.position for head in manifest.heads.values())


async def test_a_backup_that_was_changed_is_not_restored(tmp_path: Path) -> None:
    _, target, _ = await backed_up(tmp_path)
    content = bytearray((target / "log.db").read_bytes())
    content[-1] ^= 1
    (target / "log.db").write_bytes(bytes(content))
    with pytest.raises(BackupError, match="not the file"):
        restore(target, tmp_path / "again")
    assert not (tmp_path / "again").exists()


async def test_a_backup_without_its_manifest_is_none(tmp_path: Path) -> None:
    _, target, _ = await backed_up(tmp_path)
    (target / MANIFEST).unlink()
    with pytest.raises(BackupError, match="holds no backup"):
        restore(target, tmp_path / "again")
    (target / MANIFEST).write_text("{}")
    with pytest.raises(BackupError, match="cannot be read"):
        restore(target, tmp_path / "again")


async def test_neither_a_backup_nor_a_restore_overwrites_anything(tmp_path: Path) -> None:
    folder, target, _ = await backed_up(tmp_path)
    with pytest.raises(BackupError, match="not empty"):
        restore(target, folder.root)
    log = await SqliteLog.open_read_only(folder.log)
    with pytest.raises(BackupError, match="not empty"):
        await make_backup(log, folder.secrets, target, 0)
    await log.close()
    assert rows_of(folder, GROUP)


async def test_a_server_makes_one_backup_at_a_time(tmp_path: Path) -> None:
    async with open_house(tmp_path / "data") as house:
        operations = ServerOperations(house.server)
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(operations.backup(tmp_path / "one", lambda _: None))
            second = tasks.create_task(refused(operations, tmp_path / "two"))
        assert await second == "conflict"
        assert (await first).events > 0


async def refused(operations: ServerOperations, target: Path) -> str:
    """The code of a refused backup."""
    try:
        await operations.backup(target, lambda _: None)
    except Problem as problem:
        return problem.code
    return "done"
