"""What lies beside the log and was made from it: view files, snapshots, checkpoints, the manifest of a backup.

Each remembers a position or a version that the log once had. A log that ends before it was cut off. Anything
that cannot be read is no evidence, and no finding either: all of it may be thrown away at any time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import structlog

from eventlog.sqlite_schema import connect_reader
from ops.folder import DataFolder

_log = structlog.get_logger(__name__)

SNAPSHOTS_PAGE = 1_000


class Evidence(msgspec.Struct, frozen=True):
    """The log of that id once reached this `position` of `shard`; `source` says who remembers."""

    log_id: str
    shard: int
    position: int
    source: str


class StreamEvidence(msgspec.Struct, frozen=True):
    """The log of that id once held this `version` of `stream`."""

    log_id: str
    stream: str
    version: int


class _Checkpoint(msgspec.Struct, frozen=True):
    log_id: str
    positions: dict[int, int]


def positions_beside(folder: DataFolder) -> list[Evidence]:
    """The positions of all view files and of the reactions' checkpoint. Read them before the log's heads."""
    found: list[Evidence] = []
    for path in sorted(folder.views.glob("*.db")):
        found += _of_view(path)
    found += _of_checkpoint(folder.reactions)
    return found


def _of_view(path: Path) -> list[Evidence]:
    try:
        with closing(connect_reader(path)) as db:
            row = db.execute("SELECT log_id FROM view").fetchone()
            if row is None:
                return []
            rows = db.execute("SELECT shard, position FROM positions").fetchall()
    except sqlite3.Error as error:
        _log.warning("a view file cannot be read", file=path.name, error=str(error))
        return []
    return [Evidence(str(row[0]), shard, position, f"view {path.stem}") for shard, position in rows]


def _of_checkpoint(path: Path) -> list[Evidence]:
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=_Checkpoint)
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        _log.warning("a checkpoint cannot be read", file=path.name, error=str(error))
        return []
    return [Evidence(stored.log_id, shard, at, "the reactions") for shard, at in stored.positions.items()]


def versions_beside(folder: DataFolder) -> Iterator[StreamEvidence]:
    """The versions of all snapshots, page by page."""
    if not folder.snapshots.exists():
        return
    try:
        with closing(connect_reader(folder.snapshots)) as db:
            last = ""
            while rows := db.execute(
                "SELECT stream, log_id, version FROM snapshots WHERE stream > ? ORDER BY stream LIMIT ?",
                (last, SNAPSHOTS_PAGE),
            ).fetchall():
                yield from (StreamEvidence(log_id, stream, version) for stream, log_id, version in rows)
                last = rows[-1][0]
    except sqlite3.Error as error:
        _log.warning("the snapshots cannot be read", error=str(error))
