"""The registry of event types: stable name and schema version to class.

Adding a type without a golden file fails the suite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any, get_type_hints

import msgspec

from domain.event import Event

_encode = msgspec.json.Encoder().encode
_ENVELOPE_FIELDS = frozenset({"actor", "at"})


class UnknownEventError(Exception):
    """An event type or schema version from the future (or a damaged body): park the stream, never guess."""


class EventType:
    """One registered class: how to write its clear and its body part, and how to read every version of it."""

    def __init__(self, event_class: type[Event]) -> None:
        self.event_class = event_class
        self.name = event_class.TYPE
        self.version = event_class.class_version
        fields = [f.name for f in msgspec.structs.fields(event_class) if f.name not in _ENVELOPE_FIELDS]
        self.body_fields = tuple(f for f in fields if f in event_class.BODY)
        self.clear_fields = tuple(f for f in fields if f not in event_class.BODY)
        self.encode_clear = _part_encoder(event_class, "Clear", self.clear_fields)
        """The clear metadata of an event as a JSON object, in field order."""
        self.encode_body: Callable[[Event], bytes | None] = (
            _part_encoder(event_class, "Body", self.body_fields) if self.body_fields else _no_body
        )
        """The free-form part as a JSON object, None for a type without one."""
        self._decode = msgspec.json.Decoder(event_class).decode
        self._bare = _bare(event_class)
        self._upcasts = [_upcast(event_class, n) for n in range(1, self.version)]

    def read(self, version: int, clear: bytes, body: bytes | None, actor: str, at: int) -> Event:
        """The event in today's shape.

        Raises UnknownEventError for a version from the future or a part that does not fit.
        """
        try:
            if version != self.version:
                clear, body = self._upcast(version, _joined(clear, body)), None
            # One decoder makes the event: a struct of the parts and a copy of its fields took thrice the time.
            return self._decode(_spliced(clear, body, actor, at))
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            raise UnknownEventError(
                f"{self.name} schema {version} cannot be read: {type(error).__name__}"
            ) from error

    def bare(self, version: int, actor: str, at: int) -> Event:
        """An event of this type that has its envelope only: for readers that look at no content.

        Raises UnknownEventError for a version from the future.
        """
        self._check(version)
        return self._bare(actor=actor, at=at)

    def _check(self, version: int) -> None:
        if not 1 <= version <= self.version:
            raise UnknownEventError(f"{self.name} has schema {version}, newest known is {self.version}")

    def _upcast(self, version: int, joined: bytes) -> bytes:
        self._check(version)
        state = msgspec.json.decode(joined)
        for upcast in self._upcasts[version - 1 :]:
            upcast(state)
        return msgspec.json.encode(state)


class Registry:
    """Event types by name."""

    def __init__(self, event_classes: Iterable[type[Event]]) -> None:
        self.kinds: dict[str, EventType] = {}
        """The types by name; `named` tells of unknown ones."""
        self._by_class: dict[type[Event], EventType] = {}
        for event_class in event_classes:
            if event_class.TYPE in self.kinds:
                raise ValueError(f"event type {event_class.TYPE!r} is registered twice")
            kind = EventType(event_class)
            self.kinds[kind.name] = self._by_class[event_class] = kind

    def of_event(self, event: Event) -> EventType:
        """The type of an event. Raises UnknownEventError for an unregistered class."""
        try:
            return self._by_class[type(event)]
        except KeyError:
            raise UnknownEventError(f"{type(event).__name__} is not registered") from None

    def named(self, name: str) -> EventType:
        """The type of that stable name. Raises UnknownEventError."""
        try:
            return self.kinds[name]
        except KeyError:
            raise UnknownEventError(f"unknown event type {name!r}") from None

    def __iter__(self) -> Iterator[EventType]:
        return iter(self.kinds.values())


def _part(event_class: type[Event], suffix: str, names: tuple[str, ...]) -> type[msgspec.Struct]:
    """A positional struct of some fields; defaults are left out of the JSON, so that a field added later
    costs old events nothing.
    """
    hints = get_type_hints(event_class)
    known = {f.name: f for f in msgspec.structs.fields(event_class)}
    required = [n for n in names if known[n].required]
    optional = [n for n in names if not known[n].required]
    if [*required, *optional] != list(names):
        raise TypeError(f"{event_class.__name__}: fields with defaults must follow those without")
    fields: list[Any] = [(n, hints[n]) for n in required]
    fields += [(n, hints[n], known[n].default) for n in optional]
    return msgspec.defstruct(
        f"{event_class.__name__}{suffix}",
        fields,
        frozen=True,
        omit_defaults=True,
        gc=False,
        rename=_renamed(known),
    )


def _part_encoder(event_class: type[Event], suffix: str, names: tuple[str, ...]) -> Callable[[Event], bytes]:
    """Precompiled: pick the fields in one call, make the struct, encode it."""
    if not names:
        return lambda _: b"{}"
    part = _part(event_class, suffix, names)
    pick = attrgetter(*names)
    if len(names) == 1:
        return lambda event: _encode(part(pick(event)))
    return lambda event: _encode(part(*pick(event)))


def _no_body(_: Event) -> None:
    """The body of a type without one."""


def _bare(event_class: type[Event]) -> type[Event]:
    bare = msgspec.defstruct(
        f"{event_class.__name__}Bare",
        [],
        bases=(Event,),
        namespace={"TYPE": event_class.TYPE, "PUBLIC": event_class.PUBLIC},
        frozen=True,
        kw_only=True,
    )
    assert issubclass(bare, Event)
    return bare


def _renamed(known: Mapping[str, Any]) -> dict[str, str]:
    """Fields whose stored name is a word of Python, such as `from`."""
    return {name: field.encode_name for name, field in known.items() if field.encode_name != name}


def _upcast(event_class: type[Event], version: int) -> Callable[[dict[str, Any]], None]:
    upcast: Callable[[dict[str, Any]], None] = getattr(event_class, f"upcast_v{version}_v{version + 1}")
    return upcast


def _spliced(clear: bytes, body: bytes | None, actor: str, at: int) -> bytes:
    """Both parts and the envelope as one JSON object."""
    envelope = b'"actor":%b,"at":%d}' % (_encode(actor), at)
    first = clear[:-1] if clear == b"{}" else clear[:-1] + b","
    if body is None or body == b"{}":
        return first + envelope
    return b"%b%b,%b" % (first, body[1:-1], envelope)


def _joined(clear: bytes, body: bytes | None) -> bytes:
    """Two JSON objects with different fields as one, without decoding either."""
    if body is None or body == b"{}":
        return clear
    if clear == b"{}":
        return body
    return clear[:-1] + b"," + body[1:]
