"""The writing half of the SQLite log; all of it runs on the writer's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import structlog

from eventlog.port import LogUnavailableError, OutcomeUnknownError, Refusal, RefusalReason, ShardOutcome
from eventlog.record import Commit
from eventlog.sqlite_checkpoint import CHECKPOINT, Checkpointer
from eventlog.sqlite_schema import (
    COLUMNS,
    INSERT,
    INSERTS,
    PAGE_BYTES,
    PRESENT,
    PROBE,
    PROBE_END,
    commit_of,
    row_id,
    row_of,
)

_log = structlog.get_logger(__name__)

CHECKPOINT_IDLE_PAGES = 500
"""WAL pages (estimated) worth a checkpoint when no flush waits."""
CHECKPOINT_BUSY_PAGES = 4_000
"""WAL pages (estimated) that a busy log gathers before the checkpointer copies them beside the flushes: 8 MB."""
WAL_PAGES_MAX = 16_000
"""WAL pages (estimated) at which the writer finishes a checkpoint between two flushes, so that the WAL begins anew: 32 MB. At twice as
many it waits for the checkpointer first."""
FINISH_PAGES_MAX = 1_000
"""How much the checkpointer may leave for that: the flush behind it waits for as long as these take."""
_PAGES_PER_COMMIT = 3
"""A commit touches a leaf of the table and of each index; close enough to decide when."""


class LogWriter:
    """The writer's connection: flushes, checkpoints, and what an error of SQLite means. `checkpointer` is closed with it."""

    def __init__(self, db: sqlite3.Connection, checkpointer: Checkpointer) -> None:
        self._db = db
        self.checkpointer = checkpointer
        self._wal_pages = 0
        self._pages_since_pass = 0
        self.passes = 0
        """How many passes the checkpointer was told to make."""

    def append(self, batches: Mapping[int, Sequence[Commit]]) -> Mapping[int, ShardOutcome]:
        """One transaction. A refused document ends its shard's batch; the other shards go on.

        Raises LogUnavailableError, OutcomeUnknownError, ValueError (a hole).
        """
        documents = [commit for commits in batches.values() for commit in commits]
        if not documents:
            return {shard: ShardOutcome(0) for shard in batches}
        passing, changes = self.checkpointer.is_running, self._db.total_changes
        try:
            self._roll_back()
            self._db.execute("BEGIN IMMEDIATE")
            self._check_dense(batches)
            refusals = self._insert(documents, batches)
        except BaseException as error:
            self._abandon()
            if isinstance(error, sqlite3.Error):
                raise LogUnavailableError(_named(error)) from error
            raise
        self._commit()
        if self._db.total_changes > changes:
            self._count(1 + sum(_PAGES_PER_COMMIT + len(commit.frame) // PAGE_BYTES for commit in documents))
            self._bound_wal(passing)
        return {shard: _outcome(commits, refusals.get(shard)) for shard, commits in batches.items()}

    def _check_dense(self, batches: Mapping[int, Sequence[Commit]]) -> None:
        before = {
            row_id(shard, commits[0].position - 1): commits[0]
            for shard, commits in batches.items()
            if commits and commits[0].position > 1
        }
        if self._present(before) == len(before):
            return
        for row, commit in before.items():
            if not self._present((row,)):
                raise ValueError(f"position {commit.position} of shard {commit.shard} would leave a hole")

    def _present(self, rows: Iterable[int]) -> int:
        count: int = self._db.execute(PRESENT, (f"[{','.join(map(str, rows))}]",)).fetchone()[0]
        return count

    def _insert(self, documents: list[Commit], batches: Mapping[int, Sequence[Commit]]) -> dict[int, Refusal]:
        """Insert them all but the refused ones and what follows those in their shard; the refusals by shard."""
        refusals: dict[int, Refusal] = {}
        rows = [row_of(commit) for commit in documents]
        start = self._insert_many(rows)
        while start < len(rows):
            before = self._db.total_changes
            try:
                self._db.executemany(INSERT, rows[start:] if start else rows)
                break
            except sqlite3.IntegrityError as error:
                # The rows before the refused one stand in the transaction, so their number tells which one it
                # was.
                at = start + self._db.total_changes - before
                commit = documents[at]
                batch = batches[commit.shard]
                index = commit.position - batch[0].position
                refusal = self._refusal(index, commit, error)
                if refusal is None:
                    start = at + 1
                else:
                    refusals[commit.shard] = refusal
                    start = at - index + len(batch)
        return refusals

    def _insert_many(self, rows: Sequence[tuple[Any, ...]]) -> int:
        """How many of the first rows stand in the transaction after as few statements as possible; a refused row stops it.

        A quarter cheaper than one statement a row: 64 rows take 1.7 ms where they took 2.2.
        """
        done = 0
        try:
            for size, statement in INSERTS.items():
                while len(rows) - done >= size:
                    self._db.execute(statement, [*chain.from_iterable(rows[done : done + size])])
                    done += size
        except sqlite3.IntegrityError:
            pass  # SQLite took the whole statement back; row by row shows which one it was.
        return done

    def _refusal(self, index: int, commit: Commit, error: sqlite3.IntegrityError) -> Refusal | None:
        """Which index refused it; None if the identical document is there already."""
        present = self._one("id = ?", row_id(commit.shard, commit.position))
        if present is not None:
            return None if commit.same_as(present) else Refusal(index, RefusalReason.POSITION, present)
        present = self._one("shard = ? AND key = ?", commit.shard, commit.key)
        if present is not None:
            return Refusal(index, RefusalReason.KEY, present)
        if self._one(
            "shard = ? AND stream = ? AND first_version = ?",
            commit.shard,
            commit.stream,
            commit.first_version,
        ):
            return Refusal(index, RefusalReason.STREAM)
        raise error

    def _one(self, condition: str, *values: int | str | bytes) -> Commit | None:
        row = self._db.execute(f"SELECT {COLUMNS} FROM commits WHERE {condition}", values).fetchone()
        return None if row is None else commit_of(row)

    def probe(self, room_bytes: int) -> None:
        """Write so much durably beside the record, and give the room back to it.

        Much, since a full disk takes a little: what a refused flush had reached of the WAL is written over. Raises
        LogUnavailableError, OutcomeUnknownError.
        """
        for statement, values in ((PROBE, ("x" * room_bytes,)), (PROBE_END, ())):
            try:
                self._roll_back()
                self._db.execute("BEGIN IMMEDIATE")
                self._db.execute(statement, values)
            except sqlite3.Error as error:
                self._abandon()
                raise LogUnavailableError(_named(error)) from error
            self._commit()
        self._count(2 + room_bytes // PAGE_BYTES)

    def _commit(self) -> None:
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._abandon()
            # The commit record is the last thing written to the WAL: when the disk was full, it is not there.
            # After any other error it may be, and a recovery after a crash would find it.
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
                raise LogUnavailableError(_named(error)) from error
            raise OutcomeUnknownError(_named(error)) from error

    def _roll_back(self) -> None:
        """End a transaction that did not reach its commit; SQLite has often done so itself."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _abandon(self) -> None:
        """As `_roll_back`, but never hides the error it follows; the next append tries again before it begins."""
        try:
            self._roll_back()
        except sqlite3.Error as error:
            _log.error("the log cannot roll back", error=_named(error))

    def _count(self, pages: int) -> None:
        self._wal_pages += pages
        self._pages_since_pass += pages

    def _bound_wal(self, passing: bool) -> None:
        """Keep the WAL of a busy log short, holding up as few flushes as possible. Called right after a commit that wrote something.

        `passing`: a pass was under way before that commit began. It may have copied the commit too, so no other one begins upon it.
        """
        full = self._wal_pages >= WAL_PAGES_MAX
        if self._wal_pages >= 2 * WAL_PAGES_MAX:  # Flushes are faster than passes.
            self.checkpointer.wait()
            self.checkpoint()
        elif passing:
            return
        elif self._pages_since_pass >= (FINISH_PAGES_MAX if full else CHECKPOINT_BUSY_PAGES):
            self._pages_since_pass = 0
            self.passes += 1
            self.checkpointer.begin()
        elif full:
            self.checkpoint()

    def idle(self) -> None:
        """Use a pause between flushes."""
        if self._wal_pages >= CHECKPOINT_IDLE_PAGES and not self.checkpointer.is_running:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Move the WAL into the database as far as readers let it. A failure costs nothing but a longer WAL;
        it is tried again.
        """
        self._wal_pages = self._pages_since_pass = 0
        try:
            self._db.execute(CHECKPOINT).fetchone()
        except sqlite3.OperationalError:
            self._wal_pages = CHECKPOINT_IDLE_PAGES

    def close(self) -> None:
        """Empty the WAL and close the connections. A WAL that cannot be emptied now is read at the next start."""
        self.checkpointer.close()
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            _log.warning("the log keeps its WAL until the next start", error=_named(error))
        finally:
            self._db.close()


def _outcome(commits: Sequence[Commit], refusal: Refusal | None) -> ShardOutcome:
    return ShardOutcome(len(commits)) if refusal is None else ShardOutcome(refusal.index, refusal)


def _named(error: sqlite3.Error) -> str:
    """SQLite's name of an error with its text, which names no content."""
    return f"{getattr(error, 'sqlite_errorname', type(error).__name__)}: {error}"
