"""Our events as the `eventsourcing` library sees them: its Mapper over our codec, and events that its
repository can fold.

The topic of an event is its stable type name. Its state is the JSON that stands in the frame, with the time
of the commit; the schema version in it plays the part of the library's `class_version`, and older ones go
through the same `upcast_vN_vM` methods.
"""

from __future__ import annotations

import msgspec
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import JSONTranscoder, Mapper, MapperDeserialisationError, StoredEvent
from typing_extensions import override

from domain.aggregates import AGGREGATES, State
from domain.event import Event
from domain.streams import kind_of
from eventlog import codec as frames
from eventlog.record import Commit
from eventlog.registry import UnknownEventError
from eventlog.sealing import UnknownKeyError


class AggregateAt:
    """An aggregate as the library's repository gives it: our state under the library's names."""

    def __init__(self, id_: str, version: int, state: State) -> None:
        self.id = id_
        self.version = version
        self.state = state


class Fact(msgspec.Struct, frozen=True):
    """One of our events as one of the library's domain events. `seq` as in `Recorded`."""

    originator_id: str
    originator_version: int
    event: Event
    seq: int | None = None

    def mutate(self, aggregate: AggregateAt | None) -> AggregateAt:
        """The aggregate after this event; a stream of no known aggregate raises ValueError."""
        kind = kind_of(self.originator_id)
        if kind is None or kind not in AGGREGATES:
            raise ValueError(f"{self.originator_id} is no aggregate")
        functions = AGGREGATES[kind]
        state = functions.initial(self.originator_id) if aggregate is None else aggregate.state
        return AggregateAt(self.originator_id, self.originator_version, functions.evolve(state, self.event))


class StoredState(msgspec.Struct, frozen=True):
    """The state of a stored event: an event of a frame, unchanged, and the time of its commit (milliseconds
    since 1970 UTC).
    """

    at: int
    event: msgspec.Raw


class _Events(msgspec.Struct):
    events: list[msgspec.Raw]


class _Typed(msgspec.Struct):
    type: str


_encode = msgspec.json.Encoder().encode
_decode_events = msgspec.json.Decoder(_Events).decode
_decode_type = msgspec.json.Decoder(_Typed).decode
_decode_state = msgspec.json.Decoder(StoredState).decode
_decode_event = msgspec.json.Decoder(frames.StoredEvent).decode


class FactMapper(Mapper[str]):
    """The library's Mapper with msgspec and our registry, sealing included."""

    def __init__(self, codec: frames.EventCodec) -> None:
        super().__init__(JSONTranscoder())
        self._codec = codec

    @override
    def to_stored_event(self, domain_event: DomainEventProtocol[str]) -> StoredEvent:
        if not isinstance(domain_event, Fact):
            raise TypeError(f"{type(domain_event).__name__} is none of our events")
        event = domain_event.event
        stored = self._codec.encode_events((event,), (domain_event.seq,))[1:-1]
        return StoredEvent(
            originator_id=domain_event.originator_id,
            originator_version=domain_event.originator_version,
            topic=event.TYPE,
            state=_encode(StoredState(event.at, msgspec.Raw(stored))),
        )

    @override
    def to_domain_event(self, stored_event: StoredEvent) -> Fact:
        """Raises MapperDeserialisationError for a type, version or key that this program does not know."""
        try:
            state = _decode_state(stored_event.state)
            stored = _decode_event(state.event)
            event = self._codec.event_of(stored, state.at)
        except (msgspec.DecodeError, ValueError, UnknownEventError, UnknownKeyError) as error:
            place = f"version {stored_event.originator_version} of {stored_event.originator_id}"
            raise MapperDeserialisationError(f"{place} cannot be read: {error}") from error
        return Fact(str(stored_event.originator_id), stored_event.originator_version, event, stored.seq)


def unpack(commit: Commit) -> list[StoredEvent]:
    """The events of a commit as the library stores them, bodies still sealed.

    Raises UnknownEventError for what is no frame.
    """
    try:
        events = _decode_events(commit.frame).events
        return [
            StoredEvent(
                originator_id=commit.stream,
                originator_version=version,
                topic=_decode_type(event).type,
                state=_encode(StoredState(commit.at, event)),
            )
            for version, event in enumerate(events, commit.first_version)
        ]
    except (msgspec.DecodeError, ValueError) as error:
        raise UnknownEventError(f"not a frame: {error}") from error
