"""Whom a commit concerns: the routing rule, the same at the pusher and at a gateway that reads the log by itself. Pure."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import NamedTuple

from domain.direct import DirectOpened
from domain.event import Event
from domain.group import GroupCreated, MemberAdded, MemberLeft, MemberRemoved
from domain.inbox import ReadMarked
from domain.streams import qualified, split, user_stream
from eventlog.record import Committed

ROUTING_TYPES = frozenset(
    kind.TYPE for kind in (DirectOpened, GroupCreated, MemberAdded, MemberLeft, MemberRemoved, ReadMarked)
)
"""The types whose content says where a commit goes; of all others the stream is enough."""


class Concern(NamedTuple):
    """`streams`: whoever wants one of these gets the commit. `joining`: whoever wants one of these wants the commit's own stream from
    now on."""

    streams: tuple[str, ...]
    joining: tuple[str, ...] = ()


def concern_of(committed: Committed) -> Concern:
    """Its own stream, the accounts of those who join and leave by it, and for a read mark the conversation, whose members are told."""
    stream = committed.commit.stream
    others: list[str] = []
    joining: list[str] = []
    tenant = None
    for row in committed.events:
        event = row.event
        if event.TYPE not in ROUTING_TYPES:
            continue
        if tenant is None:
            tenant = split(stream)[0]
        if isinstance(event, ReadMarked):
            others.append(qualified(tenant, event.conversation_id))
        elif isinstance(event, MemberLeft | MemberRemoved):
            others.append(user_stream(tenant, event.user_id))
        else:
            joining += [user_stream(tenant, user_id) for user_id in _joining(event)]
    if not others and not joining:
        return Concern((stream,))
    return Concern((stream, *others, *joining), tuple(joining))


def _joining(event: Event) -> Sequence[str]:
    if isinstance(event, MemberAdded):
        return (event.user_id,)
    if isinstance(event, GroupCreated):
        return (event.owner,)
    return tuple(event.users) if isinstance(event, DirectOpened) else ()


class Sieve:
    """What of a run of commits concerns somebody who wants some streams, and of those who join in its course."""

    def __init__(self, wanted: Container[str]) -> None:
        self._wanted = wanted
        self._joined: set[str] = set()

    def passes(self, concern: Concern) -> bool:
        """In the order of the record; what it saw of joins counts for what follows."""
        wanted = self._wanted
        if any(stream in wanted for stream in concern.joining):
            self._joined.add(concern.streams[0])
            return True
        return any(stream in wanted or stream in self._joined for stream in concern.streams)
