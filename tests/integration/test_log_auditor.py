"""A normal `eventsourcing` application over a real log folder, opened read-only beside the serving process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from eventsourcing.application import AggregateNotFoundError
from eventsourcing.persistence import MapperDeserialisationError, NotSupportedError, StoredEvent

from domain.aggregates import EVENT_CLASSES
from domain.event import Event
from domain.streams import shard_of
from domain.tenant import AppKeyCreated, AppKeyRevoked, TenantCreated, TenantState
from eventlog.auditor import LOG_FILE, AuditedLog
from eventlog.codec import EventCodec, frame_of
from eventlog.mapper import AggregateAt, Fact, FactMapper
from eventlog.port import LogMismatchError
from eventlog.record import KEY_BYTES, Draft, Head
from eventlog.registry import Registry
from eventlog.sealing import PlainSealing
from eventlog.sqlite import SqliteLog
from tests.contract.log_samples import SHARD_COUNT, key_of

CODEC = EventCodec(Registry(EVENT_CLASSES), PlainSealing())
STREAM = "tenant:acme"
SHARD = shard_of(STREAM, SHARD_COUNT)
EVENTS = (
    (TenantCreated(actor="system", at=5, name="Acme"),),
    (
        AppKeyCreated(actor="u_1", at=7, app_key="k_1"),
        AppKeyCreated(actor="u_1", at=7, app_key="k_2", expires_at=99),
    ),
    (AppKeyRevoked(actor="u_2", at=9, app_key="k_1"),),
)


async def write(path: Path) -> SqliteLog:
    """A log that holds the events as three commits; left open."""
    log = await SqliteLog.open(path, SHARD_COUNT)
    head, version = Head(), 1
    for number, events in enumerate(EVENTS):
        seqs = [None] * len(events)
        encoded = CODEC.encode_events(events, seqs)
        draft = Draft(STREAM, version, key_of(number), bytes(KEY_BYTES), events[0].at, events, seqs, encoded)
        commit = frame_of(draft, log.log_id, SHARD, 1, head)
        await log.append({SHARD: [commit]})
        head, version = commit.head, version + len(events)
    return log


def audit(audited: AuditedLog) -> None:
    """What an auditor does, through the library's own names."""
    application = audited.of_stream(STREAM)
    flat = [event for events in EVENTS for event in events]
    assert [fact.event for fact in application.facts(STREAM)] == flat
    assert [fact.originator_version for fact in application.facts(STREAM, gt=1, lte=3)] == [2, 3]

    now = application.aggregate(STREAM)
    then: AggregateAt = application.repository.get(STREAM, version=2)
    assert (now.version, then.version) == (4, 2)
    assert isinstance(now.state, TenantState)
    assert isinstance(then.state, TenantState)
    assert now.state.version == 4
    assert [key for key, held in now.state.app_keys.items() if held.revoked] == ["k_1"]
    assert [(key, held.revoked) for key, held in then.state.app_keys.items()] == [("k_1", False)]
    with pytest.raises(AggregateNotFoundError):
        application.aggregate("tenant:nobody")

    assert [n.id for n in application.notification_log.select(2, 2)] == [2, 3]
    section = application.notification_log["1,10"]
    assert [(n.id, n.originator_version, n.topic) for n in section.items] == [
        (number, number, event.TYPE) for number, event in enumerate(flat, 1)
    ]
    created = application.notification_log.select(1, 10, topics=["app_key_created"])
    assert [n.id for n in created] == [2, 3]
    empty = audited.of_shard((SHARD + 1) % SHARD_COUNT)
    assert empty.notification_log.select(1, 10) == []
    with pytest.raises(NotSupportedError):
        application.recorder.insert_events([])


async def test_an_auditor_beside_a_serving_log(tmp_path: Path) -> None:
    serving = await write(tmp_path / LOG_FILE)

    def look() -> None:
        with AuditedLog.open(tmp_path, CODEC) as audited:
            audit(audited)

    await asyncio.to_thread(look)
    await serving.close()


def test_an_auditor_of_a_log_at_rest(tmp_path: Path) -> None:
    async def prepare() -> None:
        await (await write(tmp_path / LOG_FILE)).close()

    asyncio.run(prepare())
    before = (tmp_path / LOG_FILE).read_bytes()
    with AuditedLog.open(tmp_path, CODEC) as audited:
        audit(audited)
        audited.close()
    assert (tmp_path / LOG_FILE).read_bytes() == before


def test_an_auditor_of_a_folder_without_a_log(tmp_path: Path) -> None:
    with pytest.raises(LogMismatchError):
        AuditedLog.open(tmp_path, CODEC)
    assert list(tmp_path.iterdir()) == []


class Renamed(Event, frozen=True, kw_only=True):
    """An event whose first version called its field otherwise."""

    TYPE: ClassVar[str] = "renamed"
    class_version: ClassVar[int] = 2
    BODY: ClassVar[tuple[str, ...]] = ("title",)

    title: str

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Version 1 said `name`."""
        state["title"] = state.pop("name")


def state_of(mapping: Mapping[str, object]) -> bytes:
    """A stored event of the type with these fields."""
    return msgspec.json.encode({"at": 3, "event": {"type": "renamed", "actor": "u_1", **mapping}})


def test_the_mapper_keeps_the_librarys_conventions() -> None:
    mapper = FactMapper(EventCodec(Registry((Renamed,)), PlainSealing()))
    fact = Fact("g_1", 4, Renamed(actor="u_1", at=3, title="x"), 9)
    stored = mapper.to_stored_event(fact)
    assert (stored.originator_id, stored.originator_version, stored.topic) == ("g_1", 4, "renamed")
    assert mapper.to_domain_event(stored) == fact


@pytest.mark.parametrize(
    "fields, error",
    [
        ({"schema": 1, "data": {}, "key_id": "plain", "body": {"name": "x"}}, None),
        ({"schema": 3, "data": {}, "key_id": "plain", "body": {"title": "x"}}, "newest known is 2"),
        ({"schema": 2, "data": {}, "key_id": "lost", "body": {"title": "x"}}, "lost"),
        ({"schema": 2, "data": {}, "key_id": "plain", "body": {"title": 7}}, "cannot be read"),
        ({"schema": 2}, "cannot be read"),
    ],
)
def test_older_versions_are_upcast_and_unknown_ones_refused(
    fields: Mapping[str, object], error: str | None
) -> None:
    mapper = FactMapper(EventCodec(Registry((Renamed,)), PlainSealing()))
    stored = StoredEvent(originator_id="g_1", originator_version=4, topic="renamed", state=state_of(fields))
    if error is None:
        assert mapper.to_domain_event(stored).event == Renamed(actor="u_1", at=3, title="x")
        return
    with pytest.raises(MapperDeserialisationError, match=error):
        mapper.to_domain_event(stored)
