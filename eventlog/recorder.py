"""The `eventsourcing` library's recorders over our log: a log with one shard, written through one owner.

A stream is an aggregate's sequence, a notification id the running number of an event. The library has no
asynchronous code, so these recorders are for low-rate work and for auditors; the message path does not go
through them.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Sequence
from itertools import groupby
from threading import Event as ThreadEvent
from threading import Lock
from typing import Any, ClassVar
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    IntegrityError,
    ListenNotifySubscription,
    Notification,
    OperationalError,
    ProcessRecorder,
    StoredEvent,
    Subscription,
    Tracking,
    TrackingRecorder,
)
from typing_extensions import override

from domain.event import Event
from eventlog.codec import EventCodec, frame_of
from eventlog.loop_thread import LoopThread
from eventlog.numbered import NumberedShard
from eventlog.port import Log, LogUnavailableError, OutcomeUnknownError
from eventlog.record import KEY_BYTES, Commit, Draft, Head
from eventlog.registry import Registry
from eventlog.sealing import PlainSealing

SHARD = 0
ACTOR = "system"
RESENDS_MAX = 5
"""How often a flush of unknown outcome is sent again before the caller is told."""
_TRACKING_PREFIX = "tracking:"


class AggregateEventStored(Event, frozen=True, kw_only=True):
    """An event of the library: its topic and its state as the library's mapper made them."""

    TYPE: ClassVar[str] = "aggregate_event_stored"
    PUBLIC: ClassVar[bool] = False
    BODY: ClassVar[tuple[str, ...]] = ("state",)

    topic: str
    is_uuid: bool
    state: bytes


class TrackingInserted(Event, frozen=True, kw_only=True):
    """How far an upstream application was followed."""

    TYPE: ClassVar[str] = "tracking_inserted"
    PUBLIC: ClassVar[bool] = False

    notification_id: int


class RecorderLog:
    """The owner of a recorder log: checks that every event is the next one of its stream, then appends in one
    flush.

    One owner writes a log; another one's commit is met at the taken position and answered with
    IntegrityError. A call that spans several streams is one flush: atomic in SQLite and in memory, where a
    flush is one transaction; in MongoDB a process that dies in its midst leaves the first streams' events.
    """

    def __init__(self, log: Log, loop: LoopThread) -> None:
        if log.shard_count != 1:
            raise ValueError("a recorder needs a log with one shard")
        self.log = log
        self.loop = loop
        self.shard = NumberedShard(log, SHARD, self.unpack)
        self._codec = EventCodec(Registry((AggregateEventStored, TrackingInserted)), PlainSealing())
        self._lock = Lock()
        self._listeners: set[ThreadEvent] = set()

    def insert(self, stored_events: Sequence[StoredEvent], tracking: Tracking | None) -> list[int]:
        """Append; the numbers of the events. Raises IntegrityError (nothing was written), OperationalError."""
        with self._lock:
            numbers = self.loop.run(self._insert(stored_events, tracking))
        for listener in tuple(self._listeners):
            listener.set()
        return numbers

    async def _insert(self, stored_events: Sequence[StoredEvent], tracking: Tracking | None) -> list[int]:
        try:
            head = (await self.log.heads()).get(SHARD, Head())
            commits: list[Commit] = []
            versions: dict[str, int] = {}
            for draft in await self._drafts(stored_events, tracking, versions, max(_now_ms(), head.at)):
                commits.append(frame_of(draft, self.log.log_id, SHARD, max(head.epoch, 1), head))
                head = commits[-1].head
            if commits:
                await self._append(commits)
        except LogUnavailableError as error:
            raise OperationalError(str(error)) from error
        first = commits[0].first_number if commits else 1
        return list(range(first, first + len(stored_events)))

    async def _append(self, commits: Sequence[Commit]) -> None:
        for _ in range(RESENDS_MAX):
            try:
                outcome = (await self.log.append({SHARD: commits}))[SHARD]
            except OutcomeUnknownError:
                continue
            if outcome.refusal is not None:
                raise IntegrityError(f"refused by {outcome.refusal.reason}: another owner writes this log")
            return
        raise OperationalError("the outcome of the insert is not known")

    async def _drafts(
        self,
        stored_events: Sequence[StoredEvent],
        tracking: Tracking | None,
        versions: dict[str, int],
        at: int,
    ) -> list[Draft]:
        drafts: list[Draft] = []
        for _, run in groupby(stored_events, key=lambda stored: str(stored.originator_id)):
            events = list(run)
            await self._check_versions(events, versions)
            drafts.append(
                self._draft(str(events[0].originator_id), events[0].originator_version, _facts(events, at))
            )
        if tracking is not None:
            stream = _TRACKING_PREFIX + tracking.application_name
            version, reached = await self._tracked(stream)
            if reached is not None and reached >= tracking.notification_id:
                raise IntegrityError(f"{tracking.application_name} was followed up to {reached} already")
            fact = TrackingInserted(actor=ACTOR, at=at, notification_id=tracking.notification_id)
            drafts.append(self._draft(stream, version + 1, [fact]))
        return drafts

    async def _check_versions(self, events: Sequence[StoredEvent], versions: dict[str, int]) -> None:
        stream = str(events[0].originator_id)
        if stream not in versions:
            versions[stream] = await self._version(stream)
        for stored in events:
            version = versions[stream]
            # The library lets a sequence begin with 0 or 1.
            allowed = (0, 1) if version < 0 else (version + 1,)
            if stored.originator_version not in allowed:
                raise IntegrityError(f"version {stored.originator_version} does not follow version {version}")
            versions[stream] = stored.originator_version

    def _draft(self, stream: str, first_version: int, events: Sequence[Event]) -> Draft:
        seqs = [None] * len(events)
        return Draft(
            stream,
            first_version,
            secrets.token_bytes(KEY_BYTES),
            bytes(KEY_BYTES),
            events[0].at,
            events,
            seqs,
            self._codec.encode_events(events, seqs),
        )

    async def _version(self, stream: str) -> int:
        tail = await self.log.read_stream_tail(SHARD, stream, 1)
        return tail[0].first_version + tail[0].events_count - 1 if tail else -1

    async def _tracked(self, stream: str) -> tuple[int, int | None]:
        tail = await self.log.read_stream_tail(SHARD, stream, 1)
        if not tail:
            return 0, None
        row = self._codec.decode(tail[0]).events[-1]
        assert isinstance(row.event, TrackingInserted)
        return row.version, row.event.notification_id

    def tracked(self, application_name: str) -> int | None:
        """The newest notification id of an upstream application."""
        return self.loop.run(self._tracked(_TRACKING_PREFIX + application_name))[1]

    def unpack(self, commit: Commit) -> Sequence[StoredEvent | None]:
        """The library's events of a commit; a tracking event is none of them."""
        return [
            StoredEvent(
                originator_id=UUID(row.stream) if row.event.is_uuid else row.stream,
                originator_version=row.version,
                topic=row.event.topic,
                state=row.event.state,
            )
            if isinstance(row.event, AggregateEventStored)
            else None
            for row in self._codec.decode(commit).events
        ]

    def listen(self, event: ThreadEvent) -> None:
        """Set `event` after each insert."""
        self._listeners.add(event)

    def unlisten(self, event: ThreadEvent) -> None:
        """No longer."""
        with contextlib.suppress(KeyError):
            self._listeners.remove(event)


