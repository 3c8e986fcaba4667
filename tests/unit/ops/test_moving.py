"""A move between two folders, as far as it goes by ports alone: what is given up, and what is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eventlog.sqlite import SqliteLog
from ops.folder import DataFolder, remove_database
from ops.moving.folder import folder_source, folder_target, place_of
from ops.moving.transfer import Move, MoveRefusedError, Report, Stage, give_up
from tests.contract.log_samples import LOG_ID, SHARD_COUNT, ShardMaker

pytestmark = pytest.mark.slow
"""Disks are waited for."""


class KilledError(Exception):
    """Ends a move where a kill -9 would."""


def until(stage: Stage) -> Report:
    """A report that ends the move at a stage."""

    def report(now: Stage, _done: int, _total: int) -> None:
        if now is stage:
            raise KilledError

    return report


@pytest.fixture
async def here(tmp_path: Path) -> DataFolder:
    """A folder with a log."""
    folder = DataFolder(tmp_path / "here")
    folder.prepare()
    log = await SqliteLog.open(folder.log, SHARD_COUNT, log_id=LOG_ID)
    await log.append({1: ShardMaker(1).batch(3)})
    await log.close()
    return folder


@pytest.fixture
def there(tmp_path: Path) -> DataFolder:
    """Where it goes."""
    return DataFolder(tmp_path / "there")


async def move(here: DataFolder, there: DataFolder, report: Report = lambda *_: None) -> None:
    async with folder_source(here.root) as source, folder_target(there.root, source) as target:
        await Move(source, target, report).run()


async def given_up(here: DataFolder, there: DataFolder) -> None:
    """As `minutebook move --give-up` does."""
    async with folder_source(here.root) as source, folder_target(there.root, source, make=False) as target:
        await give_up(source, target)


async def moved_to(folder: DataFolder) -> str | None:
    log = await SqliteLog.open_read_only(folder.log)
    await log.close()
    return log.meta.moved_to


async def test_a_move_that_was_broken_off_is_given_up_and_made_later(
    here: DataFolder, there: DataFolder
) -> None:
    with pytest.raises(KilledError):
        await move(here, there, until(Stage.CLOSED))
    assert await moved_to(here) == place_of(there.root)
    await given_up(here, there)
    await given_up(here, there)
    assert await moved_to(here) is None
    await move(here, there)
    with pytest.raises(MoveRefusedError, match="may have gone on there"):
        await given_up(here, there)


async def test_a_log_that_may_have_gone_on_where_nothing_is_any_more_is_not_given_up(
    here: DataFolder, there: DataFolder
) -> None:
    await move(here, there)
    for path in (there.log, there.secrets, there.lock):
        remove_database(path)
    with pytest.raises(MoveRefusedError, match="may have gone on there"):
        await given_up(here, there)
    assert await moved_to(here) == place_of(there.root)
    there.root.rmdir()
    with pytest.raises(MoveRefusedError, match="comes back only as another log"):
        await given_up(here, there)
    assert not there.root.exists()


async def test_what_was_never_begun_is_not_given_up(here: DataFolder, there: DataFolder) -> None:
    with pytest.raises(MoveRefusedError, match="nothing to give up"):
        await given_up(here, there)
    assert not there.root.exists()


async def test_another_place_than_that_of_a_broken_move_is_told_of_both(
    here: DataFolder, there: DataFolder, tmp_path: Path
) -> None:
    with pytest.raises(KilledError):
        await move(here, there, until(Stage.CLOSED))
    other = DataFolder(tmp_path / "other")
    with pytest.raises(MoveRefusedError, match="name that very place") as told:
        await move(here, other)
    assert place_of(there.root) in str(told.value)
    assert place_of(other.root) in str(told.value)


async def test_a_place_is_known_by_whatever_path(here: DataFolder, there: DataFolder, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        await move(here, there, until(Stage.CLOSED))
    (tmp_path / "link").symlink_to(tmp_path)
    await move(here, DataFolder(tmp_path / "link" / "here" / os.pardir / "there"))
    assert await moved_to(here) == place_of(there.root)
