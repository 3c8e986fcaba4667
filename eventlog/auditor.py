"""A normal `eventsourcing` Application over a log, for auditors: a repository at any version, and a
notification log.

The library knows one sequence of notifications per application, and a log has one per shard: so there is one
application per shard, and `AuditedLog.of_stream` finds the one for a stream. Everything is read-only; the log
may be served by its server meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from eventsourcing.application import Application
from eventsourcing.persistence import (
    ApplicationRecorder,
    EventStore,
    Mapper,
    NotSupportedError,
    StoredEvent,
    Subscription,
)
from typing_extensions import override

from domain.streams import shard_of
from eventlog.codec import EventCodec
from eventlog.loop_thread import LoopThread
from eventlog.mapper import AggregateAt, Fact, FactMapper, unpack
from eventlog.numbered import NumberedShard
from eventlog.port import Log
from eventlog.recorder import ShardRecorder
from eventlog.sqlite import SqliteLog

LOG_FILE = "log.db"


class AuditRecorder(ShardRecorder):
    """One shard of a log as an application recorder; nothing can be inserted."""

    def __init__(self, log: Log, shard: int, loop: LoopThread) -> None:
        super().__init__(NumberedShard(log, shard, unpack), loop)

    @override
    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        raise NotSupportedError("the log is open for reading only")

    @override
    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> Subscription[ApplicationRecorder]:
        raise NotSupportedError("follow the notification log instead")


class AuditApplication(Application[str]):
    """One shard: `repository.get(stream, version=…)` is an `AggregateAt`, `notification_log` the shard's
    events in order.
    """

    def __init__(self, log: Log, shard: int, codec: EventCodec, loop: LoopThread) -> None:
        self._recorder = AuditRecorder(log, shard, loop)
        self._codec = codec
        # The library's own environment variables say nothing here.
        super().__init__({"PERSISTENCE_MODULE": "eventsourcing.popo"})

    @override
    def construct_mapper(self) -> Mapper[str]:
        return FactMapper(self._codec)

    @override
    def construct_recorder(self) -> ApplicationRecorder:
        return self._recorder

    @override
    def construct_event_store(self) -> EventStore[str]:
        return EventStore(self.mapper, self.recorder)

    def aggregate(self, stream: str, version: int | None = None) -> AggregateAt:
        """The aggregate as it was at a version (now, when None). Raises the library's AggregateNotFoundError."""
        found: AggregateAt = self.repository.get(stream, version=version)
        return found

    def facts(self, stream: str, gt: int | None = None, lte: int | None = None) -> list[Fact]:
        """The events of a stream with gt < version <= lte. Raises MapperDeserialisationError."""
        return [fact for fact in self.events.get(stream, gt=gt, lte=lte) if isinstance(fact, Fact)]


class AuditedLog:
    """A log opened for its auditors; use it as a context manager, or `close` it."""

    def __init__(self, log: Log, codec: EventCodec, loop: LoopThread) -> None:
        self.log = log
        self._codec = codec
        self._loop = loop
        self._applications: dict[int, AuditApplication] = {}

    @classmethod
    def open(cls, folder: str | os.PathLike[str], codec: EventCodec) -> Self:
        """Open the log in a data folder read-only. Raises LogMismatchError, LogUnavailableError."""
        loop = LoopThread("audit-loop")
        try:
            return cls(loop.run(SqliteLog.open_read_only(Path(folder) / LOG_FILE)), codec, loop)
        except BaseException:
            loop.close()
            raise

    def of_shard(self, shard: int) -> AuditApplication:
        """The application of a shard."""
        if not 0 <= shard <= self.log.shard_count:
            raise ValueError(f"there is no shard {shard}")
        if shard not in self._applications:
            self._applications[shard] = AuditApplication(self.log, shard, self._codec, self._loop)
        return self._applications[shard]

    def of_stream(self, stream: str) -> AuditApplication:
        """The application of the shard that holds a stream."""
        return self.of_shard(shard_of(stream, self.log.shard_count))

    def close(self) -> None:
        """Release the log and end the loop. Idempotent."""
        for application in self._applications.values():
            application.close()
        self._applications.clear()
        if self._loop.is_open:
            self._loop.run(self.log.close())
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
