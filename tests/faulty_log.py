"""A log that fails on command: wraps a real adapter, so that what is stored is always what an adapter really
stored.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

import msgspec

from eventlog.port import Log, LogUnavailableError, OutcomeUnknownError, ShardOutcome
from eventlog.record import Commit, Head


class Fault(StrEnum):
    """What happens to one append."""

    UNAVAILABLE = "unavailable"
    """Nothing is written; LogUnavailableError."""
    UNKNOWN_BEFORE = "unknown_before"
    """Nothing is written; OutcomeUnknownError."""
    UNKNOWN_AFTER = "unknown_after"
    """Everything is written; OutcomeUnknownError."""
    UNKNOWN_PREFIX = "unknown_prefix"
    """The first `documents` documents of the flush are written; OutcomeUnknownError."""
    INTRUDER = "intruder"
    """Just before the append, `intruder` is appended (another owner, a lost key); then the append runs and is
    refused by it.
    """
    SLOW = "slow"
    """The append waits until `release` is called."""


class Planned(msgspec.Struct, frozen=True):
    """One planned fault."""

    fault: Fault
    documents: int = 0
    intruder: Sequence[Commit] = ()


class FaultyLog:
    """Each append takes the next planned fault; without one it goes through. Reads go through unless
    `reads_fail`, probes unless `probes_fail`.

    `appends` is the number of append calls begun, `probes` of probes; `flushes` holds what each append was given.
    """

    def __init__(self, inner: Log) -> None:
        self.inner = inner
        self.flushes: list[Mapping[int, Sequence[Commit]]] = []
        self.reads_fail = False
        self.probes_fail = False
        self.probes = 0
        self._planned: deque[Planned] = deque()
        self._released = asyncio.Event()
        self._begun = asyncio.Condition()

    @property
    def appends(self) -> int:
        """Append calls so far."""
        return len(self.flushes)

    def plan(self, *faults: Fault | Planned) -> None:
        """Faults of the next appends, in order."""
        self._planned += [fault if isinstance(fault, Planned) else Planned(fault) for fault in faults]

    def plan_refusal(self, make: Callable[[], Sequence[Commit]]) -> None:
        """The next append meets these commits, which stand there first."""
        self._planned.append(Planned(Fault.INTRUDER, intruder=make()))

    def release(self) -> None:
        """Let every slow append go on, also later ones."""
        self._released.set()

    async def begun(self, count: int) -> None:
        """Wait until so many appends were begun."""
        async with self._begun:
            await self._begun.wait_for(lambda: self.appends >= count)

    async def probed(self, count: int) -> None:
        """Wait until so many probes were begun."""
        async with self._begun:
            await self._begun.wait_for(lambda: self.probes >= count)

    @property
    def log_id(self) -> str:
        """Of the inner log."""
        return self.inner.log_id

    @property
    def shard_count(self) -> int:
        """Of the inner log."""
        return self.inner.shard_count

    async def append(self, batches: Mapping[int, Sequence[Commit]]) -> Mapping[int, ShardOutcome]:
        """The inner append with the next planned fault."""
        batches = {shard: tuple(commits) for shard, commits in batches.items()}
        planned = self._planned.popleft() if self._planned else None
        async with self._begun:
            self.flushes.append(batches)
            self._begun.notify_all()
        if planned is None:
            return await self.inner.append(batches)
        return await self._fail(planned, batches)

    async def _fail(
        self, planned: Planned, batches: Mapping[int, Sequence[Commit]]
    ) -> Mapping[int, ShardOutcome]:
        match planned.fault:
            case Fault.UNAVAILABLE:
                raise LogUnavailableError("planned")
            case Fault.UNKNOWN_BEFORE:
                raise OutcomeUnknownError("planned")
            case Fault.UNKNOWN_AFTER:
                await self._write(batches)
                raise OutcomeUnknownError("planned")
            case Fault.UNKNOWN_PREFIX:
                await self._write(_first(batches, planned.documents))
                raise OutcomeUnknownError("planned")
            case Fault.INTRUDER:
                await self._write({planned.intruder[0].shard: planned.intruder})
            case Fault.SLOW:
                await self._released.wait()
        return await self.inner.append(batches)

    async def _write(self, batches: Mapping[int, Sequence[Commit]]) -> None:
        await self.inner.append(batches)

    async def read_shard(self, shard: int, after_position: int, limit: int) -> Sequence[Commit]:
        """See the port."""
        self._check_reads()
        return await self.inner.read_shard(shard, after_position, limit)

    async def read_stream(self, shard: int, stream: str, after_version: int, limit: int) -> Sequence[Commit]:
        """See the port."""
        self._check_reads()
        return await self.inner.read_stream(shard, stream, after_version, limit)

    async def read_stream_tail(self, shard: int, stream: str, limit: int) -> Sequence[Commit]:
        """See the port."""
        self._check_reads()
        return await self.inner.read_stream_tail(shard, stream, limit)

    async def find_keys(self, keys: Sequence[tuple[int, bytes]]) -> Mapping[tuple[int, bytes], Commit]:
        """See the port."""
        self._check_reads()
        return await self.inner.find_keys(keys)

    async def heads(self) -> Mapping[int, Head]:
        """See the port."""
        self._check_reads()
        return await self.inner.heads()

    async def probe(self) -> None:
        """See the port."""
        async with self._begun:
            self.probes += 1
            self._begun.notify_all()
        if self.probes_fail:
            raise LogUnavailableError("planned")
        await self.inner.probe()

    async def close(self) -> None:
        """Close the inner log."""
        await self.inner.close()

    def _check_reads(self) -> None:
        if self.reads_fail:
            raise LogUnavailableError("planned")


def _first(batches: Mapping[int, Sequence[Commit]], count: int) -> Mapping[int, Sequence[Commit]]:
    """The first `count` documents of a flush, in its order."""
    left = count
    part: dict[int, Sequence[Commit]] = {}
    for shard, commits in batches.items():
        part[shard] = commits[:left]
        left -= len(part[shard])
    return part
