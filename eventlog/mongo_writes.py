"""The writing half of the MongoDB log: a flush is one ordered insert, and only a reply that proves something is believed.

Why an ordered one: of a shard's documents behind a refused one none may be written, or they would be a hole. Why no transaction: each
document is a commit and atomic by itself, and the unique indexes are all the fence there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from eventlog import mongo_reads as reads
from eventlog.mongo_driver import MongoDriver
from eventlog.mongo_errors import MongoFailure, named, reply_failure, write_failure
from eventlog.mongo_schema import (
    COMMITS,
    INDEXES,
    KEY_INDEX,
    STREAM_INDEX,
    check_stays,
    document_id,
    document_of,
    read_log,
)
from eventlog.port import (
    LogMismatchError,
    LogUnavailableError,
    OutcomeUnknownError,
    Refusal,
    RefusalReason,
    ShardOutcome,
)
from eventlog.record import Commit

COMMIT_BYTES_MAX = 15 * 1024 * 1024
"""The largest frame with its stream's name; MongoDB's documents end at 16 MB."""
COMMAND_BYTES_MAX = COMMIT_BYTES_MAX + 512 * 1024
"""Documents of one insert command, together; a flush that is larger takes several, one after the other."""
DOCUMENT_OVERHEAD_BYTES = 320
"""What a document has beside its frame and its stream's name, at most."""

_REASONS = {
    ("_id",): RefusalReason.POSITION,
    INDEXES[KEY_INDEX]: RefusalReason.KEY,
    INDEXES[STREAM_INDEX]: RefusalReason.STREAM,
}


class CommitTooLargeError(ValueError):
    """A commit that no document can hold. Nothing was written."""


class _Refused(msgspec.Struct, frozen=True):
    """The first document of a command that was not inserted, and the index that says so."""

    index: int
    reason: RefusalReason


