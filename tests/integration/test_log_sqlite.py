"""What the SQLite log does beyond the port: mismatches, failures of the disk, cancellation, backups, waits."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from eventlog import sqlite_writer
from eventlog.integrity import FindingKind, verify_shard
from eventlog.port import LogMismatchError, LogUnavailableError, OutcomeUnknownError, ShardOutcome
from eventlog.sqlite import SqliteLog
from eventlog.sqlite_checkpoint import Checkpointer
from eventlog.sqlite_schema import PAGE_BYTES, connect_writer, prepare
from eventlog.sqlite_writer import LogWriter
from tests.contract.log_samples import LOG_ID, SHARD_COUNT, ShardMaker, append_one, whole_shard


async def test_another_shard_count_is_refused(tmp_path: Path) -> None:
    await (await SqliteLog.open(tmp_path / "log.db", SHARD_COUNT)).close()
    with pytest.raises(LogMismatchError, match="4 shards and cannot be opened with 8"):
        await SqliteLog.open(tmp_path / "log.db", 8)
    again = await SqliteLog.open(tmp_path / "log.db")
    assert again.shard_count == SHARD_COUNT
    await again.close()


async def test_the_log_id_is_made_once(tmp_path: Path) -> None:
    first = await SqliteLog.open(tmp_path / "log.db", SHARD_COUNT)
    await first.close()
    second = await SqliteLog.open(tmp_path / "log.db", SHARD_COUNT, log_id="ignored by an old log")
    await second.close()
    other = await SqliteLog.open(tmp_path / "other.db", SHARD_COUNT)
    await other.close()
    assert first.log_id == second.log_id != other.log_id


@pytest.mark.parametrize(
    "content, error",
    [(None, LogMismatchError), (b"not a database " * 99, LogUnavailableError)],
    ids=["absent", "garbage"],
)
async def test_a_file_that_is_no_log(tmp_path: Path, content: bytes | None, error: type[Exception]) -> None:
    path = tmp_path / "log.db"
    if content is not None:
        await asyncio.to_thread(path.write_bytes, content)
    with pytest.raises(error):
        await SqliteLog.open(path)
    with pytest.raises(error):
        await SqliteLog.open_read_only(path)


def alter(path: Path, statement: str) -> None:
    """Change a file behind the log's back."""
    db = sqlite3.connect(path)
    db.execute(statement)
    db.commit()
    db.close()


