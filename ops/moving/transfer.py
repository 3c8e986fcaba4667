"""The move of a log: every frame at its position and every secret, verified; then one place is closed and the other one opened.

The log stays the same log: its id, and with it cursors, tokens and what clients hold, stay valid. So it must never be written at both
places. The order sees to that, wherever it is broken off: the target cannot be served before it is whole, and the source is closed for
writing before that. Until then nothing but the target is changed; repeated, a move goes on where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import takewhile
from typing import Protocol

import msgspec

from eventlog.integrity import Finding, ShardVerifier
from eventlog.port import Log
from eventlog.record import Commit, Head
from eventlog.secrets import Secrets
from ops.from_kafka import append_whole

PAGE_COMMITS = 500
"""Commits read, and written, at a time."""
SECRETS_AT_ONCE = 64


class Stage(StrEnum):
    """What a move is doing."""

    COPYING = "copying"
    VERIFYING = "verifying"
    CLOSED = "closed"
    """The source, for writing."""
    SECRETS = "secrets"


Report = Callable[[Stage, int, int], None]
"""(stage, commits or secrets done, altogether)"""


class MoveRefusedError(Exception):
    """These places cannot be moved between; nothing was changed."""


class MoveFailedError(Exception):
    """What was copied is not what was to be moved. The target is not opened."""


class Source(Protocol):
    """Where the log is. Held for the move as far as its kind allows."""

    @property
    def place(self) -> str:
        """What people call it, and marks remember; without credentials."""
        ...

    @property
    def log(self) -> Log:
        """Open for reading."""
        ...

    @property
    def former_log_ids(self) -> Sequence[str]:
        """The ids of a restored log before this one, oldest first."""
        ...

    @property
    def secrets(self) -> Secrets:
        """To be read."""
        ...

    @property
    def moved_to(self) -> str | None:
        """The place for which it was closed already."""
        ...

    async def close_for_writing(self, place: str) -> None:
        """Nobody writes the log here from now on; what was written before can be read when it returns. Durable, and may be repeated."""
        ...

    async def open_for_writing(self) -> None:
        """Take that back."""
        ...


class Target(Protocol):
    """Where it goes. Holds nothing else."""

    @property
    def place(self) -> str:
        """As a source's."""
        ...

    @property
    def log(self) -> Log:
        """Open for appending."""
        ...

    @property
    def secrets(self) -> Secrets:
        """To be filled."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether it was moved here before, to the end."""
        ...

    async def call_whole(self, former_log_ids: Sequence[str]) -> None:
        """Let it be served. Durable."""
        ...


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """What a move did. `copied`: the commits that this run of the command brought; 0 of a move that was done before."""

    source: str
    target: str
    log_id: str
    shards: int
    commits: int
    events: int
    copied: int
    secrets: int


class Move:
    """One move; `run` may be called once."""

    def __init__(self, source: Source, target: Target, report: Report) -> None:
        self._source = source
        self._target = target
        self._report = report
        log = source.log
        log_ids = frozenset((log.log_id, *source.former_log_ids))
        shards = range(log.shard_count + 1)
        self._verifiers = [ShardVerifier(shard, log.shard_count, log_ids) for shard in shards]
        self._copied = 0

    async def run(self) -> Moved:
        """Move it.

        Raises MoveRefusedError, MoveFailedError, LogUnavailableError, OutcomeUnknownError, SecretsUnavailableError; interrupted in any
        way, it may be run again.
        """
        source, target = self._source, self._target
        check_pair(source, target)
        secrets = 0
        if not target.is_whole:
            # Before anything is closed, so that what could go wrong goes wrong while the source can still be served.
            await self._copy()
            await self._verify()
            # Also if it says that it is closed: whoever closed it may have been killed before it was.
            await source.close_for_writing(target.place)
            self._report(Stage.CLOSED, 0, 0)
            # A process that nobody saw may have written in the meantime; from now on the store refuses it.
            await self._copy()
            await self._verify()
            secrets = await move_secrets(source.secrets, target.secrets, self._report)
            await target.call_whole(source.former_log_ids)
        heads = await target.log.heads()
        return Moved(
            source=source.place,
            target=target.place,
            log_id=target.log.log_id,
            shards=target.log.shard_count,
            commits=sum(head.position for head in heads.values()),
            events=sum(head.number for head in heads.values()),
            copied=self._copied,
            secrets=secrets,
        )

    async def _copy(self) -> None:
        heads, copied = await self._source.log.heads(), await self._target.log.heads()
        total = sum(head.position for head in heads.values())
        done = sum(head.position for head in copied.values())
        for shard, head in sorted(copied.items()):
            await self._check_copied(shard, head, heads.get(shard, Head()))
        self._report(Stage.COPYING, done, total)
        for shard, head in sorted(heads.items()):
            start = copied.get(shard, Head()).position
            async for page in pages(self._source.log, shard, start, head.position):
                try:
                    await append_whole(self._target.log, shard, page)
                except ValueError as error:
                    raise MoveFailedError(str(error)) from None
                done += len(page)
                self._copied += len(page)
                self._report(Stage.COPYING, done, total)

    async def _check_copied(self, shard: int, copied: Head, head: Head) -> None:
        """What a move that was broken off left must be the beginning of what is moved now: the chain's digest says so of all before."""
        if copied.position <= head.position:
            (last,) = await self._source.log.read_shard(shard, copied.position - 1, 1)
            if last.digest == copied.digest:
                return
        raise MoveRefusedError(
            f"{self._target.place} holds other commits of shard {shard} than {self._source.place}: empty it and move again"
        )

    async def _verify(self) -> None:
        """Each shard of both places, frame by frame, from where it was verified before; both must end alike."""
        heads = await self._source.log.heads()
        total = sum(head.position for head in heads.values())
        done = sum(verifier.head.position for verifier in self._verifiers)
        for verifier in self._verifiers:
            shard, head = verifier.shard, heads.get(verifier.shard, Head())
            async for page in pages(self._source.log, shard, verifier.head.position, head.position):
                start = page[0].position - 1
                found = await self._target.log.read_shard(shard, start, len(page))
                same = takewhile(lambda pair: pair[0] == pair[1], zip(page, found, strict=False))
                if (position := start + sum(1 for _ in same)) < page[-1].position:
                    raise MoveFailedError(
                        f"{self._target.place} does not hold {shard}:{position + 1} as {self._source.place} does"
                    )
                for commit in page:
                    _check_sound(verifier.check(commit))
                done += len(page)
                self._report(Stage.VERIFYING, done, total)
            _check_sound(verifier.finish(head))
        if await self._target.log.heads() != heads:
            raise MoveFailedError(f"{self._target.place} does not end where {self._source.place} does")