class MongoWriter:
    """Appends for one log; knows which positions stand, so that a flush need not ask whether it would leave a hole."""

    def __init__(self, driver: MongoDriver, log_id: str) -> None:
        self._driver = driver
        self._log_id = log_id
        self._standing: dict[int, int] = {}
        self._acknowledged: dict[int, int] = {}
        """The highest position of each shard that this writer called appended; never forgotten, as `_standing` is."""
        self._trusted_connections = -1

    async def append(self, batches: Mapping[int, Sequence[Commit]]) -> Mapping[int, ShardOutcome]:
        """See the port; the shards of a flush in the order of `batches`.

        Raises LogUnavailableError, OutcomeUnknownError, ValueError (a hole, CommitTooLargeError).
        """
        commits = [commit for batch in batches.values() for commit in batch]
        for commit in commits:
            _check_size(commit)
        try:
            await self._check_dense(batches)
        except MongoFailure as error:
            self._doubt()
            raise LogUnavailableError(named(error)) from error
        try:
            refused = await self._insert_all(commits)
        except BaseException:
            self._doubt()
            raise
        outcomes = _outcomes(batches, refused)
        for shard, outcome in outcomes.items():
            if outcome.appended:
                last = batches[shard][outcome.appended - 1].position
                self._standing[shard] = max(self._standing.get(shard, 0), last)
                self._acknowledged[shard] = max(self._acknowledged.get(shard, 0), last)
        return outcomes

    def _doubt(self) -> None:
        """Believe nothing of what was known: perhaps another server answers now, restored from a backup."""
        self._standing.clear()
        self._trusted_connections = -1

    async def _check_dense(self, batches: Mapping[int, Sequence[Commit]]) -> None:
        """Raises ValueError if a position would leave a hole, LogUnavailableError if this is another log, or an older one, by now.

        Asked only about shards that this writer has not appended to, and about all after a connection was made anew: a database is
        replaced under a running program at most while its server is away.
        """
        made = self._driver.connections_made
        if made != self._trusted_connections:
            self._standing.clear()
            await self._check_log()
            self._trusted_connections = made
        before = {
            document_id(shard, commits[0].position - 1): commits[0]
            for shard, commits in batches.items()
            if commits and commits[0].position - 1 > self._standing.get(shard, 0)
        }
        if not before:
            return
        present = await reads.ids_present(self._driver, list(before))
        for place, commit in before.items():
            if place in present:
                continue
            if commit.position - 1 <= self._acknowledged.get(commit.shard, 0):
                raise LogUnavailableError(
                    f"database {self._driver.database} has lost commits that it had acknowledged (shard {commit.shard},"
                    f" position {commit.position - 1}): it was restored from a backup; start again"
                )
            raise ValueError(f"position {commit.position} of shard {commit.shard} would leave a hole")

    async def _check_log(self) -> None:
        try:
            found = await read_log(self._driver)
            if found is not None:
                check_stays(self._driver, found)
        except LogMismatchError as error:
            raise LogUnavailableError(str(error)) from error
        if found is None or found.log_id != self._log_id:
            raise LogUnavailableError(
                f"database {self._driver.database} does not hold the log {self._log_id} any more; it was replaced"
                " or restored: start again"
            )

    async def _insert_all(self, commits: Sequence[Commit]) -> tuple[Commit, Refusal] | None:
        """Insert until all stand (None) or one is refused. The index in the refusal is set by the caller.

        Each round ends at least one document, so there are at most as many rounds as documents; in practice one, or after an unknown
        outcome two.
        """
        begun = False
        pending = list(commits)
        while pending:
            command = _command_of(pending)
            refused = await self._insert(command, begun=begun)
            begun = True
            if refused is None:
                del pending[: len(command)]
                continue
            del pending[: refused.index]
            try:
                pending, refusal = await self._resolve(pending, refused.reason)
            except MongoFailure as error:
                raise OutcomeUnknownError(named(error)) from error
            if refusal is not None:
                return pending[0], refusal
        return None

    async def _insert(self, commits: Sequence[Commit], *, begun: bool) -> _Refused | None:
        """One command. None: all of them are durable."""
        try:
            reply = await self._driver.insert(COMMITS, [document_of(commit) for commit in commits])
        except MongoFailure as error:
            raise write_failure(error, begun=begun) from error
        failure = reply_failure(reply)
        if failure is not None:
            raise OutcomeUnknownError(f"MongoDB: {failure}")
        errors = reply.get("writeErrors")
        if errors:
            reason = _REASONS.get(tuple(errors[0].get("keyPattern", ())))
            if reason is None:
                raise OutcomeUnknownError("MongoDB: a document was refused by an index that is not ours")
            return _Refused(errors[0]["index"], reason)
        if reply["n"] != len(commits):
            raise OutcomeUnknownError(f"MongoDB: {reply['n']} documents of {len(commits)} were inserted")
        return None

    async def _resolve(
        self, commits: Sequence[Commit], reason: RefusalReason
    ) -> tuple[list[Commit], Refusal | None]:
        """What became of the refused first document: it was ours already (then it and all others that stand are left out), or the
        refusal.

        What a majority read does not show may be rolled back with whoever wrote it: no evidence.
        """
        first = commits[0]
        if reason is RefusalReason.POSITION:
            present = await reads.at_places(self._driver, [(c.shard, c.position) for c in commits])
            standing = present.get((first.shard, first.position))
            if standing is not None and not first.same_as(standing):
                return list(commits), Refusal(0, reason, standing)
            if standing is not None:
                return [c for c in commits if not _stands(c, present)], None
        else:
            found = await reads.by_keys(self._driver, [(first.shard, first.key)])
            if found:
                return list(commits), Refusal(0, RefusalReason.KEY, found[first.shard, first.key])
            if reason is RefusalReason.STREAM and await reads.stream_version_stands(self._driver, first):
                return list(commits), Refusal(0, reason)
        raise OutcomeUnknownError(
            f"MongoDB: refused by its {reason.value}, but no majority has what stands there"
        )


def _stands(commit: Commit, present: Mapping[tuple[int, int], Commit]) -> bool:
    standing = present.get((commit.shard, commit.position))
    return standing is not None and commit.same_as(standing)


def _outcomes(
    batches: Mapping[int, Sequence[Commit]], refused: tuple[Commit, Refusal] | None
) -> dict[int, ShardOutcome]:
    """Shards before the refused document are whole, those behind it were not tried."""
    outcomes: dict[int, ShardOutcome] = {}
    is_behind = False
    for shard, commits in batches.items():
        if refused is not None and shard == refused[0].shard:
            index = refused[0].position - commits[0].position
            outcomes[shard] = ShardOutcome(index, msgspec.structs.replace(refused[1], index=index))
            is_behind = True
        else:
            outcomes[shard] = ShardOutcome(0 if is_behind else len(commits))
    return outcomes


def _command_of(pending: Sequence[Commit]) -> Sequence[Commit]:
    """As many of the first documents as fit into one command; at least one."""
    total = 0
    for index, commit in enumerate(pending):
        total += _size(commit)
        if index and total > COMMAND_BYTES_MAX:
            return pending[:index]
    return pending[:]


def _size(commit: Commit) -> int:
    return len(commit.frame) + len(commit.stream.encode()) + DOCUMENT_OVERHEAD_BYTES


def _check_size(commit: Commit) -> None:
    if len(commit.frame) + 4 * len(commit.stream) > COMMIT_BYTES_MAX:
        raise CommitTooLargeError(
            f"commit {commit.shard}:{commit.position} has {len(commit.frame)} bytes, {COMMIT_BYTES_MAX} is the bound"
        )
