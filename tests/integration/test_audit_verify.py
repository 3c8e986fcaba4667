"""A record that was tampered with: each way is found, and named with its shard, position and stream."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from eventlog.record import Head
from eventlog.snapshots import SqliteSnapshots
from eventlog.sqlite import SqliteLog
from ops.audit.verifying import Fault, Verification
from ops.folder import DataFolder
from tests.integration.recorded import GROUP, data_folder, position_of, rows_of, spoil, story, write
from tests.unit.projections.world import World, views_of


@pytest_asyncio.fixture
async def world() -> World:
    return await story()


@pytest_asyncio.fixture
async def folder(world: World, tmp_path: Path) -> DataFolder:
    made = data_folder(tmp_path)
    await write(world, made)
    return made


def faults(folder: DataFolder, **options: object) -> list[Fault]:
    return list(Verification(folder, **options).faults())  # type: ignore[arg-type]


def kinds(found: list[Fault]) -> set[str]:
    return {fault.kind for fault in found}


def test_a_record_as_it_was_written_has_no_fault(world: World, folder: DataFolder) -> None:
    steps: list[tuple[int, int]] = []
    verification = Verification(folder, report=lambda done, total: steps.append((done, total)))
    assert list(verification.faults()) == []
    summary = verification.summary
    assert (summary.commits, summary.faults) == (len(world.history), 0)
    assert summary.events == sum(len(committed.events) for committed in world.history)
    assert steps[-1] == (len(world.history), len(world.history))


def test_a_changed_byte_is_found_where_it_is(folder: DataFolder) -> None:
    row_id, shard, frame = rows_of(folder, GROUP)[1]
    assert b'"first"' in frame
    spoil(folder, "UPDATE commits SET frame = ? WHERE id = ?", frame.replace(b'"first"', b'"worst"'), row_id)
    (fault,) = faults(folder)
    assert (fault.kind, fault.shard, fault.position, fault.stream) == (
        "changed",
        shard,
        position_of(row_id),
        GROUP,
    )


def test_a_deleted_row_is_missed(folder: DataFolder) -> None:
    row_id, shard, _ = rows_of(folder, GROUP)[2]
    spoil(folder, "DELETE FROM commits WHERE id = ?", row_id)
    found = faults(folder)
    assert ("missing", shard, position_of(row_id)) in [(f.kind, f.shard, f.position) for f in found]
    assert ("version", GROUP) in [(f.kind, f.stream) for f in found]


def test_swapped_rows_are_both_named(folder: DataFolder) -> None:
    (one, shard, _), (other, _, _) = rows_of(folder, GROUP)[2:4]
    for before, after in ((one, -1), (other, one), (-1, other)):
        spoil(folder, "UPDATE commits SET id = ? WHERE id = ?", after, before)
    swapped = [(f.shard, f.position) for f in faults(folder) if f.kind == "swapped"]
    assert swapped == [(shard, position_of(one)), (shard, position_of(other))]


def test_swapped_frames_are_both_named(folder: DataFolder) -> None:
    (one, _, first), (other, _, second) = rows_of(folder, GROUP)[2:4]
    spoil(folder, "UPDATE commits SET frame = ? WHERE id = ?", second, one)
    spoil(folder, "UPDATE commits SET frame = ? WHERE id = ?", first, other)
    swapped = [f.position for f in faults(folder) if f.kind == "swapped"]
    assert swapped == [position_of(one), position_of(other)]


@pytest.mark.parametrize("keep", [0, 1, 40, -1])
def test_a_frame_cut_short_is_unreadable(folder: DataFolder, keep: int) -> None:
    row_id, shard, frame = rows_of(folder, GROUP)[3]
    spoil(folder, "UPDATE commits SET frame = ? WHERE id = ?", frame[:keep], row_id)
    named = [(f.kind, f.shard, f.position, f.stream) for f in faults(folder)]
    assert ("unreadable", shard, position_of(row_id), GROUP) in named


@pytest.mark.parametrize(
    "column,value",
    [
        ("epoch", 7),
        ("stream", "g_other"),
        ("first_version", 99),
        ("events_count", 9),
        ("first_number", 99),
        ("key", bytes(15) + b"\xff"),
        ("payload_digest", b"\x01" * 16),
        ("at", 1),
    ],
)
def test_a_changed_column_is_named(folder: DataFolder, column: str, value: object) -> None:
    row_id, shard, _ = rows_of(folder, GROUP)[3]
    spoil(folder, f"UPDATE commits SET {column} = ? WHERE id = ?", value, row_id)
    (fault,) = [f for f in faults(folder) if f.kind == "copy"]
    assert (fault.shard, fault.position) == (shard, position_of(row_id))
    assert column in fault.detail


def test_a_row_moved_out_of_all_shards_is_found(folder: DataFolder) -> None:
    row_id, _, _ = rows_of(folder, GROUP)[3]
    spoil(folder, "UPDATE commits SET id = ? WHERE id = ?", 900 << 48 | 1, row_id)
    assert kinds(faults(folder)) >= {"missing", "misplaced"}


def test_frames_of_another_log_are_strangers(folder: DataFolder) -> None:
    spoil(folder, "UPDATE meta SET value = 'other' WHERE name = 'log_id'")
    assert kinds(faults(folder)) == {"log"}


def cut(folder: DataFolder) -> tuple[int, int]:
    """Cut the last two commits of the room's shard; (shard, what is left of it)."""
    shard = rows_of(folder, GROUP)[0][1]
    with closing(sqlite3.connect(folder.log)) as db:
        (last,) = db.execute("SELECT max(id) FROM commits WHERE shard = ?", (shard,)).fetchone()
    spoil(folder, "DELETE FROM commits WHERE id > ? AND shard = ?", last - 2, shard)
    return shard, position_of(last) - 2


