"""The test cases that the `eventsourcing` library ships for recorders, run on our log in a file, in memory and on MongoDB."""

from __future__ import annotations

import contextlib
import tempfile
import unittest
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from eventsourcing.persistence import IntegrityError, OperationalError, StoredEvent
from eventsourcing.tests import persistence as library
from typing_extensions import override

from eventlog.integrity import verify_shard
from eventlog.loop_thread import LoopThread
from eventlog.memory import MemoryLog
from eventlog.mongo import MongoLog
from eventlog.port import Log
from eventlog.recorder import (
    RESENDS_MAX,
    SHARD,
    LogAggregateRecorder,
    LogApplicationRecorder,
    LogProcessRecorder,
    LogTrackingRecorder,
    RecorderLog,
)
from eventlog.sqlite import SqliteLog
from tests.faulty_log import Fault, FaultyLog

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]


class OnFile(unittest.TestCase):
    """A log in a file of its own per test."""

    @override
    def setUp(self) -> None:
        self._stack = contextlib.ExitStack()
        self.addCleanup(self._stack.close)
        folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        self.loop = LoopThread()
        self._stack.callback(self.loop.close)
        self.log = self.opened(Path(folder))
        self._stack.callback(lambda: self.loop.run(self.log.close()))

    def opened(self, folder: Path) -> Log:
        """The adapter under test."""
        return self.loop.run(SqliteLog.open(folder / "log.db", 1))

    def owner(self) -> RecorderLog:
        """A new owner of the test's log."""
        return RecorderLog(self.log, self.loop)


class OnMongoDB(OnFile):
    """The same on a server, in a database of its own per test."""

    @pytest.fixture(autouse=True)
    def _server(self, mongodb_uri: str, mongodb_database: str) -> None:
        self._place = (mongodb_uri, mongodb_database)

    @override
    def opened(self, folder: Path) -> Log:
        return self.loop.run(MongoLog.open(*self._place, 1))


class InMemory(OnFile):
    """The same in memory."""

    @override
    def opened(self, folder: Path) -> Log:
        return MemoryLog("memory", 1)


class TestAggregateRecorder(OnFile, library.AggregateRecorderTestCase):
    @override
    def create_recorder(self) -> LogAggregateRecorder:
        return LogAggregateRecorder(self.owner())


class TestAggregateRecorderInMemory(InMemory, library.AggregateRecorderTestCase):
    @override
    def create_recorder(self) -> LogAggregateRecorder:
        return LogAggregateRecorder(self.owner())


class TestApplicationRecorder(OnFile, library.ApplicationRecorderTestCase[LogApplicationRecorder]):
    @override
    def create_recorder(self) -> LogApplicationRecorder:
        return LogApplicationRecorder(self.owner())

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestApplicationRecorderInMemory(InMemory, library.ApplicationRecorderTestCase[LogApplicationRecorder]):
    @override
    def create_recorder(self) -> LogApplicationRecorder:
        return LogApplicationRecorder(self.owner())

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


@pytest.mark.services
class TestAggregateRecorderOnMongoDB(OnMongoDB, library.AggregateRecorderTestCase):
    @override
    def create_recorder(self) -> LogAggregateRecorder:
        return LogAggregateRecorder(self.owner())


@pytest.mark.services
class TestApplicationRecorderOnMongoDB(
    OnMongoDB, library.ApplicationRecorderTestCase[LogApplicationRecorder]
):
    @override
    def create_recorder(self) -> LogApplicationRecorder:
        return LogApplicationRecorder(self.owner())

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


@pytest.mark.services
class TestTrackingRecorderOnMongoDB(OnMongoDB, library.TrackingRecorderTestCase):
    @override
    def create_recorder(self) -> LogTrackingRecorder:
        return LogTrackingRecorder(self.owner())


@pytest.mark.services
class TestProcessRecorderOnMongoDB(OnMongoDB, library.ProcessRecorderTestCase):
    @override
    def create_recorder(self) -> LogProcessRecorder:
        return LogProcessRecorder(self.owner())


@pytest.mark.services
class TestNonInterleavingOnMongoDB(OnMongoDB, library.NonInterleavingNotificationIDsBaseCase):
    @override
    def create_recorder(self) -> LogApplicationRecorder:
        return LogApplicationRecorder(self.owner())