@pytest.mark.parametrize("statement", ["PRAGMA user_version = 99", "DELETE FROM meta WHERE name = 'log_id'"])
async def test_a_log_of_another_schema_or_without_meta(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "log.db"
    await (await SqliteLog.open(path, SHARD_COUNT)).close()
    await asyncio.to_thread(alter, path, statement)
    with pytest.raises(LogMismatchError):
        await SqliteLog.open(path, SHARD_COUNT)


async def test_a_database_that_is_no_log(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    await asyncio.to_thread(alter, path, "CREATE TABLE other (x)")
    with pytest.raises(LogMismatchError, match="not a log"):
        await SqliteLog.open(path, SHARD_COUNT)


async def test_a_read_only_log_reads_along_and_writes_nothing(tmp_path: Path) -> None:
    writing = await SqliteLog.open(tmp_path / "log.db", SHARD_COUNT)
    reading = await SqliteLog.open_read_only(tmp_path / "log.db")
    maker = ShardMaker(1)
    commits = maker.batch(3)
    await append_one(writing, *commits)
    assert await whole_shard(reading, 1) == commits
    with pytest.raises(LogUnavailableError):
        await append_one(reading, maker.make())
    with pytest.raises(LogUnavailableError):
        await reading.probe()
    await reading.close()
    await writing.close()


async def test_the_settings_that_durability_rests_on(tmp_path: Path) -> None:
    def settings() -> dict[str, Any]:
        db = connect_writer(tmp_path / "log.db")
        names = ("journal_mode", "synchronous", "wal_autocheckpoint")
        found = {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in names}
        db.close()
        return found

    found = await asyncio.to_thread(settings)
    assert found == {"journal_mode": "wal", "synchronous": 2, "wal_autocheckpoint": 0}


class Breaking(sqlite3.Connection):
    """A connection that fails at a statement, before or after really running it."""

    breaks: tuple[str, int, bool] | None = None
    """(statement, SQLite's error code, whether the statement is run first)"""

    @override
    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if self.breaks is None or not sql.startswith(self.breaks[0]):
            return super().execute(sql, parameters)
        _, code, happens = self.breaks
        self.breaks = None
        if happens:
            super().execute(sql, parameters)
        error = sqlite3.OperationalError("planned")
        error.sqlite_errorcode = code
        raise error


@pytest.fixture
def breaking(tmp_path: Path) -> Iterator[tuple[Breaking, LogWriter]]:
    """A writer on a connection that can be told to fail."""
    connect_writer(tmp_path / "log.db").close()
    db = sqlite3.connect(tmp_path / "log.db", isolation_level=None, factory=Breaking)
    prepare(db, tmp_path / "log.db", SHARD_COUNT, LOG_ID)
    checkpointer = Checkpointer(tmp_path / "log.db")
    yield db, LogWriter(db, checkpointer)
    checkpointer.close()
    db.close()


@pytest.mark.parametrize(
    "statement, code, happens, error",
    [
        ("BEGIN", sqlite3.SQLITE_BUSY, False, LogUnavailableError),
        ("BEGIN", sqlite3.SQLITE_READONLY, False, LogUnavailableError),
        ("COMMIT", sqlite3.SQLITE_FULL, False, LogUnavailableError),
        ("COMMIT", sqlite3.SQLITE_IOERR_FSYNC, False, OutcomeUnknownError),
        ("COMMIT", sqlite3.SQLITE_IOERR_FSYNC, True, OutcomeUnknownError),
    ],
)
def test_what_an_error_of_the_disk_means(
    breaking: tuple[Breaking, LogWriter], statement: str, code: int, happens: bool, error: type[Exception]
) -> None:
    db, writer = breaking
    commits = ShardMaker(1).batch(3)
    db.breaks = (statement, code, happens)
    with pytest.raises(error):
        writer.append({1: commits})
    count = db.execute("SELECT count(*) FROM commits").fetchone()[0]
    assert count == (3 if happens else 0)
    # The identical documents again: there exactly once, whatever had happened.
    assert writer.append({1: commits}) == {1: ShardOutcome(3)}
    assert db.execute("SELECT count(*) FROM commits").fetchone()[0] == 3


def test_a_full_disk_writes_nothing_and_recovers(breaking: tuple[Breaking, LogWriter]) -> None:
    db, writer = breaking
    maker = ShardMaker(1)
    first = maker.batch(2)
    writer.append({1: first})
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    large = [maker.make(text="x" * 9_000) for _ in range(20)]
    with pytest.raises(LogUnavailableError, match="SQLITE_FULL"):
        writer.append({1: large})
    writer.probe(10)  # Little always fits somewhere.
    with pytest.raises(LogUnavailableError, match="SQLITE_FULL"):
        writer.probe(100_000)
    assert db.execute("SELECT count(*) FROM commits").fetchone()[0] == 2
    db.execute("PRAGMA max_page_count = 1000000")
    writer.probe(100_000)
    assert db.execute("SELECT count(*) FROM meta WHERE name = 'probe'").fetchone() == (0,)
    assert writer.append({1: large}) == {1: ShardOutcome(20)}


def test_a_read_only_database_writes_nothing_and_recovers(breaking: tuple[Breaking, LogWriter]) -> None:
    db, writer = breaking
    db.execute("PRAGMA query_only = ON")
    commits = ShardMaker(1).batch(2)
    for write in (lambda: writer.append({1: commits}), lambda: writer.probe(0)):
        with pytest.raises(LogUnavailableError, match="SQLITE_READONLY"):
            write()
    db.execute("PRAGMA query_only = OFF")
    writer.probe(0)
    assert writer.append({1: commits}) == {1: ShardOutcome(2)}


def test_a_busy_log_is_checkpointed_beside_its_flushes(
    breaking: tuple[Breaking, LogWriter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "CHECKPOINT_BUSY_PAGES", 200)
    monkeypatch.setattr(sqlite_writer, "FINISH_PAGES_MAX", 100)
    monkeypatch.setattr(sqlite_writer, "WAL_PAGES_MAX", 600)
    db, writer = breaking
    maker = ShardMaker(1)
    wal = tmp_path / "log.db-wal"
    sizes: list[int] = []
    written = 0
    for _ in range(200):
        before = db.execute("PRAGMA page_count").fetchone()[0]
        writer.append({1: maker.batch(10)})
        writer.checkpointer.wait()
        written += (
            4 + db.execute("PRAGMA page_count").fetchone()[0] - before
        )  # Four at least: the ends of a table and its indexes.
        sizes.append(wal.stat().st_size // PAGE_BYTES)
    assert max(sizes) < 600 < written, "the WAL did not begin anew"
    assert writer.passes > 10
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.slow
def test_checkpoints_beside_flushes_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes, ends of passes and new beginnings of the WAL as close together as they get."""
    monkeypatch.setattr(sqlite_writer, "CHECKPOINT_BUSY_PAGES", 1)
    monkeypatch.setattr(sqlite_writer, "FINISH_PAGES_MAX", 8)
    monkeypatch.setattr(sqlite_writer, "WAL_PAGES_MAX", 30)
    path = tmp_path / "log.db"
    db = connect_writer(path, synchronous="OFF")
    prepare(db, path, SHARD_COUNT, LOG_ID)
    writer = LogWriter(db, Checkpointer(path))
    maker = ShardMaker(1)
    written = 0
    for number in range(2_000):
        batch = maker.batch(1 + number % 3)
        assert writer.append({1: batch}) == {1: ShardOutcome(len(batch))}
        written += len(batch)
    assert writer.passes > 100
    writer.close()
    again = connect_writer(path)
    assert again.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert again.execute("SELECT count(*) FROM commits").fetchone() == (written,)
    again.close()


def test_no_pass_begins_upon_a_wal_that_is_wholly_copied(
    breaking: tuple[Breaking, LogWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is where SQLite's WAL-reset bug lies in wait: a commit that writes nothing does not change it."""
    monkeypatch.setattr(sqlite_writer, "CHECKPOINT_BUSY_PAGES", 1)
    _, writer = breaking
    commits = ShardMaker(1).batch(3)
    writer.append({1: commits})
    writer.checkpointer.wait()
    writer.checkpoint()
    passes = writer.passes
    for _ in range(5):
        assert writer.append({1: commits}) == {1: ShardOutcome(3)}
    assert writer.passes == passes


def test_a_pass_that_a_commit_overlaps_is_followed_by_none(
    breaking: tuple[Breaking, LogWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "CHECKPOINT_BUSY_PAGES", 1)
    _, writer = breaking
    states = iter([True, False])
    monkeypatch.setattr(Checkpointer, "is_running", property(lambda _: next(states)))
    maker = ShardMaker(1)
    writer.append({1: maker.batch(2)})
    assert writer.passes == 0
    writer.append({1: maker.batch(2)})
    assert writer.passes == 1


def test_flushes_that_are_faster_than_passes_wait_for_one(
    breaking: tuple[Breaking, LogWriter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "WAL_PAGES_MAX", 200)
    monkeypatch.setattr(Checkpointer, "is_running", property(lambda _: True))
    _, writer = breaking
    maker = ShardMaker(1)
    for _ in range(60):
        writer.append({1: [maker.make(text="x" * 9_000) for _ in range(10)]})
    assert writer.passes == 0
    assert (tmp_path / "log.db-wal").stat().st_size < 3 * 200 * PAGE_BYTES


def test_a_checkpoint_that_fails_is_made_later(breaking: tuple[Breaking, LogWriter], tmp_path: Path) -> None:
    _, writer = breaking
    elsewhere = Checkpointer(tmp_path / "no folder" / "log.db")
    elsewhere.begin()
    elsewhere.close()
    assert writer.append({1: ShardMaker(1).batch(3)}) == {1: ShardOutcome(3)}


async def test_a_cancelled_append_happens_nevertheless(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path / "log.db", SHARD_COUNT)
    maker = ShardMaker(1)
    commits = maker.batch(3)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(append_one(log, *commits))
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()
    assert await append_one(log, *commits) == ShardOutcome(3)
    assert await append_one(log, maker.make()) == ShardOutcome(1)
    await log.close()


async def test_close_finishes_what_is_in_flight(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path / "log.db", SHARD_COUNT)
    commits = ShardMaker(1).batch(3)
    async with asyncio.TaskGroup() as tasks:
        append = tasks.create_task(append_one(log, *commits))
        await asyncio.sleep(0)
        await asyncio.gather(log.close(), log.close())
    assert append.result() == ShardOutcome(3)
    again = await SqliteLog.open(tmp_path / "log.db")
    assert await whole_shard(again, 1) == commits
    await again.close()


@pytest.mark.slow
async def test_a_backup_is_one_moment_of_the_log_while_it_serves(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path / "log.db", SHARD_COUNT)
    maker = ShardMaker(1)
    for _ in range(20):
        await append_one(log, *[maker.make(text="x" * 2_000) for _ in range(50)])
    before = maker.head.position
    steps: list[tuple[int, int]] = []
    target = tmp_path / "backup.db"

    async with asyncio.TaskGroup() as tasks:
        backup = tasks.create_task(log.backup(target, progress=lambda *step: steps.append(step)))
        while not backup.done():
            await append_one(log, maker.make())

    assert steps[-1][0] == steps[-1][1] > 0
    assert [copied for copied, _ in steps] == sorted(copied for copied, _ in steps)
    copy = await SqliteLog.open_read_only(target)
    assert copy.log_id == log.log_id
    copied = await whole_shard(copy, 1)
    assert before <= len(copied) <= maker.head.position
    kinds = {finding.kind async for finding in verify_shard(copy, 1)}
    assert kinds <= {FindingKind.MISPLACED}  # The sample's stream is not where its name belongs.
    await copy.close()
    with pytest.raises(FileExistsError):
        await log.backup(target)
    assert await whole_shard(log, 1, page=5_000) == await whole_shard(log, 1)
    await log.close()


async def test_readers_are_served_while_the_writer_works(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path / "log.db", SHARD_COUNT)
    maker = ShardMaker(1)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(10):
            tasks.create_task(append_one(log, *maker.batch(20)))
        pages = [tasks.create_task(log.read_shard(1, 0, 1_000)) for _ in range(10)]
    for page in pages:
        positions = [commit.position for commit in page.result()]
        assert positions == list(range(1, len(positions) + 1))
    assert len(await whole_shard(log, 1)) == 200
    await log.close()