def test_without_witnesses_a_cut_end_leaves_a_record_that_is_whole(folder: DataFolder) -> None:
    cut(folder)
    assert faults(folder) == []


async def test_the_views_remember_a_cut_end(world: World, folder: DataFolder) -> None:
    async with views_of(world, folder.views) as views:
        await views.caught_up(world.positions())
    assert faults(folder) == []
    shard, left = cut(folder)
    (fault,) = faults(folder)
    assert (fault.kind, fault.shard, fault.position) == ("cut_short", shard, left)
    assert "view timeline-v1" in fault.detail


def test_the_reactions_remember_a_cut_end(world: World, folder: DataFolder) -> None:
    stored = {"log_id": world.log.log_id, "positions": world.positions()}
    folder.reactions.write_bytes(msgspec.json.encode(stored))
    shard, left = cut(folder)
    (fault,) = faults(folder)
    assert (fault.kind, fault.shard, fault.position) == ("cut_short", shard, left)


async def test_a_snapshot_remembers_a_cut_stream(folder: DataFolder) -> None:
    row_id, shard, _ = rows_of(folder, GROUP)[-1]
    log = await SqliteLog.open_read_only(folder.log)
    snapshots = await SqliteSnapshots.open(folder.snapshots, log)
    await snapshots.save(GROUP, 14, position_of(row_id), 1, {"a": b"b"})
    await snapshots.close()
    await log.close()
    assert faults(folder) == []
    with closing(sqlite3.connect(folder.log)) as db:
        (last,) = db.execute("SELECT max(id) FROM commits WHERE shard = ?", (shard,)).fetchone()
    spoil(folder, "DELETE FROM commits WHERE id BETWEEN ? AND ?", row_id, last)
    (fault,) = faults(folder)
    assert (fault.kind, fault.shard, fault.stream) == ("cut_short", shard, GROUP)


async def test_views_of_another_log_are_no_witnesses(folder: DataFolder) -> None:
    other = World(log_id="elsewhere")
    for number in range(50):
        await other.register(f"u{number}")
    async with views_of(other, folder.views) as views:
        await views.caught_up(other.positions())
    assert faults(folder) == []


@pytest.mark.parametrize("spoiled", ["position", "digest"])
def test_heads_known_from_elsewhere_must_be_there(world: World, folder: DataFolder, spoiled: str) -> None:
    shard = rows_of(folder, GROUP)[0][1]
    heads = {c.commit.shard: c.commit.head for c in world.history}
    assert faults(folder, expected=heads) == []
    head = heads[shard]
    wrong = Head(head.position + (spoiled == "position"), head.epoch, head.number, head.at, bytes(32))
    (fault,) = faults(folder, expected={shard: wrong})
    assert fault.kind == ("cut_short" if spoiled == "position" else "changed")
    assert fault.position == head.position


def _header(content: bytes) -> bytes:
    return b"no database file" + content[16:]


def _pages(content: bytes) -> bytes:
    return content[:4096] + b"\xff" * 8192 + content[12_288:]


def _half(content: bytes) -> bytes:
    return content[: len(content) // 8192 * 4096]


def _nothing(_content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [_header, _pages, _half, _nothing])
def test_a_damaged_file_is_a_finding_and_no_accident(
    folder: DataFolder, damage: Callable[[bytes], bytes]
) -> None:
    with closing(sqlite3.connect(folder.log)) as db:
        db.execute("PRAGMA journal_mode = DELETE").fetchone()
    folder.log.write_bytes(damage(folder.log.read_bytes()))
    assert "file" in kinds(faults(folder))


def test_an_index_that_differs_from_the_table_is_found(folder: DataFolder) -> None:
    with closing(sqlite3.connect(folder.log, isolation_level=None)) as db:
        db.execute("PRAGMA writable_schema = ON")
        hidden = "CREATE UNIQUE INDEX commits_key ON commits (shard, key) WHERE shard < 0"
        db.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'commits_key'", (hidden,))
    assert kinds(faults(folder)) == {"file"}
    assert faults(folder, check_file=False) == []


def test_damaged_views_are_no_witnesses(folder: DataFolder) -> None:
    folder.views.mkdir()
    (folder.views / "timeline-v1.db").write_bytes(b"rubbish" * 1_000)
    folder.reactions.write_text("{")
    folder.snapshots.write_bytes(b"rubbish" * 1_000)
    assert faults(folder) == []
