"""A commit as a Kafka record, and back. Pure.

The value is the frame, byte for byte; key and headers are copies for readers who want to choose without parsing. On reading
they are compared with the frame, so that nobody can be led astray by a header.
"""

from __future__ import annotations

import re

import msgspec

from eventlog.carrier import CarriedRecord, Header
from eventlog.codec import StoredFrame, decode_frame
from eventlog.record import FRAME_BYTES_MAX, Commit
from eventlog.registry import UnknownEventError

HEADERS = (
    "shard",
    "position",
    "epoch",
    "log_id",
    "stream",
    "first_version",
    "events",
    "types",
    "schemas",
    "trace_id",
    "traceparent",
)
"""All headers of ours; the last two stand only where the commit has a trace. Others' headers are let through."""
_OURS = frozenset(HEADERS)
_W3C_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_NO_TRACE_ID = "0" * 32
_SPAN_HEX = 16


class ForgedRecordError(Exception):
    """A record whose key or headers say something else than its frame, or whose value is no frame."""


class Carried(msgspec.Struct, frozen=True, gc=False):
    """What a record carried: the commit, whose log it is of, and the digest of its predecessor."""

    commit: Commit
    log_id: str
    previous: bytes


class _Kind(msgspec.Struct, frozen=True, gc=False):
    type: str
    schema: int
    trace_id: str | None = None


class _Outline(msgspec.Struct, frozen=True, gc=False):
    """What the headers need of a frame; the rest is skipped, not decoded."""

    log_id: str
    events: list[_Kind]


_decode_outline = msgspec.json.Decoder(_Outline).decode


def record_of(commit: Commit) -> CarriedRecord:
    """The record of a commit. Raises UnknownEventError if its frame is none, ValueError if it is larger than FRAME_BYTES_MAX."""
    if len(commit.frame) > FRAME_BYTES_MAX:
        raise ValueError(
            f"the frame of {commit.shard}:{commit.position} has {len(commit.frame)} bytes, at most {FRAME_BYTES_MAX} "
            "can be carried"
        )
    try:
        outline = _decode_outline(commit.frame)
    except (msgspec.DecodeError, ValueError) as error:
        raise UnknownEventError(f"not a frame: {error}") from error
    headers = _headers(commit, outline.log_id, outline.events)
    return CarriedRecord(commit.stream.encode(), commit.frame, headers, commit.at)


def carried_of(record: CarriedRecord) -> Carried:
    """What a record carries; every column of the commit comes from the frame. Raises ForgedRecordError."""
    if record.value is None:
        raise ForgedRecordError("a record without a value")
    try:
        frame = decode_frame(record.value)
        commit = commit_of(frame, record.value)
        previous = bytes.fromhex(frame.previous)
        kinds = [_Kind(event.type, event.schema, event.trace_id) for event in frame.events]
        expected = _headers(commit, frame.log_id, kinds)
        stream = commit.stream.encode()
    except (UnknownEventError, ValueError) as error:
        raise ForgedRecordError(f"a record that carries no frame: {error}") from error
    if record.key == stream and record.headers == expected:
        return Carried(commit, frame.log_id, previous)
    place = f"{commit.shard}:{commit.position}"
    if record.key != stream:
        raise ForgedRecordError(f"the key of {place} is not its stream")
    wrong = _wrong_headers(record.headers, expected)
    if wrong:
        raise ForgedRecordError(f"headers of {place} differ from its frame: {', '.join(sorted(wrong))}")
    return Carried(commit, frame.log_id, previous)


def commit_of(frame: StoredFrame, value: bytes) -> Commit:
    """The commit of a decoded frame and its bytes. Raises ValueError for a key that is not hexadecimal."""
    return Commit(
        frame.shard,
        frame.position,
        frame.epoch,
        frame.stream,
        frame.first_version,
        frame.first_number,
        bytes.fromhex(frame.key),
        bytes.fromhex(frame.payload_digest),
        frame.at,
        len(frame.events),
        value,
    )


def _headers(commit: Commit, log_id: str, kinds: list[_Kind]) -> tuple[Header, ...]:
    """In a fixed order, so that those of a true record are equal at once."""
    first = kinds[0] if len(kinds) == 1 else None
    if first is not None:
        types, schemas, trace_id = first.type.encode(), b"%d" % first.schema, first.trace_id
    else:
        # Each pair of type and schema once, in order of appearance: a call that adds 200 members names one type.
        pairs = dict.fromkeys([(kind.type, kind.schema) for kind in kinds])
        types = ",".join([name for name, _ in pairs]).encode()
        schemas = ",".join([str(schema) for _, schema in pairs]).encode()
        trace_id = next((kind.trace_id for kind in kinds if kind.trace_id is not None), None)
    headers = (
        ("shard", b"%d" % commit.shard),
        ("position", b"%d" % commit.position),
        ("epoch", b"%d" % commit.epoch),
        ("log_id", log_id.encode()),
        ("stream", commit.stream.encode()),
        ("first_version", b"%d" % commit.first_version),
        ("events", b"%d" % commit.events_count),
        ("types", types),
        ("schemas", schemas),
    )
    return headers if trace_id is None else (*headers, *_trace_headers(commit, trace_id))


def _trace_headers(commit: Commit, trace_id: str) -> tuple[Header, ...]:
    plain = ("trace_id", trace_id.encode())
    if not _W3C_TRACE_ID.fullmatch(trace_id) or trace_id == _NO_TRACE_ID:
        return (plain,)
    # The span is the command's: named by the first half of its key, so that every process computes the same one.
    return plain, ("traceparent", f"00-{trace_id}-{commit.key.hex()[:_SPAN_HEX]}-01".encode())


def _wrong_headers(headers: tuple[Header, ...], expected: tuple[Header, ...]) -> set[str]:
    ours = [(name, value) for name, value in headers if name in _OURS]
    wanted, found = dict(expected), dict(ours)
    if found == wanted and len(ours) == len(found):
        return set()
    wrong = {name for name, value in ours if wanted.get(name) != value}
    wrong.update(name for name in wanted if name not in found)
    return wrong or {"one of them comes twice"}
