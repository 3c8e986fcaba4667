"""The fast views in memory: the twin that says what Redis must do."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from projections.fast import (
    BYTES_MAX,
    EVENTS_KEPT,
    FIELDS_MAX,
    HEAD_FIELD,
    MEMBERS_MAX,
    TOUCHED_MAX,
    Ask,
    Change,
    Held,
    Miss,
    Offer,
    Span,
    size_of,
)

_TARGET = re.compile(r"^[a-z](\d+)")


class _Document(msgspec.Struct):
    position: int
    floor: int
    high: int
    small: dict[str, bytes]
    events: dict[int, bytes]
    members: dict[str, bytes]
    size: int = 0


class _Shard:
    def __init__(self, position: int) -> None:
        self.position = position
        self.touched: dict[str, float] = {}
        self.touched_floor: float = position
        self.documents: OrderedDict[str, _Document] = OrderedDict()
        """Those used last at the end."""

    @property
    def size(self) -> int:
        return sum(document.size for document in self.documents.values())


class FastMemory:
    """`projections.fast.FastRows` in one process."""

    def __init__(
        self, shard_count: int, *, bytes_max: int = BYTES_MAX, events_kept: int = EVENTS_KEPT
    ) -> None:
        self._bytes_max = bytes_max // shard_count
        self._kept = events_kept
        self._shards: dict[tuple[str, int], _Shard] = {}
        self._turn = threading.Lock()

    def empty(self) -> None:
        """Forget everything, as a Redis may."""
        with self._turn:
            self._shards.clear()

    def tell(self, view: str, spans: Sequence[Span]) -> list[frozenset[str]]:
        """See the port."""
        with self._turn:
            return [self._tell(view, span) for span in spans]

    def offer(self, view: str, offers: Sequence[Offer]) -> list[bool]:
        """See the port."""
        with self._turn:
            return [self._offer(view, offer) for offer in offers]

    def fetch(self, view: str, asks: Sequence[Ask]) -> list[Held | Miss]:
        """See the port."""
        with self._turn:
            return [self._fetch(view, ask) for ask in asks]

    def _tell(self, view: str, span: Span) -> frozenset[str]:
        shard = self._shards.get((view, span.shard))
        if shard is not None and shard.position >= span.after and shard.position != span.before:
            return frozenset()
        if shard is None or shard.position != span.before:
            self._shards[view, span.shard] = _Shard(span.after)
            return frozenset()
        there = set()
        for change in span.changes:
            shard.touched.pop(change.name, None)
            shard.touched[change.name] = span.after + (0.5 if span.before == span.after else 0)
            document = shard.documents.get(change.name)
            if document is not None:
                there.add(change.name)
                if not self._applied(document, span, change):
                    del shard.documents[change.name]
        shard.position = span.after
        while len(shard.touched) > TOUCHED_MAX:
            name = next(iter(shard.touched))
            shard.touched_floor = max(shard.touched_floor, shard.touched.pop(name))
        return frozenset(there)

    def _applied(self, document: _Document, span: Span, change: Change) -> bool:
        """Whether the document may stay."""
        if change.unseen or span.before == span.after or span.before < document.position < span.after:
            return False
        if document.position >= span.after:
            return True
        for field in change.gone:
            document.small.pop(field, None)
        document.small.update(change.small)
        document.events.update(change.events)
        document.members.update(change.members)
        document.high = max([document.high, *change.events])
        document.size += size_of(change.small, change.events, change.members)
        if len(document.events) > 2 * self._kept or len(document.small) > FIELDS_MAX:
            self._purge(document)
        return len(document.small) <= FIELDS_MAX and len(document.members) <= MEMBERS_MAX

    def _purge(self, document: _Document) -> None:
        floor = document.floor = max(document.floor, document.high - self._kept + 1)
        document.events = {seq: row for seq, row in document.events.items() if seq >= floor}
        document.small = {
            field: value
            for field, value in document.small.items()
            if (target := _TARGET.match(field)) is None or int(target[1]) >= floor
        }
        document.size = size_of(document.small, document.events, document.members)

    def _offer(self, view: str, offer: Offer) -> bool:
        shard = self._shards.get((view, offer.shard))
        size = size_of(offer.small, offer.events, offer.members)
        if size > self._bytes_max:
            return False
        if shard is None or offer.position < max(shard.touched_floor, shard.touched.get(offer.name, 0)):
            return False
        if offer.partial:
            document = shard.documents.get(offer.name)
            if document is None or not document.position <= offer.position <= shard.position:
                return False
            document.members.update(offer.members)
            document.size += size_of(offer.members)
            return True
        shard.documents[offer.name] = _Document(
            offer.position,
            offer.floor,
            offer.high,
            dict(offer.small),
            dict(offer.events),
            dict(offer.members),
            size,
        )
        shard.documents.move_to_end(offer.name)
        while shard.size > self._bytes_max:
            shard.documents.popitem(last=False)
        return offer.name in shard.documents

    def _fetch(self, view: str, ask: Ask) -> Held | Miss:
        shard = self._shards.get((view, ask.shard))
        if shard is None or shard.position < ask.needed:
            return Miss.BEHIND
        document = shard.documents.get(ask.name)
        if document is None:
            return Miss.ABSENT
        if document.position > shard.position:
            return Miss.BEHIND
        shard.documents.move_to_end(ask.name)
        high = document.high
        first = max(document.floor, high + ask.first + 1 if ask.first < 0 else ask.first)
        last = high if ask.last == 0 else min(high, ask.last)
        wanted = {*range(first, last + 1), high}
        members = document.members
        if ask.members is not None:
            members = {name: members[name] for name in ask.members if name in members}
        return Held(
            position=shard.position,
            floor=document.floor,
            high=high,
            small={
                field: value for field, value in document.small.items() if ask.small or field == HEAD_FIELD
            },
            members=dict(members),
            events={seq: row for seq, row in document.events.items() if seq in wanted},
        )
