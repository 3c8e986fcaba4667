"""Commits of the log as projections take them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eventlog.codec import EventCodec
from eventlog.record import Commit, Committed
from eventlog.registry import UnknownEventError
from projections.projection import Projection, Received, Unreadable

ERROR_CHARACTERS_MAX = 200


def decoded(codec: EventCodec, commits: Sequence[Commit]) -> list[Received]:
    """The commits with their events; what cannot be decoded is marked so."""
    return [_received(codec, commit, None) for commit in commits]


class Decoding:
    """Commits that are decoded when they are gone through, and only what the projection looks at.

    One at a time: a span of decoded events does not fit into the processor's caches, and being looked through by
    the garbage collector costs as much again.
    """

    def __init__(self, codec: EventCodec, commits: Sequence[Commit], projection: Projection) -> None:
        self._codec = codec
        self._commits = commits
        self._projection = projection

    def __iter__(self) -> Iterator[Received]:
        codec, contents, reads = self._codec, self._projection.contents, self._projection.reads
        for commit in self._commits:
            yield _received(codec, commit, contents) if reads(commit.stream) else Committed(commit, ())


def _received(codec: EventCodec, commit: Commit, contents: frozenset[str] | None) -> Received:
    try:
        return codec.decode(commit) if contents is None else codec.decode(commit, contents)
    except UnknownEventError as error:
        return Unreadable(commit, str(error)[:ERROR_CHARACTERS_MAX])