def check_destination(source: Source, place: str) -> None:
    """Raises MoveRefusedError if the log was moved to another place already. Asked before anything is made there."""
    if source.moved_to not in (None, place):
        raise MoveRefusedError(
            f"the log in {source.place} was moved to {source.moved_to} already: if that move was broken off, name that very place"
            f" (this one is {place})"
        )


def check_pair(source: Source, target: Target) -> None:
    """Raises MoveRefusedError unless a move from one to the other may begin or go on."""
    here, there = source.log, target.log
    if (here.log_id, here.shard_count) != (there.log_id, there.shard_count):
        raise MoveRefusedError(f"{target.place} holds another log already: choose another place, or empty it")
    check_destination(source, target.place)
    if target.is_whole and source.moved_to is None:
        raise MoveRefusedError(
            f"{target.place} holds a copy of this log that no move made: choose another place, or empty it"
        )


def nothing_arrived(source: Source, place: str) -> MoveRefusedError:
    """Why a move to a place that holds nothing of it is not given up.

    Before a source is closed all of it has been copied. So what is not there any more was taken away, and perhaps had gone on before.
    """
    if source.moved_to is None:
        return MoveRefusedError(f"there is nothing to give up: {place} holds nothing of a move")
    return MoveRefusedError(
        f"{place} holds nothing of the move any more, and the log may have gone on there: if it never did, run the same move again; if"
        f" it did, {source.place} comes back only as another log (`minutebook backup` and `restore`, in a cluster `restore --in-place`)"
    )


async def give_up(source: Source, target: Target) -> None:
    """Let the source be served again after a move that was broken off. Raises MoveRefusedError if the target may be served already."""
    check_pair(source, target)
    if target.is_whole:
        raise MoveRefusedError(
            f"the log is whole in {target.place} and may have gone on there: serve that one"
        )
    if source.moved_to is not None:
        await source.open_for_writing()


async def pages(
    log: Log, shard: int, after_position: int, last_position: int
) -> AsyncIterator[Sequence[Commit]]:
    """A shard's commits behind one position up to another, in order, at most PAGE_COMMITS at a time. Raises MoveFailedError at a hole."""
    position = after_position
    while position < last_position:
        page = await log.read_shard(shard, position, min(PAGE_COMMITS, last_position - position))
        if not page or page[0].position != position + 1 or page[-1].position != position + len(page):
            raise MoveFailedError(f"{shard}:{position + 1} is missing: see `minutebook audit verify`")
        yield page
        position = page[-1].position


def _check_sound(findings: Iterable[Finding]) -> None:
    for finding in findings:
        raise MoveFailedError(
            f"the record has a fault at {finding.shard}:{finding.position} ({finding.detail}), which a move does not mend: see"
            " `minutebook audit verify`"
        )


async def move_secrets(source: Secrets, target: Secrets, report: Report) -> int:
    """Make the target hold what the source holds and nothing else; how many there are. Raises MoveFailedError if it then does not."""
    for (
        kind
    ) in await target.kinds():  # What a move that was broken off left may have changed at the source since.
        while left := await target.list(kind, limit=SECRETS_AT_ONCE):
            await asyncio.gather(*[target.delete(kind, *place) for place in left])
    done = 0
    kinds = await source.kinds()
    for kind in kinds:
        async for found in _secrets_of(source, kind):
            await asyncio.gather(*[target.put(kind, *place, value) for place, value in found.items()])
            done += len(found)
            report(Stage.SECRETS, done, 0)
    if await target.kinds() != kinds:
        raise MoveFailedError("the target does not hold the kinds of secrets that it was given")
    for kind in kinds:
        there = _secrets_of(target, kind)
        async for found in _secrets_of(source, kind):
            if await anext(there, {}) != found:
                raise MoveFailedError(
                    f"the target does not hold the secrets of kind {kind} as they were given"
                )
    return done


async def _secrets_of(store: Secrets, kind: str) -> AsyncIterator[Mapping[tuple[str, str], bytes]]:
    after = ("", "")
    while found := await store.list(kind, after=after, limit=SECRETS_AT_ONCE):
        yield found
        after = max(found)
