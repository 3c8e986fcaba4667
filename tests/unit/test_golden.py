"""The storage format, as files: a type or schema version without its file fails, and no file ever changes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from domain.aggregates import EVENT_CLASSES
from domain.event import Event
from eventlog.codec import EventCodec, StoredEvent
from eventlog.record import Trace
from eventlog.registry import Registry
from eventlog.sealing import PlainSealing
from tests.unit.domain.samples import AT, FULL

GOLDEN = Path(__file__).parent.parent / "golden"
REGISTRY = Registry(EVENT_CLASSES)
CODEC = EventCodec(REGISTRY, PlainSealing())
TRACE = Trace(correlation_id="cor", causation_id="cau", trace_id="tra")
SAMPLES = {event.TYPE: event for event in FULL}


def path_of(name: str, version: int) -> Path:
    """Where the file of a type and schema version lies."""
    return GOLDEN / f"{name}.v{version}.json"


def stored(event: Event) -> bytes:
    """The event as it stands in a frame."""
    seq = 7 if event.PUBLIC else None
    encoded = CODEC.encode_events((event,), (seq,), TRACE)
    return encoded[1:-1] + b"\n"


@pytest.mark.parametrize("event_class", EVENT_CLASSES, ids=lambda c: c.TYPE)
def test_every_type_and_version_has_a_file_that_still_reads(event_class: type[Event]) -> None:
    for version in range(1, event_class.class_version + 1):
        row = msgspec.json.decode(path_of(event_class.TYPE, version).read_bytes(), type=StoredEvent)
        assert (row.type, row.schema) == (event_class.TYPE, version)
        body = bytes(row.body) or None
        event = REGISTRY.named(row.type).read(row.schema, bytes(row.data), body, row.actor, AT)
        assert event == SAMPLES[event_class.TYPE]


@pytest.mark.parametrize("event_class", EVENT_CLASSES, ids=lambda c: c.TYPE)
def test_the_present_version_encodes_to_the_very_bytes_of_its_file(event_class: type[Event]) -> None:
    file = path_of(event_class.TYPE, event_class.class_version)
    assert stored(SAMPLES[event_class.TYPE]) == file.read_bytes()


def test_no_file_is_left_over() -> None:
    expected = {
        path_of(event_class.TYPE, version).name
        for event_class in EVENT_CLASSES
        for version in range(1, event_class.class_version + 1)
    }
    assert {file.name for file in GOLDEN.glob("*.json")} == expected


def test_every_field_of_every_type_is_filled_in_its_sample() -> None:
    for event in FULL:
        assert [n for n in event.__struct_fields__ if getattr(event, n) in ((), msgspec.UNSET)] == []
        unset = [n for n in event.__struct_fields__ if getattr(event, n) is None]
        assert unset == [], event.TYPE
