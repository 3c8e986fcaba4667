"""Events to frames and back. A frame is made once and never re-encoded."""

from __future__ import annotations

from collections.abc import Container, Sequence

import msgspec

from domain.event import Event
from eventlog.record import Commit, Committed, Draft, Head, Recorded, Trace
from eventlog.registry import Registry, UnknownEventError
from eventlog.sealing import Sealing

_encode = msgspec.json.Encoder().encode


_NO_TRACE = Trace()
_NO_BODY = msgspec.Raw(b"")


class _EventHeader(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """All of a stored event but its parts; field order is storage format."""

    type: str
    schema: int
    actor: str
    seq: int | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    trace_id: str | None = None


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """An event of a decoded frame; what it has not is None or empty."""

    type: str
    schema: int
    actor: str
    data: msgspec.Raw
    seq: int | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    trace_id: str | None = None
    key_id: str | None = None
    body: msgspec.Raw = _NO_BODY


class _FrameHeader(msgspec.Struct, frozen=True, gc=False):
    """All of a frame but its events; field order is storage format."""

    log_id: str
    shard: int
    position: int
    epoch: int
    stream: str
    first_version: int
    first_number: int
    key: str
    payload_digest: str
    at: int
    previous: str


class StoredFrame(_FrameHeader, frozen=True):
    """A decoded frame, with raw events."""

    events: list[StoredEvent]


class _FrameEvents(msgspec.Struct, frozen=True, gc=False):
    """The events of a frame; its header is skipped, for the commit has copies."""

    events: list[StoredEvent]


_decode_frame = msgspec.json.Decoder(StoredFrame).decode
_decode_events = msgspec.json.Decoder(_FrameEvents).decode


def frame_of(draft: Draft, log_id: str, shard: int, epoch: int, head: Head) -> Commit:
    """The commit that follows `head`: position, number and predecessor's digest are set here, when a batch is
    built.
    """
    position = head.position + 1
    first_number = head.number + 1
    header = _FrameHeader(
        log_id,
        shard,
        position,
        epoch,
        draft.stream,
        draft.first_version,
        first_number,
        draft.key.hex(),
        draft.payload_digest.hex(),
        draft.at,
        head.digest.hex(),
    )
    return Commit(
        shard,
        position,
        epoch,
        draft.stream,
        draft.first_version,
        first_number,
        draft.key,
        draft.payload_digest,
        draft.at,
        len(draft.events),
        b"".join((_encode(header)[:-1], b',"events":', draft.events_json, b"}")),
    )


class EventCodec:
    """Encodes events through the registry and the sealing codec, and decodes frames."""

    def __init__(self, registry: Registry, sealing: Sealing) -> None:
        self.registry = registry
        self._sealing = sealing

    def encode_events(
        self, events: Sequence[Event], seqs: Sequence[int | None], trace: Trace | None = None
    ) -> bytes:
        """The `events` array of a frame."""
        trace = trace or _NO_TRACE
        if len(events) == 1:
            return b"[" + self._encoded(events[0], seqs[0], trace) + b"]"
        encoded = [self._encoded(event, seq, trace) for event, seq in zip(events, seqs, strict=True)]
        return b"[" + b",".join(encoded) + b"]"

    def _encoded(self, event: Event, seq: int | None, trace: Trace) -> bytes:
        """One event, joined of parts that are JSON already: a third of the time of a struct with raw fields."""
        kind = self.registry.of_event(event)
        actor = event.actor
        header = _EventHeader(
            kind.name, kind.version, actor, seq, trace.correlation_id, trace.causation_id, trace.trace_id
        )
        opening = _encode(header)[:-1]
        body = kind.encode_body(event)
        if body is None:
            return b"".join((opening, b',"data":', kind.encode_clear(event), b"}"))
        key_id, sealed = self._sealing.seal(actor, body)
        key = _encode(key_id)
        return b"".join(
            (opening, b',"data":', kind.encode_clear(event), b',"key_id":', key, b',"body":', sealed, b"}")
        )

    def decode(self, commit: Commit, contents: Container[str] | None = None) -> Committed:
        """The commit with its events. `contents`: the types whose content is wanted (None: all); events of other
        types come bare, with nothing but `TYPE`, `actor` and `at`.

        Raises UnknownEventError for a type, version or body this code cannot read; bodies of bare events are not
        looked at.
        """
        rows = []
        at, stream, shard, position, key = commit.at, commit.stream, commit.shard, commit.position, commit.key
        version, number = commit.first_version, commit.first_number
        kinds = self.registry.kinds
        for stored in _events_of(commit.frame):
            name, schema, actor = stored.type, stored.schema, stored.actor
            kind = kinds.get(name) or self.registry.named(name)
            if contents is not None and name not in contents:
                event = kind.bare(schema, actor, at)
            elif stored.body:
                body = self._sealing.open(actor, stored.key_id or "", bytes(stored.body))
                event = kind.read(schema, bytes(stored.data), body, actor, at)
            else:
                event = kind.read(schema, bytes(stored.data), None, actor, at)
            # By position: this runs for every event of every rebuild, and names cost twice as much.
            row = Recorded(
                stream,
                version,
                stored.seq,
                number,
                event,
                shard,
                position,
                key,
                stored.correlation_id,
                stored.causation_id,
                stored.trace_id,
            )
            rows.append(row)
            version += 1
            number += 1
        return Committed(commit, tuple(rows))

    def open_frame(self, frame: bytes) -> Committed:
        """The commit and its events, of nothing but the frame. Raises UnknownEventError, also if it is no frame."""
        stored = decode_frame(frame)
        try:
            key, digest = bytes.fromhex(stored.key), bytes.fromhex(stored.payload_digest)
        except ValueError as error:
            raise UnknownEventError(f"not a frame: {error}") from error
        at, stream, shard, position = stored.at, stored.stream, stored.shard, stored.position
        version, number = stored.first_version, stored.first_number
        rows = tuple(
            Recorded(
                stream, version + index, event.seq, number + index, self.event_of(event, at), shard, position, key,
                event.correlation_id, event.causation_id, event.trace_id,
            )
            for index, event in enumerate(stored.events)
        )  # fmt: skip
        commit = Commit(
            shard, position, stored.epoch, stream, version, number, key, digest, at, len(rows), frame
        )
        return Committed(commit, rows)

    def event_of(self, stored: StoredEvent, at: int) -> Event:
        """The event of a stored one, brought to the present schema, its body opened.

        Raises UnknownEventError, UnknownKeyError.
        """
        body: bytes | None = None
        if stored.body:
            body = self._sealing.open(stored.actor, stored.key_id or "", bytes(stored.body))
        return self.registry.named(stored.type).read(
            stored.schema, bytes(stored.data), body, stored.actor, at
        )


def recorded(
    commit: Commit, events: Sequence[Event], seqs: Sequence[int | None], trace: Trace | None = None
) -> Committed:
    """A commit just made, with the events it was made of: nothing is decoded again."""
    trace = trace or _NO_TRACE
    rows = tuple(
        Recorded(
            commit.stream,
            commit.first_version + index,
            seq,
            commit.first_number + index,
            event,
            commit.shard,
            commit.position,
            commit.key,
            trace.correlation_id,
            trace.causation_id,
            trace.trace_id,
        )
        for index, (event, seq) in enumerate(zip(events, seqs, strict=True))
    )
    return Committed(commit, rows)


def decode_frame(frame: bytes) -> StoredFrame:
    """The frame's fields. Raises UnknownEventError if it is no frame."""
    try:
        return _decode_frame(frame)
    except (msgspec.DecodeError, ValueError) as error:
        raise UnknownEventError(f"not a frame: {error}") from error


def _events_of(frame: bytes) -> list[StoredEvent]:
    try:
        return _decode_events(frame).events
    except (msgspec.DecodeError, ValueError) as error:
        raise UnknownEventError(f"not a frame: {error}") from error
