"""What goes from the log to Kafka and back: the refill of an emptied topic, and a log rebuilt from one.

Secrets are not in Kafka: they come from their own backup, and without it nobody can log in with a password of before.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from domain.streams import shard_of
from eventlog.carrier import CarriedRecord, CarrierUnavailableError, Sender, partition_of
from eventlog.codec import decode_frame
from eventlog.kafka_record import ForgedRecordError, carried_of, commit_of, record_of
from eventlog.port import Log
from eventlog.record import GENESIS_DIGEST, Commit
from ops.audit.comparing import Reader, Report

SEND_COMMITS = 500
APPEND_COMMITS = 1_000
GAPS_TOLD_MAX = 20

_TABLES = """
CREATE TABLE records (
    shard INTEGER, position INTEGER, digest BLOB, previous BLOB, log_id TEXT, place INTEGER, frame BLOB,
    PRIMARY KEY (shard, position, digest)
) WITHOUT ROWID;
CREATE TABLE chosen (shard INTEGER, position INTEGER, digest BLOB, PRIMARY KEY (shard, position)) WITHOUT ROWID;
"""


class NotRestorableError(Exception):
    """The carrier does not hold the whole record, or the target is not empty; nothing was written."""


class Refilled(msgspec.Struct, frozen=True, kw_only=True):
    """What a repair did."""

    commits: int
    shards: int


class RestoredLog(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore did. `left`: records of branches that were not taken; `forged`: those that contradict themselves."""

    log_id: str
    former_log_ids: tuple[str, ...]
    commits: int
    events: int
    left: int
    forged: int


async def refill(
    log: Log, sender: Sender, missing: Mapping[int, Sequence[tuple[int, int]]], report: Report | None = None
) -> Refilled:
    """Send the log's commits at these runs of positions, in order per shard; the sender is started.

    May be repeated: what is there twice is dropped by every reader. Raises LogUnavailableError, CarrierUnavailableError.
    """
    total = sum(last - first + 1 for runs in missing.values() for first, last in runs)
    done = 0
    for shard, runs in sorted(missing.items()):
        for first, last in runs:
            position = first - 1
            while position < last:
                page = await log.read_shard(shard, position, min(SEND_COMMITS, last - position))
                if not page:
                    raise CarrierUnavailableError(
                        f"the log of shard {shard} ends at {position}, {last} was to be sent"
                    )
                records = [record_of(commit) for commit in page]
                await sender.send(partition_of(shard, sender.partitions), records)
                position = page[-1].position
                done += len(page)
                if report is not None:
                    report(done, total)
    return Refilled(commits=done, shards=len(missing))


async def restored_from_kafka(
    reader: Reader,
    partitions: int,
    target: Log,
    report: Report | None = None,
    home: Callable[[str, int], int] | None = shard_of,
) -> RestoredLog:
    """Fill an empty log from the carrier: same positions, same frames; what comes after carries the target's own id.

    Everything is gathered in a file and checked before the first commit is written: each shard's chain must reach from
    position 1 to its end. Of two branches, the one that was written last is taken. `home` tells a stream's shard (None: unknown): a target
    with another number of shards is refused. Raises NotRestorableError,
    CarrierUnavailableError, LogUnavailableError, OutcomeUnknownError.
    """
    if await target.heads():
        raise NotRestorableError("the target already holds a record; a restore needs an empty one")
    with tempfile.TemporaryDirectory(prefix="minutebook-restore-") as folder:
        path = Path(folder) / "gathered.db"
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as db:
            db.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_TABLES}")
            forged = await _gather(db, reader, partitions, _Homes(target.shard_count, home), report)
            gaps = await asyncio.to_thread(_choose_all, db)
            if gaps:
                more = "" if len(gaps) <= GAPS_TOLD_MAX else f" and {len(gaps) - GAPS_TOLD_MAX} more"
                listed = "; ".join(gaps[:GAPS_TOLD_MAX])
                raise NotRestorableError(f"the topic does not hold the whole record: {listed}{more}")
            return await _write(db, target, forged, report)


class _Homes:
    """Whether the records fit the number of shards of the target."""

    def __init__(self, shard_count: int, home: Callable[[str, int], int] | None) -> None:
        self._shard_count = shard_count
        self._home = home

    def check(self, commit: Commit) -> None:
        if self._home is None:
            return
        try:
            home = self._home(commit.stream, self._shard_count)
        except ValueError:
            home = -1
        if home != commit.shard:
            raise NotRestorableError(
                f"{commit.shard}:{commit.position} does not lie in its shard of {self._shard_count}: set `shards` to what "
                "the lost log had"
            )


async def _gather(
    db: sqlite3.Connection, reader: Reader, partitions: int, homes: _Homes, report: Report | None
) -> int:
    """Put every record that can be one of ours into the file; how many contradict themselves."""
    total = sum((await reader.ends()).values())
    done = forged = 0
    for partition in range(partitions):
        async for records in reader.records(partition):
            rows = []
            for record in records:
                row = _row(record, partition, partitions, homes)
                if row is None:
                    forged += 1
                else:
                    rows.append(row)
            await asyncio.to_thread(_put, db, rows)
            done += len(records)
            if report is not None:
                report(done, 2 * max(total, done))
    return forged


def _row(record: CarriedRecord, partition: int, partitions: int, homes: _Homes) -> tuple[object, ...] | None:
    try:
        carried = carried_of(record)
    except ForgedRecordError:
        return None
    commit = carried.commit
    if partition_of(commit.shard, partitions) != partition or commit.position < 1:
        return None
    homes.check(commit)
    row = (commit.shard, commit.position, commit.digest, carried.previous, carried.log_id)
    return (*row, record.offset, commit.frame)


