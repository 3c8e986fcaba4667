"""`audit verify`: every commit of every shard against its neighbours, its columns and what lies beside the log.

Beside a running server it looks at what is durable; it never writes. Memory grows with the streams only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import msgspec

from domain.streams import shard_of
from eventlog.integrity import Finding, ShardVerifier
from eventlog.port import LogMismatchError, LogUnavailableError
from eventlog.record import Head
from eventlog.sqlite_reads import heads, shard_page, stream_tail
from eventlog.sqlite_schema import (
    LogMeta,
    connect_reader,
    prepare,
    row_id,
)
from ops.audit.evidence import Evidence, positions_beside, versions_beside
from ops.folder import DataFolder

PAGE_COMMITS = 2_000
FILE_FAULTS_MAX = 100
"""How many faults of the file SQLite tells."""

Report = Callable[[int, int], None]
"""(commits checked, commits altogether)"""


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong, and where. `kind`: see `eventlog.integrity.FindingKind`, or `file`."""

    kind: str
    detail: str
    shard: int | None = None
    position: int | None = None
    stream: str | None = None


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at."""

    log_id: str | None
    shards: int
    commits: int
    events: int
    faults: int


class Verification:
    """One verification; iterate over `faults`, then look at `summary`."""

    def __init__(
        self,
        folder: DataFolder,
        *,
        expected: Mapping[int, Head] | None = None,
        report: Report | None = None,
        check_file: bool = True,
    ) -> None:
        self._folder = folder
        self._expected = dict(expected or {})
        self._report = report
        self._check_file = check_file
        self._commits = 0
        self._total = 0
        self._events = 0
        self._found = 0
        self._meta: LogMeta | None = None

    @property
    def summary(self) -> Verified:
        """What was looked at so far."""
        meta = self._meta
        return Verified(
            log_id=None if meta is None else meta.log_id,
            shards=0 if meta is None else meta.shard_count,
            commits=self._commits,
            events=self._events,
            faults=self._found,
        )

    def faults(self) -> Iterator[Fault]:
        """Everything that is wrong, in order of shard and position; faults of the file as a whole last.

        Raises LogMismatchError if there is no file, LogUnavailableError if it cannot be reached.
        """
        for fault in self._faults():
            self._found += 1
            yield fault

    def _faults(self) -> Iterator[Fault]:
        path = self._folder.log
        if not path.exists():
            raise LogMismatchError(f"there is no log at {path}")
        beside = positions_beside(self._folder)
        try:
            with closing(connect_reader(path)) as db:
                yield from self._whole(db, path, beside)
        except LogMismatchError as error:
            yield Fault("file", str(error))
        except sqlite3.DatabaseError as error:
            if _is_away(error):
                raise LogUnavailableError(f"{path}: {error}") from error
            yield _file_fault(error)

    def _whole(self, db: sqlite3.Connection, path: Path, beside: list[Evidence]) -> Iterator[Fault]:
        self._meta = meta = prepare(db, path, None, None)
        log_ids = {meta.log_id, *meta.former_log_ids}
        try:
            self._total = sum(head.position for head in heads(db, meta.shard_count).values())
        except sqlite3.DatabaseError:
            # Only the progress bar misses it; what cannot be read is found when it is its turn.
            self._total = 0
        evidence = [item for item in beside if item.log_id == meta.log_id]
        for shard in range(meta.shard_count + 1):
            verifier = ShardVerifier(shard, meta.shard_count, log_ids)
            yield from self._shard(db, verifier)
            yield from _cut_off(verifier, [item for item in evidence if item.shard == shard])
            self._events += verifier.head.number
        yield from self._strays(db, meta)
        yield from self._streams(db, meta)
        if self._check_file:
            yield from _file_faults(db)

    def _shard(self, db: sqlite3.Connection, verifier: ShardVerifier) -> Iterator[Fault]:
        shard, position = verifier.shard, 0
        expected = self._expected.get(shard)
        while True:
            try:
                page = shard_page(db, shard, position, PAGE_COMMITS)
            except sqlite3.DatabaseError as error:
                if _is_away(error):
                    raise
                yield _file_fault(error, shard, position + 1)
                return
            for commit in page:
                yield from map(_fault, verifier.check(commit))
                if expected is not None and commit.position == expected.position:
                    yield from map(_fault, verifier.finish(expected))
            self._commits += len(page)
            if self._report is not None:
                self._report(self._commits, max(self._total, self._commits))
            if len(page) < PAGE_COMMITS:
                break
            position = page[-1].position
        if expected is not None and expected.position > verifier.head.position:
            yield from map(_fault, verifier.finish(expected))

    def _strays(self, db: sqlite3.Connection, meta: LogMeta) -> Iterator[Fault]:
        """Rows whose number lies in no shard, which no reader ever sees."""
        bounds = (row_id(0, 1), row_id(meta.shard_count + 1, 0))
        (count,) = db.execute("SELECT count(*) FROM commits WHERE id < ? OR id >= ?", bounds).fetchone()
        if count:
            yield Fault("misplaced", f"{count} rows lie in no shard")

    def _streams(self, db: sqlite3.Connection, meta: LogMeta) -> Iterator[Fault]:
        """Streams that once were longer, as snapshots remember them."""
        for item in versions_beside(self._folder):
            if item.log_id != meta.log_id:
                continue
            shard = shard_of(item.stream, meta.shard_count)
            tail = stream_tail(db, shard, item.stream, 1)
            version = tail[0].first_version + tail[0].events_count - 1 if tail else 0
            if version < item.version:
                detail = f"the stream ends at version {version}, a snapshot holds version {item.version}"
                position = tail[0].position if tail else None
                yield Fault("cut_short", detail, shard, position, item.stream)


def _cut_off(verifier: ShardVerifier, evidence: list[Evidence]) -> Iterator[Fault]:
    """The shard once was longer, as others remember; one fault for all of them."""
    last = verifier.head.position
    witnesses = [item for item in evidence if item.position > last]
    if witnesses:
        furthest = max(witnesses, key=lambda item: item.position)
        names = ", ".join(sorted({item.source for item in witnesses}))
        detail = f"ends at {last}, but was at {furthest.position} before, as {names} remember"
        yield Fault("cut_short", detail, verifier.shard, last, None)


def _file_faults(db: sqlite3.Connection) -> Iterator[Fault]:
    """What SQLite itself finds: damaged pages, indexes that differ from the table."""
    for (text,) in db.execute(f"PRAGMA integrity_check({FILE_FAULTS_MAX})"):
        if text != "ok":
            yield Fault("file", f"the database file is damaged: {text}")


def _file_fault(error: sqlite3.DatabaseError, shard: int | None = None, position: int | None = None) -> Fault:
    return Fault("file", f"the database file is damaged: {error}", shard, position)


def _fault(finding: Finding) -> Fault:
    return Fault(str(finding.kind), finding.detail, finding.shard, finding.position, finding.stream)


def _is_away(error: sqlite3.DatabaseError) -> bool:
    """Whether the file cannot be reached, which says nothing about what is in it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PERM)