class TestTrackingRecorder(OnFile, library.TrackingRecorderTestCase):
    @override
    def create_recorder(self) -> LogTrackingRecorder:
        return LogTrackingRecorder(self.owner())


class TestProcessRecorder(OnFile, library.ProcessRecorderTestCase):
    @override
    def create_recorder(self) -> LogProcessRecorder:
        return LogProcessRecorder(self.owner())


class TestProcessRecorderAsApplicationRecorder(
    OnFile, library.ApplicationRecorderTestCase[LogProcessRecorder]
):
    @override
    def create_recorder(self) -> LogProcessRecorder:
        return LogProcessRecorder(self.owner())


class TestNonInterleaving(OnFile, library.NonInterleavingNotificationIDsBaseCase):
    @override
    def create_recorder(self) -> LogApplicationRecorder:
        return LogApplicationRecorder(self.owner())


def stored(originator_id: UUID, version: int) -> StoredEvent:
    """Any event."""
    return StoredEvent(
        originator_id=originator_id, originator_version=version, topic="topic", state=b"\x00state"
    )


class TestOurOwn(OnFile):
    """What the library's cases do not ask."""

    def test_several_aggregates_in_one_call_are_atomic_and_numbered_in_order(self) -> None:
        recorder = LogApplicationRecorder(self.owner())
        one, two = uuid4(), uuid4()
        events = [stored(one, 1), stored(two, 1), stored(one, 2)]
        assert recorder.insert_events(events) == [1, 2, 3]
        with pytest.raises(IntegrityError):
            recorder.insert_events([stored(one, 3), stored(two, 1)])
        assert recorder.max_notification_id() == 3
        assert [(n.originator_id, n.originator_version) for n in recorder.select_notifications(1, 10)] == [
            (event.originator_id, event.originator_version) for event in events
        ]

    def test_a_version_that_leaves_a_gap_is_refused(self) -> None:
        recorder = LogApplicationRecorder(self.owner())
        with pytest.raises(IntegrityError):
            recorder.insert_events([stored(uuid4(), 2)])

    def test_long_sequences_are_selected_across_pages_and_from_anywhere(self) -> None:
        recorder = LogApplicationRecorder(self.owner())
        one = uuid4()
        for first in range(1, 1_300, 2):
            recorder.insert_events([stored(one, first), stored(one, first + 1)])
        assert [e.originator_version for e in recorder.select_events(one, gt=3, lte=1_205)] == [
            *range(4, 1_206)
        ]
        assert [e.originator_version for e in recorder.select_events(one, desc=True, limit=3)] == [
            1_300,
            1_299,
            1_298,
        ]
        for start in (1, 2, 777, 1_299):
            ids = [n.id for n in recorder.select_notifications(start, 1_100)]
            assert ids == [*range(start, min(start + 1_100, 1_301))]
        assert self.loop.run(self.faults()) == []

    async def faults(self) -> list[str]:
        """What verification says of a recorder's log."""
        return [finding.detail async for finding in verify_shard(self.log, SHARD)]

    def test_an_unknown_outcome_is_resolved_by_sending_the_same_again(self) -> None:
        faulty = FaultyLog(self.log)
        recorder = LogApplicationRecorder(RecorderLog(faulty, self.loop))
        one = uuid4()
        faulty.plan(Fault.UNKNOWN_AFTER, Fault.UNKNOWN_BEFORE)
        assert recorder.insert_events([stored(one, 1)]) == [1]
        faulty.plan(*[Fault.UNKNOWN_BEFORE] * RESENDS_MAX)
        with pytest.raises(OperationalError):
            recorder.insert_events([stored(one, 2)])
        faulty.plan(Fault.UNAVAILABLE)
        with pytest.raises(OperationalError):
            recorder.insert_events([stored(one, 2)])
        assert recorder.insert_events([stored(one, 2)]) == [2]

    def test_a_log_of_many_shards_is_no_recorder(self) -> None:
        with pytest.raises(ValueError, match="one shard"):
            RecorderLog(MemoryLog("many", 4), self.loop)
