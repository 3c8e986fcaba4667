"""Reactions: what happens in one stream because of an event in another. Idempotent by key, in order per stream, from a checkpoint.

What concerns only one user (profile, sessions, blocks) is copied into that user's inbox, the conversation `me` of all devices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from commands.caller import Answer, Caller, Keyed
from commands.port import CommandPort
from commands.tasks import TaskOwner
from domain.direct import DirectBlocked, DirectUnblocked
from domain.errors import Problem
from domain.event import Command, Event
from domain.inbox import (
    ReflectBlock,
    ReflectProfile,
    ReflectSessionClosed,
    ReflectSessionOpened,
    ReflectUnblock,
)
from domain.streams import owner_of, split
from domain.user import UserProfileChanged, UserSessionClosed, UserSessionOpened
from eventlog.bus import Bus
from eventlog.checkpoints import Checkpoint
from eventlog.codec import EventCodec
from eventlog.port import Log, LogUnavailableError
from eventlog.record import Commit, Committed, Recorded
from eventlog.registry import UnknownEventError

_log = structlog.get_logger(__name__)

QUEUED_MAX = 10_000
SPAN_COMMITS = 1_000
CHECKPOINT_S = 5.0
PAUSE_FIRST_S = 0.05
PAUSE_MAX_S = 2.0
_PASSING = frozenset({"unavailable", "overloaded", "outcome_unknown"})


class Reactions:
    """A process manager. `start` after the node is open, `close` before it closes."""

    def __init__(
        self, log: Log, codec: EventCodec, bus: Bus, desk: CommandPort, checkpoint: Checkpoint
    ) -> None:
        self._log = log
        self._codec = codec
        self._desk = desk
        self._checkpoint = checkpoint
        self._bus = bus
        self._unfollow: Callable[[], None] | None = None
        self._positions: dict[int, int] = {}
        self._heard: dict[int, int] = {}
        self._queue: list[Recorded] = []
        self._behind = True
        self._saved: Mapping[int, int] = {}
        self._wake = asyncio.Event()
        self._tasks = TaskOwner("reactions", 2)

    async def start(self) -> None:
        """Follow the log from the checkpoint."""
        self._positions = dict(await self._checkpoint.load())
        self._unfollow = self._bus.follow(self._follow)
        self._heard = {shard: head.position for shard, head in (await self._log.heads()).items()}
        self._wake.set()
        self._tasks.start(self._run())
        self._tasks.start(self._save_now_and_then())

    @property
    def lag(self) -> Mapping[int, int]:
        """How many known commits of each shard were not looked at yet; shards without any are left out."""
        waiting = {shard: heard - self._positions.get(shard, 0) for shard, heard in self._heard.items()}
        return {shard: count for shard, count in waiting.items() if count > 0}

    @property
    def queued(self) -> int:
        """Events that wait to be reflected."""
        return len(self._queue)

    async def close(self) -> None:
        """Stop; what is not done yet is done after the next start. Idempotent."""
        if self._unfollow is not None:
            self._unfollow()
            self._unfollow = None
        await self._tasks.close()
        await self._save()

    def _follow(self, batch: Sequence[Committed]) -> None:
        for committed in batch:
            commit = committed.commit
            self._heard[commit.shard] = max(commit.position, self._heard.get(commit.shard, 0))
            for row in committed.events:
                if type(row.event) in _REFLECTIONS:
                    self._hear(row)

    def _hear(self, row: Recorded) -> None:
        if self._behind or len(self._queue) >= QUEUED_MAX:
            self._behind = True
            self._queue.clear()
        else:
            self._queue.append(row)
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            heard = dict(self._heard)
            try:
                if self._behind:
                    self._behind = False
                    await self._refill(heard)
                else:
                    rows, self._queue = self._queue, []
                    await self._react(rows)
            except LogUnavailableError as error:
                _log.error("reactions cannot read the log", error=type(error).__name__)
                self._behind = True
                self._wake.set()
                await asyncio.sleep(PAUSE_MAX_S)
            if not self._behind:
                self._positions.update(heard)

    async def _refill(self, heads: Mapping[int, int]) -> None:
        """Read what was missed from the log, shard by shard."""
        for shard, head in heads.items():
            while (after := self._positions.get(shard, 0)) < head:
                commits = await self._log.read_shard(shard, after, SPAN_COMMITS)
                if not commits:
                    break
                await self._react(self._rows(commits))
                self._positions[shard] = commits[-1].position

    def _rows(self, commits: Sequence[Commit]) -> list[Recorded]:
        rows: list[Recorded] = []
        for commit in commits:
            try:
                events = self._codec.decode(commit).events
            except UnknownEventError as error:
                _log.error(
                    "reaction skips a commit", shard=commit.shard, position=commit.position, error=str(error)
                )
                continue
            rows += [row for row in events if type(row.event) in _REFLECTIONS]
        return rows

    async def _react(self, rows: Sequence[Recorded]) -> None:
        """Do all, in order; what failed for a passing reason is done again, the same way, so nothing happens twice."""
        pause_s = PAUSE_FIRST_S
        while rows:
            results = await asyncio.gather(*[self._reflect(row) for row in rows], return_exceptions=True)
            failed: list[Recorded] = []
            for row, result in zip(rows, results, strict=True):
                if isinstance(result, Problem) and result.code in _PASSING:
                    failed.append(row)
                elif isinstance(result, BaseException):
                    _log.error("reaction refused", stream=row.stream, version=row.version, error=str(result))
            rows = failed
            if rows:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, PAUSE_MAX_S)

    async def _reflect(self, row: Recorded) -> Answer:
        tenant, _ = split(row.stream)
        user_id, command = _REFLECTIONS[type(row.event)](row)
        keyed = Keyed("reaction", f"{row.stream} {row.version}")
        return await self._desk.execute(Caller(tenant, user_id), f"inbox:{user_id}", command, keyed)

    async def _save_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_S)
            await self._save()

    async def _save(self) -> None:
        positions = dict(self._positions)
        if positions == self._saved:
            return
        try:
            await self._checkpoint.save(positions)
        except (OSError, LogUnavailableError) as error:
            _log.warning("checkpoint not saved", error=str(error))
        else:
            self._saved = positions


Reflection = tuple[str, Command]


def _owner(row: Recorded) -> str:
    return owner_of(row.stream)[1]


def _profile(row: Recorded) -> Reflection:
    event = row.event
    assert isinstance(event, UserProfileChanged)
    return _owner(row), ReflectProfile(changes=event.everything)


def _opened(row: Recorded) -> Reflection:
    event = row.event
    assert isinstance(event, UserSessionOpened)
    return _owner(row), ReflectSessionOpened(session_id=event.session_id, device_id=event.device_id)


def _closed(row: Recorded) -> Reflection:
    event = row.event
    assert isinstance(event, UserSessionClosed)
    return _owner(row), ReflectSessionClosed(session_id=event.session_id)


def _blocked(row: Recorded) -> Reflection:
    event = row.event
    assert isinstance(event, DirectBlocked)
    return event.actor, ReflectBlock(user_id=event.user_id)


def _unblocked(row: Recorded) -> Reflection:
    event = row.event
    assert isinstance(event, DirectUnblocked)
    return event.actor, ReflectUnblock(user_id=event.user_id)


_REFLECTIONS: Mapping[type[Event], Callable[[Recorded], Reflection]] = {
    UserProfileChanged: _profile,
    UserSessionOpened: _opened,
    UserSessionClosed: _closed,
    DirectBlocked: _blocked,
    DirectUnblocked: _unblocked,
}
REFLECTED_TYPES = frozenset(kind.TYPE for kind in _REFLECTIONS)
"""The types whose content reactions look at."""
