"""The log in memory: the twin of the durable adapters for tests and simulation. Nothing survives the process."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

from eventlog.port import (
    APPEND_COMMITS_MAX,
    READ_COMMITS_MAX,
    LogUnavailableError,
    Refusal,
    RefusalReason,
    ShardOutcome,
    check_batches,
)
from eventlog.record import Commit, Head

__all__ = ["APPEND_COMMITS_MAX", "READ_COMMITS_MAX", "MemoryLog"]


class MemoryLog:
    """Lists and dictionaries with the exact semantics of the port.

    `ordered`: stop the whole flush at its first refused document, as an ordered bulk write does; otherwise
    other shards go on.
    """

    def __init__(self, log_id: str, shard_count: int, *, ordered: bool = False) -> None:
        self._log_id = log_id
        self._shard_count = shard_count
        self._ordered = ordered
        self._closed = False
        self._shards: dict[int, _Shard] = {}

    @property
    def log_id(self) -> str:
        """The id given."""
        return self._log_id

    @property
    def shard_count(self) -> int:
        """S; shard S is there too."""
        return self._shard_count

    async def append(self, batches: Mapping[int, Sequence[Commit]]) -> Mapping[int, ShardOutcome]:
        """See the port. Never of unknown outcome."""
        self._check_open()
        check_batches(batches, self._shard_count)
        for shard, commits in batches.items():
            self._shard(shard).check_dense(commits)
        outcomes: dict[int, ShardOutcome] = {}
        stopped = False
        for shard, commits in batches.items():
            outcome = ShardOutcome(0) if stopped else self._shard(shard).append(commits)
            outcomes[shard] = outcome
            stopped = stopped or (self._ordered and outcome.refusal is not None)
        return outcomes

    async def read_shard(self, shard: int, after_position: int, limit: int) -> Sequence[Commit]:
        """See the port."""
        self._check_open()
        start = max(after_position, 0)
        return self._shard(shard).commits[start : start + min(limit, READ_COMMITS_MAX)]

    async def read_stream(self, shard: int, stream: str, after_version: int, limit: int) -> Sequence[Commit]:
        """See the port."""
        self._check_open()
        commits = self._shard(shard).streams.get(stream, [])
        start = bisect_right(commits, after_version, key=lambda c: c.first_version + c.events_count - 1)
        return commits[start : start + min(limit, READ_COMMITS_MAX)]

    async def read_stream_tail(self, shard: int, stream: str, limit: int) -> Sequence[Commit]:
        """See the port."""
        self._check_open()
        commits = self._shard(shard).streams.get(stream, [])
        return commits[max(len(commits) - min(limit, READ_COMMITS_MAX), 0) :]

    async def find_keys(self, keys: Sequence[tuple[int, bytes]]) -> Mapping[tuple[int, bytes], Commit]:
        """See the port."""
        self._check_open()
        found = {(shard, key): self._shard(shard).keys.get(key) for shard, key in keys}
        return {place: commit for place, commit in found.items() if commit is not None}

    async def heads(self) -> Mapping[int, Head]:
        """See the port."""
        self._check_open()
        return {number: shard.commits[-1].head for number, shard in self._shards.items() if shard.commits}

    async def close(self) -> None:
        """Later calls raise LogUnavailableError."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise LogUnavailableError("the log is closed")

    def _shard(self, shard: int) -> _Shard:
        found = self._shards.get(shard)
        if found is None:
            found = self._shards[shard] = _Shard()
        return found

    async def probe(self) -> None:
        """See the port. Memory takes writes until it is closed."""
        self._check_open()


class _Shard:
    """One shard's commits with the three indexes."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []
        self.keys: dict[bytes, Commit] = {}
        self.streams: dict[str, list[Commit]] = {}
        self._first_versions: set[tuple[str, int]] = set()

    def check_dense(self, commits: Sequence[Commit]) -> None:
        if commits and commits[0].position > len(self.commits) + 1:
            raise ValueError(f"position {commits[0].position} would leave a hole")

    def append(self, commits: Sequence[Commit]) -> ShardOutcome:
        for index, commit in enumerate(commits):
            refusal = self._refusal(index, commit)
            if refusal is not None:
                return ShardOutcome(index, refusal)
            if commit.position > len(self.commits):
                self._insert(commit)
        return ShardOutcome(len(commits))

    def _refusal(self, index: int, commit: Commit) -> Refusal | None:
        if commit.position <= len(self.commits):
            present = self.commits[commit.position - 1]
            return None if commit.same_as(present) else Refusal(index, RefusalReason.POSITION, present)
        if (other := self.keys.get(commit.key)) is not None:
            return Refusal(index, RefusalReason.KEY, other)
        if (commit.stream, commit.first_version) in self._first_versions:
            return Refusal(index, RefusalReason.STREAM)
        return None

    def _insert(self, commit: Commit) -> None:
        self.commits.append(commit)
        self.keys[commit.key] = commit
        self._first_versions.add((commit.stream, commit.first_version))
        stream = self.streams.setdefault(commit.stream, [])
        where = bisect_right(stream, commit.first_version, key=lambda c: c.first_version)
        stream.insert(where, commit)
