"""The fast-view port: copies of the newest rows of some documents of a view, which may be lost at any moment.

A document is what is asked for together: a conversation, a user's own stream, or the conversations of a user as one shard knows them.
It is fed by one shard. What is not there says nothing: ask the view. Each shard has a position, moved on in the same write as its
documents; whatever does not follow that position begins the shard anew, with no document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

EVENTS_KEPT = 128
"""The newest events of a document; up to twice as many before the older half is dropped."""
FIELDS_MAX = 4_096
"""What else a document holds beside events and members, at most; more of it is not kept at all."""
MEMBERS_MAX = 4_096
TOUCHED_MAX = 4_096
"""Documents of a shard of which is known when they changed last. What was read before the oldest of these is refused."""
BYTES_MAX = 256 * 1024 * 1024
"""What all documents of all shards may hold together, as far as we count: their fields and `OVERHEAD_BYTES` for each."""
OVERHEAD_BYTES = 64
HEAD_FIELD = "c"
"""The small field of what a document is about: its own row."""
KNOWN_ABSENT = b""
"""A member's field of which is known that there is no row."""

Fields = Mapping[str, bytes]


class FastAwayError(Exception):
    """The fast views cannot be reached in time. Nothing else is wrong: ask the view."""


class Change(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a span of commits did to one document. `events` and `members` by their fields, `small` whatever else; `gone`: removed ones."""

    name: str
    gone: list[str] = []
    small: dict[str, bytes] = {}
    events: dict[int, bytes] = {}
    members: dict[str, bytes] = {}
    unseen: bool = False
    """The rows are left out, since the document is believed not to be there: if it is, it is dropped."""


class Span(msgspec.Struct, frozen=True, gc=False):
    """What the commits behind `before` up to `after` did to a shard. The same twice: so it stands now."""

    shard: int
    before: int
    after: int
    changes: Sequence[Change] = ()


class Offer(msgspec.Struct, frozen=True, gc=False):
    """A document as the view held it at `position`: its newest events from `floor` on, and all of `small` that belongs to them.

    `partial`: only these members, for a document that is there.
    """

    shard: int
    position: int
    name: str
    small: dict[str, bytes] = {}
    events: dict[int, bytes] = {}
    members: dict[str, bytes] = {}
    floor: int = 1
    high: int = 0
    partial: bool = False


class Ask(msgspec.Struct, frozen=True, gc=False):
    """What of a document is asked for: `small` fields, `members` by field (None: all), and events from `first` to `last`.

    `first` below 0 counts from the newest, `last` 0 is the newest; the newest is always there.
    """

    shard: int
    needed: int
    """The shard must stand at this position or behind it."""
    name: str
    members: tuple[str, ...] | None = ()
    first: int = 1
    last: int = -1
    small: bool = True
    """Whether all small fields; else only the one called `HEAD_FIELD`."""


class Held(msgspec.Struct, gc=False):
    """What was asked for, at `position` of the shard. Events below `floor` are not kept; `high` is the newest one's number."""

    position: int
    floor: int
    high: int
    small: dict[str, bytes]
    members: dict[str, bytes]
    events: dict[int, bytes]


class Miss(StrEnum):
    """Why there is no answer."""

    ABSENT = "absent"
    BEHIND = "behind"


class FastRows(Protocol):
    """Any thread may call; all calls block for a bounded time and raise FastAwayError. `view` names a version of a view of a log."""

    def tell(self, view: str, spans: Sequence[Span]) -> list[frozenset[str]]:
        """Write spans, each whole or not at all; for each which of its documents are there or were.

        A shard that stands at `after` or beyond is left as it is. One that does not stand at `before` begins anew at `after`.
        """
        ...

    def offer(self, view: str, offers: Sequence[Offer]) -> list[bool]:
        """Put documents there; for each whether it was taken. One that changed behind its position, or is larger than all may be, is refused."""
        ...

    def fetch(self, view: str, asks: Sequence[Ask]) -> list[Held | Miss]:
        """What is there, for each ask."""
        ...


def size_of(*sections: Mapping[str, bytes] | Mapping[int, bytes]) -> int:
    """What fields count for."""
    return sum(len(value) + OVERHEAD_BYTES for section in sections for value in section.values())
