"""A data folder with a history that was written by hand, and ways to spoil it."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path

from domain.group_roster import MemberAliasChanged, MemberMuted, MemberRemoved, RoleChanged
from domain.inbox import ReadMarked
from domain.talk import MessageEdited, MessagePinned, MessageRecalled, Origin, ReactionAdded
from eventlog.record import Commit
from eventlog.sqlite import SqliteLog
from ops.folder import DataFolder
from tests.unit.projections.world import SHARDS, World, content

GROUP = "g_room"
IMPORTED = "g_old"
PAIR = "d_anna-ben"
YEAR_2004 = 1_104_000_000_000


async def story() -> World:
    """Three people, a lively room, a pair, an imported room, a private stream and another tenant's room."""
    world = World()
    for user_id in ("anna", "ben", "cleo"):
        await world.register(user_id)
    await world.group(GROUP, "anna", ["ben", "cleo"])
    await world.say(GROUP, "anna", "first")
    await world.say(GROUP, "ben", "secnd", mentions=("anna",))
    await world.commit(GROUP, MessageEdited(actor="ben", at=0, target=5, content=content("second")))
    await world.say(GROUP, "cleo", "third", reply_to=4)
    await world.commit(GROUP, MessageRecalled(actor="cleo", at=0, target=7))
    await world.commit(GROUP, ReactionAdded(actor="ben", at=0, target=4, emoji="👍"))
    await world.commit(GROUP, MessagePinned(actor="anna", at=0, target=4))
    await world.commit(GROUP, RoleChanged(actor="anna", at=0, user_id="ben", role="admin", previous="member"))
    await world.commit(GROUP, MemberAliasChanged(actor="ben", at=0, user_id="ben", alias="Benny"))
    await world.commit(GROUP, MemberMuted(actor="anna", at=0, user_id="ben", until=1_800_000_000_000))
    await world.commit(GROUP, MemberRemoved(actor="anna", at=0, user_id="cleo"))
    await world.pair(PAIR, "anna", "ben")
    await world.say(PAIR, "anna", "between us")
    await world.commit("inbox:ben", ReadMarked(actor="ben", at=0, conversation_id=GROUP, read_seq=5))
    await world.group(IMPORTED, "anna", ["ben"])
    for minute, text in enumerate(("one", "two", "three")):
        origin = Origin(at=YEAR_2004 + minute * 60_000, id=str(minute))
        await world.say(IMPORTED, "ben", text, origin=origin)
    await world.commit(IMPORTED, MemberRemoved(actor="anna", at=0, user_id="ben"))
    await world.group("acme/g_room", "zoe")
    return world


async def write(world: World, folder: DataFolder) -> None:
    """The world's history as a log in the folder."""
    folder.prepare()
    log = await SqliteLog.open(folder.log, SHARDS, log_id=world.log.log_id)
    batches: dict[int, list[Commit]] = defaultdict(list)
    for committed in world.history:
        batches[committed.commit.shard].append(committed.commit)
    await log.append(batches)
    await log.close()


def spoil(folder: DataFolder, statement: str, *values: object) -> None:
    """Change the log behind everybody's back; exactly one or more rows must be hit."""
    with closing(sqlite3.connect(folder.log, isolation_level=None)) as db:
        assert db.execute(statement, values).rowcount >= 1


def rows_of(folder: DataFolder, stream: str) -> list[tuple[int, int, bytes]]:
    """(id, shard, frame) of a stream's commits, in order."""
    with closing(sqlite3.connect(folder.log)) as db:
        found = db.execute(
            "SELECT id, shard, frame FROM commits WHERE stream = ? ORDER BY first_version", (stream,)
        )
        return [(row[0], row[1], bytes(row[2])) for row in found]


def position_of(row_id: int) -> int:
    """The position in a row's number."""
    return row_id & ((1 << 48) - 1)


def data_folder(path: Path) -> DataFolder:
    """A folder of that path."""
    return DataFolder(path / "data")