class ShardRecorder(ApplicationRecorder):
    """The selecting half of an application recorder; inserting is for subclasses."""

    def __init__(self, shard: NumberedShard, loop: LoopThread) -> None:
        self._numbered = shard
        self._loop = loop

    @override
    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        return self._loop.run(self._numbered.events(originator_id, gt, lte, limit, desc=desc))

    @override
    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        first = 1 if start is None else start + (not inclusive_of_start)
        return self._loop.run(self._numbered.notifications(max(first, 1), limit, stop, topics))

    @override
    def max_notification_id(self) -> int | None:
        return self._loop.run(self._numbered.last_number())


class LogAggregateRecorder(AggregateRecorder):
    """The library's AggregateRecorder."""

    def __init__(self, owner: RecorderLog) -> None:
        self._owner = owner

    @override
    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        self._owner.insert(stored_events, None)
        return None

    @override
    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        return self._owner.loop.run(self._owner.shard.events(originator_id, gt, lte, limit, desc=desc))


class LogApplicationRecorder(ShardRecorder):
    """The library's ApplicationRecorder, with subscriptions."""

    def __init__(self, owner: RecorderLog) -> None:
        super().__init__(owner.shard, owner.loop)
        self.owner = owner

    @override
    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        return self.owner.insert(stored_events, None)

    @override
    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> Subscription[ApplicationRecorder]:
        return LogSubscription(self, gt, topics)


class LogSubscription(ListenNotifySubscription[LogApplicationRecorder]):
    """An insert rings the bell; the events are read by number."""

    def __init__(self, recorder: LogApplicationRecorder, gt: int | None, topics: Sequence[str]) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        recorder.owner.listen(self._has_been_notified)

    @override
    def stop(self) -> None:
        super().stop()
        self._recorder.owner.unlisten(self._has_been_notified)


class LogTrackingRecorder(TrackingRecorder):
    """The library's TrackingRecorder: an event per tracking object, which must rise."""

    def __init__(self, owner: RecorderLog) -> None:
        self.owner = owner

    @override
    def insert_tracking(self, tracking: Tracking) -> None:
        self.owner.insert([], tracking)

    @override
    def max_tracking_id(self, application_name: str) -> int | None:
        return self.owner.tracked(application_name)


class LogProcessRecorder(LogApplicationRecorder, LogTrackingRecorder, ProcessRecorder):
    """The library's ProcessRecorder: events and tracking in one flush.

    The tracking event takes a number of its own, so notification ids have gaps, which the library allows.
    """

    @override
    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        tracking: Tracking | None = kwargs.get("tracking")
        return self.owner.insert(stored_events, tracking)


def _facts(stored_events: Sequence[StoredEvent], at: int) -> list[Event]:
    return [
        AggregateEventStored(
            actor=ACTOR,
            at=at,
            topic=stored.topic,
            is_uuid=isinstance(stored.originator_id, UUID),
            state=bytes(stored.state),
        )
        for stored in stored_events
    ]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
