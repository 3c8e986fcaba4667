"""Events to frames and back. A frame is made once and never re-encoded."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from domain.event import Event
from eventlog.record import Commit, Committed, Draft, Head, Recorded, Trace
from eventlog.registry import Registry, UnknownEventError
from eventlog.sealing import Sealing

_encode = msgspec.json.Encoder().encode


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event as it stands in a frame; field order is storage format."""

    type: str
    schema: int
    actor: str
    seq: int | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    trace_id: str | None = None
    data: msgspec.Raw
    key_id: str | None = None
    body: msgspec.Raw | None = None


class StoredFrame(msgspec.Struct, frozen=True):
    """A decoded frame, with raw events."""

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
    events: list[StoredEvent]


_decode_frame = msgspec.json.Decoder(StoredFrame).decode


def frame_of(draft: Draft, log_id: str, shard: int, epoch: int, head: Head) -> Commit:
    """The commit that follows `head`: position, number and predecessor's digest are set here, when a batch is
    built.
    """
    position = head.position + 1
    first_number = head.number + 1
    frame = (
        b'{"log_id":"%b","shard":%d,"position":%d,"epoch":%d,"stream":%b,"first_version":%d,"first_number":%d,'
        b'"key":"%b","payload_digest":"%b","at":%d,"previous":"%b","events":%b}'
        % (
            log_id.encode(),
            shard,
            position,
            epoch,
            _encode(draft.stream),
            draft.first_version,
            first_number,
            draft.key.hex().encode(),
            draft.payload_digest.hex().encode(),
            draft.at,
            head.digest.hex().encode(),
            draft.events_json,
        )
    )
    return Commit(
        shard=shard,
        position=position,
        epoch=epoch,
        stream=draft.stream,
        first_version=draft.first_version,
        first_number=first_number,
        key=draft.key,
        payload_digest=draft.payload_digest,
        at=draft.at,
        events_count=len(draft.events),
        frame=frame,
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
        stored = [self._stored(event, seq, trace) for event, seq in zip(events, seqs, strict=True)]
        return _encode(stored)

    def _stored(self, event: Event, seq: int | None, trace: Trace | None) -> StoredEvent:
        kind = self.registry.of_event(event)
        body = kind.body_part(event)
        key_id: str | None = None
        sealed: bytes | None = None
        if body is not None:
            key_id, sealed = self._sealing.seal(event.actor, _encode(body))
        return StoredEvent(
            type=kind.name,
            schema=kind.version,
            actor=event.actor,
            seq=seq,
            correlation_id=trace.correlation_id if trace else None,
            causation_id=trace.causation_id if trace else None,
            trace_id=trace.trace_id if trace else None,
            data=msgspec.Raw(_encode(kind.clear_part(event))),
            key_id=key_id,
            body=None if sealed is None else msgspec.Raw(sealed),
        )

    def decode(self, commit: Commit) -> Committed:
        """The commit with its events.

        Raises UnknownEventError for a type, version or body this code cannot read.
        """
        stored = decode_frame(commit.frame)
        events = tuple(
            Recorded(
                stream=commit.stream,
                version=commit.first_version + index,
                seq=event.seq,
                number=commit.first_number + index,
                event=self._event(event, commit.at),
                shard=commit.shard,
                position=commit.position,
                key=commit.key,
                correlation_id=event.correlation_id,
                causation_id=event.causation_id,
                trace_id=event.trace_id,
            )
            for index, event in enumerate(stored.events)
        )
        return Committed(commit, events)

    def _event(self, stored: StoredEvent, at: int) -> Event:
        body: bytes | None = None
        if stored.body is not None:
            body = self._sealing.open(stored.actor, stored.key_id or "", bytes(stored.body))
        return self.registry.named(stored.type).read(
            stored.schema, bytes(stored.data), body, stored.actor, at
        )


def recorded(
    commit: Commit, events: Sequence[Event], seqs: Sequence[int | None], trace: Trace | None = None
) -> Committed:
    """A commit just made, with the events it was made of: nothing is decoded again."""
    trace = trace or Trace()
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
    except msgspec.DecodeError as error:
        raise UnknownEventError(f"not a frame: {error}") from error
