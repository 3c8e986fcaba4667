"""What a reader of the record is given: a commit with its events, or what says that this release cannot read them."""

from __future__ import annotations

import msgspec

from eventlog.codec import EventCodec
from eventlog.record import Commit, Committed
from eventlog.registry import UnknownEventError

ERROR_CHARACTERS_MAX = 200


class Unreadable(msgspec.Struct, frozen=True):
    """A commit whose events this code cannot decode."""

    commit: Commit
    error: str


Received = Committed | Unreadable


def received_of(codec: EventCodec, commit: Commit, contents: frozenset[str] | None = None) -> Received:
    """The commit with its events, or what says that they cannot be read; see `EventCodec.decode`."""
    try:
        return codec.decode(commit, contents)
    except UnknownEventError as error:
        return Unreadable(commit, str(error)[:ERROR_CHARACTERS_MAX])
