"""`audit state`: a stream as it stood after any of its events, folded from the log by the server's own rules."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

import immutables
import msgspec

from domain.aggregates import AGGREGATES, EVENT_CLASSES
from domain.event import State
from domain.group import GroupState
from domain.streams import StreamKind, kind_of, shard_of, split
from domain.talk import MessagePosted
from eventlog.codec import EventCodec
from eventlog.port import Log
from eventlog.record import Recorded
from eventlog.registry import Registry
from eventlog.sealing import PlainSealing
from ops.audit.reading import position_at, stream_commits
from ops.audit.transcript import Said, Transcript, message_time
from ops.times import rfc3339

Clock = Literal["log", "origin"]
CONVERSATIONS = frozenset({StreamKind.GROUP, StreamKind.DIRECT})
_TIMES = frozenset({"muted_until", "expires_at", "created_at", "opened_at", "registered_at"})
_OWN = frozenset({"stream", "version", "seq", "talk", "roster"})
"""Fields of a state that the document tells in another place."""


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """Up to where: a version of the stream, a time (milliseconds since 1970 UTC), or everything.

    By the clock `log` a time means the longest prefix of the shard with `at` <= that time. By the clock
    `origin` messages count by the time of their origin, and everything else by its place before the first
    message that is later.
    """

    version: int | None = None
    at: int | None = None
    clock: Clock = "log"


class StateAt(msgspec.Struct, frozen=True, kw_only=True):
    """A stream as it stood. `state` is ready to be printed as JSON; `messages` is None for other kinds.

    `version` and `seq` are those of the last event that counts (0: none), `position` its `shard:position`.
    """

    stream: str
    kind: str
    clock: Clock
    as_of: str | None
    shard: int
    version: int
    seq: int
    position: str | None
    last_at: str | None
    state: dict[str, Any]
    messages: list[Said] | None = None
    pins: list[int] | None = None


class UnknownStreamError(Exception):
    """The name is none of a stream, or the stream has no event."""


@cache
def audit_codec() -> EventCodec:
    """Reads every event that this version of the program knows."""
    return EventCodec(Registry(EVENT_CLASSES), PlainSealing())


class Folding:
    """The fold of one stream: feed `add` in the stream's order."""

    def __init__(self, stream: str, kind: StreamKind, cut: Cut) -> None:
        aggregate = AGGREGATES[kind]
        self.stream = stream
        self.kind = kind
        self.state: State = aggregate.initial(stream)
        self.transcript = Transcript() if kind in CONVERSATIONS else None
        self.last: Recorded | None = None
        self._evolve = aggregate.evolve
        self._cut = cut
        self._is_later = False

    def add(self, recorded: Recorded) -> bool:
        """Take the next event if it counts. Whether a later one may count."""
        cut = self._cut
        if cut.version is not None and recorded.version > cut.version:
            return False
        if cut.clock == "origin" and cut.at is not None:
            self._add_by_origin(recorded, cut.at)
            return True
        self._take(recorded)
        return True

    def _add_by_origin(self, recorded: Recorded, at: int) -> None:
        event = recorded.event
        if isinstance(event, MessagePosted):
            if message_time(event) > at:
                self._is_later = True
            elif self._is_later and self.transcript is not None:
                self.transcript.add(recorded)
        if not self._is_later:
            self._take(recorded)

    def _take(self, recorded: Recorded) -> None:
        self.state = self._evolve(self.state, recorded.event)
        self.last = recorded
        if self.transcript is not None:
            self.transcript.add(recorded)

    def result(self, shard: int) -> StateAt:
        """What it came to."""
        last, transcript = self.last, self.transcript
        messages = pins = None
        if transcript is not None:
            by_origin = self._cut.clock == "origin"
            messages = transcript.messages_by_origin() if by_origin else transcript.messages()
            pins = transcript.pins()
        return StateAt(
            stream=self.stream,
            kind=str(self.kind),
            clock=self._cut.clock,
            as_of=None if self._cut.at is None else rfc3339(self._cut.at),
            shard=shard,
            version=self.state.version,
            seq=self.state.seq,
            position=None if last is None else f"{last.shard}:{last.position}",
            last_at=None if last is None else rfc3339(last.event.at),
            state=_shown(self.state),
            messages=messages,
            pins=pins,
        )


async def folded(log: Log, stream: str) -> State:
    """The aggregate's own state after everything that the log holds of a stream of a known kind."""
    kind = kind_of(stream)
    assert kind is not None
    codec, folding = audit_codec(), Folding(stream, kind, Cut())
    async for commit in stream_commits(log, stream):
        for recorded in codec.decode(commit).events:
            folding.add(recorded)
    return folding.state


async def state_at(log: Log, stream: str, cut: Cut, codec: EventCodec | None = None) -> StateAt:
    """The stream as it stood. Raises UnknownStreamError, LogUnavailableError, UnknownEventError."""
    kind = check_name(stream)
    shard = shard_in(log, stream)
    codec = codec or audit_codec()
    by_log_time = cut.at is not None and cut.clock == "log"
    end = await position_at(log, shard, cut.at) if by_log_time and cut.at is not None else None
    folding = Folding(stream, kind, cut)
    is_there = False
    async for commit in stream_commits(log, stream):
        is_there = True
        if end is not None and commit.position > end:
            break
        if not all(folding.add(recorded) for recorded in codec.decode(commit).events):
            break
    if not is_there:
        raise UnknownStreamError(f"the log has no event of {stream!r}")
    return folding.result(shard)


def check_name(stream: str) -> StreamKind:
    """The kind of stream that a name says. Raises UnknownStreamError."""
    kind = kind_of(stream)
    if kind is None or kind not in AGGREGATES:
        raise UnknownStreamError(
            f"{stream!r} names no stream; write a conversation id, user:ID, inbox:ID, tenant:ID or shard-N"
        )
    return kind


def shard_in(log: Log, stream: str) -> int:
    """The stream's shard. Raises UnknownStreamError for a control stream of a shard that is not there."""
    try:
        shard = shard_of(stream, log.shard_count)
    except ValueError:
        shard = -1
    if not 0 <= shard <= log.shard_count:
        raise UnknownStreamError(f"{stream!r} names no stream of this log")
    return shard


def _shown(state: State) -> dict[str, Any]:
    """The aggregate's own fields; the roster as rows, since a map's order says nothing."""
    fields = {name: getattr(state, name) for name in state.__struct_fields__ if name not in _OWN}
    shown: dict[str, Any] = {"tenant": split(getattr(state, "stream", ""))[0], **_plain_fields(fields)}
    if isinstance(state, GroupState):
        members = sorted(state.members.items())
        shown["members"] = [{"user_id": user_id, **plain(member)} for user_id, member in members]
        former = sorted(state.former.items())
        shown["former_members"] = [{"user_id": user_id, "left_seq": seq} for user_id, seq in former]
    return shown


def plain(value: Any) -> Any:
    """Structs, maps and sets as what JSON knows, in a fixed order; times of known fields as RFC 3339."""
    if isinstance(value, msgspec.Struct):
        return _plain_fields({name: getattr(value, name) for name in value.__struct_fields__})
    if isinstance(value, immutables.Map | Mapping):
        return {str(key): plain(value[key]) for key in sorted(value)}
    if isinstance(value, frozenset | set):
        return sorted(plain(item) for item in value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _plain_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: rfc3339(value) if name in _TIMES and isinstance(value, int) else plain(value)
        for name, value in fields.items()
        if value is not msgspec.UNSET
    }