def _put(db: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> None:
    db.execute("BEGIN")
    # The same frame again only moves its place: a branch that was sent anew counts as written last.
    db.executemany(
        "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET place = max(place, excluded.place)",
        rows,
    )
    db.execute("COMMIT")


def _choose_all(db: sqlite3.Connection) -> list[str]:
    """Choose each shard's chain; what is missing, in words."""
    gaps = []
    db.execute("BEGIN")
    for shard, last in db.execute("SELECT shard, max(position) FROM records GROUP BY shard").fetchall():
        gap = _choose(db, shard, last)
        if gap is not None:
            gaps.append(gap)
    db.execute("COMMIT")
    return gaps


class _Tip(msgspec.Struct, frozen=True):
    """The best way on from a frame: its digest, how far it reaches, when its last frame was written, of which log."""

    digest: bytes
    log_id: str
    reaches: int
    place: int

    def beats(self, other: _Tip) -> bool:
        """Of one log the longer chain is the record; of two logs the one that was written last."""
        if self.log_id == other.log_id:
            return (self.reaches, self.place) > (other.reaches, other.place)
        return self.place > other.place


def _choose(db: sqlite3.Connection, shard: int, last: int) -> str | None:
    """Walk back from the end, keeping for each frame the best that follows it, then forward along the best."""
    db.execute("CREATE TEMP TABLE IF NOT EXISTS ways (position INTEGER, previous BLOB, digest BLOB)")
    db.execute("DELETE FROM ways")
    following: dict[bytes, _Tip] = {}
    best: dict[bytes, _Tip] = {}
    at = last
    rows = db.execute(
        "SELECT position, digest, previous, log_id, place FROM records WHERE shard = ? ORDER BY position DESC",
        (shard,),
    )
    for position, digest, previous, log_id, place in rows:
        if position != at:
            _keep(db, at, best)
            following, best, at = (best if position == at - 1 else {}), {}, position
        onward = following.get(digest)
        # The tip of a way is of the log that its end is of: that one goes on.
        tip = (
            _Tip(digest, log_id, position, place)
            if onward is None
            else _Tip(digest, onward.log_id, onward.reaches, onward.place)
        )
        if previous not in best or tip.beats(best[previous]):
            best[previous] = tip
    _keep(db, at, best)
    db.execute("CREATE INDEX IF NOT EXISTS temp.ways_on ON ways (position, previous)")
    return _walk(db, shard, last)


def _keep(db: sqlite3.Connection, position: int, best: Mapping[bytes, _Tip]) -> None:
    db.executemany(
        "INSERT INTO ways VALUES (?, ?, ?)",
        [(position, previous, tip.digest) for previous, tip in best.items()],
    )


def _walk(db: sqlite3.Connection, shard: int, last: int) -> str | None:
    digest, position = GENESIS_DIGEST, 0
    while True:
        row = db.execute(
            "SELECT digest FROM ways WHERE position = ? AND previous = ?", (position + 1, digest)
        ).fetchone()
        if row is None:
            break
        digest, position = row[0], position + 1
        db.execute("INSERT INTO chosen VALUES (?, ?, ?)", (shard, position, digest))
    if position < last and _goes_on(db, shard, position):
        return f"shard {shard}: position {position + 1} is missing, but {last} is there"
    return None


def _goes_on(db: sqlite3.Connection, shard: int, position: int) -> bool:
    """Whether anything behind it is of the log that the chosen chain ends with: otherwise it is a branch that was left."""
    end = db.execute(
        "SELECT log_id FROM records JOIN chosen USING (shard, position, digest) WHERE shard = ? AND position = ?",
        (shard, position),
    ).fetchone()
    behind = db.execute(
        "SELECT DISTINCT log_id FROM records WHERE shard = ? AND position > ?", (shard, position)
    ).fetchall()
    return end is None or end in behind


async def _write(db: sqlite3.Connection, target: Log, forged: int, report: Report | None) -> RestoredLog:
    (commits,) = db.execute("SELECT count(*) FROM chosen").fetchone()
    (records,) = db.execute("SELECT count(*) FROM records").fetchone()
    former: dict[str, None] = {}
    events = done = 0
    for shard, batch in _batches(db):
        try:
            await append_whole(target, shard, batch)
        except ValueError as error:
            raise NotRestorableError(f"{error}; throw it away") from None
        events += sum(commit.events_count for commit in batch)
        done += len(batch)
        if report is not None:
            report(commits + done, 2 * commits)
    for (log_id,) in db.execute(
        "SELECT log_id FROM records JOIN chosen USING (shard, position, digest) GROUP BY log_id ORDER BY min(place)"
    ):
        former[log_id] = None
    return RestoredLog(
        log_id=target.log_id,
        former_log_ids=tuple(former),
        commits=commits,
        events=events,
        left=records - commits,
        forged=forged,
    )


async def append_whole(target: Log, shard: int, batch: Sequence[Commit]) -> None:
    """Append all of these commits of another log. Raises ValueError if the target refuses one, and as `Log.append`."""
    outcome = (await target.append({shard: batch}))[shard]
    if outcome.appended != len(batch):
        raise ValueError(f"the target refused {shard}:{batch[outcome.appended].position}")


def _batches(db: sqlite3.Connection) -> Iterator[tuple[int, list[Commit]]]:
    rows = db.execute(
        "SELECT frame FROM records JOIN chosen USING (shard, position, digest) ORDER BY shard, position"
    )
    batch: list[Commit] = []
    for (frame,) in rows:
        commit = commit_of(decode_frame(frame), frame)
        if batch and (batch[0].shard != commit.shard or len(batch) >= APPEND_COMMITS):
            yield batch[0].shard, batch
            batch = []
        batch.append(commit)
    if batch:
        yield batch[0].shard, batch
