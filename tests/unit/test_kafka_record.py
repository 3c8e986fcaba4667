"""A commit as a Kafka record, and back."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.event import Event
from eventlog.carrier import CarriedRecord
from eventlog.codec import frame_of
from eventlog.kafka_record import ForgedRecordError, carried_of, record_of
from eventlog.record import FRAME_BYTES_MAX, Commit, Draft, Head, Trace
from tests.contract.log_samples import LOG_ID, SAMPLE_CODEC, NoteHidden, NoteWritten, ShardMaker

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


@st.composite
def commits(draw: st.DrawFn) -> Commit:
    """Any commit, of any number of events of both kinds, anywhere in a shard."""
    count = draw(st.integers(1, 4))
    at = draw(st.integers(0, 2**52))
    words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
    actor = draw(words)
    events: list[Event] = [
        NoteWritten(actor=actor, at=at, ordinal=number, text=draw(words))
        if draw(st.booleans())
        else NoteHidden(actor=actor, at=at, ordinal=number)
        for number in range(count)
    ]
    trace = draw(st.none() | st.builds(Trace, words, words, st.just(TRACE_ID) | words))
    seqs = draw(st.lists(st.none() | st.integers(1, 2**40), min_size=count, max_size=count))
    draft = Draft(
        draw(words),
        draw(st.integers(1, 2**40)),
        draw(st.binary(min_size=16, max_size=16)),
        draw(st.binary(min_size=16, max_size=16)),
        at,
        events,
        seqs,
        SAMPLE_CODEC.encode_events(events, seqs, trace),
    )
    head = Head(
        draw(st.integers(0, 2**40)),
        1,
        draw(st.integers(0, 2**40)),
        0,
        draw(st.binary(min_size=32, max_size=32)),
    )
    return frame_of(draft, draw(words), draw(st.integers(0, 4096)), draw(st.integers(1, 2**31)), head)


@pytest.mark.slow
@given(commits())
def test_a_record_gives_its_commit_back(commit: Commit) -> None:
    record = record_of(commit)
    carried = carried_of(record)
    assert carried.commit == commit
    assert record.value is commit.frame
    assert record.timestamp_ms == commit.at
    assert carried.log_id == msgspec.json.decode(commit.frame)["log_id"]
    assert carried.previous.hex() == msgspec.json.decode(commit.frame)["previous"]


@pytest.mark.slow
@given(commits(), st.data())
def test_a_forged_header_is_refused(commit: Commit, data: st.DataObject) -> None:
    record = record_of(commit)
    index = data.draw(st.integers(0, len(record.headers) - 1))
    name, value = record.headers[index]
    wrong = data.draw(st.binary(max_size=40).filter(lambda other: other != value))
    forged = (*record.headers[:index], (name, wrong), *record.headers[index + 1 :])
    missing = (*record.headers[:index], *record.headers[index + 1 :])
    twice = (*record.headers, (name, wrong))
    for headers in (forged, missing, twice):
        with pytest.raises(ForgedRecordError):
            carried_of(msgspec.structs.replace(record, headers=headers))


def test_headers_say_what_is_inside() -> None:
    commit = ShardMaker(3).make("notes", count=2)
    assert dict(record_of(commit).headers) == {
        "shard": b"3",
        "position": b"1",
        "epoch": b"1",
        "log_id": LOG_ID.encode(),
        "stream": b"notes",
        "first_version": b"1",
        "events": b"2",
        "types": b"note_written",
        "schemas": b"1",
    }


def test_a_trace_of_the_w3c_stands_as_traceparent() -> None:
    event = NoteHidden(actor="u_1", at=1, ordinal=1)
    trace = Trace(trace_id=TRACE_ID)
    events_json = SAMPLE_CODEC.encode_events((event,), (None,), trace)
    draft = Draft("notes", 1, bytes(range(16)), bytes(16), 1, (event,), (None,), events_json)
    headers = dict(record_of(frame_of(draft, LOG_ID, 0, 1, Head())).headers)
    assert headers["trace_id"] == TRACE_ID.encode()
    assert headers["traceparent"] == f"00-{TRACE_ID}-0001020304050607-01".encode()


def test_headers_of_others_are_let_through() -> None:
    record = record_of(ShardMaker(1).make())
    more = msgspec.structs.replace(record, headers=(*record.headers, ("mirrored-by", b"somebody")))
    assert carried_of(more) == carried_of(record)


@pytest.mark.parametrize("value", [None, b"", b"{}", b"no frame", b'{"log_id":"x"}'])
def test_a_value_that_is_no_frame_is_refused(value: bytes | None) -> None:
    with pytest.raises(ForgedRecordError):
        carried_of(CarriedRecord(b"notes", value, (), 0))


def test_a_key_of_another_stream_is_refused() -> None:
    record = record_of(ShardMaker(1).make())
    with pytest.raises(ForgedRecordError, match="key"):
        carried_of(msgspec.structs.replace(record, key=b"others"))


def test_a_frame_that_is_too_large_is_never_sent() -> None:
    with pytest.raises(ValueError, match="at most"):
        record_of(ShardMaker(1).make(text="x" * FRAME_BYTES_MAX))
